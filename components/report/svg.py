"""Makes a matplotlib figure an inline SVG element that a page's style sheet can colour.

matplotlib writes colours and fonts into ``style`` attributes, which a strict Content-Security-Policy forbids and which
no style sheet can change. Here they become presentation attributes, and each colour, which stands for a role, a class
such as ``fill-accent``. Texts stay texts, in the page's own font.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

INK, MUTED, RULE = "#000001", "#000002", "#000003"
ACCENT, SECOND, THIRD, BAD = "#000004", "#000005", "#000006", "#000007"
ROLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    ACCENT: "accent",
    SECOND: "second",
    THIRD: "third",
    BAD: "bad",
}
"""Colour to role; what a role looks like is the style sheet's."""
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_KEPT = {"g", "path", "defs", "clipPath", "rect", "text", "tspan", "use"}
_ATTRIBUTES = {
    "clip-path",
    "dominant-baseline",
    "fill-opacity",
    "fill-rule",
    "opacity",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
    "text-anchor",
}
_FONT_SIZE = 10
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "newsdesk",
    # A class named "$AAPL$" is not a formula.
    "text.parse_math": False,
    "font.size": _FONT_SIZE,
    "axes.labelsize": _FONT_SIZE,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[ACCENT, SECOND, THIRD]),
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "patch.edgecolor": INK,
    "lines.linewidth": 1.8,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Sets matplotlib up for figures that ``to_svg`` takes."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # Only widths are guessed from matplotlib's font: the browser has others.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def to_svg(figure: Figure, name: str, text: str) -> str:
    """Returns a figure as an ``<svg>`` element.

    Args:
        figure: Drawn within ``drawing``, in the colours of ``ROLES`` alone.
        name: Unique on its page; begins every id.
        text: What it shows, for those who do not see it.

    Raises:
        ValueError: The figure has a colour, an element or a property that the page could not show as meant.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314  matplotlib wrote it a line above
    referenced = set(re.findall(r'(?:url\(|href=")#([^)"]+)', buffer.getvalue().decode()))
    out = ElementTree.Element("svg", {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": text})
    out.extend([_convert(child, name, referenced) for child in root if _kept(child)])
    return ElementTree.tostring(out, encoding="unicode", short_empty_elements=True)


def _convert(element: ElementTree.Element, name: str, referenced: set[str]) -> ElementTree.Element:
    tag = element.tag.removeprefix(_SVG)
    if tag not in _KEPT:
        raise ValueError(f"the chart {name} has an element {tag!r}: draw it without")
    made = ElementTree.Element(tag)
    made.text, made.tail = element.text if tag in ("text", "tspan") else None, None
    style = dict(part.split(":", 1) for part in element.attrib.get("style", "").split(";") if ":" in part)
    classes = []
    for key, value in [*element.attrib.items(), *((key.strip(), value.strip()) for key, value in style.items())]:
        if key in ("style", "class"):
            continue
        if key == "id":
            if value in referenced:
                made.set("id", f"{name}-{value}")
        elif key in ("href", _LINK):
            made.set("href", f"#{name}-{value.removeprefix('#')}")
        elif key in ("fill", "stroke"):
            classes += _colour(key, value, name, made)
        elif key in ("font", "font-size"):
            made.set("font-size", _font_size(value))
        elif key == "clip-path":
            made.set(key, value.replace("url(#", f"url(#{name}-"))
        elif key in ("d", "transform", "x", "y", "width", "height", "points") or key in _ATTRIBUTES:
            made.set(key, _NUMBER.sub(lambda match: f"{float(match[0]):.2f}", " ".join(value.split())))
        elif key not in ("font-family", "font-style", "font-weight", "font-stretch", "font-variant"):
            raise ValueError(f"the chart {name} has a property {key}={value!r} that no page style covers")
    if classes:
        made.set("class", " ".join(classes))
    elif tag == "text":
        made.set("class", "fill-ink")
    made.extend([_convert(child, name, referenced) for child in element if _kept(child)])
    return made


def _kept(element: ElementTree.Element) -> bool:
    """matplotlib's own style sheet and metadata are left out."""
    return element.tag not in (f"{_SVG}style", f"{_SVG}metadata") and (
        element.tag != f"{_SVG}defs" or any(child.tag != f"{_SVG}style" for child in element)
    )


def _colour(key: str, value: str, name: str, made: ElementTree.Element) -> list[str]:
    if value == "none":
        made.set(key, value)
        return []
    if value not in ROLES:
        raise ValueError(f"the chart {name} has the colour {value}: use one that stands for a role")
    return [f"{key}-{ROLES[value]}"]


def _font_size(value: str) -> str:
    found = re.search(r"([\d.]+)px", value)
    if not found:
        raise ValueError(f"a font without a size in pixels: {value!r}")
    return found[1]
