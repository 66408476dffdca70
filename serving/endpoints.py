"""The table of endpoints, from which both Starlette's routes and the OpenAPI document come.

Paths below ``/v1/`` are in the table for the document only. ``serving.protocol.targets`` reads them as TensorFlow
Serving does: upper and lower case are the same, and a query is a part of the path.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]

TENSORFLOW, KSERVE = "TensorFlow Serving", "Open Inference Protocol"
PROBES, PAGES = "Probes and metrics", "Pages"
# Errors of an endpoint that looks a model up, uses a version, refuses a body, or runs the model.
_LOOK = (400, 404, 500)
_USE = (*_LOOK, 503)
_REFUSE = (*_USE, 413, 429)
_ASK = (*_REFUSE, 504)


class Reply(NamedTuple):
    """An answer that is no error.

    Attributes:
        description: For people.
        content: Name of the schema of a JSON body, the media type of another body, or None for no body.
    """

    description: str
    content: str | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    Attributes:
        method: In capitals.
        path: As Starlette and OpenAPI write it.
        handler: Name of the function that answers, see ``bind``; below ``/v1/`` the action, as
            ``serving.protocol.targets`` has it.
        tag: Section of the document.
        summary: What is asked for, in a few words.
        replies: Status to reply; none for what is always refused.
        errors: Statuses of refusals, beside 403 for the Host header and 401 for the token.
        body: Name of the schema of the request's body, if it has one.
        description: What the summary does not say.
        operation: Id in the document.
        open: Whether no token is asked for.
        quiet: Whether machines ask every few seconds: logged only when the answer is not 200.
    """

    method: str
    path: str
    handler: str
    tag: str
    summary: str
    replies: Mapping[int, Reply]
    errors: tuple[int, ...] = ()
    body: str | None = None
    description: str = ""
    operation: str = ""
    open: bool = False
    quiet: bool = False


class _Scope(NamedTuple):
    path: str
    operation: str
    summary: str
    asked: str


_SCOPES = (
    _Scope("", "", "", "the champion, or the newest version where there is none"),
    _Scope("/versions/{version}", "Version", ", by version", "this version"),
    _Scope("/labels/{label}", "Label", ", by label", "the version with this label"),
)

