"""The server as an ASGI application: predictions by hand, the rest by Starlette."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from serving.access_log import AccessLog
from serving.batcher import Batcher
from serving.config import ServerConfig
from serving.errors import RequestError
from serving.exchange import Exchange, Headers, Heading
from serving.limits import Gate, Receive, read_body
from serving.metrics import Metrics
from serving.predictor import Predictor, refusal_headers
from serving.replies import render_error, render_metadata, render_status
from serving.routes import QUIET, is_open, make_routes
from serving.targets import parse_target

if TYPE_CHECKING:
    from serving.repository import Repository

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]

_JSON = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
_ASK = "/v1/models/"
_LOOK = "/v1/"
_MOST_LOGGED = 200
# In the scope of a request that the predictor answers, logs and gives its id.
_ASKED = "newsdesk.asked"


def make_app(
    repository: "Repository",
    config: ServerConfig,
    token: str | None = None,
    metrics: Metrics | None = None,
    log: AccessLog | None = None,
) -> "App":
    """Returns the ASGI application, for any server; ``serving.server`` runs it with the limits on connections.

    Args:
        repository: What is loaded.
        config: Limits, batching and canary.
        token: Bearer token to ask for; None asks for none.
        metrics: Where to count; a new one by default.
        log: Where requests are logged; nowhere by default.
    """
    return App(repository, config, token, metrics or Metrics(), log or AccessLog("none"))


class App:
    """The ASGI application that ``make_app`` returns.

    Attributes:
        config: How it was made.
        metrics: What it counts.
        batcher: What brings requests to the models.
        predictor: Answers ``:predict``; ``serving.connection`` asks it without a detour through ASGI.
        draining: Whether the server is about to end: it is not ready any more, and keeps no connection.
    """

    def __init__(
        self, repository: "Repository", config: ServerConfig, token: str | None, metrics: Metrics, log: AccessLog
    ):
        """Starts nothing; the arguments are those of ``make_app``."""
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
        metrics.loaded = lambda: [(each.model, each.number, each.labels) for each in repository.versions()]
        self._gate = Gate(config, token)
        self._log = log
        self.predictor = Predictor(repository, config, self._gate, self.batcher, metrics, log)
        self._common: tuple[Headers | None, bytes] = (None, b"")
        self._site = Starlette(
            routes=make_routes(self),
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
        path = _sent_path(scope)
        if scope["method"] == "POST" and path[: len(_ASK)].lower() == _ASK:
            await self._send(send, *await self.ask(scope, receive, path, self.predictor.predict))
            return
        heading = Heading(path, scope["headers"])
        status = 500
        try:
            status = await self._answer(heading, scope, receive, send)
        finally:
            if _ASKED not in scope:
                self._note(heading, scope["method"], scope["path"], status)

    async def ask(self, scope: Scope, receive: Receive, path: str, begin: Callable[[Exchange, bytes], None]) -> Answer:
        """Returns the answer to a request for predictions.

        Args:
            scope: ASGI's.
            receive: ASGI's.
            path: As sent, with the query.
            begin: Takes the request and its body.
        """
        scope[_ASKED] = True
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
            if not answer.done():
                answer.set_result((status, body, [*headers, (b"x-request-id", exchange.request_id.encode())]))

        exchange = Exchange(path, scope["headers"], reply)
        try:
            body = await read_body(receive, self.config.body_bytes, exchange.length)
        except RequestError as error:
            self.predictor.refuse(exchange, error)
        else:
            begin(exchange, body)
        try:
            return await answer
        except asyncio.CancelledError:
            self.predictor.abandon(exchange)
            raise

    def common_headers(self, given: Headers) -> bytes:
        """Returns the headers of every prediction, as they are sent; uvicorn makes ``given`` anew once a second."""
        if self._common[0] is not given:
            lines = (b"%b: %b\r\n" % header for header in [*given, *_JSON])
            self._common = (given, b"".join(lines))
        return self._common[1]

    def flush(self) -> None:
        """Writes the log; the server calls it a few times a second."""
        self._log.flush()

    async def _answer(self, heading: Heading, scope: Scope, receive: Receive, send: Send) -> int:
        """Answers what is not for a model, and returns the status."""
        found = 500

        async def marking(message: MutableMapping[str, Any]) -> None:
            nonlocal found
            if message["type"] == "http.response.start":
                found = message["status"]
                headers = message["headers"] = list(message["headers"])
                if _ASKED not in scope:
                    headers.append((b"x-request-id", heading.request_id.encode()))
                if self.draining:
                    headers.append((b"connection", b"close"))
            await send(message)

        try:
            self._gate.check_host(heading.host)
            if not is_open(scope["path"]):
                self._gate.check_token(heading.authorization)
            if scope["path"][: len(_LOOK)].lower() == _LOOK:
                await self._send(marking, 200, self._look(scope["method"], heading.path), ())
            else:
                await self._site(scope, receive, marking)
        except RequestError as error:
            self.predictor.count_limit(error)
            await self._send(marking, error.code.status, render_error(error), refusal_headers(error))
        return found

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
        return Response(content, error.status_code, headers, media_type="application/json")

    async def _send(self, send: Send, status: int, content: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        length = (b"content-length", str(len(content)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*_JSON, *headers, length]})
        await send({"type": "http.response.body", "body": content})

    def _note(self, heading: Heading, method: str, path: str, status: int) -> None:
        if not self._log.on or (status == 200 and path in QUIET):
            return
        milliseconds = round((time.monotonic() - heading.started) * 1000, 3)
        record = {"at": time.time(), "request_id": heading.request_id, "method": method, "path": path[:_MOST_LOGGED]}
        self._log.add({**record, "status": status, "ms": milliseconds})

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
    headers = {name.decode(): value.decode() for name, value in (*_JSON, *refusal_headers(error))}
    return Response(render_error(error), error.code.status, headers)


def _tell_failure(request: Request, error: Exception) -> Response:
    return Response(orjson.dumps({"error": "the server failed: its log says how"}), 500, media_type="application/json")
