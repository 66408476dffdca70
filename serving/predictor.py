"""The way of a request for predictions: admitted, addressed, parsed, queued, answered, counted and logged."""

import hashlib
import json
import logging
import math
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from components import features
from serving.access_log import AccessLog
from serving.batcher import Batcher
from serving.class_names import CLASSES_HEADER
from serving.config import ServerConfig
from serving.errors import Code, RequestError
from serving.exchange import Exchange, Headers
from serving.limits import Gate
from serving.metrics import Metrics
from serving.model_inputs import Limits
from serving.models import INPUTS, Answers, Model
from serving.protocol import parse_predict, refuse_examples
from serving.protocol_v2 import parse_infer, render_infer
from serving.replies import render_error, render_predictions
from serving.targets import Target, parse_target

if TYPE_CHECKING:
    from serving.repository import Repository
    from serving.versions import Version

Render = Callable[[Answers], bytes]

_LOGGER = logging.getLogger("newsdesk.serving")
_CHALLENGER, _CHAMPION = "challenger", "champion"
_MOST_LOGGED = 200
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
        repository: "Repository",
        config: ServerConfig,
        gate: Gate,
        batcher: Batcher,
        metrics: Metrics,
        log: AccessLog,
    ):
        """Takes what it works with."""
        self.limits = Limits(config.body_bytes, config.instances, config.text_characters, config.json_depth)
        self._repository, self._gate, self._batcher = repository, gate, batcher
        self._metrics, self._log = metrics, log
        self._share = round(config.canary_share * 2**32)
        self._classes: weakref.WeakKeyDictionary[Model, Headers] = weakref.WeakKeyDictionary()

    def predict(self, exchange: Exchange, body: bytes) -> None:
        """Takes a whole ``:predict``, ``:classify`` or ``:regress``; what is sent is sent when it is there."""
        with _Refusing(self, exchange):
            self._admit(exchange)
            target = parse_target("POST", exchange.path)
            version = self._choose(exchange, target)
            if target.action != "predict":
                refuse_examples(body, self.limits, version.loaded.signatures, target.action)
            request = parse_predict(body, self.limits, INPUTS)
            render = partial(render_predictions, rows=request.rows)
            self._queue(exchange, version, request.signature, request.inputs, render)

    def infer(self, exchange: Exchange, target: Target, body: bytes) -> None:
        """Takes a whole ``infer`` of KServe's protocol."""
        with _Refusing(self, exchange):
            self._admit(exchange)
            version = self._choose(exchange, target)
            request = parse_infer(body, self.limits)
            render = partial(render_infer, request, model=version.model, version=version.number)
            self._queue(exchange, version, features.SERVING_SIGNATURE, request.inputs, render)

    def abandon(self, exchange: Exchange) -> None:
        """Forgets a request whose client has gone."""
        if exchange.job:
            exchange.job.abandon()
        self._end(exchange, Code.CANCELLED)

    def refuse(self, exchange: Exchange, error: RequestError) -> None:
        """Sends a refusal."""
        self.count_limit(error)
        self._end(exchange, error.code)
        exchange.reply(error.code.status, render_error(error), refusal_headers(error))

    def count_limit(self, error: RequestError) -> None:
        """Counts a refusal under the limit that it is of, if it is one's."""
        reason = _REASONS.get(error.code)
        if reason:
            self._metrics.rejected[reason] += 1

    def _admit(self, exchange: Exchange) -> None:
        self._gate.check_host(exchange.host)
        self._gate.check_token(exchange.authorization)

    def _queue(
        self, exchange: Exchange, version: "Version", signature: str, inputs: list[bytes], render: Render
    ) -> None:
        def done(answers: Answers | None, error: RequestError | None) -> None:
            with _Refusing(self, exchange):
                self._finish(exchange, render, answers, error)

        exchange.rows = len(inputs)
        exchange.job = self._batcher.add(version, signature, inputs, done)

    def _choose(self, exchange: Exchange, target: Target) -> "Version":
        """Returns the version that is to answer, and holds it for the exchange."""
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
        exchange.held = held
        if label is None and target.version is None and _CHAMPION in version.labels:
            label = _CHAMPION
        exchange.series = self._metrics.series(version.model, version.number, label or "")
        exchange.headers = self._name_classes(version.loaded)
        return version

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

    def _finish(self, exchange: Exchange, render: Render, answers: Answers | None, error: RequestError | None) -> None:
        if error or answers is None:
            raise error or RequestError(Code.INTERNAL, "the model gave no answer")
        body = render(answers)
        assert exchange.series
        exchange.series.predict(answers.labels)
        self._end(exchange, Code.OK)
        exchange.reply(200, body, exchange.headers)

    def _end(self, exchange: Exchange, code: Code) -> None:
        """Lets go, counts and logs."""
        exchange.job = None
        held, exchange.held = exchange.held, None
        if held:
            held.__exit__(None, None, None)
        seconds = time.monotonic() - exchange.started
        series = exchange.series
        if series:
            series.count(code, seconds)
        else:
            # Whatever else was asked for is no name for a series.
            known = exchange.model if exchange.model in self._repository.models() else ""
            self._metrics.refuse(known, code)
        if self._log.on:
            record = {
                "at": time.time(),
                "request_id": exchange.request_id,
                "model": series.model if series else exchange.model[:_MOST_LOGGED],
                "version": series.version if series else "",
                "label": series.label if series else "",
                "status": code.status,
                "ms": round(seconds * 1000, 3),
                "rows": exchange.rows,
            }
            if code is not Code.OK:
                record["code"], record["path"] = code.name, exchange.path[:_MOST_LOGGED]
            self._log.add(record)


class _Refusing:
    """Answers what goes wrong in a block.

    No generator with ``contextmanager``: of that and the error's traceback a cycle would come, which keeps the body of
    every refused request until Python looks for such.
    """

    __slots__ = ("_exchange", "_predictor")

    def __init__(self, predictor: Predictor, exchange: Exchange):
        self._predictor, self._exchange = predictor, exchange

    def __enter__(self) -> None:
        """Nothing has gone wrong yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, RequestError):
            # Nobody is above: without an answer the client would wait, and the version be held, for ever.
            _LOGGER.error("request %s failed", self._exchange.request_id, exc_info=error)
            error = RequestError(Code.INTERNAL, "the server failed: its log says how")
        self._predictor.refuse(self._exchange, error)
        return True


def refusal_headers(error: RequestError) -> list[tuple[bytes, bytes]]:
    """Returns the headers that go with a refusal."""
    if error.code is Code.UNAUTHENTICATED:
        return [(b"www-authenticate", b"Bearer")]
    if error.retry_after is not None:
        return [(b"retry-after", str(math.ceil(error.retry_after)).encode())]
    return []
