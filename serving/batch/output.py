"""Where batch inference puts what it makes, and how it knows what is whole.

One file, when OUTPUT ends like one: its shards are kept in ``OUTPUT.shards`` until all are there, and
``OUTPUT.done.json`` stands beside it afterwards. A directory otherwise: ``part-00000-of-00012.csv`` and so on, their
markers in ``_done``, and ``_SUCCESS`` once all are there. Readers of directories pass over names with an underscore.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from components.errors import BadInputError
from components.files import locked
from components.tables.files import CSV, FORMATS, SUFFIXES, format_of, list_files, suffix_of
from components.tables.rows import Layout
from serving.batch.files import make_directory, read_json, remove, replaced, size_of
from serving.batch.write import header_of, join_parts

_PATTERN = "*?["


@dataclass(frozen=True)
class Output:
    """One OUTPUT.

    Attributes:
        path: Of the file or directory.
        target: Format.
        single: Whether it is one file.
    """

    path: str
    target: str
    single: bool

    @property
    def header(self) -> bool:
        """Whether every shard begins with the names of its columns."""
        return not self.single

    @property
    def delimiter(self) -> str:
        """What stands between the fields of delimited text, by the name of the file."""
        return "\t" if self.single and suffix_of(self.path) in (".tsv", ".txt") else ","

    @property
    def place(self) -> str:
        """Directory of the shards."""
        return f"{self.path}.shards" if self.single else self.path

    @property
    def temporary(self) -> str:
        """Directory of what is being written."""
        return f"{self.place}/_tmp"

    @property
    def quarantine(self) -> str:
        """Where malformed records are listed."""
        return f"{self.path}.quarantine.jsonl" if self.single else f"{self.path}/_quarantine.jsonl"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the output for one run: the shards of two would mix. An object store has no locks, and nothing to hold.

        Raises:
            BadInputError: Another run holds it, or there is no place for it.
        """
        if "://" in self.path:
            yield
            return
        lock = Path(f"{self.path}.lock")
        refusal = f"another run is writing {self.path}: wait until it is done, or name another output"
        with ExitStack() as stack:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(lock, lambda: refusal))
            except OSError as error:
                raise BadInputError(f"{self.path} cannot be written ({error.strerror}): name another output") from error
            # The lock file is deleted while it is held; a process that opened it meanwhile notices, and makes another.
            stack.callback(lock.unlink, missing_ok=True)
            yield

    def part(self, number: int, count: int) -> str:
        """Returns the path of a shard."""
        return f"{self.place}/{_part(number, count)}.{self.target}"

    def mark(self, number: int, count: int, values: Mapping[str, Any]) -> None:
        """Says that a shard is whole."""
        self._write(self._marker(number, count), values)

    def done(self, number: int, count: int, key: str) -> dict[str, Any] | None:
        """Returns what a shard's marker says, None if there is no such shard with that key, or not all of it."""
        found = read_json(self._marker(number, count))
        whole = found.get("key") == key and found.get("size") == size_of(self.part(number, count))
        return found if whole else None

    def finished(self, key: str) -> dict[str, Any] | None:
        """Returns what the marker of the whole output says, None if it is not whole or another one."""
        found = read_json(self._end)
        if found.get("key") != key:
            return None
        if self.single:
            return found if size_of(self.path) == found["size"] else None
        parts = [size_of(self.part(number, found["shards"])) for number in range(found["shards"])]
        return found if parts == found["size"] else None

    def check(self) -> None:
        """Refuses a place that holds what is not ours.

        Raises:
            BadInputError: There is a file or directory that no batch run wrote.
        """
        if any(char in self.path for char in _PATTERN):
            raise BadInputError(f"the output {self.path} has one of {_PATTERN} in its name: choose another")
        if size_of(self._begun) is not None or read_json(self._end) or list_files(f"{self.place}/_done/*.json"):
            return
        if self.single:
            found = [self.path] if size_of(self.path) is not None else []
        else:
            found = [file for file in list_files(f"{self.path}/**") if file[len(self.path) + 1] not in "_."]
        if found:
            raise BadInputError(f"{found[0]} is there already and no batch run wrote it: name another output")

    def check_input(self, files: Sequence[str]) -> None:
        """Refuses an output that is input too.

        Raises:
            BadInputError: It is.
        """
        for file in files:
            if file == self.path or file.startswith((f"{self.place}/", f"{self.path}/")):
                raise BadInputError(f"{file} is input and output: name another output, or a narrower input")

    def prepare(self, keys: Mapping[int, str]) -> None:
        """Makes the directory of shards, without those that a run on other input left there."""
        for directory in (self.place, self.temporary, f"{self.place}/_done"):
            make_directory(directory)
        # In this order, so that a run that is killed here is known for ours.
        self._write(self._begun, {})
        remove(self._end)
        wanted = {self._marker(number, len(keys)) for number in keys}
        for marker in list_files(f"{self.place}/_done/*.json"):
            if marker not in wanted:
                name = marker.rpartition("/")[2].removesuffix(".json")
                for target in FORMATS:
                    remove(f"{self.place}/{name}.{target}")
                remove(marker)

    def finish(self, key: str, values: Mapping[str, Any], layout: Layout, names: tuple[str, str], count: int) -> None:
        """Makes one file of the shards, if it is to be one, and says that all is whole."""
        parts = [self.part(number, count) for number in range(count)]
        size: Any = [size_of(part) for part in parts]
        if self.single:
            with ExitStack() as stack:
                file: IO[bytes] = stack.enter_context(replaced(self.path, self.temporary))
                if self.path.lower().endswith(".gz"):
                    # Without name and time, so that equal rows are equal bytes.
                    file = stack.enter_context(cast(IO[bytes], gzip.GzipFile("", "wb", fileobj=file, mtime=0)))
                layout = replace(layout, delimiter=self.delimiter)
                join_parts(self.target, parts, header_of(layout, names) if self.target == CSV else b"", file)
            size = size_of(self.path)
        self._write(self._end, {**values, "key": key, "shards": count, "size": size})
        for path in (self._begun, self.place if self.single else self.temporary):
            remove(path)

    @property
    def _begun(self) -> str:
        return f"{self.place}/_begun"

    @property
    def _end(self) -> str:
        return f"{self.path}.done.json" if self.single else f"{self.path}/_SUCCESS"

    def _marker(self, number: int, count: int) -> str:
        return f"{self.place}/_done/{_part(number, count)}.json"

    def _write(self, path: str, values: Mapping[str, Any]) -> None:
        with replaced(path, self.temporary) as file:
            file.write(json.dumps(values, sort_keys=True).encode())


def choose_output(path: str, source: str, target: str | None) -> Output:
    """Returns the output that a path and an option describe.

    Args:
        path: Of one file if it ends like one, else of a directory.
        source: Format of the input, for a directory.
        target: Format that the user asked for.

    Raises:
        BadInputError: The two contradict each other, or the path ends like a file of an unknown format.
    """
    single = format_of(path)
    if single is None:
        name = path.rstrip("/").rpartition("/")[2]
        if "." in name.lstrip(".") and not path.endswith("/"):
            raise BadInputError(
                f"the output {path} ends in no known format: {', '.join(SUFFIXES)} make one file, a name that ends "
                "in / a directory"
            )
        return Output(path.rstrip("/"), target or source, single=False)
    if target not in (None, single):
        raise BadInputError(f"the output {path} is {single} by its name, not {target}: drop --format, or name it so")
    return Output(path, single, single=True)


def _part(number: int, count: int) -> str:
    return f"part-{number:05}-of-{count:05}"
