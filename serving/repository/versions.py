"""The versions of one model: the state of each, which are wanted, and which one answers a request.

Nothing here reads a disk, waits, or is thread-safe: ``serving.repository.repository`` sees to that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from serving.errors import Code, RequestError
from serving.model.loaded import Model
from serving.repository.states import State, VersionStatus

CHAMPION = "champion"
Fingerprint = tuple[str, ...]
"""Differs when a file has changed."""
# Of those that are neither loaded nor wanted; a server that runs for years remembers so many.
_MOST_ENDED = 50


@dataclass(frozen=True, eq=False)
class Version:
    """A version that answers.

    Attributes:
        model: Name of its model.
        number: Its number.
        loaded: The model itself.
        labels: Those that point at it.
    """

    model: str
    number: int
    loaded: Model
    labels: frozenset[str]


@dataclass(frozen=True)
class Failure:
    """Why a version could not be loaded.

    Attributes:
        code: Canonical code.
        message: For people.
        files: Fingerprint of its files when they were read.
        retry_at: When to try again though its files are the same, by the repository's clock; None for never.
    """

    code: Code
    message: str
    files: Fingerprint
    retry_at: float | None = None


@dataclass(eq=False)
class Held:
    """One version in any state.

    Attributes:
        number: Its number.
        directory: Where it stands.
        state: As TensorFlow Serving names it.
        version: What answers; None unless ``AVAILABLE``, or ``UNLOADING`` while requests are in flight.
        users: The number of requests in flight.
        failure: Why it ended; None for one that did well.
        files: Fingerprint of a failed version's files when they were last looked at.
    """

    number: int
    directory: Path
    state: State = State.START
    version: Version | None = None
    users: int = 0
    failure: Failure | None = None
    files: Fingerprint = ()

    @property
    def status(self) -> VersionStatus:
        """As status requests tell it."""
        if self.failure:
            return VersionStatus(self.number, self.state, self.failure.code, self.failure.message)
        return VersionStatus(self.number, self.state, Code.OK, "")


class ModelVersions:
    """All versions of one model that are or were wanted.

    Attributes:
        name: Name of the model.
        labels: Version by label, for labels whose version has been available when they moved there.
        wanted: Directory by number, of the versions that are to be served.
        dropped: Whether the model is no longer to be served.
    """

    def __init__(self, name: str):
        self.name = name
        self.labels: dict[str, int] = {}
        self.dropped = False
        self.wanted: dict[int, Path] = {}
        self._wanted_labels: dict[str, int] = {}
        self._held: dict[int, Held] = {}
        self._default: Held | None = None

    @property
    def ready(self) -> bool:
        """Whether a request without version and label is answered."""
        return self._default is not None

    def held(self) -> list[Held]:
        """Returns all versions, highest first."""
        return [self._held[number] for number in sorted(self._held, reverse=True)]

    def want(self, versions: Mapping[int, Path], labels: Mapping[str, int]) -> None:
        """Says which versions are to be served from now on, each with its directory, and where labels belong."""
        self.dropped = False
        self.wanted = dict(versions)
        self._wanted_labels = dict(labels)
        for number, directory in versions.items():
            held = self._held.get(number)
            # What is in memory is not read again, wherever it would be read from now.
            ended = held is not None and held.state is State.END and not held.failure
            moved = held is not None and held.state in (State.START, State.END) and held.directory != directory
            if held is None or ended or moved:
                self._held[number] = Held(number, directory)

    def drop(self) -> None:
        """Says that the model is not to be served any more."""
        self.dropped = True
        self.wanted = {}
        self._wanted_labels = {}

    def failed(self) -> list[Held]:
        """Returns the wanted versions that could not be loaded."""
        return [held for held in self.held() if held.failure and held.number in self.wanted]

    def begin_next(self) -> Held | None:
        """Returns the wanted version that is to be loaded next, now ``LOADING``; None if there is none.

        The champion comes first, then what has another label, then the highest.
        """
        waiting = [held for held in self._held.values() if held.state is State.START and held.number in self.wanted]
        if not waiting:
            return None
        champion, labelled = self._wanted_labels.get(CHAMPION), set(self._wanted_labels.values())
        held = max(waiting, key=lambda held: (held.number == champion, held.number in labelled, held.number))
        held.state = State.LOADING
        return held

    def settle(self) -> list[Held]:
        """Moves labels, retires versions that nobody wants, and lets go of those without requests in flight.

        A label moves when its new version is available and not before. A version is retired when no label points at
        it, everything that is wanted has been tried, and something of that is available; or when its model was dropped.
        So where nothing is wanted, as in a directory that was emptied, nothing is retired.

        Returns:
            The versions that were let go of.
        """
        available = {number: held for number, held in self._held.items() if held.state is State.AVAILABLE}
        labels = {}
        for label, target in self._wanted_labels.items():
            number = target if target in available else self.labels.get(label)
            if number in available:
                labels[label] = number
        self.labels = labels
        tried = all(self._held[number].state not in (State.START, State.LOADING) for number in self.wanted)
        if self.dropped or (tried and self.wanted.keys() & available.keys()):
            for number in available.keys() - self.wanted.keys() - set(labels.values()):
                available.pop(number).state = State.UNLOADING
        for number, held in available.items():
            pointing = frozenset(label for label, target in labels.items() if target == number)
            if held.version and held.version.labels != pointing:
                held.version = replace(held.version, labels=pointing)
        self._default = self._find_default(available)
        freed = [held for held in self._held.values() if held.state is State.UNLOADING and not held.users]
        for held in freed:
            held.version, held.state = None, State.END
        ended = [number for number in sorted(self._held) if self._held[number].state is State.END]
        for number in [number for number in ended if number not in self.wanted][:-_MOST_ENDED]:
            del self._held[number]
        return freed

    def find(self, version: int | None, label: str | None) -> Held:
        """Returns the version that answers a request; with neither number nor label the champion, or the highest.

        Raises:
            RequestError: There is none, in the words of TensorFlow Serving.
        """
        number = version if label is None else self._resolve(label)
        held = self._default if number is None else self._held.get(number)
        if held is None or held.state is not State.AVAILABLE:
            raise unknown_servable(self.name, number)
        return held

    def statuses(self, version: int | None, label: str | None) -> list[VersionStatus]:
        """Returns the state of one version, or with neither number nor label of all, highest first.

        Raises:
            RequestError: There is none, in the words of TensorFlow Serving.
        """
        number = version if label is None else self._resolve(label)
        if number is None:
            if not self._held:
                raise no_versions(self.name)
            return [held.status for held in self.held()]
        if number not in self._held:
            raise RequestError(Code.NOT_FOUND, f"Could not find version {number} of model {self.name}")
        return [self._held[number].status]

    def _resolve(self, label: str) -> int:
        # A label whose first version is still being loaded is known, and its version not found.
        number = self.labels.get(label, self._wanted_labels.get(label))
        if number is None:
            raise unknown_label(label)
        return number

    def _find_default(self, available: Mapping[int, Held]) -> Held | None:
        # Where there is a champion, nobody meets a challenger unasked, whatever its number.
        if CHAMPION in self._wanted_labels:
            return available.get(self.labels.get(CHAMPION, -1))
        return available[max(available)] if available else None


def unknown_servable(name: str, version: int | None) -> RequestError:
    """Returns the refusal of a request for a model, or a version of it, that is not available."""
    asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return RequestError(Code.NOT_FOUND, f"Servable not found for request: {asked}")


def no_versions(name: str) -> RequestError:
    """Returns the refusal of a status request for an unknown model."""
    return RequestError(Code.NOT_FOUND, f"Could not find any versions of model {name}")


def unknown_label(label: str) -> RequestError:
    """Returns the refusal of a request for a label that nobody configured."""
    return RequestError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
