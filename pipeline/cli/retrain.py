"""``newsdesk retrain``."""

import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from components.errors import BadInputError
from pipeline.cli.memory import collect_seldom
from pipeline.cli.options import json_option, run_options
from pipeline.cli.stopping import end_on_sigterm

if TYPE_CHECKING:
    from components.example_gen.source import Source
    from pipeline.cli.screen import Progress
    from pipeline.config import Config
    from pipeline.retrain.retrainer import Finished, Outcome, Retrainer, Run
    from pipeline.stores import Stores
    from pipeline.workspace import Workspace


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
    from pipeline.beam import check_local
    from pipeline.cli.run import configure, data_directory
    from pipeline.cli.screen import Progress, quiet, silence_warnings
    from pipeline.workspace import open_workspace

    if dry_run + reset + bool(backfill) > 1:
        raise BadInputError("--dry-run, --backfill and --reset are three different things: choose one")
    end_on_sigterm()
    config = configure(preset, model, settings)
    check_local(config.beam, config.orchestrator.image)
    Window.parse(config.data.spans)
    directory = data_directory(config, data, cache.expanduser())
    place = open_workspace(workspace)
    silence_warnings()
    with quiet(place.logs / "retrain.log") as (out, err):
        screen = err if as_json else out
        with Progress(screen) as progress:
            progress.line(f"preset {config.preset}, model {config.model}, spans {directory}")
            retrainer = _open(config, directory, place, cache, progress, screen)
            if reset:
                retrainer.reset()
                outcomes: list[Outcome] = []
                progress.line("the circuit is closed")
            elif dry_run:
                outcomes = [_look(retrainer)]
            elif backfill:
                outcomes = retrainer.backfill(backfill)
            else:
                outcomes = [retrainer.once()]
        if as_json:
            click.echo(json.dumps([_to_dict(item) for item in outcomes] if backfill else _only(outcomes)), file=out)
        else:
            for outcome in outcomes:
                _show(outcome, out, dry_run)
        for outcome in outcomes:
            for reason in outcome.reasons if outcome.exit_code else ():
                click.echo(f"newsdesk: {reason}", file=err)
    # The worst of them; a gate's no is worse than nothing to do, and a failure is worse than both.
    codes = {outcome.exit_code for outcome in outcomes}
    sys.exit(next((code for code in (1, 2, 3) if code in codes), 0))


def _open(
    config: "Config",
    directory: Path,
    place: "Workspace",
    cache: Path,
    progress: "Progress",
    screen: IO[str],
) -> "Retrainer":
    from components.example_gen.spans import holds_spans
    from components.registry import Registry
    from pipeline.retrain.diary import tell
    from pipeline.retrain.gathering import Feed
    from pipeline.retrain.history import Notes
    from pipeline.retrain.retrainer import Retrainer
    from pipeline.retrain.work import work_digest
    from pipeline.stores import find_stores

    if not holds_spans(directory):
        raise BadInputError(
            f"{directory} holds no span-YYYYMMDD directory: name the directory of the spans with --data"
        )
    stores = find_stores(place, os.environ, config.stores)
    store = stores.tracking
    state = place.root / "retrain"
    feed = Feed(
        directory,
        config.data.spans,
        config.data.settle_minutes,
        config.data.late_spans == "take",
        config.data.malformed_budget,
        config.data.eval_fraction,
        config.data_gate,
    )
    return Retrainer(
        config.name,
        state,
        feed,
        config.retrain,
        Registry(store, config.name),
        work_digest(config),
        place.predictions,
        _runner(config, place, stores, cache, progress, screen),
        lambda decisions, attempts: tell(store, config.name, place.spool, Notes(state), decisions, attempts),
        os.environ,
    )


def _runner(
    config: "Config", place: "Workspace", stores: "Stores", cache: Path, progress: "Progress", screen: IO[str]
) -> "Run":
    def run(source: "Source", run_id: str, champion: str | None) -> "Finished":
        from components.example_gen.spans import describe
        from components.registry import SERVING_VERSION, Registry
        from components.tracking import find_runs
        from pipeline.cli.run import prepare
        from pipeline.retrain.retrainer import Finished
        from pipeline.retrain.warm import plan_warm_start
        from pipeline.run import Request, execute

        for line in describe(source):
            progress.line(line)
        prepared = prepare(config, cache, screen)
        if champion:
            model = place.model_base(config.name) / champion
            trained = Registry(stores.tracking, config.name).with_tag(SERVING_VERSION, champion)
            tags = find_runs(stores.tracking, trained.run_id)[0].tags if trained else {}
            plan = plan_warm_start(model, tags, config.model, prepared, config.retrain.vocabulary)
            progress.line(plan.sentence)
            prepared |= plan.prepared
        request = Request(config, source, place, stores.tracking, prepared, metadata=stores.metadata)
        done = execute(request, run_id, progress.update)
        return Finished(done.status, done.exit_code, tuple(done.reasons), done.model_version)

    return run


def _look(retrainer: "Retrainer") -> "Outcome":
    from pipeline.retrain.retrainer import NO, REFUSED, Outcome

    decision = retrainer.look()
    status = "yes" if decision.retrain else REFUSED if decision.refused else NO
    return Outcome(status, 3 if decision.refused else 0, decision.reasons, decision)


def _show(outcome: "Outcome", out: IO[str], dry_run: bool) -> None:
    click.echo(file=out)
    if outcome.decision:
        for vote in outcome.decision.votes:
            click.echo(f"{vote.policy:<15}{'yes' if vote.retrain else 'no':<5}{vote.sentence}", file=out)
        for line in outcome.decision.evidence.left_out:
            click.echo(line, file=out)
    for reason in outcome.reasons if not outcome.exit_code else ():
        click.echo(f"because {reason}", file=out)
    run = f", run {outcome.run_id}" if outcome.run_id else ""
    version = f", version {outcome.model_version}" if outcome.model_version else ""
    click.echo(f"{outcome.status}{run}{version}{' (dry run)' * dry_run}", file=out)


def _only(outcomes: "list[Outcome]") -> dict[str, Any] | None:
    return _to_dict(outcomes[0]) if outcomes else None


def _to_dict(outcome: "Outcome") -> dict[str, Any]:
    return {
        "status": outcome.status,
        "reasons": list(outcome.reasons),
        "run_id": outcome.run_id,
        "model_version": outcome.model_version,
        "decision": outcome.decision.to_dict() if outcome.decision else None,
    }
