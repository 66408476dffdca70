"""``newsdesk node``: the steps of a run that an orchestrator, or a shell, puts together."""

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import BadInputError
from pipeline.cli.options import FAMILY_NAMES, cache_option, preset_option, set_option, several, workspace_option
from pipeline.cli.process import collect_seldom, say
from pipeline.workspace.place import Workspace, open_workspace

if TYPE_CHECKING:
    from pipeline.runners.steps import Steps

_MOUNT = Path("/gcs")


class _Steps(click.Group):
    """``begin``, ``finish``, and whatever else is the id of a node."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = super().get_command(ctx, cmd_name)
        return known or _node_command(cmd_name)


_common = several(
    click.option("--job", required=True, help="The orchestrator's id of the run, the same for all of its steps."),
    workspace_option,
    click.option("--vertex", is_flag=True, help="On Vertex AI: TFX's entry point, Cloud Storage below --mount."),
    click.option(
        "--mount",
        type=click.Path(path_type=Path),
        default=_MOUNT,
        envvar="NEWSDESK_GCS",
        show_default="/gcs, or NEWSDESK_GCS",
        help="On Vertex AI: where Cloud Storage is mounted.",
    ),
    click.option(
        "--secret", "secrets", multiple=True, metavar="VARIABLE=PLACE", help="Read from Google Secret Manager."
    ),
)


@click.group("node", cls=_Steps, short_help="one step of a run, for orchestrators", subcommand_metavar="STEP [ARGS]...")
def command() -> None:
    """One step of a run: begin, then every node as soon as those before it are done, then finish.

    The steps of a run share the workspace and the value of --job. One that failed may simply be run again.
    """


@command.command("begin")
@_common
@cache_option
@preset_option
@set_option
@click.option("--data", help="Directory of the data.")
@click.option("--spans", help="all, last N or FROM..TO.")
@click.option("--model", help=f"{FAMILY_NAMES}.")
@click.option("--epochs", type=int, help="Passes over the train split; 0: as configured for the model.")
@click.option("--accuracy", type=float, help="Floor.")
@click.option("--macro-f1", type=float, help="Floor.")
@click.option("--worst-class-f1", type=float, help="Floor.")
@click.option("--calibration-error", type=float, help="Ceiling.")
@click.option("--reuse", type=bool, default=True, help="Answer a node from an earlier run on the same input.")
@click.option("--metadata", help="URI of the metadata store; by default stores.metadata, or the workspace's.")
@click.option("--executor-input", help="On Vertex AI: what the backend hands over, as JSON.")
def begin_command(
    job: str,
    workspace: Path,
    vertex: bool,
    mount: Path,
    secrets: tuple[str, ...],
    cache: Path,
    preset: str,
    settings: tuple[str, ...],
    data: str | None,
    reuse: bool,
    metadata: str | None,
    executor_input: str | None,
    **parameters: Any,
) -> None:
    """Decides once what all steps need, and opens the MLflow run."""
    if vertex and executor_input is None:
        raise BadInputError("--vertex needs --executor-input, as a compiled file has it")
    place, steps = _open(job, workspace, secrets)
    request = _request(place, cache, preset, settings, data, reuse, parameters)
    if vertex:
        from pipeline.runners.begin import begin_on_vertex

        decided = begin_on_vertex(steps, request, str(executor_input), mount)
    else:
        from pipeline.runners.begin import begin

        decided = begin(steps, replace(request, metadata=metadata) if metadata else request)
    say(f"run {decided.run_id}, MLflow run {decided.mlflow_run_id}")


@command.command("finish")
@_common
def finish_command(job: str, workspace: Path, vertex: bool, mount: Path, secrets: tuple[str, ...]) -> None:
    """Tracks the run, however it ended, and prints its result as JSON."""
    place, steps = _open(job, workspace, secrets)
    from pipeline.runners.finish import finish
    from pipeline.workspace.stores import find_stores

    click.echo(finish(steps, place, find_stores(place, os.environ).tracking).to_json())


def _node_command(node_id: str) -> click.Command:
    @click.command(node_id)
    @_common
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(
        job: str, workspace: Path, vertex: bool, mount: Path, secrets: tuple[str, ...], arguments: tuple[str, ...]
    ) -> None:
        """Runs one node of the graph."""
        if arguments and not vertex:
            raise BadInputError(f"a node takes no arguments but with --vertex, not {arguments[0]!r}")
        place, steps = _open(job, workspace, secrets)
        if vertex:
            from pipeline.runners.vertex_step import Mount, run_vertex_node

            node = run_vertex_node(steps, node_id, arguments, Mount(mount), place.root)
        else:
            from pipeline.runners.node import run_node

            node = run_node(steps, node_id)
        say(f"{node.id} {node.state} {node.seconds:.1f} s")

    return run


def _open(job: str, workspace: Path, secrets: tuple[str, ...]) -> "tuple[Workspace, Steps]":
    collect_seldom()
    from pipeline.cli.screen import silence_warnings

    silence_warnings()
    if secrets:
        from pipeline.runners.secrets import bring_secrets

        bring_secrets(secrets, os.environ)
    from pipeline.runners.steps import Steps

    place = open_workspace(workspace)
    return place, Steps(place.root, job)


def _request(
    place: Workspace,
    cache: Path,
    preset: str,
    settings: tuple[str, ...],
    data: str | None,
    reuse: bool,
    parameters: dict[str, Any],
) -> Any:
    from components.example_gen.spans import describe, open_data
    from pipeline.cli.asked import configure, data_directory, prepare
    from pipeline.config.config import override
    from pipeline.run.record import Request
    from pipeline.runners.parameters import settings_of
    from pipeline.workspace.stores import find_stores

    config = configure(preset, parameters["model"], settings)
    given = {name: value for name, value in parameters.items() if value is not None}
    config = override(config, settings_of({"model": config.model, **given}))
    remote = data if data and "://" in data else None
    directory = remote or data_directory(config, Path(data) if data else None, cache)
    source = open_data(directory, config.data.spans, config.data.settle_minutes, datetime.now(UTC))
    for line in describe(source):
        say(line)
    prepared = prepare(config, cache, sys.stderr)
    stores = find_stores(place, os.environ, config.stores)
    return Request(config, source, place, stores.tracking, prepared, reuse, stores.metadata)
