"""The command line: bad input, exit codes, and what goes to which stream."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import make_url

from components.errors import BadInputError, GateRejectedError
from components.outcomes import Outcome
from components.push.aliases import write_aliases
from pipeline.cli import main as entry
from pipeline.config.presets import PRESETS
from pipeline.workspace import doctor
from pipeline.workspace.place import exclusive, open_workspace

GIB = 2**30
READY = doctor.Machine("Linux", "x86_64", (3, 11), ("glibc", "2.36"), "c++", 20 * GIB, 16 * GIB)
ENVIRONMENT = (
    "NEWSDESK_WORKSPACE",
    "NEWSDESK_CACHE",
    "NEWSDESK_AG_NEWS_URL",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
)
HEAVY = ("tensorflow", "tfx", "apache_beam", "mlflow", "pydantic", "rich")
IMPORTS_OF = """
import sys
from pipeline.cli.main import main
for arguments in sys.argv[2:]:
    sys.argv = ["newsdesk", *arguments.split()]
    try:
        main()
    except SystemExit as done:
        assert not done.code, (arguments, done.code)
print("heavy:", [name for name in {heavy} if name in sys.modules])
"""


@dataclass(frozen=True)
class Finished:
    code: str | int | None
    out: str
    err: str


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, nothing set in the environment, and no way to become another program."""

    def refuse(*arguments: object) -> None:
        pytest.fail(f"this process would have become {arguments}")

    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(os, "execve", refuse)
    for name in ENVIRONMENT:
        # Set first, so that what a command sets itself is undone too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return place


