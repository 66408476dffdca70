"""What is beside TensorFlow Serving's own paths: probes, metrics, the description of the API, KServe's protocol."""

from collections.abc import Callable
from importlib.metadata import version as installed_version

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from components import features
from serving.config import ServerConfig
from serving.endpoints import ENDPOINTS, Handler, bind
from serving.http import metrics
from serving.http.exchange import EXCHANGE
from serving.http.predictor import Predictor
from serving.page import docs as docs_page
from serving.page.routes import page_routes
from serving.protocol import kserve
from serving.protocol.targets import Target, parse_version
from serving.repository.repository import Repository

QUIET = frozenset(each.path for each in ENDPOINTS if each.quiet)
"""Logged only when the answer is not 200."""
_OPEN = frozenset(each.path for each in ENDPOINTS if each.open)


def is_open(path: str) -> bool:
    """Returns whether a path needs no token: probes, and pages that hold nothing of a model."""
    return path in _OPEN or path.startswith("/page/")


def make_routes(
    repository: Repository, config: ServerConfig, own: metrics.Metrics, predictor: Predictor, ready: Callable[[], bool]
) -> list[BaseRoute]:
    """Returns the routes of an application.

    Args:
        repository: What is loaded.
        config: Limits of the page.
        own: What is counted.
        predictor: Answers requests for predictions.
        ready: Whether every model answers, and will for a while.
    """

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", 503)

    async def own_metrics(request: Request) -> Response:
        return Response(own.render(), media_type=metrics.CONTENT_TYPE)

    async def tensorflow_metrics(request: Request) -> Response:
        return Response(own.render_tensorflow(), media_type=metrics.CONTENT_TYPE)

    async def openapi(request: Request) -> Response:
        return _json(docs_page.read_openapi())

    async def docs(request: Request) -> Response:
        return Response(docs_page.render_docs(), media_type="text/html; charset=utf-8")

    site = {
        "healthz": healthz,
        "readyz": readyz,
        "metrics": own_metrics,
        "tensorflowMetrics": tensorflow_metrics,
        "openapi": openapi,
        "docs": docs,
    }
    return [
        *bind(site | _kserve_handlers(repository, predictor, ready)),
        *page_routes(repository, config.explain_words, config.text_characters, config.request_seconds),
    ]


def _kserve_handlers(repository: Repository, predictor: Predictor, is_ready: Callable[[], bool]) -> dict[str, Handler]:
    async def server(request: Request) -> Response:
        about = {"name": "newsdesk", "version": installed_version("newsdesk"), "extensions": []}
        return _json(orjson.dumps(about))

    async def live(request: Request) -> Response:
        return _json(orjson.dumps({"live": True}))

    async def ready(request: Request) -> Response:
        return _json(orjson.dumps({"ready": is_ready()}), 200 if is_ready() else 503)

    async def model_ready(request: Request) -> Response:
        target = _target(request)
        statuses = repository.status(target.model, target.version)
        available = any(status.state.name == "AVAILABLE" for status in statuses)
        return _json(orjson.dumps({"name": target.model, "ready": available}), 200 if available else 503)

    async def metadata(request: Request) -> Response:
        target = _target(request)
        loaded = [each.number for each in repository.versions() if each.model == target.model]
        with repository.use(target.model, target.version) as version:
            signature = version.loaded.signatures[features.SERVING_SIGNATURE]
            return _json(kserve.render_model_metadata(version.model, loaded, signature))

    async def infer(request: Request) -> Response:
        exchange = request.scope[EXCHANGE]
        status, content, headers = await predictor.infer(exchange, request.receive, _target(request))
        response = _json(content, status)
        response.raw_headers += headers
        return response

    return {
        "v2Server": server,
        "v2Live": live,
        "v2Ready": ready,
        "v2Metadata": metadata,
        "v2ModelReady": model_ready,
        "v2Infer": infer,
    }


def _target(request: Request) -> Target:
    given = request.path_params.get("version")
    return Target(request.path_params["model"], None if given is None else parse_version(given), None, "predict")


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, {"x-content-type-options": "nosniff"}, media_type="application/json")
