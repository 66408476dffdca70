"""The card beside a pushed model: what it is, what it was made of, how good it is, and where not to trust it."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from components import features
from components.evaluation.paired import Estimate
from components.gates.table import GATES
from components.report.facts import ModelFacts
from components.report.measures import METRIC_NAMES

_TEMPLATES = Path(__file__).parent / "templates"
_DATASETS = {
    "ag-news": ("ag_news", "AG News"),
    "sample": ("newsdesk-sample", "newsdesk's bundled sample"),
    "own": ("own", "the user's own data"),
}
_METRICS = {
    "accuracy": ("accuracy", "Accuracy", {}),
    "macro_f1": ("f1", "Macro-F1", {"average": "macro"}),
    "log_loss": ("log_loss", "Log loss", {}),
    "calibration_error": ("expected_calibration_error", "Expected calibration error, 15 bins", {}),
}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~&!])")


def render_model_card(facts: ModelFacts) -> str:
    """Returns the card as Markdown with Hugging Face's front matter.

    Raises:
        ValueError: The model was not evaluated.
    """
    if facts.evaluation is None:
        raise ValueError(f"{facts.model_name} was not evaluated, so a card has nothing to say: evaluate it first")
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=100)
    return _template().render(
        model=facts,
        front=front,
        dataset=_DATASETS[facts.data.source][1],
        features=features,
        purposes={gate.name: gate.purpose for gate in GATES},
    )


def _front_matter(facts: ModelFacts) -> dict[str, Any]:
    dataset_id, dataset = _DATASETS[facts.data.source]
    values = {item.name: item.value.value for item in facts.evaluation.headlines} if facts.evaluation else {}
    metrics = [
        {"type": kind, "value": round(value, 6), "name": name} | ({"args": args} if args else {})
        for key, (kind, name, args) in _METRICS.items()
        if (value := values.get(key)) is not None
    ]
    return {
        "license": "apache-2.0",
        "language": "en",
        "library_name": "tensorflow",
        "pipeline_tag": "text-classification",
        "tags": ["newsdesk", "tfx", "tensorflow", "saved-model", "news", facts.model_family],
        **({"datasets": [dataset_id]} if facts.data.source == "ag-news" else {}),
        "metrics": ["accuracy", "f1"],
        "model-index": [
            {
                "name": facts.model_name,
                "results": [
                    {
                        "task": {"type": "text-classification", "name": "Text Classification"},
                        "dataset": {"type": dataset_id, "name": dataset, "split": features.TEST},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        # Markdown: what is put in goes through the filter ``md``, which leaves neither markup nor HTML.
        autoescape=False,  # noqa: S701
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"estimate": _estimate, "md": _escape}
    environment.filters["metric"] = lambda name: METRIC_NAMES.get(name, name)
    return environment.get_template("model_card.md.j2")


def _escape(value: object) -> str:
    """Returns text that Markdown and the HTML within it take literally, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(str(value).split()))


def _estimate(value: Estimate) -> str:
    if value.value is None:
        return "\N{EN DASH}"
    ends = "" if value.low is None or value.high is None else f" ({value.low:.3f} to {value.high:.3f})"
    return f"{value.value:.4f}{ends}"
