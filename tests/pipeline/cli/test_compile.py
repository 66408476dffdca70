"""``newsdesk compile``, ``submit`` and ``node`` on the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from components.errors import BadInputError
from pipeline.cli.commands import compile as compile_module
from pipeline.cli.commands import node as node_module
from pipeline.cli.commands import submit as submit_module
from pipeline.runners import submit as runners_submit
from pipeline.runners.submit import Submitted

IMAGE = "newsdesk@sha256:" + "a" * 64
NO_NETWORK = """
import socket
def refuse(*_, **__):
    raise RuntimeError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from pipeline.cli.main import main
main()
"""


def invoke(command: Any, *arguments: str | Path) -> Any:
    return CliRunner().invoke(command, [str(item) for item in arguments])


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_without_options_the_file_is_written_here_and_what_it_lacks_is_told(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(compile_module.command, "--target", target)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{target}.yaml\n"
    assert "before it can be submitted: no image by digest" in done.stderr
    spec = next(yaml.safe_load_all((tmp_path / f"{target}.yaml").read_text()))
    assert spec["pipelineInfo"]["name"] == "ag-news"
    images = {item["container"]["image"] for item in spec["deploymentSpec"]["executors"].values()}
    assert images == {"newsdesk:latest"}


def test_options_reach_the_file_and_begin(tmp_path: Path) -> None:
    path = tmp_path / "out.yaml"
    settings = ["--set", "transformer.epochs=5", "--set", "orchestrator.claim=newsdesk"]
    done = invoke(
        compile_module.command,
        "--target",
        "kubeflow",
        "--preset",
        "ag-news",
        "--image",
        IMAGE,
        "--output",
        path,
        *settings,
    )
    assert (done.exit_code, done.stderr) == (0, "")
    spec = next(yaml.safe_load_all(path.read_text()))
    begin = spec["deploymentSpec"]["executors"]["exec-begin"]["container"]
    assert begin["image"] == IMAGE
    assert begin["args"][begin["args"].index("--preset") :][:4] == [
        "--preset", "ag-news", "--set", "transformer.epochs=5",
    ]  # fmt: skip
    assert not [item for item in begin["args"] if item.startswith("orchestrator.")]
    # Those of the settings above, of whichever family the run is started with.
    assert spec["root"]["inputDefinitions"]["parameters"]["epochs"]["defaultValue"] == 0


def test_the_engine_reaches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.yaml"
    common = ["--image", IMAGE, "--output", path]
    flink = ["--beam", "flink", "--set", "beam.job_endpoint=flink-jobs:8099", "--set", "orchestrator.claim=newsdesk"]
    done = invoke(compile_module.command, "--target", "kubeflow", *common, *flink)
    assert (done.exit_code, done.stderr) == (0, "")
    spec = next(yaml.safe_load_all(path.read_text()))
    # The graph is made by the first step, which knows no orchestrator.
    begin = spec["deploymentSpec"]["executors"]["exec-begin"]["container"]["args"]
    told = [value for option, value in pairwise(begin) if option == "--set"]
    assert told == ["beam.job_endpoint=flink-jobs:8099", "beam.profile=flink", f"beam.image={IMAGE}"]
    settings = {"project": "p", "region": "europe-west4", "temp": "gs://bucket/temp"}
    dataflow = [part for item in settings.items() for part in ("--set", "beam." + "=".join(item))]
    done = invoke(compile_module.command, "--target", "vertex", *common, "--beam", "dataflow", *dataflow)
    assert done.exit_code == 0, done.output
    executors = next(yaml.safe_load_all(path.read_text()))["deploymentSpec"]["executors"]
    for node in ("exampleGen", "statisticsGen", "transform", "evaluator"):
        (arguments,) = [item["container"]["args"] for name, item in executors.items() if node.lower() in name.lower()]
        assert "--runner=DataflowRunner" in arguments, node
        assert f"--sdk_container_image={IMAGE}" in arguments, node


def test_what_cannot_run_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "out.yaml"
    bad = 'orchestrator.resources={"Trainr": {}}'
    done = invoke(compile_module.command, "--target", "kubeflow", "--output", path, "--set", bad)
    assert isinstance(done.exception, BadInputError)
    assert "Trainr: orchestrator.resources names it but the graph has none: did you mean Trainer?" in str(
        done.exception
    )
    assert not path.exists()


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_compiling_needs_no_network(target: str, tmp_path: Path) -> None:
    path = tmp_path / "out.yaml"
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "compile", "--target", target, "--output", str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert path.is_file()


def test_nothing_is_submitted_that_a_run_would_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners_submit, "submit_kubeflow", lambda *_: pytest.fail("it was sent"))
    done = invoke(submit_module.command, "--target", "kubeflow")
    assert isinstance(done.exception, BadInputError)
    assert "kubeflow cannot run this: no image by digest" in str(done.exception)


def test_what_is_compiled_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def send(text: str, config: Any, arguments: Any, scheduled: bool, replace: bool, environment: Any) -> Submitted:
        sent.append((next(yaml.safe_load_all(text)), arguments, scheduled, replace))
        return Submitted("s2", "http://here", ("s1",))

    monkeypatch.setattr(runners_submit, "submit_kubeflow", send)
    ready = ["--target", "kubeflow", "--image", IMAGE, "--set", "orchestrator.claim=newsdesk", "--param", "epochs=4"]
    done = invoke(submit_module.command, *ready, "--schedule", "--replace", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"name": "s2", "shown_at": "http://here", "replaced": ["s1"]}
    ((spec, arguments, scheduled, replace),) = sent
    assert (arguments, scheduled, replace) == ({"epochs": 4}, True, True)
    assert spec["deploymentSpec"]["executors"]["exec-begin"]["container"]["image"] == IMAGE
    assert (
        "deleted s1\nschedule s2: http://here"
        in invoke(submit_module.command, *ready, "--schedule", "--replace").stdout
    )
    refused = invoke(submit_module.command, *ready, "--replace")
    assert "add --schedule" in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Trainer", "--job", "j"], "run j has not begun in .*: run newsdesk node begin first"),
        (["Trainer", "--job", "{{$.pipeline_job_uuid}}"], "the orchestrator has not filled in"),
        (["Trainer", "--job", "../j"], "must be letters, digits"),
        (["Trainer", "--job", "j/../../k"], "must be letters, digits"),
        (["Trainer", "--job", "j", "x"], "takes no arguments but with --vertex"),
        (["finish", "--job", "j"], "has not begun"),
        (["begin", "--job", "j", "--vertex"], "needs --executor-input"),
        (["begin", "--job", "j", "--data", "/nonexistent"], "there is no data directory /nonexistent"),
        (["begin", "--job", "j", "--epochs", "-1"], "transformer.epochs"),
    ],
)
def test_a_step_that_cannot_be_run(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = invoke(node_module.command, *arguments[:1], "--workspace", tmp_path / "w", *arguments[1:])
    assert isinstance(done.exception, BadInputError)
    with pytest.raises(BadInputError, match=message):
        raise done.exception


def test_begin_decides_once_and_a_node_knows_its_run(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    common = ["--job", "job-1", "--workspace", tmp_path / "w"]
    chosen = ["--data", make_data(), "--epochs", "2", "--accuracy", "0.25", "--reuse", "false"]
    first = invoke(node_module.command, "begin", *common, *chosen)
    assert first.exit_code == 0, first.output
    assert invoke(node_module.command, "begin", *common, *chosen).stdout == first.stdout
    decided = json.loads((tmp_path / "w/runs/job-1/run.json").read_text())
    assert decided["config"]["transformer"]["epochs"] == 2
    assert decided["config"]["floors"]["accuracy"] == 0.25
    assert (decided["enable_cache"], len(decided["nodes"])) == (False, 17)
    wrong = invoke(node_module.command, "Trainr", *common)
    assert str(wrong.exception) == "the graph has no node 'Trainr': did you mean 'Trainer'?"
    done = invoke(node_module.command, "ImportSchema", *common)
    assert done.stdout.startswith("ImportSchema ran"), done.output
    # Run again, as after a retry, it is not run twice.
    assert invoke(node_module.command, "ImportSchema", *common).stdout == done.stdout
    assert json.loads((tmp_path / "w/runs/job-1/nodes/ImportSchema.json").read_text())["state"] == "ran"
    missing = next(node for node in decided["nodes"] if node != "ImportSchema")
    finished = invoke(node_module.command, "finish", *common)
    result = json.loads(finished.stdout.splitlines()[-1])
    assert (result["status"], result["reasons"]) == ("failed", [f"the orchestrator did not run {missing}"])
    assert Path(result["report"]).is_file()
