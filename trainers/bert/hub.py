"""Brings the model that a TF-Hub or Kaggle handle stands for into the cache."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from components.download import Progress, disk_errors, download, shown
from components.errors import BadInputError
from components.model_graph import check_model_graph
from trainers.bert.archives import extract_tar
from trainers.bert.lock import Say, alone

_FORMAT, _COMPRESSED = "tf-hub-format", "compressed"


def is_handle(encoder: str) -> bool:
    """Returns whether this is the URL of a model, not a name or a directory."""
    return encoder.startswith(("https://", "http://"))


def fetch_handle(
    handle: str,
    cache: Path,
    environment: Mapping[str, str],
    say: Say = lambda _: None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Brings the SavedModel of a TF-Hub or Kaggle handle; one that is in a cache needs no network.

    Looked for in TF-Hub's own cache, ``<TFHUB_CACHE_DIR>/<SHA-1 of the handle>``, and in
    ``<cache>/encoders/hub/<SHA-1 of the handle>``, with the SHA-256 of its archive beside it in ``<...>.sha256``.
    That pins it: another archive under the same handle is refused until ``sha256`` names it.

    Args:
        handle: URL.
        cache: Directory of all downloads.
        environment: Environment variables; ``TFHUB_CACHE_DIR`` is read.
        say: Called with one line per step.
        sha256: What the archive must have, 64 hex digits; a model unpacked from another is replaced, and TF-Hub's
            cache, which keeps no checksum, is passed over.
        progress: Told how far the download is.

    Returns:
        Directory of the SavedModel, checked with ``check_model_graph``.

    Raises:
        BadInputError: Not a URL, the server cannot be reached or refuses, the checksum is wrong, the archive or
            the SavedModel in it is unsafe or damaged, or the cache cannot be written to. Nothing wrong is kept.
    """
    if not is_handle(handle):
        raise BadInputError(f"{handle!r} is not a handle: it begins with https://")
    if sha256 is not None:
        sha256 = sha256.lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise BadInputError(f"--sha256 takes 64 hex digits, not {sha256!r}")
    key = hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
    theirs = environment.get("TFHUB_CACHE_DIR")
    if theirs and sha256 is None:
        found = Path(theirs).expanduser().absolute() / key
        with disk_errors(found.parent):
            if found.is_dir() and any(found.iterdir()):
                check_model_graph(found)
                say(f"{found} is there already, in TF-Hub's cache")
                return found
    target = cache.expanduser().absolute() / "encoders" / "hub" / key
    with disk_errors(target.parent):
        if not _has(target, sha256):
            with alone(target, say):
                # Another process may have been quicker.
                if not _has(target, sha256):
                    advice = (
                        "check the network or the proxy, or run newsdesk fetch encoder "
                        f"{shown(handle)} beforehand where there is one; it is looked for in "
                        f"{cache} (NEWSDESK_CACHE) and in {theirs or 'no other directory'} (TFHUB_CACHE_DIR)"
                    )
                    _fetch_archive(handle, target, sha256, advice, say, progress)
                    return target
        check_model_graph(target)
    say(f"{target} is there already")
    return target


def _has(target: Path, sha256: str | None) -> bool:
    return target.is_dir() and (sha256 is None or sha256 == _pinned(target))


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


def _fetch_archive(
    handle: str, target: Path, sha256: str | None, advice: str, say: Say, progress: Progress | None
) -> None:
    say(f"fetching {shown(handle)}")
    archive = target.with_name(f"{target.name}.tar.gz")
    asked = parse_qs(urlsplit(handle).query)
    found = download(
        handle,
        archive,
        sha256 or _pinned(target),
        query=None if _FORMAT in asked else {_FORMAT: _COMPRESSED},
        advice=advice,
        advice_on_mismatch="another source, or another archive than the first time; --sha256 names the right one",
        progress=progress,
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
    say(f"{target} fetched, its archive has SHA-256 {found}")
