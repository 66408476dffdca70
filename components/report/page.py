"""Renders a report: one HTML page that needs nothing but itself."""

import base64
import hashlib
import os
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
from markupsafe import Markup

from components.evaluation.paired import Estimate
from components.gates import table
from components.gates.verdict import Verdict
from components.report import charts
from components.report.facts import Champion, RunFacts
from components.report.measures import METRIC_NAMES

_TEMPLATES = Path(__file__).parent / "templates"
_GATES = Path(table.__file__).parent
_MOST_CHARACTERS = 1_500
_MINUS = "\N{MINUS SIGN}"
_FEATURES = {"length": "text length"}
_UNITS = {"_ms": "ms", "_mb": "MiB", "_seconds": "s"}


def render_page(facts: RunFacts, directory: Path) -> str:
    """Returns the page.

    Every text is escaped, and the page's Content-Security-Policy allows its own style sheet and nothing else.
    Links are relative to ``directory``, where the page will be.
    """
    css = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    champion = facts.champion
    return _template("report.html.j2").render(
        run=facts,
        css=Markup(css),  # noqa: S704  ours
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
        headline=_headline(facts),
        charts=_charts(facts),
        gates=table.GATES,
        changes=_changes(champion),
        places=_places(facts, directory),
        generator=f"newsdesk {version('newsdesk')}",
    )


def _headline(facts: RunFacts) -> str:
    if facts.status == "pushed":
        return f"Pushed as version {facts.model_version}" + (
            ", a challenger" if facts.pushed_as == "challenger" else ""
        )
    if facts.status == "rejected":
        return f"Rejected by {facts.stopped_at}"
    return f"Failed at {facts.stopped_at}" if facts.stopped_at else "Failed before the first node"


def _charts(facts: RunFacts) -> dict[str, Any]:
    """Returns the charts of what the run has, by name; the template asks for those alone."""
    found: dict[str, Any] = {}
    if facts.evaluation:
        found["confusion"] = charts.confusion_chart(facts.evaluation)
        found["reliability"] = charts.reliability_chart(facts.evaluation.reliability)
    if facts.training and facts.training.epochs:
        found["training"] = charts.training_charts(facts.training)
    if facts.champion and facts.champion.comparison:
        found["difference"] = charts.difference_chart(facts.champion.comparison, facts.champion.margin)
    if any(sum(counts.values()) for counts in facts.data.splits.values()):
        found["balance"] = charts.balance_chart(facts.data.splits)
    if any(sum(item.rows) for item in facts.data.lengths):
        found["lengths"] = charts.length_chart([item for item in facts.data.lengths if sum(item.rows)])
    if any(node.seconds for node in facts.nodes):
        found["cost"] = charts.cost_charts(facts.nodes)
    return found


def _changes(champion: Champion | None) -> dict[str, Estimate]:
    """Returns the candidate's F1 less the champion's, by class."""
    if champion is None or champion.comparison is None:
        return {}
    metrics = champion.comparison.metrics
    return {name: metrics[f"f1/{name}"].difference for name in champion.comparison.classes}


def _places(facts: RunFacts, directory: Path) -> list[tuple[str, str, str | None]]:
    """Returns what is where: name, address as text, and a link where there is something to open."""
    found: list[tuple[str, str, str | None]] = []
    if facts.model_dir:
        found.append(
            (f"Model, version {facts.model_version}", facts.model_dir, _link(facts, facts.model_dir, directory))
        )
    if facts.mlflow_run_id:
        web = urlsplit(facts.tracking).scheme in ("http", "https")
        link = f"{facts.tracking.rstrip('/')}/#/runs/{quote(facts.mlflow_run_id, safe='')}" if web else None
        found.append(("MLflow run", facts.mlflow_run_id, link))
        found.append(("MLflow", facts.tracking, None))
    if facts.registry_version:
        found.append(("MLflow's registry", f"version {facts.registry_version} of {facts.model_name}", None))
    if facts.data.quarantine_file:
        place = facts.data.quarantine_file
        found.append(("Quarantine", place, _link(facts, place, directory)))
    for node in facts.nodes:
        for name, place in node.outputs.items():
            found.append((f"{node.id}, {name.replace('_', ' ')}", place, _link(facts, place, directory)))
    return found


def _link(facts: RunFacts, place: str, directory: Path) -> str | None:
    """Links a file or directory: relative within the workspace, which may be moved, and by its path elsewhere."""
    path = Path(place)
    if not path.is_absolute():
        return None
    if path.is_relative_to(facts.workspace) and directory.is_relative_to(facts.workspace):
        return quote(os.path.relpath(path, directory))
    return path.as_uri()


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_TEMPLATES, _GATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "duration": _duration,
        "metric": lambda name: METRIC_NAMES.get(name, _plain(name)),
        "feature": lambda name: _FEATURES.get(name, _plain(name)),
        "fixed": _fixed,
        "moment": lambda text: f"{datetime.fromisoformat(text):%-d %B %Y, %H:%M} UTC",
        "number": _number,
        "plain": _plain,
        "points": _points,
        "range": _range,
        "shorten": _shorten,
        "svg": lambda chart: Markup(chart.svg),  # noqa: S704  built as XML, texts escaped
        "unit": lambda name: next((unit for end, unit in _UNITS.items() if name.endswith(end)), ""),
    }
    environment.globals["measured"] = _measured
    return environment.get_template(name)


def _fixed(value: float | None, digits: int = 4) -> str:
    """Shows a metric with the digits that the run shows; one that is not known is a dash."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}".replace("-", _MINUS)


def _number(value: Any) -> str:
    """Shows whatever a gate measured, with four digits that count."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", _MINUS)
    if isinstance(value, float):
        return (f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}").replace("-", _MINUS)
    return str(value)


def _range(estimate: Estimate, digits: int = 3) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"


def _points(estimate: Estimate) -> str:
    """Shows a difference of shares in points, with a sign and its interval."""
    if estimate.value is None:
        return "\N{EN DASH}"
    ends = (
        ""
        if estimate.low is None or estimate.high is None
        else f" ({_signed(estimate.low)} to {_signed(estimate.high)})"
    )
    return f"{_signed(estimate.value)}{ends}"


def _signed(share: float) -> str:
    shown = f"{100 * share:+z.1f}".replace("-", _MINUS)
    return "0.0" if shown == "+0.0" else shown  # a sign would be a claim


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} \N{HORIZONTAL ELLIPSIS}"


def _plain(name: str) -> str:
    """Turns a name from the code into words, without its unit."""
    for end in _UNITS:
        name = name.removesuffix(end)
    return name.replace("_", " ").replace("/", ", ").replace(".", ", ")


def _measured(gate: Verdict) -> list[tuple[str, Any]]:
    """Lists what a gate measured beside what its checks have."""
    checked = {check.name for check in gate.checks if check.value is not None}
    return [(name, value) for name, value in _flat(gate.numbers) if name not in checked]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Lists nested numbers under dotted names; counts per bin are left to the charts."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        elif value is not None and not isinstance(value, list):
            found.append((f"{prefix}{name}", value))
    return found
