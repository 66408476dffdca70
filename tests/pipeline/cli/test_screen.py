"""What a run shows, and where everything else goes."""

import contextlib
import io
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.outcomes import NodeState
from pipeline.cli import screen
from pipeline.cli.screen import Progress, quiet, silence_warnings
from pipeline.run.record import NodeRun

CHILD = "import sys; print('child output'); print('child complaint', file=sys.stderr)"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def streams_on_descriptors() -> Iterator[None]:
    """Python's streams as a process has them: pytest's own write past the descriptors."""
    with (
        open(1, "w", closefd=False) as out,
        open(2, "w", closefd=False) as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        yield


def raise_after(act: Callable[[], object]) -> None:
    act()
    raise ZeroDivisionError


def test_quiet_sends_everything_to_the_log_but_its_own_streams(capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with streams_on_descriptors():
        sys.stdout.write("before\n")
        with quiet(log) as (out, err):
            sys.stdout.write("python output\n")
            sys.stderr.write("python complaint\n")
            os.write(1, b"native output\n")
            os.write(2, b"native complaint\n")
            subprocess.run([sys.executable, "-c", CHILD], check=True)
            out.write("shown\n")
            err.write("shown complaint\n")
        sys.stdout.write("after\n")
        os.write(1, b"native after\n")
        os.write(2, b"native complaint after\n")
    shown, complained = capfd.readouterr()
    assert sorted(shown.splitlines()) == ["after", "before", "native after", "shown"]
    assert complained.splitlines() == ["shown complaint", "native complaint after"]
    assert sorted(log.read_text(encoding="utf-8").splitlines()) == [
        "child complaint",
        "child output",
        "native complaint",
        "native output",
        "python complaint",
        "python output",
    ]


def test_quiet_restores_the_streams_after_an_exception(capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with streams_on_descriptors():
        with pytest.raises(ZeroDivisionError), quiet(log):
            raise_after(lambda: sys.stdout.write("inside\n"))
        sys.stdout.write("after\n")
        os.write(2, b"native after\n")
    assert capfd.readouterr() == ("after\n", "native after\n")
    assert log.read_text(encoding="utf-8") == "inside\n"


def test_quiet_adds_to_the_log_of_earlier_runs(capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    for number in range(2):
        with streams_on_descriptors(), quiet(log):
            sys.stdout.write(f"run {number}\n")
    assert log.read_text(encoding="utf-8") == "run 0\nrun 1\n"


def test_quiet_hands_the_terminal_to_no_child_and_leaves_no_descriptor_open(
    capfd: pytest.CaptureFixture, tmp_path: Path
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with quiet(tmp_path / "run.log") as (out, err):
        assert not os.get_inheritable(out.fileno())
        assert not os.get_inheritable(err.fileno())
        assert os.get_inheritable(1)
        assert os.get_inheritable(2)
    assert set(os.listdir("/proc/self/fd")) == before
    assert os.get_inheritable(1)
    assert os.get_inheritable(2)


def test_without_a_terminal_every_finished_node_is_one_plain_line() -> None:
    stream = io.StringIO()
    history = [
        [NodeRun("ExampleGen"), NodeRun("Trainer"), NodeRun("Pusher")],
        [NodeRun("ExampleGen", NodeState.RUNNING), NodeRun("Trainer"), NodeRun("Pusher")],
        [NodeRun("ExampleGen", NodeState.RAN, 12.34, 512.0), NodeRun("Trainer"), NodeRun("Pusher")],
        [NodeRun("ExampleGen", NodeState.RAN, 12.34, 512.0), NodeRun("Trainer", NodeState.RUNNING), NodeRun("Pusher")],
        [
            NodeRun("ExampleGen", NodeState.RAN, 12.34, 512.0),
            NodeRun("Trainer", NodeState.FAILED, 3.0),
            NodeRun("Pusher"),
        ],
        [
            NodeRun("ExampleGen", NodeState.RAN, 12.34, 512.0),
            NodeRun("Trainer", NodeState.FAILED, 3.0),
            NodeRun("Pusher", NodeState.SKIPPED),
        ],
    ]
    with Progress(stream) as progress:
        for nodes in history:
            progress.update(nodes)
            progress.update(nodes)
    assert stream.getvalue().splitlines() == [
        "ExampleGen        done       12.3 s",
        "Trainer           failed      3.0 s",
        "Pusher            skipped",
    ]


def test_without_a_terminal_a_node_that_waits_or_runs_is_not_shown() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.update([NodeRun("ExampleGen", NodeState.WAITING), NodeRun("Trainer", NodeState.RUNNING)])
    assert stream.getvalue() == ""


def test_a_cached_node_is_called_cached() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.update([NodeRun("ExampleGen", NodeState.CACHED, 0.04)])
    assert re.fullmatch(r"ExampleGen +cached +0\.0 s\n", stream.getvalue())


@pytest.mark.parametrize(
    "text", ["log /a/[red]b[/red]/[/]/run.log", f"log /{'deep/' * 40}run.log", f"data /{'d' * 200}"]
)
def test_without_a_terminal_a_line_is_shown_as_it_is(text: str) -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.line(text)
    assert stream.getvalue() == f"{text}\n"


def test_messages_of_the_project_are_shown_while_a_run_lasts() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("newsdesk")
    handlers = list(logger.handlers)
    with Progress(stream):
        logger.info("epoch %d of %d", 1, 3)
        logging.getLogger("somebody.else").warning("noise")
    logger.info("too late")
    assert stream.getvalue() == "  epoch 1 of 3\n"
    assert logger.handlers == handlers


def test_messages_are_no_longer_shown_after_a_run_that_failed() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("newsdesk")
    with pytest.raises(ZeroDivisionError), Progress(stream):
        raise ZeroDivisionError
    logger.info("too late")
    assert stream.getvalue() == ""


def test_on_a_terminal_the_last_table_shows_every_node() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.line("preset sample")
        progress.update([NodeRun("ExampleGen", NodeState.RUNNING), NodeRun("Trainer")])
        progress.update(
            [NodeRun("ExampleGen", NodeState.RAN, 1.5, 300.0), NodeRun("Trainer", NodeState.FAILED, 2.5, 400.0)]
        )
        progress.update(
            [NodeRun("ExampleGen", NodeState.RAN, 1.5, 300.0), NodeRun("Trainer", NodeState.FAILED, 2.5, 400.0)]
        )
    final = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines()[-3:]
    assert [line.split() for line in final] == [
        ["node", "state", "seconds", "peak", "MB"],
        ["ExampleGen", "done", "1.5", "300"],
        ["Trainer", "failed", "2.5", "400"],
    ]
    assert "preset sample" in stream.getvalue()
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def shown_on(stream: Terminal) -> list[str]:
    """Returns the lines that a terminal shows after all that was written to it."""
    lines, row, column = [""], 0, 0
    for code, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", stream.getvalue()):
        if code == "\n":
            row, column = row + 1, 0
            lines.extend([""] * (row + 1 - len(lines)))
        elif code == "\r":
            column = 0
        elif code.endswith("A"):
            row -= int(code[2:-1])
        elif code == "\x1b[2K":
            lines[row] = ""
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        else:
            assert code[-1] in "mhl", f"a code that this terminal does not know: {code!r}"
    return [line.rstrip() for line in lines if line.strip()]


def test_on_a_terminal_a_passing_line_is_replaced_by_the_next() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.update([NodeRun("Trainer", NodeState.RUNNING)])
        before = shown_on(stream)
        for share in ("10%", "20% and more", "30%"):
            progress.passing(f"  epoch 1: {share}")
            assert shown_on(stream) == [*before, f"  epoch 1: {share}"]


def test_on_a_terminal_a_passing_line_goes_when_a_node_changes() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.update([NodeRun("Trainer", NodeState.RUNNING)])
        progress.passing("  epoch 1: 10%")
        progress.update([NodeRun("Trainer", NodeState.RAN, 1.5, 300.0)])
        assert "epoch" not in "".join(shown_on(stream))
    final = shown_on(stream)
    assert [line.split()[0] for line in final] == ["node", "Trainer"]
    assert final[1].split() == ["Trainer", "done", "1.5", "300"]


def test_on_a_terminal_a_line_stays_above_the_table_while_others_pass() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.update([NodeRun("Trainer", NodeState.RUNNING)])
        below = shown_on(stream)
        progress.passing("  epoch 1: 10%")
        progress.line("  epoch 1: loss 0.5")
        assert shown_on(stream) == ["  epoch 1: loss 0.5", *below, "  epoch 1: 10%"]
        progress.passing("  epoch 2: 10%")
        progress.line("  epoch 2: loss 0.4")
        assert shown_on(stream) == ["  epoch 1: loss 0.5", "  epoch 2: loss 0.4", *below, "  epoch 2: 10%"]
        progress.update([NodeRun("Trainer", NodeState.RUNNING)])
        assert shown_on(stream) == ["  epoch 1: loss 0.5", "  epoch 2: loss 0.4", *below]


def test_on_a_terminal_a_passing_line_is_one_line_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Progress(stream) as progress:
        progress.passing(f"[red]{'long ' * 40}[/red]")
        assert shown_on(stream)[-1] == "[red]" + ("long " * 7).rstrip()
        progress.passing("short")
        assert "long" not in "".join(shown_on(stream))


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 500.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(screen, "time", clock)
    return clock


def test_without_a_terminal_passing_lines_come_once_a_minute(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for second in range(0, 200, 4):
            clock.now = 500.0 + second
            progress.passing(f"second {second} of [200]")
    assert stream.getvalue().splitlines() == [f"second {second} of [200]" for second in (60, 120, 180)]


def test_without_a_terminal_a_run_of_less_than_a_minute_shows_no_passing_line(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for _ in range(59):
            clock.now += 1
            progress.passing("10%")
    assert stream.getvalue() == ""


def test_without_a_terminal_other_lines_neither_wait_nor_count(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for second in range(1, 62):
            clock.now += 1
            progress.line(f"line {second}")
            progress.update([NodeRun("ExampleGen", NodeState.RAN, 1.0), NodeRun("Trainer", NodeState.RUNNING)])
            progress.passing(f"passing {second}")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["line 1", "ExampleGen        done        1.0 s"]
    assert lines[2:] == [*(f"line {second}" for second in range(2, 61)), "passing 60", "line 61"]


def test_messages_marked_as_passing_pass_and_others_do_not() -> None:
    stream = Terminal()
    logger = logging.getLogger("newsdesk.trainer")
    with Progress(stream):
        logger.info("epoch 1: 10%", extra={"passing": True})
        logger.info("epoch 1: loss 0.5")
        logger.info("epoch 2: 20%", extra={"passing": True})
        shown = shown_on(stream)
    assert (shown[0], shown[-1]) == ("  epoch 1: loss 0.5", "  epoch 2: 20%")
    assert "10%" not in "".join(shown)


def test_on_a_terminal_a_line_above_the_table_leaves_no_raw_markup() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.update([NodeRun("ExampleGen", NodeState.RAN, 1.5, 300.0), NodeRun("Trainer", NodeState.RUNNING)])
        progress.line("epoch 1")
    assert "[/]" not in stream.getvalue()


def test_on_a_terminal_too_other_output_goes_to_the_log(capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    log, stream = tmp_path / "run.log", Terminal()
    with streams_on_descriptors(), quiet(log), Progress(stream) as progress:
        progress.update([NodeRun("Trainer", NodeState.RUNNING)])
        sys.stdout.write("python output\n")
        sys.stderr.write("python complaint\n")
    assert sorted(log.read_text(encoding="utf-8").splitlines()) == ["python complaint", "python output"]
    assert "python" not in stream.getvalue()


def test_notices_about_the_future_are_dropped_and_other_warnings_are_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silence_warnings()
        warnings.warn("later", FutureWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="heed me"):
            warnings.warn("heed me", UserWarning, stacklevel=1)
