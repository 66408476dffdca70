"""The launcher reads the verdict of every gate, whether it ran or the cache answered, and records a no."""

from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.pipeline import Pipeline
from tiny_gate import TinyGate, TinyReader

from components.errors import BadInputError, GateRejectedError, StoppedError
from components.gates.verdict import read_verdict
from components.outcomes import NodeState
from pipeline.run import launch
from pipeline.run.execute import LocalRunner
from pipeline.run.record import NodeRun
from pipeline.workspace.metadata import MetadataPlace, connection

pytestmark = pytest.mark.stack

Execution = metadata_store_pb2.Execution


class Graph:
    """A graph of one gate, in a metadata store of its own."""

    def __init__(self, root: Path):
        self.root, self.uri = root, f"sqlite:///{root}/metadata.sqlite"
        self.place = MetadataPlace(self.uri)

    def run(self, run_id: str, said: str) -> tuple[NodeRun, BaseException | None]:
        """Returns the gate as it ended, and what the run was stopped by."""
        gate = TinyGate(said=said, log=str(self.root / "log")).with_id("TinyGate")
        pipeline = Pipeline(
            "tiny", str(self.root / "artifacts"), connection(self.uri), components=[gate], enable_cache=True
        )
        runner = LocalRunner(pipeline, self.place, run_id, lambda _: None)
        try:
            runner.run()
        except BaseException as error:
            return runner.nodes[0], error
        return runner.nodes[0], None

    def asked(self) -> int:
        """Returns how often the gate itself was run."""
        return len((self.root / "log").read_text().splitlines())

    def execution(self, number: int | None) -> Execution:
        with launch.reach(self.place) as handle:
            (found,) = handle.store.get_executions_by_id([number])
        return found


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return Graph(tmp_path)


def test_a_yes_goes_on_and_is_answered_from_the_cache(graph: Graph) -> None:
    (first, error), (second, again) = graph.run("run-1", ""), graph.run("run-2", "")
    assert (first.state, error) == (NodeState.RAN, None)
    assert (second.state, again) == (NodeState.CACHED, None)
    assert graph.asked() == 1
    assert graph.execution(first.execution_id).last_known_state == Execution.COMPLETE


def test_a_no_is_recorded_kept_and_not_taken_from_the_cache(graph: Graph) -> None:
    for times, run in enumerate(("run-1", "run-2"), 1):
        node, error = graph.run(run, "half of the rows are empty")
        assert isinstance(error, GateRejectedError)
        assert (error.gate, error.reasons) == ("TinyGate", ["half of the rows are empty"])
        assert node.state == NodeState.FAILED
        assert read_verdict(node.outputs["verdict"].uri).reasons == error.reasons
        execution = graph.execution(node.execution_id)
        assert execution.last_known_state == Execution.FAILED
        assert execution.custom_properties["reason"].string_value == "TinyGate: half of the rows are empty"
        assert graph.asked() == times


@pytest.mark.parametrize("later", ["run-1", "run-2"], ids=["the same run goes on", "another run, from the cache"])
def test_a_kill_before_the_verdict_is_read_lets_no_no_pass(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    """TFX has recorded that the gate is done, and nobody has read what it said."""

    def kill(_: object) -> None:
        raise StoppedError(9)

    with monkeypatch.context() as patched:
        patched.setattr(launch, "judge", kill)
        _, error = graph.run("run-1", "half of the rows are empty")
    assert isinstance(error, StoppedError)
    node, error = graph.run(later, "half of the rows are empty")
    assert isinstance(error, GateRejectedError)
    assert node.state == NodeState.FAILED
    assert graph.execution(node.execution_id).last_known_state == Execution.FAILED
    # The gate was not asked anew: its answer was there.
    assert graph.asked() == 1
    # But the next run asks it: no execution that said no answers from the cache.
    graph.run("run-3", "half of the rows are empty")
    assert graph.asked() == 2


@pytest.mark.parametrize("told", [True, False], ids=["asked to end", "killed"])
def test_what_an_attempt_left_that_was_cut_short_goes_before_the_next(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    def cut(uri: str, *_: object) -> None:
        Path(uri, "half").touch()
        raise StoppedError(9)

    with monkeypatch.context() as patched:
        patched.setattr("tiny_gate.write_verdict", cut)
        if not told:
            patched.setattr(launch.NodeLauncher, "_record_reason", lambda *_: None)
        graph.run("run-1", "")
    assert list(graph.root.rglob("half"))
    node, error = graph.run("run-1", "")
    assert (node.state, error) == (NodeState.RAN, None)
    assert not list(graph.root.rglob("half"))


def test_a_gate_without_a_verdict_does_not_pass(graph: Graph) -> None:
    node, error = graph.run("run-1", "-")
    assert isinstance(error, BadInputError)
    assert "verdict.json is missing" in str(error)
    assert (node.state, node.outputs) == (NodeState.FAILED, {})
    assert "verdict.json is missing" in graph.execution(node.execution_id).custom_properties["reason"].string_value


def test_a_node_before_those_that_it_needs_fails_and_runs_after_them(graph: Graph) -> None:
    gate = TinyGate(said="", log=str(graph.root / "log")).with_id("TinyGate")
    reader = TinyReader(verdict=gate.outputs["verdict"]).with_id("TinyReader")
    pipeline = Pipeline("tiny", str(graph.root / "artifacts"), connection(graph.uri), components=[gate, reader])
    nodes = launch.NodeLauncher(launch.compile_graph(pipeline, "run-1"), graph.place, "run-1")
    node, error = nodes.run("TinyReader")
    assert (node.state, node.outputs) == (NodeState.FAILED, {})
    assert str(error) == "node TinyReader was not executed: a node that it needs has not ended well"
    assert graph.execution(node.execution_id).custom_properties["reason"].string_value == str(error)
    assert [nodes.run(name)[0].state for name in ("TinyGate", "TinyReader")] == [NodeState.RAN, NodeState.RAN]
