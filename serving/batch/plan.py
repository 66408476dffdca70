"""What a batch run has to do: its files, read once from end to end, cut into shards; malformed records are listed."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import IO

from components.errors import BadInputError
from components.tables.files import JSON_LINES, digest_file, format_of, open_input
from components.tables.jsonl import note_kinds
from components.tables.rows import Asked, Layout, Malformed, Place
from components.tables.table import inspect, read_rows
from serving.batch.files import make_directory, remove, replaced
from serving.batch.output import Output
from serving.batch.write import check_conversion

_IN_MEMORY_BYTES = 1 << 20


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of one file, which become one file of output.

    Attributes:
        number: From 0.
        path: Input file.
        digest: SHA-256 of that file.
        place: Where its first record begins.
        rows: Usable ones, 1 or more.
    """

    number: int
    path: str
    digest: str
    place: Place
    rows: int


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        source: Format of the input.
        layout: Of all of them.
        shards: In the order of the input.
        malformed: Records that are left out.
    """

    source: str
    layout: Layout
    shards: tuple[Shard, ...]
    malformed: int

    @property
    def rows(self) -> int:
        """Usable rows."""
        return sum(shard.rows for shard in self.shards)


def make_plan(
    files: Sequence[str], asked: Asked, names: tuple[str, str], output: Output, shard_rows: int, budget: float
) -> Plan:
    """Reads the input, lists what is malformed as JSON lines (file, line, reason, hash), and returns the plan.

    Nothing else is written, and nothing at all where there is nothing to list.

    Args:
        files: Of the input, one or more of one format.
        asked: What the user says of the input.
        names: Of the columns that are added.
        output: Where it will go.
        shard_rows: Most usable rows in a shard.
        budget: Largest share of malformed records that is let pass, 0 to 1.

    Raises:
        BadInputError: The input cannot be used, or has a column that is called like one that is added; or too many
            records are malformed, or none is usable.
    """
    source = str(format_of(files[0]))
    layout = inspect(files, source, asked)
    check_conversion(source, output.target, layout, files[0])
    _check_names(layout.columns, names, files[0])
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as quarantine:
        plan = _cut(files, source, layout, shard_rows, quarantine)
        _check_names(plan.layout.columns, names, files[0])
        if plan.malformed:
            directory = output.quarantine.rpartition("/")[0]
            make_directory(directory)
            quarantine.seek(0)
            with replaced(output.quarantine, directory) as file:
                shutil.copyfileobj(quarantine, file)
        else:
            remove(output.quarantine)
    records = plan.rows + plan.malformed
    if plan.malformed > budget * records:
        raise BadInputError(
            f"{plan.malformed:,} of {records:,} records are malformed, more than the budget of {budget:.2%} "
            f"(--malformed-budget): see {output.quarantine} for line and reason of each"
        )
    if not plan.rows:
        raise BadInputError(f"{files[0]} holds no row to classify: is this the right file?")
    return plan


def _cut(files: Sequence[str], source: str, layout: Layout, shard_rows: int, quarantine: IO[bytes]) -> Plan:
    """Reads all files, writes what is malformed to the quarantine, and cuts the rest into shards."""
    kinds: dict[str, str] = {}
    shards: list[Shard] = []
    malformed = 0
    for path in files:
        digest = digest_file(path)
        start, rows, after = Place(), 0, Place()
        with open_input(path, layout.encoding) as file:
            for record, after in read_rows(file, path, source, layout, start, text_only=True):
                if isinstance(record, Malformed):
                    malformed += 1
                    entry = {"file": path, "line": record.line, "reason": record.reason, "sha256": record.digest}
                    quarantine.write(json.dumps(entry).encode() + b"\n")
                    continue
                if source == JSON_LINES:
                    note_kinds(record.values[1], kinds)
                rows += 1
                if rows == shard_rows:
                    shards.append(Shard(len(shards), path, digest, start, rows))
                    start, rows = after, 0
        if rows:
            shards.append(Shard(len(shards), path, digest, start, rows))
    if source == JSON_LINES:
        layout = replace(layout, columns=tuple(kinds), kinds=kinds)
    return Plan(source, layout, tuple(shards), malformed)


def key_of(*parts: object) -> str:
    """Returns one digest for plain values and plans of shards: what a finished output depends on."""
    plain = [asdict(part) if isinstance(part, Shard | Layout) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _check_names(columns: Sequence[str], names: Sequence[str], name: str) -> None:
    for added in names:
        if added in columns:
            raise BadInputError(
                f"{name} already has a column {added!r}: say what to put before the names of the new ones, such as "
                "--prefix predicted_"
            )
