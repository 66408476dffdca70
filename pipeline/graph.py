"""The graph: the only place that lists the nodes."""

import json
from dataclasses import dataclass

from tensorflow_data_validation import StatsOptions
from tfx.components.evaluator.component import Evaluator
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2, transform_pb2

from components import features
from components.answers import Answers
from components.baseline import Baseline
from components.card import Card
from components.champion import Champion
from components.example_gen.component import ExampleGen
from components.example_gen.source import Source
from components.gates.data import DataGate
from components.gates.model import ModelGate
from components.gates.serving import ServingGate
from components.promote import Promote
from components.push import Pusher, gone_versions
from components.register import Register
from components.schema import ImportSchema, load_schema
from pipeline.beam import beam_args
from pipeline.config import Config
from pipeline.evaluation import make_eval_config
from pipeline.families import FAMILIES, Prepared
from pipeline.metadata import connection
from pipeline.source_digest import project_digest, source_digest
from pipeline.stores import SQLITE
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class RegistryState:
    """Where candidates are registered, and how it stood when the graph was made.

    Attributes:
        store: MLflow's URI.
        snapshot: What answers that come from there depend on, for the cache.
    """

    store: str
    snapshot: str


def create_pipeline(
    config: Config,
    source: Source,
    workspace: Workspace,
    prepared: Prepared,
    registry: RegistryState,
    enable_cache: bool = True,
    metadata: str | None = None,
) -> Pipeline:
    """Returns the pipeline from files to a pushed model.

    Args:
        config: Settings; each node is handed its own part.
        source: Input files.
        workspace: Where artifacts, metadata and models go.
        prepared: What the family's ``prepare`` returned.
        registry: MLflow's.
        enable_cache: Whether a node that ran on the same input before is answered from its outputs.
        metadata: URI of the metadata store; None for the workspace's own.
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
    # What it looks like; the schema says which numbers are categories. Sketches count the values of labels exactly, and
    # estimate those of texts, where hardly one is there twice and nobody asks how often: DataGate finds duplicates.
    statistics_gen = StatisticsGen(
        examples=examples, schema=schema, stats_options=StatsOptions(use_sketch_based_topk_uniques=True)
    )
    # The difference between the two.
    validator = ExampleValidator(statistics=statistics_gen.outputs["statistics"], schema=schema)
    # The model that serves, what it answered and what its data looked like; or that there is none.
    champion = Champion(
        name=config.name,
        store=registry.store,
        registry=registry.snapshot,
        code_digest=source_digest("components.champion"),
    ).with_id("Champion")
    # Stops the run if the data break the schema, leak, or have moved away from the champion's.
    data_gate = DataGate(
        examples=examples,
        statistics=statistics_gen.outputs["statistics"],
        schema=schema,
        anomalies=validator.outputs["anomalies"],
        champion=champion.outputs["champion"],
        classes=json.dumps(source.classes),
        settings=config.data_gate.model_dump_json(),
        code_digest=source_digest("components.gates.data"),
    ).with_id("DataGate")
    # What a linear model does with the same rows, for whoever asks what depth buys.
    baseline = Baseline(
        examples=examples,
        classes=len(source.classes),
        most_rows=config.baseline.rows,
        code_digest=source_digest("components.baseline"),
    ).with_id("Baseline")
    baseline.add_upstream_node(data_gate)
    # Text to token ids; the graph it writes is part of the exported model. It never sees the test split.
    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=family.preprocessing_fn,
        splits_config=transform_pb2.SplitsConfig(analyze=[features.TRAIN], transform=[features.TRAIN, features.EVAL]),
        disable_statistics=True,
        # Nothing reads partial counts of earlier runs; whole runs are cached by the launcher.
        disable_analyzer_cache=True,
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
        | ({"warm_start": prepared["warm_start"]} if "warm_start" in prepared else {})
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
    # What the candidate says on every test row, for all that follows.
    answers = Answers(
        model=trainer.outputs["model"], examples=examples, code_digest=source_digest("components.answers")
    ).with_id("Answers")
    # Every candidate is a version of the registry, before anyone judges it.
    register = Register(
        model=trainer.outputs["model"],
        answers=answers.outputs["answers"],
        profile=data_gate.outputs["profile"],
        name=config.name,
        store=registry.store,
        registry=registry.snapshot,
        code_digest=source_digest("components.register"),
    ).with_id("Register")
    # Stops the run if a floor is missed, or if the candidate may be worse than the champion on the same rows.
    model_gate = ModelGate(
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        answers=answers.outputs["answers"],
        baseline=baseline.outputs["baseline"],
        champion=champion.outputs["champion"],
        examples=examples,
        classes=json.dumps(source.classes),
        settings=config.model_gate.model_dump_json(),
        code_digest=source_digest("components.gates.model"),
    ).with_id("ModelGate")
    model_gate.add_upstream_node(register)
    # Stops the run if the export does not answer as it must in a process that has nothing of ours.
    serving_gate = ServingGate(
        model=trainer.outputs["model"],
        answers=answers.outputs["answers"],
        settings=config.serving_gate.model_dump_json(),
        code_digest=source_digest("components.gates.serving", "components.gates.serving_probe"),
    ).with_id("ServingGate")
    serving_gate.add_upstream_node(model_gate)
    # What the model is, what it was made of and how good it is, for whoever finds it.
    card = Card(
        ingest=example_gen.outputs["report"],
        model_run=trainer.outputs["model_run"],
        evaluation=evaluator.outputs["evaluation"],
        answers=answers.outputs["answers"],
        baseline=baseline.outputs["baseline"],
        registration=register.outputs["registration"],
        data_verdict=data_gate.outputs["verdict"],
        model_verdict=model_gate.outputs["verdict"],
        serving_verdict=serving_gate.outputs["verdict"],
        source=json.dumps(
            {
                "directory": str(source.directory),
                "test": source.test,
                "digest": source.digest,
                "classes": source.classes,
            }
        ),
        name=config.name,
        family=config.model,
        floors=config.floors.model_dump_json(),
        encoder=config.encoder or "",
        code_version=project_digest(),
        code_digest=source_digest("components.card"),
    ).with_id("Card")
    # Makes the model the newest version of the model base, all of it or nothing.
    pusher = Pusher(
        model=trainer.outputs["model"],
        verdict=model_gate.outputs["verdict"],
        serving_verdict=serving_gate.outputs["verdict"],
        card=card.outputs["card"],
        registration=register.outputs["registration"],
        base=str(base),
        removed=json.dumps(gone_versions(str(base))),
        code_digest=source_digest("components.push"),
    ).with_id("Pusher")
    # Makes that version the one that serves.
    promote = Promote(
        pushed_model=pusher.outputs["pushed_model"],
        registration=register.outputs["registration"],
        serving=str(workspace.serving),
        name=config.name,
        alias=config.push.as_,
        store=registry.store,
        registry=registry.snapshot,
        code_digest=source_digest("components.promote"),
    ).with_id("Promote")

    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(workspace.artifacts),
        # Without the password: this is written to the compiled graph.
        metadata_connection_config=connection(metadata or f"{SQLITE}{workspace.metadata}"),
        components=[
            example_gen,
            schema_import,
            statistics_gen,
            validator,
            champion,
            data_gate,
            baseline,
            transform,
            trainer,
            evaluator,
            answers,
            register,
            model_gate,
            serving_gate,
            card,
            pusher,
            promote,
        ],
        enable_cache=enable_cache,
        beam_pipeline_args=beam_args(config.beam, config.orchestrator.image),
    )
