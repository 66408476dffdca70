"""The graph: the only place that lists the nodes."""

import json
from dataclasses import dataclass
from typing import Any

# Before TFX: at exit Python unloads modules in reverse order, and models that TFX still holds must be freed while
# TensorFlow is loaded.
import tensorflow  # noqa: F401
from tensorflow_data_validation import StatsOptions
from tfx.components.evaluator.component import Evaluator
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2, transform_pb2

from components import features
from components.evaluation.answers import Answers
from components.evaluation.baseline import Baseline
from components.evaluation.eval_config import make_eval_config
from components.example_gen.component import ExampleGen
from components.example_gen.schema import ImportSchema, load_schema
from components.example_gen.source import Source
from components.gates.gate import Gate
from components.gates.table import GATES
from components.push.model_base import removed_versions
from components.pusher import Pusher
from components.registry.champion import Champion
from components.registry.promote import Promote
from components.registry.promotion import check_not_lost
from components.registry.register import Register
from components.registry.registry import Registry
from components.registry.tracking import Store
from components.report.card import Card
from pipeline.config.beam import beam_args
from pipeline.config.config import Config
from pipeline.config.families import FAMILIES, Prepared, hand, summarize
from pipeline.source_digest import project_digest, source_digest
from pipeline.workspace.metadata import connection
from pipeline.workspace.place import Workspace
from pipeline.workspace.stores import SQLITE


@dataclass(frozen=True)
class RegistryState:
    """Where candidates are registered, and how it stood when the graph was made.

    Attributes:
        store: MLflow's URI.
        snapshot: What answers that come from there depend on, for the cache.
    """

    store: str
    snapshot: str

    @classmethod
    def of(cls, store: Store, name: str, workspace: Workspace) -> "RegistryState":
        """Looks at a model's registry before a run of a workspace.

        Raises:
            BadInputError: The store does not answer or does not have the champion that serves, or the model is that of
                another workspace.
        """
        registry = Registry(store, name)
        check_not_lost(registry, workspace.model_base(name))
        # The workspace's own store is moved and copied with it.
        registry.claim(workspace.owner(), adopt=store.artifacts is not None)
        return cls(store.uri, registry.snapshot())


