"""The first step of a run whose nodes are processes of their own: decides what all of them need."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfx.orchestration.pipeline import Pipeline

from components.files import write_whole
from components.registry.spool import Spool
from components.registry.tracking import open_run
from pipeline.graph import RegistryState, create_pipeline
from pipeline.run.launch import compile_graph
from pipeline.run.record import Request, new_run_id
from pipeline.run.track import describe
from pipeline.runners.parameters import slug
from pipeline.runners.steps import Decided, Steps
from pipeline.workspace.abandoned import WORKSPACE
from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.stores import remember


def begin(steps: Steps, request: Request) -> Decided:
    """Builds the graph, opens the MLflow run, and keeps both for the steps that follow.

    An attempt that was cut short is taken up where it stood: one job is one run, however often it is begun.

    Raises:
        BadInputError: MLflow or the metadata store does not answer or refuses.
    """
    metadata = request.metadata_uri
    MetadataPlace(metadata).check()

    def keep(pipeline: Pipeline, run_id: str) -> None:
        write_whole(steps.graph, compile_graph(pipeline, run_id).SerializeToString(deterministic=True))

    return decide(steps, request, metadata, keep)


def begin_on_vertex(steps: Steps, request: Request, executor_input: str, mount: Path) -> Decided:
    """Does what ``begin`` does on Vertex AI, and writes the nodes' properties where the executor input (JSON) says.

    Raises:
        BadInputError: MLflow does not answer or refuses, or the file was compiled from another graph.
    """
    # Imported here because only Vertex needs TFX's slow compiler.
    from pipeline.runners.vertex import constants_of, fill
    from pipeline.runners.vertex_step import Mount, write_parameters

    kept = steps.directory / "constants.json"

    def keep(pipeline: Pipeline, _: str) -> None:
        write_whole(kept, json.dumps(constants_of(pipeline, slug(request.config.name))))

    decided = decide(steps, request, "", keep)
    wanted = json.loads(executor_input)["outputs"]["parameters"]
    write_parameters(executor_input, fill(json.loads(kept.read_bytes()), wanted), Mount(mount))
    return decided


def decide(steps: Steps, request: Request, metadata: str, keep: Callable[[Pipeline, str], Any]) -> Decided:
    """Decides everything once and keeps it last; ``keep`` keeps what the steps run of a graph and a run id."""
    if found := steps.find_decided():
        return found
    run_id = steps.claim_id(new_run_id())
    config, store = request.config, request.tracking
    registry = RegistryState.of(store, config.name, request.workspace)
    pipeline = create_pipeline(
        config, request.source, request.workspace, request.prepared, registry, request.enable_cache, metadata or None
    )
    keep(pipeline, run_id)
    # Another process ends it.
    owner = {WORKSPACE: str(request.workspace.root)}
    tracked = open_run(store, config.name, run_id, Spool(request.workspace.spool), owner, resume=True)
    describe(tracked, request, run_id)
    tracked.tags({"job": steps.job})
    decided = Decided(
        run_id=run_id,
        mlflow_run_id=tracked.id,
        started=time.time(),
        config=config,
        source=request.source,
        prepared=request.prepared,
        store=store.uri,
        metadata=metadata,
        enable_cache=request.enable_cache,
        nodes=tuple(component.id for component in pipeline.components),
    )
    remember(request.workspace, config.stores)
    steps.decide(decided)
    return decided
