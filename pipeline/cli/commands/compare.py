"""``newsdesk compare``."""

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from components.clean import printable
from components.errors import BadInputError
from pipeline.cli.options import json_option, workspace_option

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from components.evaluation.comparison import Disagreement, Metric
    from components.evaluation.paired import Estimate
    from pipeline.run.compare import RunComparison, Side

_NOTHING = "-"
_SHORT_DIGEST = 12
_WIDEST_ANSWER = 20
_DIGESTS = ("data_digest", "code_version")


@click.command("compare", short_help="two runs side by side on the same rows")
@click.argument("run_a", metavar="RUN")
@click.argument("run_b", metavar="RUN")
@click.option("--rows", default=10, show_default=True, type=click.IntRange(0), help="Rows listed per direction.")
@click.option("--no-cache", is_flag=True, help="Score both models anew, and so measure their speed.")
@workspace_option
@json_option
def command(run_a: str, run_b: str, rows: int, no_cache: bool, workspace: Path, as_json: bool) -> None:
    """Puts two finished runs side by side on the same test rows.

    RUN is a run id, an MLflow run id, or the beginning of either: metrics with intervals, whether the difference
    can be told from chance, cost, settings that differ, and the rows where one is right and the other wrong.
    """
    from pipeline.cli.screen import Progress, quiet, silence_warnings
    from pipeline.workspace.place import Workspace
    from pipeline.workspace.stores import find_stores, find_tracking

    place = Workspace(workspace)
    if not find_tracking(place, os.environ) and not place.mlflow_store.exists():
        raise BadInputError(f"workspace {place.root} has no runs yet: newsdesk run makes the first")
    silence_warnings()
    with quiet(Path(os.devnull)) as (out, err):
        with Progress(err):
            from pipeline.run.compare import compare

            result = compare(find_stores(place, os.environ).tracking, place.predictions, run_a, run_b, rows, no_cache)
        if as_json:
            click.echo(result.to_json(), file=out)
        else:
            _show(result, out)


def _show(result: "RunComparison", stream: IO[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    answers = result.answers
    for name, side in (("A", result.a), ("B", result.b)):
        version = f"version {side.model_version}" if side.model_version else "not pushed"
        parts = (name, side.run_id, side.model_family or _NOTHING, f"preset {side.preset or _NOTHING}", version)
        console.print(Text("  ".join(map(printable, parts))))
    console.print()
    console.print(Text(f"{answers.verdict}."), style="bold")
    for note in result.notes:
        console.print(Text(f"Note: {printable(note)}."), style="yellow")
    console.print()
    console.print(_metrics(answers.metrics))
    units = f"In parentheses {answers.confidence:.0%} intervals. Shares in %, differences in points."
    console.print(Text(units), style="dim")
    console.print()
    console.print(_costs(result.a, result.b))
    if None in (result.a.rows_per_second, result.b.rows_per_second):
        console.print(Text("Answers from an earlier comparison have no speed: --no-cache measures it."), style="dim")
    if result.settings:
        console.print()
        console.print(_settings(result.settings))
    test = answers.mcnemar
    for title, count, rows in (
        ("A right, B wrong", test.b, answers.only_a_right),
        ("B right, A wrong", test.c, answers.only_b_right),
    ):
        listed = f", the {len(rows)} surest mistakes first" if len(rows) > 1 else ""
        console.print()
        console.print(Text(f"{title}: {count:,} of {answers.rows:,} rows{listed}"), style="bold")
        if rows:
            console.print(_disagreements(rows))
    console.print()
    console.print(Text(f"Both wrong, with different answers: {answers.both_wrong_differently:,} rows"), style="bold")


def _metrics(metrics: dict[str, "Metric"]) -> "Table":
    table = _table("metric", "A", "B", "B - A")
    for column in table.columns[1:3]:
        column.no_wrap = True
    for key, metric in metrics.items():
        name = f"F1 {key.removeprefix('f1/')}" if key.startswith("f1/") else key
        scale, digits = (1, 3) if key == "log_loss" else (100, 1)
        table.add_row(
            _cell(name),
            _estimate(metric.a, scale, digits),
            _estimate(metric.b, scale, digits),
            _estimate(metric.difference, scale, digits, sign="+", to=" to "),
        )
    return table


def _estimate(number: "Estimate", scale: int, digits: int, sign: str = "-", to: str = "–") -> str:  # noqa: RUF001
    if number.value is None:
        return _NOTHING
    shown = f"{scale * number.value:{sign}z.{digits}f}"
    if number.low is None or number.high is None:
        return shown
    return f"{shown} ({scale * number.low:z.{digits}f}{to}{scale * number.high:z.{digits}f})"


def _costs(a: "Side", b: "Side") -> "Table":
    table = _table("cost", "A", "B")
    for name, show in (
        ("training, s", lambda side: _number(side.trainer_seconds, 1, "cached")),
        ("  of it passes over the data, s", lambda side: _number(side.epochs_seconds, 1)),
        ("whole run, s", _run_seconds),
        ("peak memory, MB", lambda side: _number(side.peak_mb)),
        ("model on disk, MB", lambda side: _number(side.model_mb, 1)),
        ("parameters", lambda side: _number(side.parameters)),
        ("inference, rows/s", lambda side: _number(side.rows_per_second)),
    ):
        table.add_row(name, show(a), show(b))
    return table


def _run_seconds(side: "Side") -> str:
    cached = f" ({side.cached_nodes} nodes cached)" if side.cached_nodes else ""
    return _number(side.run_seconds, 1) + cached


def _number(value: float | None, digits: int = 0, missing: str = _NOTHING) -> str:
    return missing if value is None else f"{value:,.{digits}f}"


def _settings(settings: dict[str, tuple[str | None, str | None]]) -> "Table":
    table = _table("settings that differ", "A", "B")
    for key, values in settings.items():
        short = [value[:_SHORT_DIGEST] if value and key in _DIGESTS else value for value in values]
        table.add_row(_cell(key), *(_cell(_NOTHING if value is None else value) for value in short))
    return table


def _disagreements(rows: list["Disagreement"]) -> "Table":
    table = _table()
    table.expand = True
    for name in ("class", "A", "B"):
        table.add_column(name, no_wrap=True, max_width=_WIDEST_ANSWER)
    table.add_column("text", no_wrap=True, ratio=1)
    for row in rows:
        table.add_row(
            _cell(row.label),
            _cell(f"{row.a} {row.a_probability:.0%}"),
            _cell(f"{row.b} {row.b_probability:.0%}"),
            _cell(row.text),
        )
    return table


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _cell(text: str) -> "Text":
    """Class names, settings and texts are others' words: no markup, and nothing that steers the terminal."""
    from rich.text import Text

    return Text(" ".join(printable(text).split()))
