"""Makes a matplotlib figure an inline SVG element that a page's style sheet can colour.

matplotlib writes ``style`` attributes, which the page's Content-Security-Policy forbids. Here they become presentation
attributes, and each colour, which stands for a role, a variable of the style sheet such as ``var(--accent)``: so one
drawing serves light, dark and print. Texts stay texts, in the page's own font.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

_ROLES = ("ink", "muted", "rule", "accent", "second", "third", "bad")
ROLES = {f"#00000{number}": role for number, role in enumerate(_ROLES, start=1)}
"""Colour to the variable of the style sheet that says what it looks like."""
INK, MUTED, RULE, ACCENT, SECOND, THIRD, BAD = ROLES
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_STYLE = Path(__file__).parent / "templates" / "charts.mplstyle"


@contextmanager
def drawing() -> Iterator[None]:
    """Sets matplotlib up for figures that ``to_svg`` takes."""
    with mpl.rc_context(fname=_STYLE), warnings.catch_warnings():
        # Only widths are guessed from matplotlib's font: the browser has others.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def to_svg(figure: Figure, name: str, text: str) -> str:
    """Returns a figure as an ``<svg>`` element.

    Args:
        figure: Drawn within ``drawing``, in the colours of ``ROLES`` alone.
        name: Unique on its page, so that its ids are.
        text: What it shows, for those who do not see it.
    """
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    drawn = ElementTree.fromstring(buffer.getvalue())  # noqa: S314  matplotlib wrote it a line above
    out = ElementTree.Element("svg", {"viewBox": drawn.attrib["viewBox"], "role": "img", "aria-label": text})
    # The first element is matplotlib's style sheet.
    out.extend(list(drawn)[1:])
    for element in list(out.iter())[1:]:
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = dict(_attributes(element))
        element.tail = None
        if element.tag not in ("text", "tspan"):
            element.text = None
    return ElementTree.tostring(out, encoding="unicode")


def _attributes(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        if key == "style":
            yield from (_declaration(*part.split(":", 1)) for part in value.split(";"))
        # What nothing refers to has an underscore: figure_1, text_12.
        elif key != "id" or "_" not in value:
            yield key.rpartition("}")[2], " ".join(value.split())


def _declaration(key: str, value: str) -> tuple[str, str]:
    value = value.strip()
    return key.strip(), f"var(--{ROLES[value]})" if value in ROLES else value
