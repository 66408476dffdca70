"""Data that arrive day by day: which ``span-YYYYMMDD`` directories are whole, and which of them a run reads.

A span holds ``train.csv`` and ``test.csv``, plain or with ``.gz``. Whoever writes it puts an empty file ``_SUCCESS``
there last; without one, a span counts as whole once nothing in it has changed for the settle time.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.errors import BadInputError, check_address
from components.example_gen.source import (
    TEST_FILE,
    TRAIN_FILE,
    Source,
    combine,
    digest_file,
    find_source,
    is_remote,
    read_classes,
)
from components.example_gen.window import PREFIX, Window, span_name
from components.file_names import CLASSES_FILE

MARKER = "_SUCCESS"
EMPTY, HALF_WRITTEN, DAMAGED, DUPLICATED, LATE, CHANGED, MISNAMED, REFUSED = (
    "empty", "half-written", "damaged", "duplicated", "late", "changed", "misnamed", "refused",
)  # fmt: skip
_SHOWN = 3

Files = dict[str, float | None]
"""Name of a file to when it was written, in seconds since 1970; None where the file system does not tell."""


@dataclass(frozen=True)
class Span:
    """The data of one day; ``digests`` are the SHA-256 of what the two files hold when unpacked."""

    name: str
    train: str
    test: str
    digests: tuple[bytes, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 in hex of the content, whatever the names and the compression."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """A span that is not read; ``reason`` is a clause, and ``kind`` one of the constants of this module."""

    name: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} left out, {self.kind}: {self.reason}"


@dataclass(frozen=True)
class Spans:
    """What a directory holds: ``whole`` spans, which may be read, and the others; both oldest first."""

    directory: str
    whole: tuple[Span, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Known:
    """What was there before: the newest span of the last accepted run, and the digest of every span ever whole."""

    newest: str
    seen: Mapping[str, str]


def list_spans(directory: Path | str) -> dict[str, Files]:
    """Returns the files of each directory whose name begins like a span's; ``""`` stands for the directory itself.

    Args:
        directory: Of all spans: a path, or text for any of Beam's file systems.

    Raises:
        BadInputError: It cannot be read.
    """
    if is_remote(directory):
        return _list_remote(str(directory))
    found: dict[str, Files] = {}
    try:
        for entry in os.scandir(directory):
            if entry.name.startswith(PREFIX) and entry.is_dir():
                found[entry.name] = {"": entry.stat().st_mtime}
                for file in os.scandir(entry.path):
                    # A writer may take its temporary file away meanwhile.
                    with contextlib.suppress(FileNotFoundError):
                        if file.is_file():
                            found[entry.name][file.name] = file.stat().st_mtime
    except OSError as error:
        raise BadInputError(f"{error.filename or directory} cannot be read: {error.strerror}") from error
    return found


def find_spans(
    directory: Path | str, settle_minutes: float, now: datetime, known: Known | None = None, take_late: bool = False
) -> Spans:
    """Returns the spans of a directory, and for each that must not be read the reason why.

    Args:
        directory: Of all spans: a path, or text for any of Beam's file systems. One that does not tell when a file
            was written, such as HDFS, needs the marker in every span.
        settle_minutes: Minutes without a change after which a span without marker is whole.
        now: The time, with its zone.
        known: What was there before; None where nothing is known, and then no span is late or changed.
        take_late: Whether late and changed spans are read all the same.

    Raises:
        BadInputError: The directory is missing or cannot be read, or a span has a ``classes.txt`` of its own.
    """
    whole: list[Span] = []
    left_out: list[LeftOut] = []
    for name, files in sorted(list_spans(directory).items()):
        found = _look(f"{directory}/{name}", name, files, settle_minutes, now)
        if isinstance(found, Span) and known and not take_late:
            found = _compare(found, known)
        if isinstance(found, Span):
            twin = next((span for span in whole if span.digest == found.digest), None)
            if twin:
                found = LeftOut(name, DUPLICATED, f"it holds the same as {twin.name}")
        if isinstance(found, Span):
            whole.append(found)
        else:
            left_out.append(found)
    return Spans(str(directory), tuple(whole), tuple(left_out))


def choose(spans: Spans, window: Window) -> list[Span]:
    """Returns the spans of a window, oldest first.

    Raises:
        BadInputError: There is none.
    """
    chosen = [span for span in spans.whole if not window.first or window.first <= span.name <= window.last]
    chosen = chosen if window.count is None else chosen[-window.count :]
    if not chosen:
        why = "; ".join(str(item) for item in spans.left_out[-_SHOWN:])
        raise BadInputError(
            f"{spans.directory} holds no whole span for the window {window} (data.spans)"
            + (f": {why}" if why else ": put train.csv and test.csv into span-YYYYMMDD, and _SUCCESS last")
        )
    return chosen


def holds_spans(directory: Path | str) -> bool:
    """Tells whether a directory is made of spans.

    Raises:
        BadInputError: It has files of its own beside them, or cannot be read.
    """
    if is_remote(directory):
        return bool(list_spans(directory))
    if not Path(directory).is_dir() or not list_spans(directory):
        return False
    own = [name for name in (TRAIN_FILE, TEST_FILE) for end in ("", ".gz") if Path(directory, name + end).exists()]
    if own:
        raise BadInputError(f"{directory} holds spans and {own[0]} too: move the file into a span of its own")
    return True


def make_source(spans: Spans, chosen: list[Span]) -> Source:
    """Returns what ExampleGen reads of some spans.

    Raises:
        BadInputError: The file ``classes.txt`` beside the spans is bad.
    """
    remote = is_remote(spans.directory)
    classes = read_classes(f"{spans.directory}/{CLASSES_FILE}")
    files = tuple((f"{span.name}/{span.train}", f"{span.name}/{span.test}") for span in chosen)
    return Source(
        spans.directory if remote else Path(spans.directory).resolve(),
        *files[-1],
        classes,
        combine(classes, [digest for span in chosen for digest in span.digests]),
        tuple(span.name for span in chosen),
        files,
        tuple(map(str, spans.left_out)),
    )


def open_data(directory: Path | str, window: str, settle_minutes: float, now: datetime) -> Source:
    """Returns the input files of a directory, whether it is made of spans or holds them itself.

    ``window`` is ``data.spans``; ``settle_minutes`` and ``now`` are as of ``find_spans``.

    Raises:
        BadInputError: As of ``find_source``, ``find_spans`` and ``choose``; or a window is asked for where there are
            no spans.
    """
    wanted = Window.parse(window)
    check_address("the address of the data", str(directory), "let the environment log in to the store")
    if not holds_spans(directory):
        if wanted != Window():
            raise BadInputError(
                f"{directory} holds no span-YYYYMMDD directory, so there is no window {wanted}: leave data.spans at all"
            )
        return find_source(Path(directory))
    spans = find_spans(directory, settle_minutes, now)
    return make_source(spans, choose(spans, wanted))


def describe(source: Source) -> list[str]:
    """Returns what the screen shows of the spans of a run: one line, and one for each that is left out."""
    if not source.spans:
        return []
    first, last = source.spans[0], source.spans[-1]
    read = first if first == last else f"{first} to {last}"
    return [f"spans {read}, {len(source.spans)} in all", *source.left_out]


def _list_remote(directory: str) -> dict[str, Files]:
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    try:
        (matched,) = FileSystems.match([f"{directory.rstrip('/')}/{PREFIX}*/*"])
    except (BeamIOError, ValueError) as error:
        raise BadInputError(f"{directory} cannot be listed: {' '.join(str(error).split())[:200]}") from error
    found: dict[str, Files] = {}
    for item in matched.metadata_list:
        *_, span, name = item.path.split("/")
        found.setdefault(span, {})[name] = item.last_updated_in_seconds or None
    return found


def _look(path: str, name: str, files: Files, settle_minutes: float, now: datetime) -> Span | LeftOut:
    if span_name(name) != name:
        return LeftOut(name, MISNAMED, "a span is called span-YYYYMMDD, after a day that exists")
    if CLASSES_FILE in files:
        raise BadInputError(f"{path} holds a {CLASSES_FILE}: put one beside the spans, for all of them")
    wait = _unsettled(files, settle_minutes, now)
    if wait:
        return LeftOut(name, HALF_WRITTEN, wait)
    train, test = (next((it for it in (want, f"{want}.gz") if it in files), None) for want in (TRAIN_FILE, TEST_FILE))
    if not train and not test:
        return LeftOut(name, EMPTY, f"it holds neither {TRAIN_FILE} nor {TEST_FILE}")
    if not train or not test:
        return LeftOut(name, HALF_WRITTEN, f"it holds {train or test} and no {TEST_FILE if train else TRAIN_FILE}")
    digests = []
    for file in (train, test):
        try:
            digest, filled = digest_file(f"{path}/{file}")
        except BadInputError as error:
            return LeftOut(name, DAMAGED, str(error))
        if not filled:
            return LeftOut(name, EMPTY, f"its {file} has no row")
        digests.append(digest)
    return Span(name, train, test, (digests[0], digests[1]))


def _unsettled(files: Files, settle_minutes: float, now: datetime) -> str | None:
    """Returns why a span may still be being written, or None."""
    written = [updated for name, updated in files.items() if name != MARKER]
    if any(updated is None for updated in written):
        return None if MARKER in files else f"no {MARKER}, and its file system does not tell when files were written"
    # A directory changes when its marker is written, so only what stands in it is held against the marker.
    content = [updated or 0 for name, updated in files.items() if name not in (MARKER, "")]
    if MARKER in files and max(content, default=0) <= (files[MARKER] or 0):
        return None
    minutes = (now.timestamp() - max(content or [updated or 0 for updated in written], default=0)) / 60
    if minutes >= settle_minutes:
        return None
    marker = f"it was written to after its {MARKER}" if MARKER in files else f"no {MARKER} yet"
    return f"{marker}, and its last change is {minutes:.0f} minutes old, of {settle_minutes:g} (data.settle_minutes)"


def _compare(span: Span, known: Known) -> Span | LeftOut:
    before = known.seen.get(span.name)
    if before is None and span.name < known.newest:
        return LeftOut(span.name, LATE, f"it came after {known.newest} was trained on (data.late_spans=take reads it)")
    if before is not None and before != span.digest:
        return LeftOut(span.name, CHANGED, "it is not what it was at an earlier look (data.late_spans=take reads it)")
    return span
