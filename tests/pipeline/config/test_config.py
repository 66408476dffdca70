"""The configuration: single settings replaced, strict parsing, and the way through plain text and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.errors import BadInputError
from components.gates.data.gate import DataGateConfig
from pipeline.config.config import Config, Floors, flatten, override, parse
from pipeline.config.presets import PRESETS, make_config
from trainers.bert.config import BertConfig
from trainers.transformer.config import TransformerConfig

FLOORS = Floors(accuracy=0.5, macro_f1=0.5, worst_class_f1=0.3, calibration_error=0.5)


def make() -> Config:
    return Config(preset="tiny", floors=FLOORS)


def as_text(value: Any) -> str:
    return "none" if value is None else str(value)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("name", "other-name", "other-name"),
        ("data.directory", "/somewhere/else", "/somewhere/else"),
        ("data.malformed_budget", "0", 0.0),
        ("data.eval_fraction", "0.25", 0.25),
        ("text.vocab_size", "3", 3),
        ("transformer.epochs", "7", 7),
        ("transformer.learning_rate", "3e-4", 3e-4),
        ("transformer.norm", "post", "post"),
        ("floors.accuracy", "1", 1.0),
    ],
)
def test_override_replaces_one_setting_with_its_own_type(key: str, text: str, value: object) -> None:
    before = make()
    after = flatten(override(before, {key: text}))
    assert after[key] == value
    assert type(after[key]) is type(value)
    assert {name for name, old in flatten(before).items() if after[name] != old} == {key}


def test_override_replaces_several_settings_at_once_and_leaves_the_original_alone() -> None:
    before = make()
    after = override(before, {"transformer.epochs": "9", "transformer.width": "8", "text.max_tokens": "5"})
    assert (after.transformer.epochs, after.transformer.width, after.text.max_tokens) == (9, 8, 5)
    assert before == make()


def test_none_clears_a_setting_that_may_be_empty() -> None:
    config = override(make(), {"data.directory": "/somewhere"})
    assert override(config, {"data.directory": "none"}).data.directory is None


@pytest.mark.parametrize("key", ["transformer.epochs", "data.eval_fraction", "name", "transformer.norm"])
def test_none_is_refused_where_a_value_is_needed(key: str) -> None:
    with pytest.raises(BadInputError, match=f"^setting {key}: .*, not None$"):
        override(make(), {key: "none"})


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("transformer.epoch", "transformer.epochs"),
        ("epochs", "bert.epochs"),
        ("transformer.learning-rate", "transformer.learning_rate"),
        ("text.vocabulary_size", "text.vocab_size"),
        ("floors.acuracy", "floors.accuracy"),
        ("Name", "name"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(wrong: str, nearest: str) -> None:
    with pytest.raises(BadInputError) as caught:
        override(make(), {wrong: "1"})
    assert str(caught.value) == f"there is no setting {wrong!r}: did you mean {nearest!r}?"


@pytest.mark.parametrize(
    "key", ["", "transformer", "data", "floors", "transformer.", ".epochs", "transformer.epochs.x"]
)
def test_a_key_that_is_no_single_setting_is_refused(key: str) -> None:
    with pytest.raises(BadInputError, match=r"^there is no setting "):
        override(make(), {key: "1"})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("transformer.epochs", "many"),
        ("transformer.epochs", "1.5"),
        ("transformer.epochs", ""),
        ("transformer.learning_rate", "fast"),
        ("data.eval_fraction", "5%"),
        ("transformer.norm", "both"),
        ("model", "nonsense"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_key_and_value(key: str, text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        override(make(), {key: text})
    assert str(caught.value).startswith(f"setting {key}: ")
    assert str(caught.value).endswith(f", not {text!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("data.malformed_budget", "-0.001"),
        ("data.malformed_budget", "1.001"),
        ("data.eval_fraction", "0"),
        ("data.eval_fraction", "1"),
        ("text.vocab_size", "2"),
        ("text.max_tokens", "0"),
        ("transformer.epochs", "0"),
        ("transformer.dropout", "1"),
        ("transformer.learning_rate", "0"),
        ("transformer.learning_rate", "nan"),
        ("transformer.seed", "-1"),
        ("floors.accuracy", "1.1"),
        ("floors.accuracy", "nan"),
        ("floors.calibration_error", "nan"),
        ("name", ""),
        ("name", "../up"),
        ("name", "a/b"),
        ("name", ".hidden"),
        ("name", "line\n"),
        ("name", "n" * 64),
    ],
)
def test_a_value_out_of_range_is_refused_by_key_and_value(key: str, text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        override(make(), {key: text})
    assert str(caught.value).startswith(f"setting {key}: ")
    assert str(caught.value).endswith(f", not {text!r}")


@given(epochs=st.integers(max_value=0))
def test_no_count_below_one_epoch_is_let_pass(epochs: int) -> None:
    with pytest.raises(BadInputError, match=r"^setting transformer\.epochs: "):
        override(make(), {"transformer.epochs": str(epochs)})


@given(
    epochs=st.integers(1, 10**6),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
    accuracy=st.floats(0, 1),
)
def test_numbers_survive_the_way_through_text(epochs: int, rate: float, fraction: float, accuracy: float) -> None:
    values = {
        "transformer.epochs": epochs,
        "transformer.learning_rate": rate,
        "data.eval_fraction": fraction,
        "floors.accuracy": accuracy,
    }
    before = make()
    after = override(before, {key: str(value) for key, value in values.items()})
    assert flatten(after) == flatten(before) | values


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_written_as_text_gives_the_same_configuration(preset: str) -> None:
    config = make_config(preset)
    flat = flatten(config)
    assert override(config, {key: as_text(value) for key, value in flat.items()}) == config
    for key, value in flat.items():
        assert override(config, {key: as_text(value)}) == config, key


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dumped_configuration_parses_to_itself(preset: str) -> None:
    config = make_config(preset)
    assert parse(config.model_dump()) == config
    assert parse(json.loads(config.model_dump_json())) == config


def test_parse_names_what_is_missing() -> None:
    values = make().model_dump()
    del values["floors"]["accuracy"]
    with pytest.raises(BadInputError, match=r"^setting floors\.accuracy: field required"):
        parse(values)


@pytest.mark.parametrize("section", ["", "data", "text", "transformer", "floors"])
def test_parse_names_what_is_unknown(section: str) -> None:
    values = make().model_dump()
    (values[section] if section else values)["layers"] = 2
    with pytest.raises(BadInputError) as caught:
        parse(values)
    assert str(caught.value).startswith(f"setting {section}{'.' if section else ''}layers: ")


def test_a_configuration_cannot_be_changed_in_place() -> None:
    config = make()
    for section, field, value in (
        (config, "name", "other"),
        (config.data, "eval_fraction", 0.5),
        (config.text, "max_tokens", 3),
        (config.transformer, "epochs", 5),
        (config.floors, "accuracy", 0.0),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, field, value)
    assert config == make()


def test_flatten_lists_all_settings_in_the_order_they_are_declared() -> None:
    keys = list(flatten(make()))
    assert keys[:4] == ["preset", "name", "model", "data.directory"]
    sections = [name for name, field in Config.model_fields.items() if name in {key.split(".")[0] for key in keys}]
    assert list(dict.fromkeys(key.split(".")[0] for key in keys)) == sections == list(Config.model_fields)
    for name, family in {"transformer": TransformerConfig, "bert": BertConfig, "floors": Floors}.items():
        assert [key for key in keys if key.startswith(f"{name}.")] == [f"{name}.{key}" for key in family.model_fields]
    checks = [key.split(".")[1] for key in keys if key.startswith("data_gate.")]
    assert list(dict.fromkeys(checks)) == list(DataGateConfig.model_fields)
    assert "push.as" in keys


def test_flatten_gives_plain_values_only() -> None:
    assert {type(value) for value in flatten(make()).values()} <= {str, int, float, bool, type(None)}


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_numbers_are_finite(value: str) -> None:
    with pytest.raises(BadInputError, match=r"transformer\.learning_rate"):
        override(make(), {"transformer.learning_rate": value})
