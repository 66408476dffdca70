"""Who may ask, and how much of a request is read."""

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving.config import ServerConfig
from serving.errors import Code, RequestError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/?#]+)(?::\d{1,5})?")
# A client can send any number of names, so only this many accepted Host headers are remembered.
_MOST_REMEMBERED = 100


class Gate:
    """Checks the Host header and the bearer token.

    A page on another site can make a browser ask a server on this machine, under a name of its own that resolves to
    127.0.0.1; what gives it away is the Host header. A server that listens on loopback answers to the names of loopback
    only; one that listens on a single address, to that and to loopback's; one that listens on all, to any.
    """

    def __init__(self, config: ServerConfig, token: str | None):
        """Takes the names and the token to let pass; None asks for none."""
        names = {name.lower() for name in (*_LOOPBACK, config.host.strip("[]"), *config.allowed_hosts)}
        self._any = "*" in names or is_wildcard(config.host)
        self._names = names
        self._passed: set[bytes] = set()
        self._token = None if token is None else b"Bearer " + token.encode()

    def check_host(self, host: bytes | None) -> None:
        """Lets a Host header pass, or its absence, which no browser leaves it at.

        Raises:
            RequestError: The name is not this server's.
        """
        if self._any or host is None or host in self._passed:
            return
        match = _HOST.fullmatch(host)
        if match is None or match[1].strip(b"[]").decode("latin-1").lower() not in self._names:
            raise RequestError(
                Code.PERMISSION_DENIED,
                "this server does not answer to that Host: ask by its address, or set allowed_hosts",
            )
        if len(self._passed) < _MOST_REMEMBERED:
            self._passed.add(host)

    def check_token(self, authorization: bytes | None) -> None:
        """Lets an Authorization header pass, in a time that does not tell how much of it is right.

        Raises:
            RequestError: The token is missing or wrong.
        """
        if self._token is None:
            return
        scheme, _, token = (authorization or b"").partition(b" ")
        given = b"Bearer " + token.strip() if scheme.lower() == b"bearer" else b""
        if not hmac.compare_digest(given, self._token):
            raise RequestError(Code.UNAUTHENTICATED, "a bearer token is needed: send it as Authorization: Bearer TOKEN")


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches a host to listen on."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_wildcard(host: str) -> bool:
    """Returns whether a host to listen on means every address of the machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


async def read_body(receive: Receive, most: int, declared: bytes | None = None) -> bytes:
    """Returns the body of an ASGI request, which is read no further than the limit.

    Args:
        receive: ASGI's.
        most: Bytes.
        declared: The Content-Length header.

    Raises:
        RequestError: It is longer, or the client has gone.
    """
    if declared is not None and declared.isdigit() and int(declared[:20]) > most:
        raise _too_large(most)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(Code.CANCELLED, "the client has gone")
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        if not message.get("more_body"):
            return bytes(body)


def _too_large(most: int) -> RequestError:
    return RequestError(Code.TOO_LARGE, f"the request's body is longer than {most} bytes: send fewer texts at a time")
