"""Downloads: resumed where they stopped, kept only if the checksum is right, credentials in the URL never shown."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from components.addresses import shown
from components.errors import BadInputError
from components.files import sha256_of

if TYPE_CHECKING:
    import requests

ADVICE = "check the network or the proxy and try again"
MOST_BYTES = 8 << 30
_BLOCK = 1 << 18
_TIMEOUT = (10, 60)

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes there will be, where the server says so."""


def download(
    url: str,
    target: Path,
    sha256: str | None,
    *,
    query: Mapping[str, str] | None = None,
    most_bytes: int = MOST_BYTES,
    advice: str = ADVICE,
    advice_on_mismatch: str = "try again or another source",
    progress: Progress | None = None,
) -> str:
    """Brings one file to its place, whole or not at all.

    Args:
        url: Where from. A user and password in it are sent, but never shown.
        target: Where to; its directory is made if missing. A download in progress is kept in ``<name>.part``
            and resumed, unless there is no checksum: nothing would notice two halves of different files.
        sha256: What the file must have, 64 hex digits in lower case; None takes it as it comes.
        query: Added to the query string of ``url``.
        most_bytes: A larger file is not kept.
        advice: What to do, for the error where the server cannot be reached or refuses.
        advice_on_mismatch: The same for a wrong checksum.
        progress: Told how far it is.

    Returns:
        SHA-256 of the file.

    Raises:
        BadInputError: The server cannot be reached or refuses, the file is too large, or its checksum is wrong;
            a wrong or too large file is deleted.
        OSError: The directory cannot be written to; see ``disk_errors``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    if sha256 is None:
        part.unlink(missing_ok=True)
    have = part.stat().st_size if part.exists() else 0
    # A compressed answer would count the range in compressed bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _get(url, headers, query, advice) as response:
        # A range that starts at the end of the file is refused: the part is complete.
        if not (have and response.status_code == 416):
            response.raise_for_status()
            resumed = response.status_code == 206
            have = have if resumed else 0
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else None
            with part.open("ab" if resumed else "wb") as out:
                for block in response.iter_content(_BLOCK):
                    out.write(block)
                    have += len(block)
                    if have > most_bytes:
                        break
                    if progress:
                        progress(have, total)
    if have > most_bytes:
        part.unlink()
        raise BadInputError(f"{shown(url)} has more than {most_bytes:,} bytes: nothing was kept; try another source")
    found = sha256_of(part)
    if sha256 is not None and found != sha256:
        part.unlink()
        raise BadInputError(f"{shown(url)} has SHA-256 {found}, not {sha256}: nothing was kept; {advice_on_mismatch}")
    os.replace(part, target)
    return found


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turns an ``OSError`` inside into one sentence that names the directory.

    Raises:
        BadInputError: Instead of any ``OSError``.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInputError(f"{directory} cannot be used ({why}): name another directory with --cache") from error


def is_whole(path: Path, sha256: str) -> bool:
    """Returns whether a file is there and has the checksum."""
    return path.exists() and sha256_of(path) == sha256


@contextmanager
def _get(
    url: str, headers: Mapping[str, str], query: Mapping[str, str] | None, advice: str
) -> Iterator["requests.Response"]:
    import requests

    def refused(error: Exception) -> BadInputError:
        answer = getattr(error, "response", None)
        why = f"HTTP status {answer.status_code}" if answer is not None else type(error).__name__
        return BadInputError(f"{shown(url)} cannot be fetched ({why}): {advice}")

    try:
        # Without them in the URL, no message and no log of a library can carry the credentials.
        bare, login = _without_login(url)
        response = requests.get(
            bare,
            params=query,
            headers=headers,
            auth=login and requests.auth.HTTPBasicAuth(*login),
            stream=True,
            timeout=_TIMEOUT,
        )
    except (OSError, ValueError) as error:
        raise refused(error) from error
    with response:
        try:
            yield response
        except requests.RequestException as error:
            raise refused(error) from error


def _without_login(url: str) -> tuple[str, tuple[bytes, bytes] | None]:
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    bare = urlunsplit(parts._replace(netloc=host))
    return bare, (unquote(user).encode(), unquote(password).encode()) if at else None
