"""``newsdesk ui``."""

import os
import sys
from pathlib import Path

import click

from components.errors import BadInputError
from pipeline.cli.options import workspace_option
from pipeline.cli.process import say


@click.command("ui", short_help="MLflow's pages on the workspace")
@workspace_option
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def command(workspace: Path, host: str, port: int) -> None:
    """Serves MLflow's pages on the workspace until interrupted."""
    from pipeline.workspace.place import Workspace
    from pipeline.workspace.stores import find_stores, find_tracking

    place = Workspace(workspace)
    tracking = find_tracking(place, os.environ)
    if tracking:
        raise BadInputError(f"runs are tracked at {tracking} (MLFLOW_TRACKING_URI or stores.json): open that")
    if not place.mlflow_store.exists():
        raise BadInputError(f"workspace {place.root} has no runs yet: newsdesk run makes the first")
    # One reader of one workspace needs neither several workers nor a job queue.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    say(f"http://{host}:{port}  (Ctrl-C stops it)")
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    store = find_stores(place, os.environ).tracking
    arguments += ["--backend-store-uri", store.uri, "--default-artifact-root", str(store.artifacts)]
    os.execve(sys.executable, arguments, environment)  # noqa: S606  no shell is wanted
