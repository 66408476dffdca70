"""The table of model families."""

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.config import Config
from pipeline.families import FAMILIES, Downloads, Family
from pipeline.presets import PRESETS, make_config

PREPARED = {
    "transformer": {},
    "bert": {"vocabulary": "vocab.txt", "vocabulary_digest": "0" * 64, "lower_case": True, "digest": "1" * 64},
}


def handed(name: str, config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what Transform and Trainer are handed."""
    family = FAMILIES[name]
    return family.transform_config(config, PREPARED[name]), family.trainer_config(config, PREPARED[name])


def change(config: Config, section: str, **values: Any) -> Config:
    """Returns the configuration with values of one section replaced."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def test_the_configuration_offers_exactly_the_families_of_the_table() -> None:
    assert get_args(Config.model_fields["model"].annotation) == tuple(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("field", ["preprocessing_fn", "run_fn"])
def test_a_family_names_functions_that_exist(family: Family, field: str) -> None:
    function = getattr(family, field)
    spec = importlib.util.find_spec(Family.module(function))
    assert spec is not None
    assert spec.origin is not None
    defined = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    assert field == function.rpartition(".")[2]
    assert field in {item.name for item in defined if isinstance(item, ast.FunctionDef)}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_family_hands_its_nodes_plain_values(name: str, preset: str) -> None:
    for values in handed(name, make_config(preset)):
        assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_setting_concerns_the_trainer_alone(name: str) -> None:
    config = make_config("sample")
    transform, trainer = handed(name, config)
    changed_transform, changed_trainer = handed(name, change(config, name, epochs=99))
    assert changed_transform == transform
    assert changed_trainer != trainer
    assert changed_trainer["model"]["epochs"] == 99


@pytest.mark.parametrize("name", FAMILIES)
def test_a_floor_and_the_other_family_concern_neither_transform_nor_trainer(name: str) -> None:
    config = make_config("sample")
    (other,) = set(FAMILIES) - {name}
    assert handed(name, change(config, "floors", accuracy=0.99)) == handed(name, config)
    assert handed(name, change(config, other, epochs=99)) == handed(name, config)


def test_a_family_without_downloads_prepares_nothing(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, {}, pytest.fail)
    assert FAMILIES["transformer"].prepare(make_config("sample"), downloads) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_module_of_a_function_is_what_stands_before_the_last_dot() -> None:
    assert Family.module("trainers.transformer.run.run_fn") == "trainers.transformer.run"
