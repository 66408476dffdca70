"""The page for people at ``/`` and what it asks for.

``GET /explain`` says what can be asked, ``POST /explain`` classifies one text and weighs its words.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from anyio.to_thread import run_sync
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from components import features
from components.errors import BadInputError
from serving.endpoints import bind
from serving.errors import Code, RequestError, too_late
from serving.limits import read_body
from serving.page.explain import explain, find_words
from serving.page.figures import read_figures
from serving.page.files import file_routes
from serving.protocol.model_inputs import Limits
from serving.repository.repository import Repository
from serving.repository.versions import Version

# An explanation is as much work as a request for each of its words: one at a time leaves a core to those.
_AT_A_TIME = 1
_MOST_WAITING = 4
_RETRY_SECONDS = 2.0
# JSON may spell a character as two escapes of six bytes.
_BYTES_PER_CHARACTER = 12
_BYTES_BESIDE = 4096


class ExplainRequest(BaseModel):
    """Body of ``POST /explain``; at most one of version and label."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "not": {
                "required": ["version", "label"],
                "properties": {"version": {"type": "integer"}, "label": {"type": "string"}},
            }
        },
    )

    model: str
    # Checked by ``_parse``, in better words than pydantic's.
    text: str = Field(json_schema_extra={"minLength": 1, "maxLength": Limits().text_characters, "pattern": r"\S"})
    version: int | None = Field(default=None, ge=0)
    label: str | None = None


def page_routes(repository: Repository, most_words: int, text_characters: int, seconds: float) -> list[Route]:
    """Returns the routes of the page: its files, which hold no secret, and ``/explain``, which a token may guard.

    What they refuse they raise, for the application around them to tell (``serving.http.app.tell_refusal``) and count.

    Args:
        repository: What is loaded.
        most_words: How many words of a text are weighed; with 0 it gets its class and probabilities only.
        text_characters: Length of a text above which it is refused.
        seconds: Until an explanation that is not there is refused, be it waiting or running.
    """
    desk = _Desk(repository, most_words, text_characters)
    turns = _Turns()
    most_bytes = text_characters * _BYTES_PER_CHARACTER + _BYTES_BESIDE

    async def choices(request: Request) -> Response:
        return _json(await run_sync(desk.choices))

    async def answer(request: Request) -> Response:
        question = _parse(await read_body(request.receive, most_bytes), text_characters)
        deadline = _Deadline(seconds)
        return _json(await turns.take(partial(desk.answer, question, deadline), deadline))

    return [*file_routes(), *bind({"explainChoices": choices, "explain": answer})]


class _Deadline:
    """When a request is to be refused; any thread may look."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, 0 when there are none."""
        return max(self._at - time.monotonic(), 0.0)

    @property
    def error(self) -> RequestError:
        return too_late(self._seconds)

    def check(self) -> None:
        if not self.left:
            raise self.error


class _Turns:
    """Lets one explanation run at a time, in a thread, and a few wait.

    A thread cannot be ended. One that nobody waits for any more keeps its turn until it ends by itself, which it does
    after the pass that it is at: so a model that hangs holds one thread and not one for each who asks.
    """

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self._asking = 0

    async def take(self, work: Callable[[], dict[str, Any]], deadline: _Deadline) -> dict[str, Any]:
        if self._asking >= _AT_A_TIME + _MOST_WAITING:
            message = f"{self._asking} texts are being explained already: try again later"
            raise RequestError(Code.RESOURCE_EXHAUSTED, message, retry_after=_RETRY_SECONDS)
        self._asking += 1
        try:
            running = await self._begin(work, deadline)
        except BaseException:
            self._asking -= 1
            raise
        done, _ = await asyncio.wait([running], timeout=deadline.left)
        if not done:
            raise deadline.error
        return running.result()

    async def _begin(self, work: Callable[[], dict[str, Any]], deadline: _Deadline) -> "asyncio.Task[dict[str, Any]]":
        try:
            async with asyncio.timeout(deadline.left):
                await self._turns.acquire()
        except TimeoutError as error:
            raise deadline.error from error
        running = asyncio.create_task(run_sync(work))
        running.add_done_callback(self._end)
        return running

    def _end(self, running: "asyncio.Task[dict[str, Any]]") -> None:
        self._asking -= 1
        self._turns.release()
        if not running.cancelled():
            # Without this, asyncio logs the exception as never retrieved.
            running.exception()


class _Desk:
    """What the page is told, from what is loaded; not for the event loop."""

    def __init__(self, repository: Repository, most_words: int, text_characters: int):
        self._repository = repository
        self._most_words = most_words
        self._text_characters = text_characters
        # A card is read once per loaded model: parsing YAML holds up every other thread for some 20 ms.
        self._figures: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

    def choices(self) -> dict[str, Any]:
        return {
            "models": [self._model(name) for name in self._repository.models()],
            "explains": self._most_words > 0,
            "word_limit": self._most_words,
            "text_characters": self._text_characters,
        }

    def answer(self, question: ExplainRequest, deadline: _Deadline) -> dict[str, Any]:
        asked = self._repository.use(question.model, version=question.version, label=question.label)
        with asked as version:
            answers = version.loaded.answer([question.text.encode()])
            label_id = int(answers.label_ids[0])
            row = answers.probabilities[0].tolist()
            most = self._most_words
            words = explain(version.loaded, question.text, label_id, most, deadline.check) if most else None
            return {
                **self._describe(version),
                features.OUTPUT_LABEL: answers.labels[0],
                features.OUTPUT_PROBABILITIES: dict(zip(version.loaded.classes, row, strict=True)),
                "words": None if words is None else [asdict(word) for word in words],
                "words_total": len(find_words(question.text)),
            }

    def _model(self, name: str) -> dict[str, Any]:
        """Describes the loaded versions of a model, first the one that answers where none is asked for."""
        try:
            with self._repository.use(name) as serving:
                versions = [self._describe(serving)]
        except RequestError as error:
            return {"model": name, "versions": [], "problem": error.message}
        others = [version for version in self._repository.versions() if version.model == name]
        others.sort(key=lambda version: -version.number)
        versions += [self._describe(version) for version in others if version.number != versions[0]["version"]]
        return {"model": name, "versions": versions, "problem": None}

    def _describe(self, version: Version) -> dict[str, Any]:
        if version.loaded not in self._figures:
            self._figures[version.loaded] = _figures(version)
        return {
            "model": version.model,
            "version": version.number,
            "labels": sorted(version.labels),
            **self._figures[version.loaded],
        }


def _figures(version: Version) -> dict[str, Any]:
    try:
        return {"figures": read_figures(version.loaded.directory).model_dump(), "figures_problem": None}
    except BadInputError as error:
        return {"figures": None, "figures_problem": str(error)}


def _parse(body: bytes, text_characters: int) -> ExplainRequest:
    try:
        question = ExplainRequest.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise RequestError(Code.INVALID_ARGUMENT, f"the request is no JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        raise RequestError(Code.INVALID_ARGUMENT, f"{place}: {first['msg']}") from error
    if question.version is not None and question.label is not None:
        raise RequestError(Code.INVALID_ARGUMENT, "version and label are both given: send one of them")
    if not question.text.strip():
        raise RequestError(Code.INVALID_ARGUMENT, "the text is empty: type a headline")
    if len(question.text) > text_characters:
        message = f"the text has {len(question.text):,} characters: {text_characters:,} are allowed"
        raise RequestError(Code.INVALID_ARGUMENT, message)
    return question


def _json(content: Any) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(orjson.dumps(content), headers=headers, media_type="application/json")
