"""``begin`` on Vertex AI: what it decides goes to the nodes as output parameters."""

import json
from pathlib import Path

from tfx.orchestration.pipeline import Pipeline

from pipeline.run import Request
from pipeline.runners.begin import decide
from pipeline.runners.parameters import slug
from pipeline.runners.steps import Decided, Steps, write
from pipeline.runners.vertex import constants_of, fill
from pipeline.runners.vertex_step import Mount, write_parameters

CONSTANTS_FILE = "constants.json"


def begin_on_vertex(steps: Steps, request: Request, executor_input: str, mount: Path) -> Decided:
    """Decides everything once and writes the nodes' properties where the executor input says.

    Args:
        steps: Files of the run.
        request: What to do.
        executor_input: Of this step, as JSON.
        mount: Of Cloud Storage.

    Raises:
        BadInputError: MLflow does not answer or refuses, or the file was compiled from another graph.
    """
    kept = steps.directory / CONSTANTS_FILE

    def keep(pipeline: Pipeline, _: str) -> None:
        write(kept, json.dumps(constants_of(pipeline, slug(request.config.name))).encode())

    decided = decide(steps, request, "", keep)
    wanted = json.loads(executor_input)["outputs"]["parameters"]
    texts = json.loads(kept.read_text(encoding="utf-8"))
    write_parameters(executor_input, fill(texts, wanted), Mount(mount))
    return decided