def create_pipeline(
    config: Config,
    source: Source,
    workspace: Workspace,
    prepared: Prepared | None,
    registry: RegistryState,
    enable_cache: bool = True,
    metadata: str | None = None,
) -> Pipeline:
    """Returns the pipeline from files to a pushed model.

    Args:
        config: Settings; each node is handed its own part.
        source: Input files.
        workspace: Where artifacts, metadata and models go.
        prepared: What the family's ``prepare`` returned; None for a graph that is not run.
        registry: MLflow's.
        enable_cache: Whether a node that ran on the same input before is answered from its outputs.
        metadata: URI of the metadata store; None for the workspace's own.
    """
    family = FAMILIES[config.model]
    for_transform, for_trainer = hand(config, prepared)
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
        text=load_schema(len(source.classes)), code_digest=source_digest("components.example_gen.schema")
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
        code_digest=source_digest("components.registry.champion"),
    ).with_id("Champion")
    # What the data must pass before anything is trained on them.
    nodes = [example_gen, schema_import, statistics_gen, validator, champion]
    data_gates = _gates("before training", nodes, config, source)
    # What a linear model does with the same rows, for whoever asks what depth buys.
    baseline = Baseline(
        examples=examples,
        classes=len(source.classes),
        most_rows=config.baseline.rows,
        code_digest=source_digest("components.evaluation.baseline"),
    ).with_id("Baseline")
    baseline.add_upstream_node(data_gates[-1])
    # Text to token ids; the graph it writes is part of the exported model. It never sees the test split.
    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=family.preprocessing_fn,
        splits_config=transform_pb2.SplitsConfig(analyze=[features.TRAIN], transform=[features.TRAIN, features.EVAL]),
        disable_statistics=True,
        # Nothing reads partial counts of earlier runs; whole runs are cached by the launcher.
        disable_analyzer_cache=True,
        custom_config=for_transform | {"code_digest": source_digest(family.module(family.preprocessing_fn))},
    )
    transform.add_upstream_node(data_gates[-1])
    # Fits the chosen family and exports it with both signatures.
    trainer = Trainer(
        run_fn=family.run_fn,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(splits=[features.TRAIN]),
        eval_args=trainer_pb2.EvalArgs(splits=[features.EVAL]),
        custom_config=for_trainer
        | {"classes": source.classes, "code_digest": source_digest(family.module(family.run_fn))},
    )
    # Measures the served computation on the test split, per class and per length.
    evaluator = Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        schema=schema,
        example_splits=[features.TEST],
        eval_config=make_eval_config(
            len(source.classes), config.floors.model_dump(), source_digest("components.evaluation.metrics")
        ),
    )
    # What the candidate says on every test row, for all that follows.
    answers = Answers(
        model=trainer.outputs["model"], examples=examples, code_digest=source_digest("components.evaluation.answers")
    ).with_id("Answers")
    # Every candidate is a version of the registry, before anyone judges it.
    register = Register(
        model=trainer.outputs["model"],
        answers=answers.outputs["answers"],
        profile=_output("DataGate.profile", data_gates),
        name=config.name,
        store=registry.store,
        registry=registry.snapshot,
        code_digest=source_digest("components.registry.register"),
    ).with_id("Register")
    # What the candidate must pass before it is pushed.
    nodes += [*data_gates, baseline, transform, trainer, evaluator, answers, register]
    model_gates = _gates("before the push", nodes, config, source)
    verdicts = {gate.verdict_input: _output(f"{gate.name}.verdict", [*data_gates, *model_gates]) for gate in GATES}
    # What the model is, what it was made of and how good it is, for whoever finds it.
    card = Card(
        ingest=example_gen.outputs["report"],
        model_run=trainer.outputs["model_run"],
        evaluation=evaluator.outputs["evaluation"],
        answers=answers.outputs["answers"],
        baseline=baseline.outputs["baseline"],
        registration=register.outputs["registration"],
        verdicts=verdicts,
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
        summary=summarize(config),
        code_version=project_digest(),
        code_digest=source_digest("components.report.card"),
    ).with_id("Card")
    # Makes the model the newest version of the model base, all of it or nothing.
    pusher = Pusher(
        model=trainer.outputs["model"],
        verdicts=verdicts,
        card=card.outputs["card"],
        registration=register.outputs["registration"],
        base=str(base),
        removed=json.dumps(removed_versions(base)),
        name=config.name,
        store=registry.store,
        registry=registry.snapshot,
        code_digest=source_digest("components.pusher"),
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
        code_digest=source_digest("components.registry.promote"),
    ).with_id("Promote")

    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(workspace.artifacts),
        # Without the password: this is written to the compiled graph.
        metadata_connection_config=connection(metadata or f"{SQLITE}{workspace.metadata}"),
        components=[*nodes, *model_gates, card, pusher, promote],
        enable_cache=enable_cache,
        beam_pipeline_args=beam_args(config.beam, config.orchestrator.image),
    )


def _gates(place: str, before: list[Any], config: Config, source: Source) -> list[Any]:
    """Returns the gates of one place, each behind the one before it, and the first behind the last of ``before``."""
    made: list[Any] = []
    for gate in GATES:
        if gate.place == place:
            node = _gate(gate, [*before, *made], config, source)
            node.add_upstream_node(made[-1] if made else before[-1])
            made.append(node)
    return made


def _gate(gate: Gate[Any], before: list[Any], config: Config, source: Source) -> Any:
    component = gate.load()
    values = {
        "classes": json.dumps(source.classes),
        "settings": config.of(gate).model_dump_json(),
        "code_digest": source_digest(gate.module),
    }
    given = {name: value for name, value in values.items() if name in component.SPEC_CLASS.PARAMETERS}
    inputs = {name: _output(output, before) for name, output in gate.inputs.items()}
    return component(**inputs, **given).with_id(gate.name)


def _output(name: str, nodes: list[Any]) -> Any:
    """Returns an output by its name, such as ``ExampleGen.examples``."""
    node, _, output = name.partition(".")
    return next(item for item in nodes if item.id == node).outputs[output]
