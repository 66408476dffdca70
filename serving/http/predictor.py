"""The way of a request for predictions: admitted, addressed, read, parsed, queued, answered, counted and logged."""

import asyncio
import hashlib
import json
import logging
import math
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial

from components import features
from serving.batching.batcher import Batcher
from serving.config import ServerConfig
from serving.errors import Code, RequestError
from serving.http.access_log import MOST_LOGGED, AccessLog
from serving.http.exchange import Exchange, Headers
from serving.http.metrics import Metrics
from serving.limits import Gate, Receive, read_body
from serving.model.class_names import CLASSES_HEADER
from serving.model.loaded import Answers, Model
from serving.protocol.kserve import parse_infer, render_infer
from serving.protocol.model_inputs import Limits
from serving.protocol.replies import render_error, render_predictions
from serving.protocol.targets import Target, parse_target
from serving.protocol.tensorflow_serving import parse_predict, refuse_examples
from serving.repository.repository import Repository
from serving.repository.versions import Version

Answer = tuple[int, bytes, Headers]
"""Status, body, and the headers beside those of every answer."""
Content = tuple[bytes, Headers]
Parsed = tuple[str, list[bytes], Callable[[Answers], bytes]]
"""Signature, its inputs, and what makes a reply of the answers."""
Parse = Callable[[bytes, Target, Version], Parsed]

_LOGGER = logging.getLogger("newsdesk.serving")
_CHALLENGER, _CHAMPION = "challenger", "champion"
# A request that has waited so long is dropped when its client goes. Before that, nobody looks whether the client has
# gone: looking takes a task, and a task for each request takes a fifth more of the processor.
_WATCH_SECONDS = 0.05
_REASONS = {
    Code.RESOURCE_EXHAUSTED: "queue",
    Code.DEADLINE_EXCEEDED: "deadline",
    Code.UNAUTHENTICATED: "token",
    Code.PERMISSION_DENIED: "host",
    Code.TOO_LARGE: "body",
}
"""Refusals that are a limit's, with the reason they are counted under."""


