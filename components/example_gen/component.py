"""The ExampleGen node: a thin TFX component over ``ingest``."""

import json
import logging
import os
from typing import Any, ClassVar

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, channel, component_spec, standard_artifacts

from components import features
from components.artifacts import IngestReport
from components.errors import changed
from components.example_gen import ingest
from components.example_gen.source import Source, combine
from components.file_names import QUARANTINE_FILE, REPORT_FILE

_TEXTS = ("data_dir", "train_file", "test_file", "classes", "input_digest", "quarantine_dir", "code_digest")
_log = logging.getLogger("newsdesk.example_gen")


class ExampleGenSpec(component_spec.ComponentSpec):
    """Inputs, outputs and properties of ``ExampleGen``; all properties are part of its cache key."""

    PARAMETERS: ClassVar = {
        **{name: component_spec.ExecutionParameter(type=str) for name in _TEXTS},
        "spans": component_spec.ExecutionParameter(type=str, optional=True),
        "malformed_budget": component_spec.ExecutionParameter(type=float),
        "eval_fraction": component_spec.ExecutionParameter(type=float),
    }
    INPUTS: ClassVar[dict] = {}
    OUTPUTS: ClassVar = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "report": component_spec.ChannelParameter(type=IngestReport),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the files, writes the splits and the report, and fails on what ``ingest.check_report`` refuses."""

    def Do(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> None:
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        report_dir = artifact_utils.get_single_instance(output_dict["report"]).uri
        classes = tuple(json.loads(exec_properties["classes"]))
        data_dir = exec_properties["data_dir"]
        spans = json.loads(exec_properties.get("spans") or "{}")
        pairs = list(spans.values()) or [(exec_properties["train_file"], exec_properties["test_file"])]
        files = [
            ingest.InputFile(os.path.join(data_dir, name), split)
            for pair in pairs
            for name, split in zip(pair, (None, features.TEST), strict=True)
        ]
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        quarantine = os.path.join(report_dir, QUARANTINE_FILE)
        summaries = os.path.join(report_dir, "summaries.jsonl")
        with self._make_beam_pipeline() as pipeline:
            outputs = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(ingest.ReadFile(len(classes), exec_properties["eval_fraction"])).with_outputs()
            )
            for split in features.SPLITS:
                prefix = os.path.join(artifact_utils.get_split_uri([examples], split), "data_tfrecord")
                # As many files as the engine likes: one would be written by one worker, after all rows had come to it.
                _ = outputs[split] | f"Write {split}" >> beam.io.WriteToTFRecord(prefix)
            for tag, path in ((ingest.MALFORMED, quarantine), (ingest.SUMMARY, summaries)):
                _ = outputs[tag] | f"Write {tag}" >> beam.io.WriteToText(path, num_shards=1, shard_name_template="")
        with fileio.open(summaries) as file:
            found = [json.loads(line) for line in file]
        read = {summary["path"]: bytes.fromhex(summary["sha256"]) for summary in found}
        if combine(classes, [read[file.path] for file in files]) != exec_properties["input_digest"]:
            raise changed(data_dir)
        report = ingest.make_report(found, classes, exec_properties["input_digest"])
        if spans:
            report["spans"] = list(spans)
        fileio.remove(summaries)
        with fileio.open(os.path.join(report_dir, REPORT_FILE), "w") as file:
            file.write(json.dumps(report, indent=1))
        kept = os.path.join(exec_properties["quarantine_dir"], f"{self._context.pipeline_run_id}.jsonl")
        sizes = ", ".join(f"{split} {sum(counts.values()):,}" for split, counts in report["splits"].items())
        _log.info("%s rows, %d malformed", sizes, report["malformed"])
        if report["malformed"]:
            fileio.makedirs(exec_properties["quarantine_dir"])
            fileio.copy(quarantine, kept, overwrite=True)
        ingest.check_report(report, exec_properties["malformed_budget"], kept)


class ExampleGen(base_beam_component.BaseBeamComponent):
    """Reads AG News files, those of all chosen spans, into the splits ``train``, ``eval`` and ``test``.

    Unlike TFX's file-based ExampleGen it has no driver of its own, so it compiles for every orchestrator, and
    its cache key holds a digest of the content instead of file names and times.
    """

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, source: Source, **given: Any):
        """Takes the other parameters by their names in ``ExampleGenSpec``."""
        # Without spans the property is left out, so that the cache key stays what it was before spans existed.
        spans = {"spans": json.dumps(dict(zip(source.spans, source.files, strict=True)))} if source.spans else {}
        super().__init__(
            ExampleGenSpec(
                data_dir=str(source.directory),
                train_file=source.train,
                test_file=source.test,
                classes=json.dumps(source.classes),
                input_digest=source.digest,
                **given,
                **spans,
                examples=channel.Channel(type=standard_artifacts.Examples),
                report=channel.Channel(type=IngestReport),
            )
        )
