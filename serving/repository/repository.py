"""Brings the versions that are to be served into memory, and keeps them in step with the disk.

Two threads work beside those that answer: one looks at the disk every second, moves labels and retires versions; the
other loads what is new, one version at a time. So a label that moves between loaded versions waits for no load.
"""

import gc
import logging
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from components.errors import BadInputError
from serving.model.loaded import LoadedModel, Model, warm_up
from serving.repository.catalogue import Catalogue
from serving.repository.leases import Leases
from serving.repository.loading import fingerprint, judge, load_version
from serving.repository.models_source import ModelsSource, find_wanted
from serving.repository.versions import Held

_log = logging.getLogger("newsdesk.serving")


class Observer:
    """Is told what happens, from the repository's own threads; made to be subclassed."""

    def loaded(self, model: str, version: int, seconds: float) -> None:
        """A version was loaded and warmed, which took so long."""

    def load_failed(self, model: str, version: int, message: str) -> None:
        """A version could not be loaded."""


class Repository(Catalogue):
    """The models that are served, in step with a directory of which one process has one."""

    def __init__(
        self,
        serving: Path,
        load: Callable[[Path], Model] = LoadedModel,
        poll_seconds: float = 1.0,
        warm: Callable[[Model], None] = warm_up,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Reads nothing yet.

        Args:
            serving: Directory of models, with or without ``models.config``, or the base of one model.
            load: Makes a model of a directory whose files are as its manifest says.
            poll_seconds: Between two looks at the disk.
            warm: Asks a model what no live request should be the first to ask.
            observer: Is told what happens.
            clock: Seconds.
        """
        super().__init__()
        self._source = ModelsSource(serving)
        self._load = load
        self._warm = warm
        self._poll_seconds = poll_seconds
        self._observer = observer or Observer()
        self._clock = clock
        self._leases = Leases(clock)
        self._troubles: list[str] = []
        # Two threads write leases; without the lock, the older list could overwrite the newer.
        self._lease_lock = threading.Lock()
        self._unleased: list[str] = []
        self._stopped = threading.Event()
        self._work = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts to follow the disk; returns at once, before anything is loaded."""
        for name, run in (("newsdesk-poll", self._keep_following), ("newsdesk-load", self._keep_loading)):
            # A load cannot be interrupted, and a process that is told to end does not wait for it.
            self._threads.append(threading.Thread(target=run, name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stops to follow the disk and lets go of the leases; what is loaded goes on answering.

        Args:
            timeout_seconds: For which to wait for a load that is under way.
        """
        self._stopped.set()
        self._work.set()
        for thread in self._threads:
            thread.join(timeout_seconds)
        try:
            with self._lease_lock:
                self._leases.release()
        except OSError as error:
            _log.warning("a lease could not be removed (%s): gc counts it until this process has ended", error)

    def poll(self) -> None:
        """Looks at the disk once and loads everything that is new; for use without ``start``."""
        self._follow()
        while self._load_next():
            pass

    @property
    def troubles(self) -> list[str]:
        """What keeps the repository from following the disk, one sentence each."""
        return list(self._troubles)

    def _keep_following(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
            except Exception as error:
                # Whatever it is, the next look may do better, and meanwhile everything goes on as it is.
                self._tell([f"the model directory could not be followed: {type(error).__name__}: {error}"], error)
            self._work.set()
            self._stopped.wait(self._poll_seconds)

    def _keep_loading(self) -> None:
        while not self._stopped.is_set():
            try:
                found = self._load_next()
            except Exception:
                # What a model does wrong is its version's failure, see below; this is our own, and with the thread
                # every later version would be lost.
                _log.exception("loading went wrong: the next look at the disk goes on with what is left")
                found = False
            if not found:
                self._work.wait()
                self._work.clear()

    def _follow(self) -> None:
        configs, troubles = self._source.read()
        wanted = {name: find_wanted(config, troubles) for name, config in configs.items()}
        for held in self.want({name: (wanted[name], config.labels) for name, config in configs.items()}):
            if self._is_mended(held):
                self.retry(held)
        self._settle()
        self._renew_leases()
        with self._lease_lock:
            troubles += self._unleased
        self._tell(troubles)

    def _is_mended(self, held: Held) -> bool:
        files = fingerprint(held.directory)
        failure = held.failure
        assert failure is not None
        # A version whose files still change is being copied: wait until two looks agree.
        rests, held.files = files == held.files, files
        return (rests and files != failure.files) or (
            failure.retry_at is not None and self._clock() >= failure.retry_at
        )

    def _load_next(self) -> bool:
        """Loads the version that is next, if there is one, and says whether there was."""
        found = self.begin_next()
        if found is None:
            return False
        name, held = found
        started, files = self._clock(), fingerprint(held.directory)
        try:
            # Who deletes versions looks at leases last: what is found after this stays.
            self._renew_leases()
            loaded = load_version(held.directory, self._load, self._warm)
        except Exception as error:
            # A SavedModel may fail in any way: the status of its version tells how, and the others go on.
            failure = judge(error, files, self._clock())
            self.fail(held, failure)
            # As text: a record with the exception would keep alive what was loaded so far, as long as anyone keeps it.
            expected = isinstance(error, BadInputError | OSError | MemoryError)
            trace = "" if expected else "\n" + "".join(traceback.format_exception(error))
            _log.error("version %s of %s is not served: %s%s", held.number, name, failure.message, trace)
            self._observer.load_failed(name, held.number, failure.message)
        else:
            self.succeed(name, held, loaded)
            seconds = self._clock() - started
            _log.info("version %s of %s is loaded, in %.1f s", held.number, name, seconds)
            self._observer.loaded(name, held.number, seconds)
            # With this reference, _settle could not free a version that is no longer wanted.
            del loaded
        self._settle(failed=held.failure is not None)
        return True

    def _settle(self, failed: bool = False) -> None:
        freed = self.settle(_log_move)
        for name, number in freed:
            _log.info("version %s of %s is unloaded", number, name)
        if freed or failed:
            # A SavedModel in memory is full of cycles: its weights would stay until Python collects by itself.
            gc.collect()

    def _renew_leases(self) -> None:
        with self._lease_lock:
            if self._stopped.is_set():
                return
            holding = self.held_by_base()
            self._unleased = []
            for base in sorted(holding.keys() | set(self._leases.bases)):
                try:
                    self._leases.hold(base, holding.get(base, ()))
                except OSError as error:
                    self._unleased.append(
                        f"{base} takes no lease ({error.strerror}): nothing keeps gc off what is loaded"
                    )

    def _tell(self, troubles: list[str], error: Exception | None = None) -> None:
        if troubles == self._troubles:
            return
        for trouble in troubles:
            if trouble not in self._troubles:
                _log.warning("%s", trouble, exc_info=error)
        if not troubles:
            _log.info("the model directory is followed again")
        self._troubles = troubles


def _log_move(model: str, label: str, version: int | None) -> None:
    _log.info("label %s of %s is at version %s", label, model, "none" if version is None else version)
