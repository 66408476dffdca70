"""Asks a server over TensorFlow Serving's REST API: ours or TensorFlow Serving itself.

with Client("http://127.0.0.1:8501") as client:
    client.predict(["Central bank raises rates"])[0].label
"""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote, urlsplit

import orjson
import requests
from requests.auth import AuthBase

from components.errors import BadInputError
from serving.client.replies import (
    odd_reply,
    parse_json,
    read_columns,
    read_message,
    read_names,
    read_tensors,
    reason_of,
    retry_after,
)
from serving.client.retry import PassingError, Retry
from serving.errors import Code, RequestError
from serving.model.class_names import make_predictions
from serving.model.loaded import Prediction
from serving.model.signatures import Signature
from serving.repository.states import State, VersionStatus

REQUEST_ROWS = 256
REQUEST_BYTES = 1_000_000
"""What a server takes at once by default; more texts go in several requests."""
_PASSING = (429, 503, 504)
# One code for each status: of several that share 409 or 500 the last, which is the usual one.
_CODES = {code.status: code for code in Code} | {400: Code.INVALID_ARGUMENT}


class Client:
    """A server of models. Not for two threads at once; close it, or use it in a ``with`` statement."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 10.0,
        retries: int = 4,
        classes: Sequence[str] | None = None,
        retry: Retry | None = None,
    ):
        """Connects to nothing yet.

        Args:
            url: Such as ``http://127.0.0.1:8501``; what stands before ``/v1`` where the API is below a path.
            token: Bearer token; it stands in no message and no ``repr``.
            timeout: Seconds to connect, and seconds between two bytes of a reply.
            retries: How often a request is repeated that finds no connection or is answered 429, 503 or 504.
            classes: Names in label-id order, for a server that does not say them; see ``predict``.
            retry: All that ``retries`` says and more.

        Raises:
            BadInputError: The URL is none, or the token cannot be sent.
        """
        self.url = _check_url(url)
        self._timeout = timeout
        self._classes = classes
        self._retry = retry or Retry(retries)
        self._session = requests.Session()
        # Without one of its own, requests takes a password from ~/.netrc and sends that.
        self._session.auth = _Bearer(token)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Closes its connections."""
        self._session.close()

    def predict(
        self, texts: Sequence[str], model: str = "ag_news", version: int | None = None, label: str | None = None
    ) -> list[Prediction]:
        """Classifies texts, in several requests where they are many; a swap between two may change the version.

        ``probabilities`` go by the names that the client was made with, else by those that our server sends in a
        header. TensorFlow Serving sends none: there the classes that a reply names have a name, and any other goes by
        its number.

        Args:
            texts: Any number.
            model: Model name.
            version, label: At most one, to ask for a version by number or label.

        Raises:
            RequestError: The server refused, or was not there however often it was asked; texts before that one were
                answered for nothing.
        """
        if isinstance(texts, str):
            raise TypeError("predict takes a list of texts, not one text")
        path = f"{_path(model, version, label)}:predict"
        found: list[Prediction] = []
        for body, rows in _bodies(texts):
            part = texts[len(found) : len(found) + rows]
            response = self._ask("POST", path, body)
            found += make_predictions(part, *read_columns(parse_json(response)), self._classes or read_names(response))
        return found

    def status(
        self, model: str = "ag_news", version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        """Returns the state of a model's versions, as the server orders them. Errors are those of ``predict``."""
        reply = parse_json(self._ask("GET", _path(model, version, label)))
        try:
            return [
                VersionStatus(
                    int(item["version"]),
                    State[item["state"]],
                    Code[item["status"]["error_code"]],
                    item["status"]["error_message"],
                )
                for item in reply["model_version_status"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise odd_reply("no status of versions") from error

    def metadata(
        self, model: str = "ag_news", version: int | None = None, label: str | None = None
    ) -> Mapping[str, Signature]:
        """Returns a version's signatures by name. Errors are those of ``predict``."""
        reply = parse_json(self._ask("GET", f"{_path(model, version, label)}/metadata"))
        try:
            signatures = reply["metadata"]["signature_def"]["signature_def"]
            return {
                name: Signature(read_tensors(item["inputs"]), read_tensors(item["outputs"]), item["method_name"])
                for name, item in signatures.items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise odd_reply("no signatures") from error

    def _ask(self, method: str, path: str, body: bytes | None = None) -> requests.Response:
        return self._retry.call(lambda: self._attempt(method, path, body))

    def _attempt(self, method: str, path: str, body: bytes | None) -> requests.Response:
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            # A token is for the server that was named, not for one that it points to.
            response = self._session.request(
                method, self.url + path, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise PassingError(Code.UNAVAILABLE, f"{self.url} cannot be reached: {reason_of(error)}") from error
        except requests.Timeout as error:
            message = f"{self.url} did not answer within {self._timeout:g} s"
            raise RequestError(Code.DEADLINE_EXCEEDED, message) from error
        except requests.RequestException as error:
            raise RequestError(Code.INTERNAL, f"{self.url} broke off its reply: {reason_of(error)}") from error
        if response.status_code == 200:
            return response
        code = _CODES.get(response.status_code, Code.UNKNOWN)
        kind = PassingError if response.status_code in _PASSING else RequestError
        raise kind(code, read_message(response), retry_after(response.headers.get("Retry-After")))


class _Bearer(AuthBase):
    def __init__(self, token: str | None):
        if token is not None and not (token.isascii() and token.isprintable() and token and " " not in token):
            raise BadInputError("the token is empty or has characters that a header cannot carry: check how it was set")
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadInputError(f"{url!r} is no address of a server: give one such as http://127.0.0.1:8501")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise BadInputError("the address of a server has no password, query or fragment: give a token for access")
    return url.rstrip("/")


def _path(model: str, version: int | None, label: str | None) -> str:
    if version is not None and label is not None:
        raise ValueError(f"version {version} and label {label!r} were both given: ask for one of them")
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        return f"{path}/versions/{version:d}"
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"


def _bodies(texts: Sequence[str]) -> Iterator[tuple[bytes, int]]:
    """Yields the bodies of requests, each with its number of texts."""
    held: list[bytes] = []
    size = 0
    for number, text in enumerate(texts):
        try:
            item = orjson.dumps(text)
        except TypeError as error:
            message = f"text {number + 1} is no text that UTF-8 can carry: replace its lone surrogates"
            raise RequestError(Code.INVALID_ARGUMENT, message) from error
        if held and (len(held) == REQUEST_ROWS or size + len(item) > REQUEST_BYTES):
            yield b'{"instances":[' + b",".join(held) + b"]}", len(held)
            held, size = [], 0
        held.append(item)
        size += len(item) + 1
    if held:
        yield b'{"instances":[' + b",".join(held) + b"]}", len(held)
