"""What an edit of a setting or of a module changes in the graph: the nodes that then run again, and those behind them.

A node runs again if its own part of the graph changed or if an input did; tests/end_to_end/test_cache.py shows that.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx.dsl.compiler.compiler import Compiler
from tiny_bert import make_learned_tensors, write_checkpoint
from tiny_settings import TINY_BERT

from components.example_gen.source import SAMPLE_DIR, find_source
from components.push.model_base import record_versions
from pipeline import source_digest
from pipeline.config.config import override
from pipeline.config.families import Downloads, prepare
from pipeline.config.presets import make_config
from pipeline.graph import RegistryState, create_pipeline
from pipeline.workspace.place import Workspace

pytestmark = pytest.mark.stack

Nodes = Callable[..., dict[str, str]]


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    """Returns each node's own part of the graph: ``nodes(settings, snapshot)``."""
    source = find_source(SAMPLE_DIR)

    def compiled(
        settings: dict[str, str] | None = None, snapshot: str = "", enable_cache: bool = True
    ) -> dict[str, str]:
        config = override(make_config("sample"), settings or {})
        prepared = prepare(config, Downloads(tmp_path, {}))
        registry = RegistryState(f"sqlite:///{tmp_path}/mlflow.db", snapshot)
        graph = Compiler().compile(
            create_pipeline(config, source, Workspace(tmp_path), prepared, registry, enable_cache)
        )
        own = [node.pipeline_node for node in graph.nodes]
        return {node.node_info.id: json_format.MessageToJson(node, sort_keys=True) for node in own}

    return compiled


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"data.eval_fraction": "0.2"}, {"ExampleGen"}),
        ({"baseline.rows": "50"}, {"Baseline"}),
        ({"text.max_tokens": "20"}, {"Transform", "Trainer"}),
        ({"transformer.epochs": "4"}, {"Trainer"}),
        ({"floors.accuracy": "0.75"}, {"Evaluator", "Card"}),
        ({"data_gate.length_drift.threshold": "0.9"}, {"DataGate"}),
        ({"model_gate.margin": "0.3"}, {"ModelGate"}),
        ({"serving_gate.requests": "11"}, {"ServingGate"}),
        ({"push.as": "challenger"}, {"Promote"}),
        ({"retrain.least_rows": "7"}, set()),
    ],
)
def test_a_setting_concerns_the_nodes_that_it_is_handed_to(
    nodes: Nodes, settings: dict[str, str], changed: set[str]
) -> None:
    assert difference(nodes(), nodes(settings)) == changed


def test_a_change_of_the_registry_concerns_those_that_read_it(nodes: Nodes) -> None:
    assert difference(nodes(), nodes(snapshot="champion 2")) == {"Champion", "Register", "Pusher", "Promote"}


def test_a_length_of_the_bert_family_concerns_texts_and_training_and_its_weights_only_the_training(
    nodes: Nodes, tmp_path: Path
) -> None:
    encoder = write_checkpoint(tmp_path / "encoder")
    bert = TINY_BERT | {"model": "bert", "bert.encoder": str(encoder)}
    before = nodes(bert)
    assert difference(before, nodes(bert | {"bert.max_tokens": "20"})) == {"Transform", "Trainer"}
    assert difference(before, nodes(bert | {"bert.top_layers": "1"})) == {"Trainer"}
    write_checkpoint(encoder, tensors=make_learned_tensors())
    assert difference(before, nodes(bert)) == {"Trainer"}


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("pipeline.cli.commands.predict", set()),
        ("components.text.words", {"Transform"}),
        ("trainers.fit", {"Trainer"}),
        ("components.evaluation.metrics", {"Evaluator"}),
        ("components.evaluation.baseline", {"Baseline"}),
    ],
)
def test_an_edited_module_concerns_the_nodes_that_import_it(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, changed: set[str]
) -> None:
    before, find = nodes(), source_digest._path
    edited = tmp_path / find(module).name
    edited.write_bytes(find(module).read_bytes() + b"\n# an edit\n")
    monkeypatch.setattr(source_digest, "_path", lambda name: edited if name == module else find(name))
    # The card also tells the version of all code, which a process computes once.
    assert difference(before, nodes()) - {"Card"} == changed


def test_the_pusher_is_told_which_versions_are_gone(nodes: Nodes, tmp_path: Path) -> None:
    """Else the node would be answered from the cache with a directory that is no longer there."""
    base = Workspace(tmp_path).model_base("ag_news")
    base.mkdir(parents=True)
    record_versions(base, [1, 2])
    (base / "1").mkdir()
    before = nodes()
    assert '"[2]"' in before["Pusher"]
    (base / "1").rmdir()
    assert difference(before, nodes()) == {"Pusher"}


def test_without_the_cache_every_node_runs(nodes: Nodes) -> None:
    assert all("enableCache" in node for node in nodes().values())
    assert not any("enableCache" in node for node in nodes(enable_cache=False).values())


def difference(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, part in before.items() if after[name] != part}
