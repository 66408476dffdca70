"""The OpenAPI 3.1 document, from the table of endpoints; run as a script, this writes ``serving/openapi.json`` anew."""

import json
import re
from typing import Any

from openapi_schemas import LIMITS, REPLIES, REQUESTS, SCHEMAS

from serving.endpoints import ENDPOINTS, KSERVE, PAGES, PROBES, TENSORFLOW, Endpoint, Reply
from serving.page.docs import OPENAPI_FILE

_ABOUT = (
    "Paths below `/v1/` are TensorFlow Serving's REST API, those below `/v2` KServe's Open Inference Protocol. "
    f"A request brings at most {LIMITS.instances} texts of {LIMITS.text_characters:,} characters in a body of "
    f"{LIMITS.body_bytes >> 20} MiB, nested at most {LIMITS.depth} deep and with at most {LIMITS.containers:,} arrays "
    "and objects, unless the server was started with other limits. Below `/v1/`, a wrong method is answered with 400, "
    "as TensorFlow Serving does."
)
_TAGS = {
    TENSORFLOW: "What a client of TensorFlow Serving asks, answered in the same shapes with the same codes.",
    KSERVE: "What a client of KServe asks.",
    PROBES: "What an orchestrator and Prometheus ask.",
    PAGES: "What a browser asks.",
}
_MODEL = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"}
_VERSION = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**63 - 1}
_LABEL = {"type": "string", "pattern": "^[a-zA-Z0-9_]+$"}
# What it is, its schema and an example.
_PARAMETERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "model": ("Name of a model. It is looked up, never made part of a file's path.", _MODEL, "ag_news"),
    "version": ("Number of a version.", _VERSION, 1),
    "label": ("`champion`, `challenger`, or another label of `models.config`.", _LABEL, "champion"),
}
_ERRORS = {
    400: (
        "Invalid",
        "The request says something it must not: a path or method that does not exist below `/v1/`, a body that is no "
        "such JSON, an unknown label or signature, a version above int64.",
    ),
    401: ("Unauthenticated", "A bearer token is asked for, and this is not it."),
    403: ("Forbidden", "The Host header is not one of the server's names."),
    404: ("NotFound", "There is no such model, or no such version of it."),
    413: ("TooLarge", f"The body is longer than {LIMITS.body_bytes >> 20} MiB."),
    429: ("TooMany", "The queue is full."),
    500: ("Failed", "The server or the model failed."),
    503: ("Unavailable", "The model is not loaded yet, or the server is shutting down."),
    504: ("Late", "No answer was ready in time."),
}
_BEARER = "A bearer token is asked for where the server was started with one."
_RETRY = "Seconds after which to try again."


def describe() -> dict[str, Any]:
    """Returns the document."""
    paths: dict[str, Any] = {}
    for each in ENDPOINTS:
        named = [_ref("parameters", name) for name in re.findall(r"\{(\w+)\}", each.path)]
        item = paths.setdefault(each.path, {"parameters": named} if named else {})
        item[each.method.lower()] = _operation(each)
    responses = {name: {"description": said, "content": _json("Error")} for name, said in _ERRORS.values()}
    seconds = {"description": _RETRY, "required": True, "schema": {"type": "integer", "minimum": 0}}
    responses["TooMany"]["headers"] = {"Retry-After": seconds}
    parameters = {
        name: {"name": name, "in": "path", "required": True, "description": said, "schema": schema, "example": example}
        for name, (said, schema, example) in _PARAMETERS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "newsdesk serving",
            "version": "1",
            "summary": "Classifies news texts with the models that the pipeline pushed.",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/", "description": "The server that this was read from."}],
        "security": [{}, {"bearer": []}],
        "tags": [{"name": name, "description": said} for name, said in _TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": _BEARER}},
            "parameters": parameters,
            "responses": responses,
            "schemas": SCHEMAS,
        },
    }


def render() -> bytes:
    """Returns the document as JSON, with a line for each path and each component."""
    return (_lay(describe(), 2) + "\n").encode()


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    refusals = {*endpoint.errors, 403} | (set() if endpoint.open else {401})
    responses = {status: _ref("responses", _ERRORS[status][0]) for status in refusals}
    responses |= {status: _reply(reply) for status, reply in endpoint.replies.items()}
    found: dict[str, Any] = {"operationId": endpoint.operation, "tags": [endpoint.tag], "summary": endpoint.summary}
    if endpoint.description:
        found["description"] = endpoint.description
    if endpoint.open:
        found["security"] = []
    if endpoint.body:
        examples = {
            re.sub(r"\W+", "_", title.lower()): {"summary": title, "value": value}
            for title, value in REQUESTS[endpoint.body].items()
        }
        found["requestBody"] = {"required": True, "content": _json(endpoint.body, examples=examples)}
    found["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return found


def _reply(reply: Reply) -> dict[str, Any]:
    if reply.content is None:
        return {"description": reply.description}
    if "/" in reply.content:
        return {"description": reply.description, "content": {reply.content: {"schema": {"type": "string"}}}}
    example = {"example": REPLIES[reply.content]} if reply.content in REPLIES else {}
    return {"description": reply.description, "content": _json(reply.content, **example)}


def _json(schema: str, **more: Any) -> dict[str, Any]:
    return {"application/json": {"schema": _ref("schemas", schema), **more}}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _lay(value: Any, levels: int, indent: str = "") -> str:
    if not levels or not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + "  "
    lines = (
        # Components are a level further down than paths.
        f"{inner}{json.dumps(key)}: {_lay(child, 2 if key == 'components' else levels - 1, inner)}"
        for key, child in value.items()
    )
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


if __name__ == "__main__":
    OPENAPI_FILE.write_bytes(render())
