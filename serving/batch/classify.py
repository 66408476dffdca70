"""Batch inference on Beam: files in, the same rows with label and probability out.

Input is read once beforehand, which finds what is malformed and cuts it into shards. A shard is computed by one worker
from its place in the input, written under a temporary name, renamed, and marked as done with a digest of all that it
depends on: input, model and settings. A run that follows a killed one computes what is not marked.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from components.errors import changed
from components.push.manifest import read_manifest, verify
from components.tables.files import digest_file, open_input
from components.tables.rows import Layout, Row
from components.tables.table import read_rows
from serving.batch.files import replaced, size_of
from serving.batch.output import Output
from serving.batch.plan import Plan, Shard, key_of
from serving.batch.write import make_writer
from serving.model.loaded import LoadedModel, Model

logger = logging.getLogger("newsdesk")
# The exported model sorts a batch by length and computes it in chunks of 64: more rows, more alike their lengths.
_BATCH_ROWS = 512


@dataclass(frozen=True)
class Job:
    """What all shards of a run share; plain values, which Beam sends to its workers.

    Attributes:
        source: Format of the input.
        layout: Of the input.
        names: Of the columns that are added.
        output: Where shards go.
        shards: How many there are.
        model: Directory of the version, which every worker can read.
        model_digest: Of its files, by its manifest.
    """

    source: str
    layout: Layout
    names: tuple[str, str]
    output: Output
    shards: int
    model: str
    model_digest: str

    def key(self, shard: Shard) -> str:
        """Returns a digest of all that a shard's output depends on."""
        target, header = self.output.target, self.output.header
        return key_of(shard, self.shards, self.source, self.layout, self.names, target, header, self.model_digest)


@dataclass(frozen=True)
class Summary:
    """What a run left.

    Attributes:
        rows: Classified.
        labels: How many rows each class got.
        shards: All.
        resumed: Those of them that an earlier run had finished.
    """

    rows: int
    labels: dict[str, int]
    shards: int
    resumed: int


def model_digest(directory: Path) -> str:
    """Returns the digest of a pushed version, after a look at all its files.

    Raises:
        BadInputError: It is not what was pushed.
    """
    verify(directory)
    return str(read_manifest(directory)["digest"])


def classify(plan: Plan, names: tuple[str, str], output: Output, model: Path, beam_options: Sequence[str]) -> Summary:
    """Computes the shards that are not done yet, and makes the output of all of them.

    Args:
        plan: Of the input.
        names: Of the columns that are added.
        output: Where it goes.
        model: Directory of the version that answers.
        beam_options: Beam's command-line options, the runner among them.

    Raises:
        BadInputError: The model is not what was pushed, or the input not what was planned with; then no shard is kept.
        RuntimeError: A worker failed, with its reason.
    """
    job = Job(plan.source, plan.layout, names, output, len(plan.shards), str(model), model_digest(model))
    keys = {shard.number: job.key(shard) for shard in plan.shards}
    whole = key_of(*keys.values())
    marker = output.finished(whole)
    if marker:
        return Summary(marker["rows"], marker["labels"], job.shards, job.shards)
    output.prepare(keys)
    missing = [shard for shard in plan.shards if output.done(shard.number, job.shards, keys[shard.number]) is None]
    if missing:
        try:
            _run(job, missing, beam_options)
        finally:
            for path, digest in {shard.path: shard.digest for shard in missing}.items():
                if digest_file(path) != digest:
                    output.prepare({})
                    raise changed(path)
    labels: Counter[str] = Counter()
    for shard in plan.shards:
        done = output.done(shard.number, job.shards, keys[shard.number])
        if done is None:
            raise RuntimeError(f"shard {shard.number} was not written: run it again")
        labels.update(done["labels"])
    counts = dict(sorted(labels.items()))
    output.finish(whole, {"rows": plan.rows, "labels": counts}, plan.layout, names, job.shards)
    return Summary(plan.rows, counts, job.shards, job.shards - len(missing))


def classify_shard(shard: Shard, job: Job, model: Model) -> dict[str, Any]:
    """Computes one shard and marks it as done; returns what the marker says.

    Raises:
        RuntimeError: The input is no longer what was planned with.
    """
    started = time.monotonic()
    labels: Counter[str] = Counter()
    path = job.output.part(shard.number, job.shards)
    layout = replace(job.layout, delimiter=job.output.delimiter)
    with open_input(shard.path, layout.encoding) as source, replaced(path, job.output.temporary) as file:
        writer = make_writer(job.source, job.output.target, layout, job.names, file, job.output.header)
        for rows in _batches(shard, job, source):
            answers = model.answer([row.text.encode() for row in rows])
            shares = answers.probabilities[np.arange(len(rows)), answers.label_ids]
            writer.write(rows, answers, shares)
            labels.update(answers.labels)
        writer.close()
    done = {"key": job.key(shard), "rows": shard.rows, "size": size_of(path), "labels": dict(labels)}
    job.output.mark(shard.number, job.shards, done)
    rate = shard.rows / max(time.monotonic() - started, 1e-9)
    logger.info("shard %d of %d: %d rows/s", shard.number + 1, job.shards, rate, extra={"passing": True})
    return done


def _batches(shard: Shard, job: Job, source: Any) -> Iterator[list[Row]]:
    held: list[Row] = []
    rows = 0
    for record, _ in read_rows(source, shard.path, job.source, job.layout, shard.place):
        if not isinstance(record, Row):
            continue
        held.append(record)
        rows += 1
        if len(held) == _BATCH_ROWS or rows == shard.rows:
            yield held
            held = []
        if rows == shard.rows:
            return
    raise RuntimeError(f"{shard.path} has changed since it was read: run it again")


class _ClassifyShard(beam.DoFn):
    def __init__(self, job: Job):
        self._job = job
        self._shared = Shared()
        self._model: Model | None = None

    def setup(self) -> None:
        # Once in a process, however many threads it has.
        self._model = self._shared.acquire(self._load, self._job.model_digest)

    def process(self, element: Shard) -> Iterator[int]:
        assert self._model is not None
        yield classify_shard(element, self._job, self._model)["rows"]

    def teardown(self) -> None:
        self._model = None

    def _load(self) -> Model:
        directory = Path(self._job.model)
        if model_digest(directory) != self._job.model_digest:
            raise RuntimeError(f"{directory} is not the model that this run began with: run it again")
        return LoadedModel(directory)


def _run(job: Job, shards: list[Shard], options: Sequence[str]) -> None:
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(shards)
                | "Spread" >> beam.Reshuffle()
                | "Classify" >> beam.ParDo(_ClassifyShard(job))
            )
    finally:
        # Beam keeps what was shared last alive until something else is; a model that is freed while Python itself is
        # being taken down complains on the screen.
        Shared().acquire(lambda: None)
