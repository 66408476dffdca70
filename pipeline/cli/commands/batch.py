"""``newsdesk batch``."""

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import BadInputError, check_address
from pipeline.cli.asked import configure, with_beam
from pipeline.cli.options import beam_option, json_option, workspace_option
from pipeline.cli.process import say

if TYPE_CHECKING:
    from pipeline.config.beam import BeamConfig
    from serving.batch.classify import Summary
    from serving.batch.output import Output

_FORMATS = ("csv", "jsonl", "parquet")


@click.command("batch", short_help="batch inference on Beam")
@click.argument("input_", metavar="INPUT")
@click.argument("output")
@click.option("--name", show_default="ag_news", help="Model name in the workspace.")
@click.option(
    "--model-dir",
    type=click.Path(path_type=Path),
    metavar="BASE",
    help="Base of the model's versions, instead of that in the workspace; every worker must see it.",
)
@click.option("--format", "target", type=click.Choice(_FORMATS), help="Of a directory's files; by default the input's.")
@click.option(
    "--text-column",
    "text_columns",
    multiple=True,
    metavar="COLUMN",
    help="What to classify, a number where there is no header; may be repeated. By default what is clearly the text.",
)
@click.option("--delimiter", metavar="CHARACTER", help="Between fields; also comma, tab, semicolon, pipe; else found.")
@click.option("--encoding", metavar="NAME", help="Of text, such as utf-8, utf-16 or cp1252; else found.")
@click.option("--prefix", default="", help="Put before label and probability, the names of the new columns.")
@click.option(
    "--malformed-budget",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Largest share of malformed records let pass; they are listed and left out.",
)
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Rows computed at a time, and the most that a kill loses.",
)
@beam_option
@click.option("--set", "settings", multiple=True, metavar="beam.KEY=VALUE", help="A setting; may be repeated.")
@workspace_option
@json_option
def command(
    input_: str,
    output: str,
    name: str | None,
    model_dir: Path | None,
    target: str | None,
    text_columns: tuple[str, ...],
    delimiter: str | None,
    encoding: str | None,
    prefix: str,
    malformed_budget: float,
    shard_rows: int,
    beam: str | None,
    settings: tuple[str, ...],
    workspace: Path,
    as_json: bool,
) -> None:
    """Classifies every row of INPUT with the champion and writes it to OUTPUT, with label and probability.

    INPUT is a file or a pattern in quotes: delimited text (.csv, .tsv, .txt), JSON lines (.jsonl, .ndjson, .json), both
    also as .gz, or Parquet. Its delimiter, encoding (UTF-8, UTF-16, Windows-1252), header and text column are found out
    and told. Columns without a header are 1, 2, 3; in the AG News layout class_index, title, description. Take Parquet
    only from people you trust: the older stack's pyarrow is not safe against others.

    OUTPUT is one file if it ends like one, else a directory: .csv with commas, .tsv and .txt with tabs, text in UTF-8.
    What is malformed is listed in OUTPUT.quarantine.jsonl. A run that was killed goes on where it stopped when it is
    called again. Of two runs at once on one OUTPUT the second is refused, but for an object store, which has no locks.

    Columns come back as they were in the format they came in; only timestamps in Parquet's old INT96 become INT64.
    In another format they change: out of CSV every field is a string; into CSV what is no string is its JSON; into
    JSON lines dates and times are ISO 8601, decimals strings and NaN null; into Parquet a JSON column of mixed or
    nested values is a string of JSON. Bytes, durations and maps go into Parquet only.
    """
    from pipeline.cli.screen import Progress, quiet, silence_warnings
    from pipeline.config.beam import beam_args

    engine = _engine(with_beam(settings, beam))
    options = beam_args(engine)
    version = _find_model(model_dir, name, workspace)
    silence_warnings()
    started = time.monotonic()
    # In this process all there is to read is noise; elsewhere a runner says where its job is.
    with (
        quiet(Path(os.devnull)) if engine.profile == "in-memory" else nullcontext((sys.stdout, sys.stderr)) as (_, err),
        Progress(err) as progress,
    ):
        from components.tables.files import find_files, format_of
        from components.tables.rows import Asked
        from components.tables.table import describe
        from serving.batch.classify import classify
        from serving.batch.output import choose_output
        from serving.batch.plan import make_plan

        files = find_files(_absolute(input_))
        place = choose_output(_absolute(output), str(format_of(files[0])), target)
        place.check_input(files)
        names = (f"{prefix}label", f"{prefix}probability")
        with place.exclusive():
            place.check()
            asked = Asked(text_columns, delimiter, encoding)
            plan = make_plan(files, asked, names, place, shard_rows, malformed_budget)
            progress.line(f"read as {describe(plan.source, plan.layout)}")
            shards = f"{len(plan.shards)} shard{'s' * (len(plan.shards) > 1)}"
            progress.line(f"{plan.rows:,} rows in {shards}, model {version}")
            summary = classify(plan, names, place, version, options)
    seconds = time.monotonic() - started
    found = _describe(summary, place, version, plan.malformed, seconds)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found)


def _engine(settings: tuple[str, ...]) -> "BeamConfig":
    for setting in settings:
        if not setting.strip().startswith("beam."):
            raise BadInputError(f"batch inference has no settings but beam.KEY=VALUE, not {setting!r}")
    return configure("sample", None, settings).beam


def _find_model(model_dir: Path | None, name: str | None, workspace: Path) -> Path:
    from pipeline.workspace.place import Workspace
    from serving.model.loaded import NoModelError, champion_version

    if name is not None and model_dir is not None:
        raise BadInputError(f"--model-dir {model_dir} and --name {name} both say which model: drop one")
    base = Workspace(workspace).model_base(name or "ag_news") if model_dir is None else model_dir.resolve()
    try:
        return champion_version(base.parent, base.name)
    except NoModelError as error:
        advice = (
            "run newsdesk run first, or name another --workspace" if model_dir is None else "name another --model-dir"
        )
        raise BadInputError(f"{error}: {advice}") from error


def _absolute(path: str) -> str:
    """Keeps the slash at the end, and leaves the address of an object store alone."""
    if not path:
        raise BadInputError("INPUT and OUTPUT need a name each")
    check_address("an address of INPUT or OUTPUT", path, "let the environment log in to the store")
    if "://" in path:
        return path
    return os.path.abspath(path) + "/" * path.endswith("/")


def _describe(summary: "Summary", place: "Output", version: Path, malformed: int, seconds: float) -> dict[str, Any]:
    return {
        "output": place.path,
        "format": place.target,
        "rows": summary.rows,
        "labels": summary.labels,
        "malformed": malformed,
        "quarantine": place.quarantine if malformed else None,
        "shards": summary.shards,
        "resumed_shards": summary.resumed,
        "model_version": version.name,
        "seconds": round(seconds, 3),
    }


def _show(found: dict[str, Any]) -> None:
    counts = "  ".join(f"{label} {count:,}" for label, count in found["labels"].items())
    say(f"classes   {counts}")
    if found["malformed"]:
        records = f"malformed record{'s' * (found['malformed'] > 1)}"
        say(f"left out  {found['malformed']:,} {records}, listed in {found['quarantine']}")
    if found["resumed_shards"]:
        say(f"resumed   {found['resumed_shards']} of {found['shards']} shards were done before")
    where = f"{found['rows']:,} rows to {found['output']}"
    say(f"written   {where}, model version {found['model_version']}, {found['seconds']:.0f} s")
