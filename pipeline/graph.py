"""The graph: the only place that lists the nodes."""

import json
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.components.evaluator.component import Evaluator
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2, transform_pb2

from components import features
from components.example_gen.component import ExampleGen
from components.example_gen.source import Source
from components.gates.data import DataGate
from components.gates.model import ModelGate
from components.push import Pusher, removed_versions
from components.schema import ImportSchema, load_schema
from pipeline.config import Config
from pipeline.evaluation import make_eval_config
from pipeline.families import FAMILIES, Prepared
from pipeline.source_digest import source_digest
from pipeline.workspace import Workspace

# The short name is missing from older Beam releases, and Beam 2.68 and later try to download another runner
# first. TFX ships a package of itself with every step unless a container image is named; in memory it is not used.
BEAM_IN_MEMORY = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_running_mode=in_memory",
    "--direct_num_workers=1",
    "--sdk_container_image=in-memory",
)


def create_pipeline(
    config: Config, source: Source, workspace: Workspace, prepared: Prepared, enable_cache: bool = True
) -> Pipeline:
    """Returns the pipeline from files to a pushed model.

    Args:
        config: Settings; each node is handed its own part.
        source: Input files.
        workspace: Where artifacts, metadata and models go.
        prepared: What the family's ``prepare`` returned.
        enable_cache: Whether a node that ran on the same input before is answered from its outputs.
    """
    family = FAMILIES[config.model]
    base = workspace.model_base(config.name)

    # Files to splits; malformed rows to quarantine, unknown labels to a stop.
    example_gen = ExampleGen(
        source=source,
        malformed_budget=config.data.malformed_budget,
        eval_fraction=config.data.eval_fraction,
        quarantine_dir=str(workspace.quarantine),
        code_digest=source_digest("components.example_gen.component"),
    )
    examples = example_gen.outputs["examples"]
    # What each split ought to look like.
    schema_import = ImportSchema(
        text=load_schema(len(source.classes)), code_digest=source_digest("components.schema")
    ).with_id("ImportSchema")
    schema = schema_import.outputs["schema"]
    # What it looks like; the schema says which numbers are categories.
    statistics_gen = StatisticsGen(examples=examples, schema=schema)
    # The difference between the two.
    validator = ExampleValidator(statistics=statistics_gen.outputs["statistics"], schema=schema)
    # Stops the run if there is any.
    data_gate = DataGate(
        examples=examples,
        statistics=statistics_gen.outputs["statistics"],
        schema=schema,
        anomalies=validator.outputs["anomalies"],
        code_digest=source_digest("components.gates.data"),
    ).with_id("DataGate")
    # Text to token ids; the graph it writes is part of the exported model. It never sees the test split.
    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=family.preprocessing_fn,
        splits_config=transform_pb2.SplitsConfig(analyze=[features.TRAIN], transform=[features.TRAIN, features.EVAL]),
        disable_statistics=True,
        custom_config=family.transform_config(config, prepared)
        | {"code_digest": source_digest(family.module(family.preprocessing_fn))},
    )
    transform.add_upstream_node(data_gate)
    # Fits the chosen family and exports it with both signatures.
    trainer = Trainer(
        run_fn=family.run_fn,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(splits=[features.TRAIN]),
        eval_args=trainer_pb2.EvalArgs(splits=[features.EVAL]),
        custom_config=family.trainer_config(config, prepared)
        | {"classes": source.classes, "code_digest": source_digest(family.module(family.run_fn))},
    )
    # Measures the served computation on the test split, per class and per length.
    evaluator = Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        schema=schema,
        example_splits=[features.TEST],
        eval_config=make_eval_config(len(source.classes), config.floors, source_digest("components.metrics")),
    )
    # Stops the run if a floor is missed.
    model_gate = ModelGate(
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        code_digest=source_digest("components.gates.model"),
    ).with_id("ModelGate")
    # Makes the model the newest version of the model base, all of it or nothing.
    pusher = Pusher(
        model=trainer.outputs["model"],
        verdict=model_gate.outputs["verdict"],
        base=str(base),
        removed=json.dumps(removed_versions(Path(base))),
        code_digest=source_digest("components.push"),
    ).with_id("Pusher")

    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(workspace.artifacts),
        metadata_connection_config=metadata_connection(workspace),
        components=[
            example_gen,
            schema_import,
            statistics_gen,
            validator,
            data_gate,
            transform,
            trainer,
            evaluator,
            model_gate,
            pusher,
        ],
        enable_cache=enable_cache,
        beam_pipeline_args=list(BEAM_IN_MEMORY),
    )


def metadata_connection(workspace: Workspace) -> metadata_store_pb2.ConnectionConfig:
    """Returns how to reach the workspace's metadata store."""
    return metadata.sqlite_metadata_connection_config(str(workspace.metadata))
