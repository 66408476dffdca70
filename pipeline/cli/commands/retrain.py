"""``newsdesk retrain``."""

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from components.clean import to_json
from components.errors import BadInputError
from pipeline.cli.asked import configure, data_directory, prepare
from pipeline.cli.options import json_option, run_options
from pipeline.cli.process import collect_seldom, end_on_sigterm, say

if TYPE_CHECKING:
    from components.example_gen.source import Source
    from pipeline.cli.screen import Progress
    from pipeline.config.config import Config
    from pipeline.retrain.retrainer import Done, Retrainer
    from pipeline.run.record import RunResult
    from pipeline.workspace.place import Workspace


@click.command("retrain", short_help="one retraining decision, and what follows from it")
@run_options("Directory of the spans.")
@click.option("--dry-run", is_flag=True, help="Show the decision; write nothing and run nothing.")
@click.option("--backfill", metavar="FROM..TO", help="One run for each span of these days, in order, decisions aside.")
@click.option("--reset", is_flag=True, help="Close the circuit after failures, and decide nothing.")
@json_option
def command(
    preset: str,
    data: Path | None,
    model: str | None,
    workspace: Path,
    cache: Path,
    settings: tuple[str, ...],
    dry_run: bool,
    backfill: str | None,
    reset: bool,
    as_json: bool,
) -> None:
    """Decides once whether to retrain, says why, and does it."""
    collect_seldom()
    from components.example_gen.window import Window
    from pipeline.cli.screen import Progress, quiet, silence_warnings
    from pipeline.config.beam import check_local
    from pipeline.workspace.place import open_workspace

    if dry_run + reset + bool(backfill) > 1:
        raise BadInputError("--dry-run, --backfill and --reset are three different things: choose one")
    end_on_sigterm()
    config = configure(preset, model, settings)
    check_local(config.beam, config.orchestrator.image)
    Window.parse(config.data.spans)
    directory = data_directory(config, data, cache)
    place = open_workspace(workspace)
    silence_warnings()
    with quiet(place.logs / "retrain.log") as (out, err):
        screen = err if as_json else out
        with Progress(screen) as progress:
            progress.line(f"preset {config.preset}, model {config.model}, spans {directory}")
            retrainer = _open(config, directory, place, cache, progress, screen)
            if reset:
                retrainer.reset()
                done: list[Done] = []
                progress.line("the circuit is closed")
            elif dry_run:
                done = [retrainer.look()]
            elif backfill:
                done = retrainer.backfill(backfill)
            else:
                done = [retrainer.once()]
        if as_json:
            found = [_to_dict(item) for item in done]
            click.echo(to_json(found if backfill else next(iter(found), None)), file=out)
        else:
            for item in done:
                _show(item, out, dry_run)
        for item in done:
            for reason in item.reasons if item.outcome.exit_code else ():
                say(f"newsdesk: {reason}", file=err)
    # The worst of them; a gate's no is worse than nothing to do, and a failure is worse than both.
    codes = {item.outcome.exit_code for item in done}
    sys.exit(next((code for code in (1, 2, 3) if code in codes), 0))


def _open(
    config: "Config", directory: Path, place: "Workspace", cache: Path, progress: "Progress", screen: IO[str]
) -> "Retrainer":
    from components.example_gen.spans import describe, holds_spans
    from components.gates.data.gate import GATE as DATA_GATE
    from components.registry.registry import Registry
    from pipeline.retrain.diary import tell
    from pipeline.retrain.gathering import Gatherer
    from pipeline.retrain.history import Notes
    from pipeline.retrain.retrainer import Retrainer
    from pipeline.source_digest import work_digest
    from pipeline.workspace.stores import find_stores

    if not holds_spans(directory):
        raise BadInputError(
            f"{directory} holds no span-YYYYMMDD directory: name the directory of the spans with --data"
        )
    stores = find_stores(place, os.environ, config.stores)
    store = stores.tracking

    def run(source: "Source", run_id: str, champion: str | None) -> "RunResult":
        from pipeline.retrain.warm import find_warm_start
        from pipeline.run.execute import execute
        from pipeline.run.record import Request

        for line in describe(source):
            progress.line(line)
        prepared = prepare(config, cache, screen)
        if champion:
            base = place.model_base(config.name)
            plan = find_warm_start(config, prepared, base, champion, store)
            progress.line(plan.sentence)
            prepared |= plan.prepared
        request = Request(config, source, place, store, prepared, metadata=stores.metadata)
        return execute(request, run_id, progress.update)

    state = place.root / "retrain"
    registry = Registry(store, config.name)
    gatherer = Gatherer(
        directory, config.data, config.of(DATA_GATE), config.retrain, registry, work_digest(config), place.predictions
    )
    return Retrainer(
        config.name,
        state,
        gatherer,
        run,
        lambda decisions, attempts: tell(store, config.name, place.spool, Notes(state), decisions, attempts),
        os.environ,
    )


def _show(done: "Done", out: IO[str], dry_run: bool) -> None:
    click.echo(file=out)
    if done.decision:
        for vote in done.decision.votes:
            say(f"{vote.policy:<15}{'yes' if vote.retrain else 'no':<5}{vote.sentence}", file=out)
        for line in done.decision.evidence.left_out:
            say(line, file=out)
    for reason in done.reasons if not done.outcome.exit_code else ():
        say(f"because {reason}", file=out)
    run = f", run {done.run_id}" if done.run_id else ""
    version = f", version {done.model_version}" if done.model_version else ""
    say(f"{done.outcome.status}{run}{version}{' (dry run)' * dry_run}", file=out)


def _to_dict(done: "Done") -> dict[str, Any]:
    return {
        "status": done.outcome.status,
        "reasons": list(done.reasons),
        "run_id": done.run_id,
        "model_version": done.model_version,
        "decision": done.decision.to_dict() if done.decision else None,
    }
