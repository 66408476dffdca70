"""What waits for a model: the texts of one request, and how a batch of such is answered."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from components import features
from serving.errors import Code, RequestError
from serving.model.loaded import Answers
from serving.repository.versions import Version

_LOGGER = logging.getLogger("newsdesk")


@dataclass(slots=True, eq=False)
class Job:
    """One request's texts. ``answers`` is done when they are answered, or when nobody waits for that any more."""

    version: Version
    signature: str
    inputs: list[bytes]
    answers: asyncio.Future[Answers]
    since: float
    deadline: float

    @property
    def length(self) -> int:
        """Bytes of the longest text."""
        return max(map(len, self.inputs))

    def finish(self, result: Answers | RequestError) -> None:
        """Answers, unless nobody waits any more; for the event loop only."""
        if self.answers.done():
            return
        if isinstance(result, RequestError):
            self.answers.set_exception(result)
        else:
            self.answers.set_result(result)


def run(batch: list[Job]) -> Sequence[Answers | RequestError]:
    """Returns an answer or an error per job; one request's bad input is no other's."""
    inputs = batch[0].inputs if len(batch) == 1 else [text for job in batch for text in job.inputs]
    try:
        answers = _ask(batch[0], inputs)
    except Exception as error:
        # A model may fail in any way: those who wait are told, and the thread goes on to the next batch.
        if len(batch) > 1:
            return [result for job in batch for result in run([job])]
        if isinstance(error, RequestError):
            # Without the frames of its traceback: they hold the batch, which holds the futures that hold the error.
            # Such a cycle keeps the texts until Python looks for it.
            return [error.with_traceback(None)]
        _LOGGER.exception("version %s of %s failed", batch[0].version.number, batch[0].version.model)
        return [RequestError(Code.INTERNAL, "the model failed: the server's log says how")]
    return [answers] if len(batch) == 1 else _split(answers, [len(job.inputs) for job in batch])


def _ask(job: Job, inputs: Sequence[bytes]) -> Answers:
    model = job.version.loaded
    return model.answer_examples(inputs) if job.signature == features.EXAMPLES_SIGNATURE else model.answer(inputs)


def _split(answers: Answers, sizes: list[int]) -> list[Answers]:
    kind, start, parts = type(answers), 0, []
    for size in sizes:
        end = start + size
        parts.append(kind(answers.labels[start:end], answers.label_ids[start:end], answers.probabilities[start:end]))
        start = end
    return parts
