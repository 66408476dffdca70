"""The table of model families, and that nothing else knows one."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import get_annotations
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
from nested import under

from components.gates.table import GATES
from pipeline.config.config import Config, flatten
from pipeline.config.families import FAMILIES, Downloads, Family, hand, prepare, summarize
from pipeline.config.presets import PRESETS, make_config
from trainers.families import MODULES

ROOT = Path(__file__).parents[3]
PREPARED: dict[str, dict[str, Any]] = {
    "bert": {
        "vocabulary": "vocab.txt",
        "vocabulary_digest": "0" * 64,
        "digest": "1" * 64,
        "lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
    }
}
"""What a family's ``prepare`` returns; a family without one has no row."""
KNOW_FAMILIES = (
    "pipeline/config/presets.py",  # configurations of families
    "pipeline/cli/commands/fetch.py",  # a command for the encoders of one
)


def of_family(name: str, preset: str = "sample") -> Config:
    return make_config(preset).model_copy(update={"model": name})


def handed(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what Transform and Trainer are handed."""
    return hand(config, PREPARED.get(config.model, {}))


def change(config: Config, section: str, **values: Any) -> Config:
    """Returns the configuration with values of one section replaced."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def test_the_configuration_offers_exactly_the_families_of_the_table() -> None:
    assert get_args(Config.model_fields["model"].annotation) == tuple(FAMILIES) == tuple(MODULES)


def test_sections_belong_to_one_family_and_to_no_run() -> None:
    owned = {name: set(family.sections.model_fields) for name, family in FAMILIES.items()}
    assert [pair for pair in combinations(owned, 2) if owned[pair[0]] & owned[pair[1]]] == []
    _, with_tables, head, *_ = Config.__mro__
    gates = {gate.section for gate in GATES}
    common = {*get_annotations(Config), *head.model_fields}
    assert set(with_tables.model_fields) == {*head.model_fields, *gates}.union(*owned.values())
    assert set().union(*owned.values()) & {*common, *gates} == set()


def test_public_keys_are_what_they_were() -> None:
    keys = flatten(make_config("sample"))
    assert {"text.vocab_size", "text.max_tokens", "transformer.epochs", "bert.encoder", "bert.epochs"} <= set(keys)


@pytest.mark.parametrize("name", FAMILIES)
def test_its_number_of_epochs_is_a_setting_of_its_own(name: str) -> None:
    section, _, _ = FAMILIES[name].epochs.partition(".")
    assert section in FAMILIES[name].sections.model_fields
    assert isinstance(flatten(make_config("sample"))[FAMILIES[name].epochs], int)


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
    for values in handed(of_family(name, preset)):
        assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_setting_concerns_the_trainer_alone(name: str) -> None:
    config = of_family(name)
    transform, trainer = handed(config)
    section, _, key = FAMILIES[name].epochs.partition(".")
    changed_transform, changed_trainer = handed(change(config, section, **{key: 99}))
    assert changed_transform == transform
    assert under(key, changed_trainer) == [99] != under(key, trainer)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_floor_and_another_family_concern_neither_transform_nor_trainer(name: str) -> None:
    config = of_family(name)
    assert handed(change(config, "floors", accuracy=0.99)) == handed(config)
    for other in FAMILIES.keys() - {name}:
        section, _, key = FAMILIES[other].epochs.partition(".")
        assert handed(change(config, section, **{key: 99})) == handed(config)


def test_a_warm_start_reaches_the_nodes_that_it_concerns() -> None:
    begin = {"model": "/served/3", "vocabulary": "/served/3/assets/vocabulary", "vocabulary_digest": "d1"}
    transform, trainer = hand(of_family("transformer"), {"warm_start": begin})
    assert trainer["warm_start"] == begin
    assert {"vocabulary": begin["vocabulary"], "vocabulary_digest": "d1"}.items() <= transform.items()
    assert "model" not in transform
    begin = {"model": "/served/3", "vocabulary_digest": "0" * 64}
    transform, trainer = hand(of_family("bert"), PREPARED["bert"] | {"warm_start": begin})
    assert trainer["warm_start"] == begin
    assert (trainer["encoder"], "warm_start" in transform) == (PREPARED["bert"], False)


def test_a_graph_that_is_not_run_hands_nothing_of_a_family() -> None:
    assert hand(of_family("bert"), None) == ({}, {})


def test_a_family_says_what_its_model_is() -> None:
    assert summarize(of_family("transformer")) == "A transformer trained from scratch"
    config = change(of_family("bert"), "bert", encoder="small-bert")
    assert summarize(config) == "A fine-tuned BERT encoder (small-bert)"


def test_a_family_without_downloads_prepares_nothing(tmp_path: Path) -> None:
    assert prepare(of_family("transformer"), Downloads(tmp_path, {}, pytest.fail, pytest.fail)) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_module_of_a_function_is_what_stands_before_the_last_dot() -> None:
    assert Family.module("trainers.transformer.run.run_fn") == "trainers.transformer.run"


def test_the_table_brings_no_stack() -> None:
    code = (
        "import sys, pipeline.config.config; print([it for it in ('tensorflow', 'tfx', 'mlflow') if it in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def names_of_families(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields line and text of what names a family: an import, an attribute, a keyword, or a text that is no docstring.

    A capital letter makes it another word: BERT is a method, and TfidfTransformer a class of scikit-learn's.
    """
    owned = {section for family in FAMILIES.values() for section in family.sections.model_fields} & set(FAMILIES)
    word = re.compile(rf"(?<![A-Za-z_])({'|'.join({*MODULES, *owned})})(?![A-Za-z_])")
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        found = ""
        if isinstance(node, ast.Import):
            found = " ".join(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found = f"{node.module} {' '.join(alias.name for alias in node.names)}"
        elif isinstance(node, ast.Attribute):
            found = node.attr
        elif isinstance(node, ast.keyword | ast.arg):
            found = node.arg or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            found = node.value
        if word.search(found):
            yield getattr(node, "lineno", 0), found


def test_nothing_but_its_folder_and_the_table_names_a_family() -> None:
    shared = [path for path in (ROOT / "trainers").glob("*.py") if path.name != "families.py"]
    below = [path for room in ("pipeline", "components", "serving") for path in (ROOT / room).rglob("*.py")]
    places = [path for path in (*shared, *below) if str(path.relative_to(ROOT)) not in KNOW_FAMILIES]
    assert len(places) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in places
        for line, text in names_of_families(ast.parse(path.read_text(encoding="utf-8")))
    ]
    found += [
        str(path.relative_to(ROOT))
        for path in (ROOT / "components" / "report" / "templates").iterdir()
        if re.search("|".join(MODULES), path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "if config.model == 'bert': pass",
        "epochs = config.transformer.epochs",
        "from trainers.bert.config import BertConfig",
        "import trainers.transformer.run",
        "Parameter('model', 'transformer or bert')",
        "key = 'bert.epochs'",
        "f'{family} or bert'",
        "Config(bert=1)",
        "def run(transformer): pass",
    ],
)
def test_a_place_that_names_a_family_is_found(source: str) -> None:
    assert list(names_of_families(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ['"""A BERT vocabulary; bert."""', "from sklearn import TfidfTransformer", "'BERT'", "robert = 'alberta'"]
)
def test_a_word_that_is_no_family_is_not_reported(source: str) -> None:
    assert list(names_of_families(ast.parse(source))) == []
