"""``newsdesk compile``."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.asked import compile_target
from pipeline.cli.options import target_options
from pipeline.cli.process import say


@click.command("compile", short_help="the same graph for an orchestrator")
@target_options
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="By default TARGET.yaml here.")
def command(target: str, output: Path | None, **asked: Any) -> None:
    """Writes the graph as a file for Kubeflow Pipelines or Vertex AI; nothing is sent anywhere."""
    _, text, problems = compile_target(target, **asked)
    path = output or Path(f"{target}.yaml")
    path.write_text(text, encoding="utf-8")
    say(path)
    for problem in problems:
        say(f"newsdesk: before it can be submitted: {problem}", err=True)