@pytest.fixture
def newsdesk(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """Calls the command in this process, with Python's streams on the descriptors as a process has them."""

    def call(*arguments: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["newsdesk", *arguments])
        capfd.readouterr()
        code: str | int | None = 0
        with (
            open(1, "w", closefd=False) as out,
            open(2, "w", closefd=False) as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                entry.main()
            except SystemExit as done:
                code = done.code or 0
        return Finished(code, *capfd.readouterr())

    return call


def contents(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def process(*arguments: str) -> Finished:
    command = [sys.executable, "-m", "pipeline.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


def assert_one_clear_sentence(outcome: Finished, *words: str) -> None:
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("newsdesk: ")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["'nonsense'"]),
        (["run", "--nonsense"], ["--nonsense", "run --help"]),
        (["run", "stray"], ["stray"]),
        (["run", "--preset"], ["--preset"]),
        (["run", "--preset", "nonsense"], ["'nonsense'", *PRESETS]),
        (["run", "--set", "transformer.epoch=1"], ["'transformer.epoch'", "'transformer.epochs'"]),
        (["run", "--set", "transformer.epochs"], ["KEY=VALUE", "'transformer.epochs'"]),
        (["run", "--set", "=3"], ["''"]),
        (["run", "--set", "transformer.epochs=many"], ["transformer.epochs", "'many'"]),
        (["run", "--set", "data.eval_fraction=1.5"], ["data.eval_fraction", "'1.5'"]),
        (["run", "--set", "transformer.epochs=2", "--set", "floors.accuracy=nan"], ["floors.accuracy", "'nan'"]),
        (["run", "--model", "nonsense"], ["model", "'transformer'", "'nonsense'"]),
        (["run", "--data", "missing"], ["missing", "--data", "train.csv"]),
        (["run", "--data", "empty"], ["empty", "train.csv"]),
        (["run", "--data", "file"], ["file", "--data"]),
        (["run", "--set", "data.directory=missing"], ["missing"]),
        (["run", "--preset", "ag-news", "--cache", "empty"], ["ag-news", "--data", "newsdesk fetch ag-news"]),
        (["run", "--preset", "seed", "--cache", "missing"], ["seed", "--data"]),
        (["run", "--workspace", "file"], ["file", "--workspace"]),
        (["run", "--workspace", "file/below"], ["file/below", "--workspace"]),
        (["predict"], ["nothing to classify"]),
        (["predict", "a text"], ["ag_news", "newsdesk run", "--workspace"]),
        (["predict", "--name", "other", "a text"], ["other"]),
        (["predict", "--file", "missing.txt"], ["missing.txt"]),
        (["predict", "--file", "latin.txt"], ["latin.txt", "UTF-8"]),
        (["predict", "--file", "file", "--workspace", "empty"], ["nothing to classify"]),
        (["ui"], ["no runs", "newsdesk run"]),
        (["ui", "--workspace", "empty"], ["no runs", "empty"]),
        (["ui", "--port", "0"], ["--port"]),
        (["fetch", "nonsense"], ["'nonsense'"]),
        (["doctor", "stray"], ["stray"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_clear_sentence_and_leaves_nothing_behind(
    newsdesk: Callable[..., Finished], empty_directory: Path, arguments: list[str], words: list[str]
) -> None:
    (empty_directory / "empty").mkdir()
    (empty_directory / "file").touch()
    (empty_directory / "latin.txt").write_bytes("Zürich\n".encode("latin-1"))
    before = contents(empty_directory)
    outcome = newsdesk(*arguments)
    assert_one_clear_sentence(outcome, *words)
    assert outcome.out == ""
    assert contents(empty_directory) == before


@pytest.mark.parametrize("missing", ["train.csv", "test.csv"])
def test_a_data_directory_that_lacks_a_file_is_refused_by_its_name(
    newsdesk: Callable[..., Finished], make_data: Callable[..., Path], empty_directory: Path, missing: str
) -> None:
    data = make_data(train=[("1", "a", "b")], test=[("1", "a", "b")])
    (data / missing).unlink()
    assert_one_clear_sentence(newsdesk("run", "--data", str(data)), f"holds no {missing}")
    (data / missing).touch()
    assert_one_clear_sentence(newsdesk("run", "--data", str(data)), f"{missing} is empty")
    assert contents(empty_directory) == set()


def test_bad_input_ends_the_process_the_same_way(empty_directory: Path) -> None:
    outcome = process("run", "--preset", "nonsense")
    assert_one_clear_sentence(outcome, "'nonsense'", "sample")
    assert outcome.out == ""
    assert contents(empty_directory) == set()


@pytest.mark.e2e
def test_a_workspace_in_use_is_refused_by_run_and_process(empty_directory: Path) -> None:
    workspace = open_workspace(empty_directory / "shared")
    with exclusive(workspace, "20300102-030405-abcd"):
        outcome = process("run", "--workspace", "shared")
    assert_one_clear_sentence(outcome, "20300102-030405-abcd", f"process {os.getpid()}", "--workspace")
    assert not workspace.metadata.exists()
    assert not list(workspace.serving.iterdir())


def test_the_workspace_may_come_from_the_environment(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, empty_directory: Path
) -> None:
    monkeypatch.setenv("NEWSDESK_WORKSPACE", "elsewhere")
    assert_one_clear_sentence(newsdesk("ui"), str(empty_directory / "elsewhere"))
    assert_one_clear_sentence(newsdesk("ui", "--workspace", "named"), str(empty_directory / "named"))


def test_the_cache_may_come_from_the_environment(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, empty_directory: Path
) -> None:
    monkeypatch.setenv("NEWSDESK_CACHE", "downloads")
    (empty_directory / "downloads" / "ag_news").mkdir(parents=True)
    assert_one_clear_sentence(newsdesk("run", "--preset", "ag-news"), "downloads/ag_news holds no train.csv")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BadInputError("the input is bad"), 2, "newsdesk: the input is bad\n"),
        (
            GateRejectedError("ModelGate", ["accuracy is low", "f1 too"]),
            3,
            "newsdesk: ModelGate: accuracy is low; f1 too\n",
        ),
        (click.UsageError("No such thing."), 2, "newsdesk: No such thing; see newsdesk doctor --help\n"),
        (click.exceptions.Abort(), 130, "newsdesk: interrupted\n"),
        (KeyboardInterrupt(), 130, "newsdesk: interrupted\n"),
        (click.exceptions.Exit(5), 5, ""),
    ],
    ids=["bad input", "gate", "usage", "abort", "Ctrl-C", "exit"],
)
def test_an_error_becomes_its_exit_code(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(doctor, "examine", fail)
    outcome = newsdesk("doctor")
    assert (outcome.code, outcome.err.lstrip("\n")) == (code, message)


def test_an_unexpected_error_is_not_hidden(newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(doctor, "examine", fail)
    with pytest.raises(ZeroDivisionError):
        newsdesk("doctor")


def test_help_imports_nothing_heavy(empty_directory: Path) -> None:
    arguments = ["--help", "--version", *(f"{name} --help" for name in entry.COMMANDS)]
    help_only = subprocess.run([sys.executable, "-m", "pipeline.cli.main", "--help"], check=True, capture_output=True)
    probe = subprocess.run(
        [sys.executable, "-c", IMPORTS_OF.format(heavy=HEAVY), "", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    assert help_only.stdout.startswith(b"Usage: ")
    assert probe.stdout.splitlines()[-1] == "heavy: []"
    assert contents(empty_directory) == set()


def test_help_lists_every_command_and_the_exit_codes(newsdesk: Callable[..., Finished]) -> None:
    outcome = newsdesk("--help")
    assert (outcome.code, outcome.err) == (0, "")
    for name, summary in entry.COMMANDS.items():
        assert f"  {name} " in outcome.out
        assert summary.split()[0] in outcome.out
    assert "Exit codes: 0 done, 1 unexpected failure, 2 bad input, 3 a gate said no." in outcome.out


@pytest.mark.parametrize("command", entry.COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """In a process of its own: click keeps the flags of the first call, and a test may have called a command alone."""
    for flag in ("--help", "-h"):
        outcome = process(command, flag)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"Usage: newsdesk {command} ")


def test_help_of_run_names_every_preset(newsdesk: Callable[..., Finished]) -> None:
    text = newsdesk("run", "--help").out
    assert [name for name in PRESETS if name not in text] == []


@pytest.mark.parametrize("arguments", [[], ["fetch"]], ids=["newsdesk", "newsdesk fetch"])
def test_a_group_without_a_command_shows_its_help_as_help(
    newsdesk: Callable[..., Finished], arguments: Sequence[str]
) -> None:
    outcome = newsdesk(*arguments)
    assert (outcome.out or outcome.err).strip() == newsdesk(*arguments, "--help").out.strip()


def test_doctor_says_in_json_that_a_machine_is_ready(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, empty_directory: Path
) -> None:
    monkeypatch.setattr(doctor, "this_machine", lambda _: READY)
    outcome = newsdesk("doctor", "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert answer["ready"] is True
    assert {"system", "python", "compiler", "disk", "memory", "tfx"} <= {check["name"] for check in answer["checks"]}
    assert all(set(check) == {"name", "ok", "found", "advice"} and check["ok"] is True for check in answer["checks"])
    assert contents(empty_directory) == set()


def test_doctor_says_what_to_do_on_a_machine_that_is_not_ready(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = doctor.Machine("Linux", "x86_64", (3, 12), ("glibc", "2.36"), None, 20 * GIB, 16 * GIB)
    monkeypatch.setattr(doctor, "this_machine", lambda _: bare)
    # Where everything is installed, nobody needs a compiler.
    monkeypatch.setattr(doctor, "_packages", lambda: [doctor.Check("tfx", False, "none", "make installs it")])
    outcome = newsdesk("doctor", "--json")
    answer = json.loads(outcome.out)
    assert outcome.code == 2
    assert answer["ready"] is False
    assert {check["name"] for check in answer["checks"] if not check["ok"]} == {"python", "compiler", "tfx"}
    lines = {line.split()[1]: line for line in newsdesk("doctor").out.splitlines()}
    assert lines["compiler"].startswith("no ")
    assert lines["compiler"].endswith("none: install one: apt-get install g++ python3-dev")
    assert lines["system"].startswith("ok ")


def test_fetch_names_the_mirror_the_cache_and_the_next_command(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from components.example_gen import fetch as module

    asked: list[tuple[Path, str]] = []
    monkeypatch.setattr(module, "fetch", lambda target, url, say: asked.append((target, url)))
    cache = tmp_path / "cache"
    outcome = newsdesk("fetch", "ag-news", "--base-url", "http://mirror/files/", "--cache", str(cache))
    assert outcome == Finished(0, f"now: newsdesk run --preset ag-news --data {cache / 'ag_news'}\n", "")
    newsdesk("fetch", "ag-news", "--cache", str(cache))
    monkeypatch.setenv("NEWSDESK_AG_NEWS_URL", "http://other")
    newsdesk("fetch", "ag-news", "--cache", str(cache))
    assert [url for _, url in asked] == ["http://mirror/files", module.BASE_URL.rstrip("/"), "http://other"]
    assert {target for target, _ in asked} == {cache / "ag_news"}


@pytest.fixture
def pushed(empty_directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Three pushed versions in the workspace, of which 10 serves; returns what was asked, how many at once."""
    from serving.model import loaded as models

    asked: list[tuple[str, int]] = []

    class Model:
        def __init__(self, directory: Path):
            self._version = directory.name
            os.write(1, b"noise of a native library\n")

        def predict(self, texts: Sequence[str]) -> list[models.Prediction]:
            asked.append((self._version, len(texts)))
            shares = {"World": 0.25, "Sports": 0.75}
            return [models.Prediction(text, "Sports", 1, 0.75, shares) for text in texts]

    monkeypatch.setattr(models, "LoadedModel", Model)
    workspace = open_workspace(empty_directory / "workspace")
    for version in ("2", "10", "9"):
        directory = workspace.model_base("ag_news") / version
        directory.mkdir(parents=True)
        (directory / "saved_model.pb").touch()
    write_aliases(workspace.serving, "ag_news", {"champion": 10, "previous": 9})
    return asked


def test_predict_prints_one_json_array(newsdesk: Callable[..., Finished], pushed: list[tuple[str, int]]) -> None:
    outcome = newsdesk("predict", "--json", "A goal in Zürich", "")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Zürich" in outcome.out
    answers = json.loads(outcome.out)
    assert [answer["text"] for answer in answers] == ["A goal in Zürich", ""]
    assert answers[0] == {
        "text": "A goal in Zürich",
        "label": "Sports",
        "label_id": 1,
        "probability": 0.75,
        "probabilities": {"World": 0.25, "Sports": 0.75},
    }
    assert pushed == [("10", 2)]


def test_predict_prints_one_line_a_text_and_cuts_a_long_one(
    newsdesk: Callable[..., Finished], pushed: list[tuple[str, int]]
) -> None:
    outcome = newsdesk("predict", "A goal", "x" * 80, "y" * 81)
    assert outcome.out.splitlines() == [
        "Sports     75.0%  A goal",
        f"Sports     75.0%  {'x' * 80}",
        f"Sports     75.0%  {'y' * 79}…",
    ]
    assert outcome.err == ""


def test_predict_reads_a_file_after_its_arguments_in_batches(
    newsdesk: Callable[..., Finished], pushed: list[tuple[str, int]], empty_directory: Path
) -> None:
    lines = [f"text {number}" for number in range(299)]
    (empty_directory / "texts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    answers = json.loads(newsdesk("predict", "--json", "--file", "texts.txt", "first").out)
    assert [answer["text"] for answer in answers] == ["first", *lines]
    assert [count for _, count in pushed] == [256, 44]


def test_predict_needs_nothing_of_a_workspace_but_the_model(
    newsdesk: Callable[..., Finished], pushed: list[tuple[str, int]], empty_directory: Path
) -> None:
    (empty_directory / "workspace" / "logs").rmdir()
    outcome = newsdesk("predict", "A goal")
    assert outcome == Finished(0, "Sports     75.0%  A goal\n", "")


@pytest.mark.parametrize("name", ["workspace", "w%31 #"])
def test_ui_serves_the_store_of_the_workspace_without_telemetry(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, empty_directory: Path, name: str
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: called.append(arguments))
    workspace = open_workspace(empty_directory / name)
    workspace.mlflow_store.touch()
    outcome = newsdesk("ui", "--port", "5001", "--workspace", name)
    assert outcome.out.startswith("http://127.0.0.1:5001 ")
    ((program, arguments, environment),) = called
    assert program == sys.executable
    assert arguments[1:4] == ["-m", "mlflow", "server"]
    assert make_url(arguments[arguments.index("--backend-store-uri") + 1]).database == str(workspace.mlflow_store)
    assert arguments[arguments.index("--default-artifact-root") + 1] == workspace.mlflow_artifacts.as_uri()
    assert arguments[arguments.index("--port") + 1] == "5001"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_ui_points_to_a_tracking_server_that_is_set(
    newsdesk: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert_one_clear_sentence(newsdesk("ui"), "http://tracking:5000", "MLFLOW_TRACKING_URI")


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces the run itself: set ``result`` to what it returns, read ``request`` for what it was asked."""
    from components.outcomes import NodeState
    from pipeline.run import execute as module
    from pipeline.run.record import NodeRun, Request, RunResult

    state: dict[str, Any] = {"result": RunResult(Outcome.PUSHED, "run-1")}

    def execute(request: Request, run_id: str, on_change: Callable[[list[NodeRun]], None]) -> RunResult:
        state["request"] = request
        sys.stdout.write("noise of the stack\n")
        os.write(2, b"noise of a native library\n")
        on_change([NodeRun("ExampleGen", NodeState.RAN, 1.5)])
        return state["result"]

    monkeypatch.setattr(module, "execute", execute)
    return state


@pytest.mark.parametrize(("ending", "code"), [("pushed", 0), ("failed", 1), ("bad input", 2), ("rejected", 3)])
def test_run_ends_with_the_exit_code_and_the_reasons_of_its_result(
    newsdesk: Callable[..., Finished], executed: dict[str, Any], empty_directory: Path, ending: str, code: int
) -> None:
    result = executed["result"]
    result.outcome = Outcome(ending)
    result.reasons = ["accuracy 0.4 is below 0.5", "another reason"] if code else []
    outcome = newsdesk("run")
    log = empty_directory / "workspace" / "logs" / "run.log"
    where = f" (traceback in {log})" if code == 1 else ""
    assert outcome.code == code
    assert outcome.err.splitlines() == [f"newsdesk: {reason}{where}" for reason in result.reasons]
    assert f"{result.outcome.status}  run run-1, 0 s" in outcome.out
    assert "noise" not in outcome.out
    assert sorted(log.read_text(encoding="utf-8").splitlines()) == ["noise of a native library", "noise of the stack"]


def test_run_prints_metrics_version_and_tracking(newsdesk: Callable[..., Finished], executed: dict[str, Any]) -> None:
    result = executed["result"]
    names = ("accuracy", "macro_f1", "worst_class_f1", "log_loss", "calibration_error")
    result.metrics = dict.fromkeys(names, 0.9) | {"extra": 0.5}
    result.model_name, result.model_version, result.model_dir = "ag_news", "7", "/models/ag_news/7"
    result.mlflow_run_id = "abc"
    out = newsdesk("run").out
    assert "test    " + "  ".join(f"{name} 0.9000" for name in names) in out
    assert "model   ag_news version 7: /models/ag_news/7" in out
    assert "mlflow  run abc in sqlite:///" in out


def test_run_in_json_prints_one_object_on_stdout_and_progress_on_stderr(
    newsdesk: Callable[..., Finished], executed: dict[str, Any]
) -> None:
    result = executed["result"]
    result.outcome, result.reasons = Outcome.REJECTED, ["accuracy 0.4 is below 0.5"]
    outcome = newsdesk("run", "--json")
    assert outcome.code == 3
    assert len(outcome.out.splitlines()) == 1
    assert set(json.loads(outcome.out)) == {
        "status",
        "run_id",
        "mlflow_run_id",
        "model_family",
        "model_name",
        "model_version",
        "model_dir",
        "metrics",
        "nodes",
        "seconds",
        "report",
        "reasons",
    }
    assert json.loads(outcome.out)["reasons"] == ["accuracy 0.4 is below 0.5"]
    assert "ExampleGen        done        1.5 s" in outcome.err.splitlines()
    assert outcome.err.splitlines()[-1] == "newsdesk: accuracy 0.4 is below 0.5"
    assert "noise" not in outcome.out + outcome.err


def test_run_is_asked_for_what_the_options_say(
    newsdesk: Callable[..., Finished], executed: dict[str, Any], make_data: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_data()
    options = ["--set", "transformer.epochs = 2", "--set", "name=tiny", "--no-cache", "--model", "transformer"]
    newsdesk("run", "--preset", "seed", "--data", str(data), "--workspace", str(tmp_path / "other"), *options)
    request = executed["request"]
    assert (request.config.preset, request.config.name, request.config.transformer.epochs) == ("seed", "tiny", 2)
    assert request.source.directory == data
    assert request.workspace.root == tmp_path / "other"
    assert request.enable_cache is False
    assert request.tracking.uri == f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"


def test_run_takes_the_sample_the_cache_and_the_own_workspace_by_default(
    newsdesk: Callable[..., Finished], executed: dict[str, Any], empty_directory: Path
) -> None:
    from components.example_gen.source import SAMPLE_DIR

    newsdesk("run")
    request = executed["request"]
    assert request.config.preset == "sample"
    assert request.source.directory == SAMPLE_DIR
    assert request.workspace.root == empty_directory / "workspace"
    assert request.enable_cache is True


def test_run_tracks_where_mlflow_is_set_to(
    newsdesk: Callable[..., Finished], executed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    executed["result"].mlflow_run_id = "abc"
    out = newsdesk("run").out
    assert executed["request"].tracking.uri == "http://tracking:5000"
    assert "mlflow  run abc in http://tracking:5000" in out


def test_run_names_no_tracked_run_where_there_is_none(
    newsdesk: Callable[..., Finished], executed: dict[str, Any]
) -> None:
    executed["result"].mlflow_run_id = None
    assert "mlflow" not in newsdesk("run").out
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_an_explicit_data_directory_wins_over_a_setting_and_a_setting_over_the_preset(
    newsdesk: Callable[..., Finished], executed: dict[str, Any], make_data: Callable[..., Path]
) -> None:
    one, other = make_data(name="one"), make_data(name="other")
    newsdesk("run", "--set", f"data.directory={other}")
    assert executed["request"].source.directory == other
    newsdesk("run", "--set", f"data.directory={other}", "--data", str(one))
    assert executed["request"].source.directory == one


def test_a_setting_cannot_rename_the_preset() -> None:
    from pipeline.cli.asked import configure

    with pytest.raises(BadInputError, match="--preset"):
        configure("sample", None, ("preset=seed",))
