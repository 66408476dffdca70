"""The files of the page for people, held in memory: no path comes from a request."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.endpoints import Handler, bind

_PAGE = "index.html"
_FILES = {
    _PAGE: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline, and no text that becomes markup (trusted types).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
PROTECTION = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers that go with every one of them."""


def file_routes() -> list[Route]:
    """Returns ``/`` and ``/page/<name>``, which a browser may keep and asks about again."""
    beside = [Route(f"/page/{name}", _serve(name)) for name in _FILES if name != _PAGE]
    return [*bind({"page": _serve(_PAGE)}), *beside]


def _serve(name: str) -> Handler:
    body = (Path(__file__).parent / name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache", **PROTECTION}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=_FILES[name])

    return serve
