"""The server as an ASGI application: predictions by hand, the rest by Starlette."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from serving.batching.batcher import Batcher
from serving.config import ServerConfig
from serving.errors import RequestError
from serving.http.access_log import MOST_LOGGED, AccessLog
from serving.http.exchange import EXCHANGE, Exchange, Headers
from serving.http.metrics import Metrics
from serving.http.predictor import Answer, Predictor, refuse
from serving.http.routes import QUIET, is_open, make_routes
from serving.limits import Gate, Receive
from serving.protocol.replies import render_metadata, render_status
from serving.protocol.targets import parse_target
from serving.repository.repository import Repository

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
_ASK = "/v1/models/"
_LOOK = "/v1/"


class App:
    """The ASGI application, for any server; ``serving.http.server`` runs it with the limits on connections.

    Attributes:
        config: How it was made.
        metrics: What it counts.
        batcher: What brings requests to the models.
        predictor: Answers requests for predictions.
        log: Where it logs requests; the server flushes it a few times a second.
        draining: Whether the server is about to end: it is not ready any more, and keeps no connection.
    """

    def __init__(
        self,
        repository: Repository,
        config: ServerConfig,
        token: str | None = None,
        metrics: Metrics | None = None,
        log: AccessLog | None = None,
    ):
        """Starts nothing.

        Args:
            repository: What is loaded.
            config: Limits, batching and canary.
            token: Bearer token to ask for; None asks for none.
            metrics: Where to count; a new one by default.
            log: Where requests are logged; nowhere by default.
        """
        metrics, log = metrics or Metrics(), log or AccessLog("none")
        self.config, self.metrics, self.repository = config, metrics, repository
        self.draining = False
        self.batcher = Batcher(
            config.max_batch_rows,
            config.max_wait_ms,
            config.max_queue_rows,
            config.batches_at_a_time,
            config.request_seconds,
            metrics.ran_batch,
        )
        metrics.queue_rows = lambda: self.batcher.queue_rows
        metrics.versions = lambda: [(each.model, each.number, each.labels) for each in repository.versions()]
        self._gate = Gate(config, token)
        self.log = log
        self.predictor = Predictor(repository, config, self._gate, self.batcher, metrics, log)
        self._site = Starlette(
            routes=make_routes(repository, config, metrics, self.predictor, lambda: self.ready),
            exception_handlers={
                RequestError: self._tell_refusal,
                HTTPException: self._tell_status,
                Exception: _tell_failure,
            },
        )
        self._site.router.redirect_slashes = False

    @property
    def ready(self) -> bool:
        """Whether every model answers, and will for a while."""
        return self.repository.ready and not self.draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or starts and stops with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP, not {scope['type']}")
        exchange = scope[EXCHANGE] = Exchange(_sent_path(scope), scope["headers"])
        if scope["method"] == "POST" and exchange.path[: len(_ASK)].lower() == _ASK:
            await self._send(send, exchange, await self.predictor.predict(exchange, receive))
            return
        status = 500
        try:
            status = await self._answer(exchange, scope, receive, send)
        finally:
            if not exchange.logged:
                self._note(exchange, scope["method"], scope["path"], status)

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> int:
        """Answers what is not for TensorFlow Serving's ``:predict``, and returns the status."""
        try:
            self._gate.check_host(exchange.host)
            if not is_open(scope["path"]):
                self._gate.check_token(exchange.authorization)
            if scope["path"][: len(_LOOK)].lower() != _LOOK:
                return await self._visit(exchange, scope, receive, send)
            answer: Answer = (200, self._look(scope["method"], exchange.path), [])
        except RequestError as error:
            self.predictor.count_limit(error)
            answer = refuse(error)
        await self._send(send, exchange, answer)
        return answer[0]

    async def _visit(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> int:
        """Has Starlette answer, and returns the status."""
        status = 500

        async def marking(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._marks(exchange)]
            await send(message)

        await self._site(scope, receive, marking)
        return status

    def _look(self, method: str, path: str) -> bytes:
        """Returns the status or the metadata of a model."""
        target = parse_target(method, path)
        if target.action == "status":
            return render_status(self.repository.status(target.model, target.version, target.label))
        with self.repository.use(target.model, target.version, target.label) as version:
            return render_metadata(version.model, version.number, version.loaded.signatures)

    def _tell_refusal(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        self.predictor.count_limit(error)
        return tell_refusal(request, error)

    def _tell_status(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {
            404: "there is nothing at this path: /docs lists what there is",
            405: "this path is for another method",
        }
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Of all routes of the path, where Starlette tells of the first.
            found = [each for each in self._site.routes if each.matches(request.scope)[0] is not Match.NONE]
            methods = {method for each in found if isinstance(each, Route) for method in each.methods or ()}
            headers["Allow"] = ", ".join(sorted(methods))
        content = orjson.dumps({"error": words.get(error.status_code, error.detail)})
        return _error(content, error.status_code, headers)

    async def _send(self, send: Send, exchange: Exchange, answer: Answer) -> None:
        status, content, headers = answer
        length = (b"content-length", str(len(content)).encode())
        headers = [*_JSON, *headers, *self._marks(exchange), length]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _marks(self, exchange: Exchange) -> Headers:
        """Returns the headers that go with every answer."""
        request_id = (b"x-request-id", exchange.request_id.encode())
        return [request_id, (b"connection", b"close")] if self.draining else [request_id]

    def _note(self, exchange: Exchange, method: str, path: str, status: int) -> None:
        if not self.log.on or (status == 200 and path in QUIET):
            return
        milliseconds = round((time.monotonic() - exchange.started) * 1000, 3)
        record = {"at": time.time(), "request_id": exchange.request_id, "method": method, "path": path[:MOST_LOGGED]}
        self.log.add({**record, "status": status, "ms": milliseconds})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.batcher.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.batcher.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _sent_path(scope: Scope) -> str:
    """Returns the path as it was sent, with the query."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string")
    return (path + b"?" + query if query else path).decode("latin-1")


def tell_refusal(request: Request, error: Exception) -> Response:
    """Returns the answer to what was refused, for Starlette."""
    assert isinstance(error, RequestError)
    status, content, headers = refuse(error)
    return _error(content, status, {name.decode(): value.decode() for name, value in headers})


def _tell_failure(request: Request, error: Exception) -> Response:
    return _error(orjson.dumps({"error": "the server failed: its log says how"}), 500, {})


def _error(content: bytes, status: int, headers: dict[str, str]) -> Response:
    return Response(content, status, {name.decode(): value.decode() for name, value in _JSON} | headers)
