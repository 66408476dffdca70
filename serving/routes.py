"""What is beside TensorFlow Serving's own paths: probes, metrics, the description of the API, KServe's protocol."""

from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from components import features
from serving import docs_page, metrics, protocol_v2
from serving.exchange import Exchange
from serving.page_routes import page_routes
from serving.targets import Target, parse_version

if TYPE_CHECKING:
    from serving.app import App

QUIET = ("/healthz", "/readyz", "/metrics", "/monitoring/prometheus/metrics", "/v2/health/live", "/v2/health/ready")
"""Asked every few seconds by machines: logged only when the answer is not 200."""
_OPEN = {"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}


def is_open(path: str) -> bool:
    """Returns whether a path needs no token: probes, and pages that hold nothing of a model."""
    return path in _OPEN or path.startswith("/page/")


def make_routes(app: "App") -> list[BaseRoute]:
    """Returns the routes of an application."""

    async def healthz(request: Request) -> Response:
        return _text(b"ok\n")

    async def readyz(request: Request) -> Response:
        return _text(b"ready\n") if app.ready else _text(b"not ready\n", 503)

    async def own_metrics(request: Request) -> Response:
        return Response(app.metrics.render(), media_type=metrics.CONTENT_TYPE)

    async def tensorflow_metrics(request: Request) -> Response:
        return Response(app.metrics.render_tensorflow(), media_type=metrics.CONTENT_TYPE)

    async def openapi(request: Request) -> Response:
        return _json(docs_page.read_openapi())

    async def docs(request: Request) -> Response:
        return Response(docs_page.render_docs(), media_type="text/html; charset=utf-8")

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", own_metrics),
        Route("/monitoring/prometheus/metrics", tensorflow_metrics),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
        *_kserve_routes(app),
        *page_routes(app.repository, app.config.explain_words, app.config.text_characters, app.config.request_seconds),
    ]


def _kserve_routes(app: "App") -> list[BaseRoute]:
    repository = app.repository

    async def server(request: Request) -> Response:
        return _json(protocol_v2.render_server(installed_version("newsdesk")))

    async def live(request: Request) -> Response:
        return _json(protocol_v2.render_live())

    async def ready(request: Request) -> Response:
        return _json(protocol_v2.render_ready(app.ready), 200 if app.ready else 503)

    async def model_ready(request: Request) -> Response:
        target = _target(request)
        statuses = repository.status(target.model, target.version)
        available = any(status.state.name == "AVAILABLE" for status in statuses)
        return _json(protocol_v2.render_model_ready(target.model, available), 200 if available else 503)

    async def metadata(request: Request) -> Response:
        target = _target(request)
        loaded = [each.number for each in repository.versions() if each.model == target.model]
        with repository.use(target.model, target.version) as version:
            signature = version.loaded.signatures[features.SERVING_SIGNATURE]
            return _json(protocol_v2.render_model_metadata(version.model, loaded, signature))

    async def infer(request: Request) -> Response:
        target = _target(request)

        def begin(exchange: Exchange, body: bytes) -> None:
            app.predictor.infer(exchange, target, body)

        status, content, headers = await app.ask(request.scope, request.receive, request.url.path, begin)
        response = _json(content, status)
        response.raw_headers += headers
        return response

    model = "/v2/models/{model}"
    both = (model, f"{model}/versions/{{version}}")
    return [
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        *(Route(path, metadata) for path in both),
        *(Route(f"{path}/ready", model_ready) for path in both),
        *(Route(f"{path}/infer", infer, methods=["POST"]) for path in both),
    ]


def _target(request: Request) -> Target:
    given = request.path_params.get("version")
    return Target(request.path_params["model"], None if given is None else parse_version(given), None, "predict")


def _text(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="text/plain; charset=utf-8")


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, {"x-content-type-options": "nosniff"}, media_type="application/json")
