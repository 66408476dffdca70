"""The named configurations."""

import re
from itertools import product
from pathlib import Path

import pytest

from components.errors import BadInputError
from pipeline.config import presets
from pipeline.config.config import Config, flatten
from pipeline.config.presets import PRESETS, make_config

CONSTANT_ON_FOUR_BALANCED_CLASSES = {"accuracy": 0.25, "macro_f1": 0.1, "worst_class_f1": 0.0}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_and_carries_its_own_name(name: str) -> None:
    config = make_config(name)
    assert isinstance(config, Config)
    assert config.preset == name


def test_presets_are_the_files_and_those_of_the_contract() -> None:
    files = {path.stem for path in Path(presets.__file__).with_name("presets").iterdir()}
    assert set(PRESETS) == files == {"sample", "fast", "ag-news", "best", "seed"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_its_command(name: str) -> None:
    command = "newsdesk run" if name == "sample" else f"newsdesk run --preset {name}"
    text = Path(presets.__file__).with_name("presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    assert re.fullmatch(rf"# [^\n]+: {command}( --data DIR)?", text.partition("\n")[0])


def test_presets_differ_in_more_than_their_name() -> None:
    settings = {name: flatten(make_config(name)) | {"preset": ""} for name in PRESETS}
    assert all(settings[one] != settings[other] for one, other in product(PRESETS, PRESETS) if one != other)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("metric", CONSTANT_ON_FOUR_BALANCED_CLASSES)
def test_a_constant_classifier_misses_every_floor(name: str, metric: str) -> None:
    assert getattr(make_config(name).floors, metric) > CONSTANT_ON_FOUR_BALANCED_CLASSES[metric]


@pytest.mark.parametrize("name", PRESETS)
def test_a_perfect_classifier_reaches_every_floor_and_a_surely_wrong_one_does_not(name: str) -> None:
    floors = make_config(name).floors
    assert max(floors.accuracy, floors.macro_f1, floors.worst_class_f1) < 1
    assert 0 < floors.calibration_error < 1


@pytest.mark.parametrize("name", ["", "nonsense", "ag_news", "SAMPLE"])
def test_an_unknown_preset_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(BadInputError) as caught:
        make_config(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in PRESETS)


def test_the_seed_preset_has_the_parameters_of_the_notebook() -> None:
    from trainers.transformer.model import build

    config = make_config("seed")
    model = build(config.transformer, config.text.vocab_size, config.text.max_tokens, 4)
    assert model.count_params() == 659_592


def test_the_best_transformer_stays_below_ten_million_parameters() -> None:
    from trainers.transformer.model import build

    config = make_config("best")
    model = build(config.transformer, config.text.vocab_size, config.text.max_tokens, 4)
    assert model.count_params() < 10_000_000
