"""Whether a run may begin with the champion's weights."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from components.errors import BadInputError
from pipeline.config.config import Config, override
from pipeline.config.presets import make_config
from pipeline.retrain.warm import plan_warm_start
from trainers.family import Champion

TAGS = {"model_family": "transformer"}
BERT = {"model_family": "bert", "prepared.vocabulary_digest": "d1"}
PREPARED = {"name": "minilm-l6", "vocabulary_digest": "d1"}


def of_family(name: str, otherwise: str = "refuse") -> Config:
    return override(make_config("sample"), {"model": name, "retrain.vocabulary": otherwise})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for part in ("variables", "assets"):
        (tmp_path / "3" / part).mkdir(parents=True)
    (tmp_path / "3" / "assets" / "vocabulary").write_text("bank\ngoal\n")
    return tmp_path / "3"


def test_the_transformer_is_handed_the_champions_vocabulary(model: Path) -> None:
    plan = plan_warm_start(of_family("transformer"), {}, Champion(model, TAGS))
    assert plan.prepared == {
        "warm_start": {
            "model": str(model),
            "vocabulary": str(model / "assets" / "vocabulary"),
            "vocabulary_digest": hashlib.sha256(b"bank\ngoal\n").hexdigest(),
        }
    }
    assert str(model) in plan.sentence


def test_bert_must_have_the_champions_vocabulary_already(model: Path) -> None:
    plan = plan_warm_start(of_family("bert"), PREPARED, Champion(model, BERT))
    assert plan.prepared == {"warm_start": {"model": str(model), "vocabulary_digest": "d1"}}


@pytest.mark.parametrize(
    ("tags", "family", "prepared", "missing", "why"),
    [
        (BERT, "transformer", {}, None, "the champion is of family bert and not transformer"),
        ({}, "transformer", {}, None, "of family unknown"),
        (TAGS, "transformer", {}, "variables", "weights are no longer in"),
        (TAGS, "transformer", {}, "assets/vocabulary", "vocabulary is not at"),
        (BERT, "bert", PREPARED | {"vocabulary_digest": "d2"}, None, "vocabulary is not that of minilm-l6"),
        ({"model_family": "bert"}, "bert", PREPARED, None, "vocabulary is not that of minilm-l6"),
    ],
)
def test_otherwise_it_is_refused_or_begins_from_scratch_as_configured(
    model: Path, tags: dict[str, str], family: str, prepared: dict[str, Any], missing: str | None, why: str
) -> None:
    if missing:
        (model / missing).rename(model / "gone")
    with pytest.raises(BadInputError, match=f"no warm start: .*{why}"):
        plan_warm_start(of_family(family), prepared, Champion(model, tags))
    plan = plan_warm_start(of_family(family, "from scratch"), prepared, Champion(model, tags))
    assert plan.prepared == {}
    assert why in plan.sentence
