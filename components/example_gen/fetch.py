"""Downloads the public AG News files: resumed where they stopped, kept only if the checksum is right."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.errors import BadInputError

BASE_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
_BLOCK = 1 << 18
_TIMEOUT = (10, 60)


@dataclass(frozen=True)
class RemoteFile:
    """A file and the SHA-256 it must have."""

    name: str
    sha256: str


FILES = (
    RemoteFile("train.csv", "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e"),
    RemoteFile("test.csv", "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"),
)


def fetch(
    directory: Path,
    base_url: str = BASE_URL,
    files: tuple[RemoteFile, ...] = FILES,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Brings files into a directory; those that are there and whole are left alone.

    Args:
        directory: Where to; made if missing. A download in progress is kept in ``<name>.part``.
        base_url: Where from.
        files: Names and checksums.
        say: Called with one line per file.

    Raises:
        BadInputError: The server cannot be reached or refuses, the directory cannot be written to, or a
            checksum is wrong; a wrong file is deleted.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in files:
            target = directory / file.name
            if target.exists() and _sha256(target) == file.sha256:
                say(f"{target} is there already")
                continue
            _download(f"{base_url}/{file.name}", target, file.sha256)
            say(f"{target} fetched, SHA-256 {file.sha256}")
    except OSError as error:
        raise BadInputError(
            f"{directory} cannot be written to ({error.strerror}): name another with --cache"
        ) from error


def _download(url: str, target: Path, sha256: str) -> None:
    import requests

    part = target.with_name(f"{target.name}.part")
    have = part.stat().st_size if part.exists() else 0
    # A compressed answer would count the range in compressed bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code != requests.codes.range_not_satisfiable:
                response.raise_for_status()
                resumed = response.status_code == requests.codes.partial_content
                with part.open("ab" if resumed else "wb") as out:
                    for block in response.iter_content(_BLOCK):
                        out.write(block)
    except requests.RequestException as error:
        raise BadInputError(
            f"{url} cannot be fetched ({_why(error)}): check the network or the proxy and run the command "
            f"again, it resumes; or put {target.name} into {target.parent} by hand"
        ) from error
    found = _sha256(part)
    if found != sha256:
        part.unlink()
        raise BadInputError(f"{url} has SHA-256 {found}, not {sha256}: nothing was kept; try again or another source")
    part.rename(target)


def _why(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"HTTP status {response.status_code}" if response is not None else type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
