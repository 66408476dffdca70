"""The graph without a run: its nodes and edges, which are the same for every data set and family."""

import tempfile
from pathlib import Path

from tfx.orchestration.pipeline import Pipeline

from components.example_gen.source import Source
from components.features import AG_NEWS_CLASSES
from pipeline.config import Config
from pipeline.graph import RegistryState, create_pipeline
from pipeline.workspace import Workspace

_NOWHERE = Path("/nonexistent")
"""Of data that nobody reads."""


def make_structure(config: Config) -> Pipeline:
    """Returns the graph with every property that a node can have, over data that nobody reads.

    What a run decides, such as the digest of its data, ``begin`` puts in its place.
    """
    span = "span-20000101"
    pair = (f"{span}/train.csv", f"{span}/test.csv")
    source = Source(_NOWHERE, *pair, AG_NEWS_CLASSES, "", (span,), (pair,))
    values = config.model_copy(update={"model": "transformer"})
    # The graph looks into the model base, and would make it.
    with tempfile.TemporaryDirectory() as directory:
        workspace = Workspace(Path(directory))
        return create_pipeline(values, source, workspace, {}, RegistryState("", ""), enable_cache=True)
