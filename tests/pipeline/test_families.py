"""The table of model families."""

import ast
import importlib.util
import json
from pathlib import Path
from typing import get_args

import pytest

from pipeline.config import Config
from pipeline.families import FAMILIES, Family
from pipeline.presets import PRESETS, make_config


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
    family, config = FAMILIES[name], make_config(preset)
    for values in (family.transform_config(config), family.trainer_config(config)):
        assert json.loads(json.dumps(values)) == values


def test_a_training_setting_concerns_the_trainer_alone() -> None:
    family, config = FAMILIES["transformer"], make_config("sample")
    changed = config.model_copy(update={"transformer": config.transformer.model_copy(update={"epochs": 99})})
    assert family.transform_config(changed) == family.transform_config(config)
    assert family.trainer_config(changed) != family.trainer_config(config)
    assert family.trainer_config(changed)["model"]["epochs"] == 99


def test_a_floor_concerns_neither_transform_nor_trainer() -> None:
    family, config = FAMILIES["transformer"], make_config("sample")
    changed = config.model_copy(update={"floors": config.floors.model_copy(update={"accuracy": 0.99})})
    assert family.transform_config(changed) == family.transform_config(config)
    assert family.trainer_config(changed) == family.trainer_config(config)


def test_the_module_of_a_function_is_what_stands_before_the_last_dot() -> None:
    assert Family.module("trainers.transformer.run.run_fn") == "trainers.transformer.run"