class Predictor:
    """Answers requests for predictions; all on the event loop, but for the model's own work."""

    def __init__(
        self,
        repository: Repository,
        config: ServerConfig,
        gate: Gate,
        batcher: Batcher,
        metrics: Metrics,
        log: AccessLog,
    ):
        self.limits = Limits(config.body_bytes, config.instances, config.text_characters, config.json_depth)
        self._repository, self._gate, self._batcher = repository, gate, batcher
        self._metrics, self._log = metrics, log
        self._share = round(config.canary_share * 2**32)
        self._classes: weakref.WeakKeyDictionary[Model, Headers] = weakref.WeakKeyDictionary()

    async def predict(self, exchange: Exchange, receive: Receive) -> Answer:
        """Answers a ``:predict``, ``:classify`` or ``:regress``; ``receive`` is ASGI's."""
        return await self._settle(exchange, self._predict(exchange, receive))

    async def infer(self, exchange: Exchange, receive: Receive, target: Target) -> Answer:
        """Answers an ``infer`` of KServe's protocol, which has passed the gate; ``receive`` is ASGI's."""
        return await self._settle(exchange, self._classify(exchange, receive, target, self._parse_infer))

    def count_limit(self, error: RequestError) -> None:
        """Counts a refusal under the limit that it is of, if it is one's."""
        reason = _REASONS.get(error.code)
        if reason:
            self._metrics.rejected[reason] += 1

    async def _settle(self, exchange: Exchange, work: Awaitable[Content]) -> Answer:
        """Returns what the work comes to, or a refusal; counts and logs it either way."""
        # What it is if the server ends and this task with it.
        code = Code.CANCELLED
        try:
            content, headers = await work
            code = Code.OK
            return code.status, content, headers
        except RequestError as error:
            code = error.code
            self.count_limit(error)
            return refuse(error)
        except Exception as error:
            _LOGGER.error("request %s failed", exchange.request_id, exc_info=error)
            code = Code.INTERNAL
            return refuse(RequestError(code, "the server failed: its log says how"))
        finally:
            self._note(exchange, code)

    async def _predict(self, exchange: Exchange, receive: Receive) -> Content:
        self._gate.check_host(exchange.host)
        self._gate.check_token(exchange.authorization)
        target = parse_target("POST", exchange.path)
        return await self._classify(exchange, receive, target, self._parse_predict)

    async def _classify(self, exchange: Exchange, receive: Receive, target: Target, parse: Parse) -> Content:
        body = await read_body(receive, self.limits.body_bytes, exchange.length)
        held, version = self._hold(exchange, target)
        try:
            signature, inputs, render = parse(body, target, version)
            # Or it would be in memory for as long as the request waits.
            del body
            exchange.rows = len(inputs)
            answers = await _answers_or_leave(self._batcher.submit(version, signature, inputs), receive)
            content = render(answers)
            assert exchange.series
            exchange.series.predict(answers.labels)
            return content, self._name_classes(version.loaded)
        finally:
            held.__exit__(None, None, None)

    def _parse_predict(self, body: bytes, target: Target, version: Version) -> Parsed:
        if target.action != "predict":
            refuse_examples(body, self.limits, version.loaded.signatures, target.action)
        request = parse_predict(body, self.limits, features.INPUTS)
        return request.signature, request.inputs, partial(render_predictions, rows=request.rows)

    def _parse_infer(self, body: bytes, target: Target, version: Version) -> Parsed:
        request = parse_infer(body, self.limits)
        render = partial(render_infer, request, model=version.model, version=version.number)
        return features.SERVING_SIGNATURE, request.inputs, render

    def _hold(self, exchange: Exchange, target: Target) -> tuple[AbstractContextManager[Version], Version]:
        """Returns the version that is to answer, and what keeps it in memory until it is left."""
        exchange.model = target.model
        label = target.label
        canary = self._share and label is None and target.version is None and self._is_canary(exchange.request_id)
        if canary and _CHALLENGER in self._repository.labels(target.model):
            label = _CHALLENGER
        try:
            held = self._repository.use(target.model, target.version, label)
            version = held.__enter__()
        except RequestError:
            if label is target.label:
                raise
            # The challenger went between the two looks; nobody asked for it.
            label = None
            held = self._repository.use(target.model)
            version = held.__enter__()
        if label is None and target.version is None and _CHAMPION in version.labels:
            label = _CHAMPION
        exchange.series = self._metrics.series(version.model, version.number, label or "")
        return held, version

    def _name_classes(self, model: Model) -> Headers:
        """Returns the header that names the columns of ``probabilities``, which TensorFlow Serving's replies do not."""
        headers = self._classes.get(model)
        if headers is None:
            headers = [(CLASSES_HEADER.encode(), json.dumps(model.classes).encode())]
            self._classes[model] = headers
        return headers

    def _is_canary(self, request_id: str) -> bool:
        # By the id, so that a client that tries again meets the same version.
        digest = hashlib.blake2b(request_id.encode(), digest_size=4).digest()
        return int.from_bytes(digest) < self._share

    def _note(self, exchange: Exchange, code: Code) -> None:
        """Counts and logs a request that has ended."""
        seconds = time.monotonic() - exchange.started
        series = exchange.series
        if series:
            series.count(code, seconds)
        else:
            # Whatever else was asked for is no name for a series.
            known = exchange.model if exchange.model in self._repository.models() else ""
            self._metrics.refuse(known, code)
        exchange.logged = True
        if self._log.on:
            record = {
                "at": time.time(),
                "request_id": exchange.request_id,
                "model": series.model if series else exchange.model[:MOST_LOGGED],
                "version": series.version if series else "",
                "label": series.label if series else "",
                "status": code.status,
                "ms": round(seconds * 1000, 3),
                "rows": exchange.rows,
            }
            if code is not Code.OK:
                record["code"], record["path"] = code.name, exchange.path.partition("?")[0][:MOST_LOGGED]
            self._log.add(record)


async def _answers_or_leave(answers: asyncio.Future[Answers], receive: Receive) -> Answers:
    """Returns the answers, unless the client goes before they are there.

    Raises:
        RequestError: What the batcher raises, or ``CANCELLED``.
    """
    watch = asyncio.get_running_loop().call_later(_WATCH_SECONDS, _watch, answers, receive)
    try:
        return await answers
    finally:
        watch.cancel()
        # An error, its traceback, this frame and the future would be a cycle, which keeps the texts of every refused
        # request until Python looks for such.
        del answers, watch


def _watch(answers: asyncio.Future[Answers], receive: Receive) -> None:
    """Begins to look whether a client goes."""

    async def leave() -> None:
        # The body has been read: nothing but the client's end is to come.
        while (await receive())["type"] != "http.disconnect":
            pass
        if not answers.done():
            answers.set_exception(RequestError(Code.CANCELLED, "the client has gone"))

    watching = asyncio.create_task(leave())
    answers.add_done_callback(lambda _: watching.cancel())


def refuse(error: RequestError) -> Answer:
    """Returns the answer to what is refused."""
    headers: Headers = []
    if error.code is Code.UNAUTHENTICATED:
        headers = [(b"www-authenticate", b"Bearer")]
    elif error.retry_after is not None:
        headers = [(b"retry-after", str(math.ceil(error.retry_after)).encode())]
    return error.code.status, render_error(error), headers