_V1, _V2 = "/v1/models/{model}{scope}", "/v2/models/{model}{scope}"
_STATES = "Their states. A version that is not `AVAILABLE` is listed as well, so that this is no probe for readiness."
_NEVER = "Always refused: a pushed model has no signature for it. Ask for `:predict`."
_MICROSECONDS = "In Prometheus's text format, under TensorFlow Serving's names; latencies are in microseconds."
_HTML = Reply("HTML.", "text/html")
# A path with {scope} stands for two or three, and {asked} for the version that each of them asks.
_TABLE = (
    Endpoint("POST", f"{_V1}:predict", "predict", TENSORFLOW, "Classify texts",
             {200: Reply("One answer per text.", "PredictReply")}, _ASK, "PredictRequest",
             "Asks {asked}. The Content-Type is not looked at."),
    Endpoint("GET", _V1, "status", TENSORFLOW, "State of the versions", {200: Reply(_STATES, "ModelStatus")}, _LOOK),
    Endpoint("GET", f"{_V1}/metadata", "metadata", TENSORFLOW, "Signatures",
             {200: Reply("The signatures of {asked}.", "ModelMetadata")}, _USE),
    Endpoint("POST", f"{_V1}:classify", "classify", TENSORFLOW, "Classify tf.Examples",
             {}, _REFUSE, "ExamplesRequest", _NEVER),
    Endpoint("POST", f"{_V1}:regress", "regress", TENSORFLOW, "Regress tf.Examples",
             {}, _REFUSE, "ExamplesRequest", _NEVER),

    Endpoint("GET", "/v2", "v2Server", KSERVE, "What the server is", {200: Reply("Name and version.", "V2Server")}),
    Endpoint("GET", "/v2/health/live", "v2Live", KSERVE, "Whether the process lives",
             {200: Reply("It does.", "V2Live")}, open=True, quiet=True),
    Endpoint("GET", "/v2/health/ready", "v2Ready", KSERVE, "Whether every model answers",
             {200: Reply("They do.", "V2Ready"),
              503: Reply("One of them does not yet, or the server is shutting down.", "V2NotReady")},
             open=True, quiet=True),
    Endpoint("GET", _V2, "v2Metadata", KSERVE, "Inputs and outputs",
             {200: Reply("Of the default signature.", "V2ModelMetadata")}, _USE),
    Endpoint("GET", f"{_V2}/ready", "v2ModelReady", KSERVE, "Whether the model answers",
             {200: Reply("It does.", "V2ModelReady"), 503: Reply("It does not.", "V2ModelNotReady")}, (400, 404)),
    Endpoint("POST", f"{_V2}/infer", "v2Infer", KSERVE, "Classify texts",
             {200: Reply("The outputs that were asked for.", "V2InferReply")}, _ASK, "V2InferRequest",
             "Asks {asked}."),

    Endpoint("GET", "/healthz", "healthz", PROBES, "Whether the process lives",
             {200: Reply("It does.", "text/plain")}, open=True, quiet=True),
    Endpoint("GET", "/readyz", "readyz", PROBES, "Whether every model has a version that answers",
             {200: Reply("It has.", "text/plain"),
              503: Reply("It has not, or the server is shutting down.", "text/plain")},
             open=True, quiet=True),
    Endpoint("GET", "/metrics", "metrics", PROBES, "The server's own metrics",
             {200: Reply("In Prometheus's text format, in base units.", "text/plain")}, quiet=True),
    Endpoint("GET", "/monitoring/prometheus/metrics", "tensorflowMetrics", PROBES, "The metrics of TensorFlow Serving",
             {200: Reply(_MICROSECONDS, "text/plain")}, quiet=True),

    Endpoint("GET", "/explain", "explainChoices", PAGES, "What can be explained",
             {200: Reply("The loaded versions of every model.", "ExplainChoices")}, (500,)),
    Endpoint("POST", "/explain", "explain", PAGES, "Classify one text and weigh its words",
             {200: Reply("The answer, and what each of the first words adds to it.", "ExplainReply")},
             _ASK, "ExplainRequest",
             "Every word is left out in turn and the model asked again; one text is explained at a time."),
    Endpoint("GET", "/", "page", PAGES, "The page for people",
             {200: _HTML, 304: Reply("The browser's copy is still good.", None)}, open=True),
    Endpoint("GET", "/docs", "docs", PAGES, "This page", {200: _HTML}, open=True),
    Endpoint("GET", "/openapi.json", "openapi", PAGES, "This description for machines",
             {200: Reply("OpenAPI 3.1.", "Description")}, open=True),
)  # fmt: skip


def _expand(endpoint: Endpoint) -> Iterator[Endpoint]:
    # KServe knows no labels.
    most = 1 if "{scope}" not in endpoint.path else 2 if endpoint.tag == KSERVE else 3
    for scope in _SCOPES[:most]:
        yield replace(
            endpoint,
            path=endpoint.path.replace("{scope}", scope.path),
            operation=endpoint.handler + scope.operation,
            summary=endpoint.summary + scope.summary,
            description=endpoint.description.replace("{asked}", scope.asked),
            replies={
                status: Reply(reply.description.replace("{asked}", scope.asked), reply.content)
                for status, reply in endpoint.replies.items()
            },
        )


ENDPOINTS = tuple(each for row in _TABLE for each in _expand(row))
"""All endpoints, in the order of the document. The page's style sheet, script and icon are not part of the API."""


def bind(handlers: Mapping[str, Handler]) -> list[Route]:
    """Returns the routes of these handlers.

    Args:
        handlers: By their names in the table.

    Raises:
        ValueError: The table does not name a handler.
    """
    routes = []
    for name, handler in handlers.items():
        found = [each for each in ENDPOINTS if each.handler == name]
        if not found:
            raise ValueError(f"no endpoint has the handler {name!r}: name it in serving.endpoints")
        routes += [Route(each.path, handler, methods=[each.method]) for each in found]
    return routes
