"""The models in memory and the state of each version, for threads that answer and threads that load.

Each method takes the lock for a few dictionary look-ups, and never while a disk or a model is at work.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serving.model.loaded import Model
from serving.repository.states import State, VersionStatus
from serving.repository.versions import (
    Failure,
    Held,
    ModelVersions,
    Version,
    no_versions,
    unknown_label,
    unknown_servable,
)

_IN_MEMORY = (State.LOADING, State.AVAILABLE, State.UNLOADING)


class Catalogue:
    """What is served, to be asked by requests and changed by those who load."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, ModelVersions] = {}

    @contextmanager
    def use(self, model: str, version: int | None = None, label: str | None = None) -> Iterator[Version]:
        """Gives a version to a request, and keeps it in memory until the request is done with it.

        Args:
            model: Name.
            version: Its number.
            label: A label instead; with neither, the champion answers, or without one the highest version.

        Raises:
            RequestError: Nothing of that name is available, in the words of TensorFlow Serving.
        """
        with self._lock:
            if model not in self._models:
                raise unknown_servable(model, version) if label is None else unknown_label(label)
            held = self._models[model].find(version, label)
            held.users += 1
            serving = held.version
        try:
            # Available, and so there.
            assert serving is not None
            yield serving
        finally:
            with self._lock:
                held.users -= 1

    def status(self, model: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """Returns the states of a model's versions, highest first, or of the one that is asked for.

        Raises:
            RequestError: There is none of that name, in the words of TensorFlow Serving.
        """
        with self._lock:
            if model in self._models:
                return self._models[model].statuses(version, label)
        raise no_versions(model) if label is None else unknown_label(label)

    def models(self) -> list[str]:
        """Returns the names of the models that are to be served."""
        with self._lock:
            return sorted(name for name, model in self._models.items() if not model.dropped)

    def labels(self, model: str) -> dict[str, int]:
        """Returns version by label, of labels that point at an available version; none for an unknown model."""
        with self._lock:
            return dict(self._models[model].labels) if model in self._models else {}

    def versions(self) -> list[Version]:
        """Returns what is available, of all models."""
        with self._lock:
            held = [held for model in self._models.values() for held in model.held()]
            return [item.version for item in held if item.version and item.state is State.AVAILABLE]

    @property
    def ready(self) -> bool:
        """Whether there is a model, and every one of them answers a request that names no version."""
        with self._lock:
            models = [model for model in self._models.values() if not model.dropped]
            return bool(models) and all(model.ready for model in models)

    def want(self, wanted: Mapping[str, tuple[Mapping[int, Path], Mapping[str, int]]]) -> list[Held]:
        """Says which models are to be served from now on.

        Args:
            wanted: By name, the directories of the versions by number, and where labels belong.

        Returns:
            The wanted versions that could not be loaded.
        """
        with self._lock:
            for name, (versions, labels) in wanted.items():
                self._models.setdefault(name, ModelVersions(name)).want(versions, labels)
            for name in self._models.keys() - wanted.keys():
                self._models[name].drop()
            return [held for model in self._models.values() for held in model.failed()]

    def retry(self, held: Held) -> None:
        """Puts a failed version back in the line."""
        with self._lock:
            held.state, held.failure, held.files = State.START, None, ()

    def begin_next(self) -> tuple[str, Held] | None:
        """Returns the version that is to be loaded next, now ``LOADING``, with the name of its model."""
        with self._lock:
            for name, model in self._models.items():
                held = model.begin_next()
                if held:
                    return name, held
        return None

    def succeed(self, name: str, held: Held, loaded: Model) -> None:
        """Says that a version is loaded and warm."""
        with self._lock:
            held.version = Version(name, held.number, loaded, frozenset())
            held.state = State.AVAILABLE

    def fail(self, held: Held, failure: Failure) -> None:
        """Says that a version could not be loaded."""
        with self._lock:
            held.state, held.failure, held.files = State.END, failure, failure.files

    def settle(self, moved: Callable[[str, str, int | None], None]) -> list[tuple[str, int]]:
        """Moves labels, and retires and lets go of what nobody wants and nobody uses; see ``ModelVersions.settle``.

        Args:
            moved: Told of each label that is elsewhere now, after it is: model, label, and version or None.

        Returns:
            Model and number of each version that was let go of.
        """
        with self._lock:
            before = self._all_labels()
            freed = [(name, held.number) for name, model in self._models.items() for held in model.settle()]
            after = self._all_labels()
        for name, label in sorted(before.keys() | after.keys()):
            if before.get((name, label)) != after.get((name, label)):
                moved(name, label, after.get((name, label)))
        return freed

    def held_by_base(self) -> dict[Path, set[int]]:
        """Returns the numbers of the versions that are in memory or on their way, by the base they are read from."""
        found: dict[Path, set[int]] = {}
        with self._lock:
            for held in (held for model in self._models.values() for held in model.held()):
                if held.state in _IN_MEMORY:
                    found.setdefault(held.directory.parent, set()).add(held.number)
        return found

    def _all_labels(self) -> dict[tuple[str, str], int]:
        return {(name, label): at for name, model in self._models.items() for label, at in model.labels.items()}
