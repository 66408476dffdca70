"""The page at ``/docs``, drawn from ``openapi.json`` with nothing from elsewhere."""

import base64
import hashlib
import json
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import orjson
from markupsafe import Markup

_PAGE = Path(__file__).parent
OPENAPI_FILE = _PAGE.parent / "openapi.json"
"""Written by ``tests/support/openapi_document.py``."""
_METHODS = ("get", "post")
_CODE = re.compile(r"`([^`]+)`")


@cache
def read_openapi() -> bytes:
    """Returns the description of the API, OpenAPI 3.1, as served at ``/openapi.json``."""
    return OPENAPI_FILE.read_bytes()


@cache
def render_docs() -> bytes:
    """Returns the page, HTML in UTF-8. Its Content-Security-Policy allows its own style sheet and nothing else."""
    api = orjson.loads(read_openapi())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "json": partial(json.dumps, ensure_ascii=False, indent=2),
        "prose": _prose,
        "slug": lambda text: re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-"),
    }
    css = (_PAGE / "docs.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    page = environment.get_template("docs.html").render(
        api=api,
        tags=[(tag, _operations(api, tag["name"])) for tag in api["tags"]],
        schemas=api["components"]["schemas"],
        css=Markup(css),  # noqa: S704  ours
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )
    return page.encode()


def _operations(api: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    found = []
    for path, item in api["paths"].items():
        for method in _METHODS:
            if method in item and tag in item[method]["tags"]:
                found.append(_describe(api, method, path, item))
    return found


def _describe(api: dict[str, Any], method: str, path: str, item: dict[str, Any]) -> dict[str, Any]:
    operation = item[method]
    body = operation.get("requestBody", {"content": {}})["content"].get("application/json", {})
    responses = {status: _resolve(api, response) for status, response in operation["responses"].items()}
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "parameters": [_resolve(api, each) for each in [*item.get("parameters", ()), *operation.get("parameters", ())]],
        "schema": _name(body["schema"]) if body else None,
        "examples": list(body.get("examples", {}).values()),
        "responses": [
            {"status": status, "description": response["description"], "schemas": _schemas(response)}
            for status, response in responses.items()
        ],
        "open": operation.get("security") == [],
    }


def _schemas(response: dict[str, Any]) -> list[str]:
    contents = response.get("content", {}).values()
    return [name for content in contents if (name := _name(content.get("schema", {})))]


def _resolve(api: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = api
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _name(schema: dict[str, Any]) -> str | None:
    return schema["$ref"].rsplit("/", 1)[-1] if "$ref" in schema else None


def _prose(text: str) -> Markup:
    """Sets what stands between backquotes as code; everything is escaped."""
    parts = _CODE.split(text)
    shown = [Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)]
    return Markup("").join(shown)
