"""Decides, acts, remembers, and stops acting where acting fails."""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from components.errors import BadInputError
from components.example_gen.source import Source
from components.example_gen.spans import choose, find_spans, make_source
from components.example_gen.window import Window
from components.registry import APPROVED, Registry
from pipeline.retrain import history as outcomes
from pipeline.retrain.alerts import alert
from pipeline.retrain.circuit import Circuit, read_circuit
from pipeline.retrain.decision import Decision, decide
from pipeline.retrain.gathering import Feed, Gatherer
from pipeline.retrain.history import Attempt, History, Notes, append, one_at_a_time, read
from pipeline.retrain.policy import RetrainConfig

NO, REFUSED = "no", "refused"
_log = logging.getLogger("newsdesk.retrain")


@dataclass(frozen=True)
class Finished:
    """What came of a run. ``status`` is ``pushed``, ``rejected`` or ``failed``, as ``newsdesk run`` has it."""

    status: str
    exit_code: int
    reasons: tuple[str, ...] = ()
    model_version: str | None = None


class Run(Protocol):
    """Starts one pipeline run of some files and waits for it.

    ``champion`` is the serving version whose weights it begins with; None for new weights.
    """

    def __call__(self, source: Source, run_id: str, champion: str | None) -> Finished: ...


@dataclass(frozen=True)
class Outcome:
    """What one call of ``newsdesk retrain`` did.

    Attributes:
        status: ``no``, ``refused``, or what came of the run.
        exit_code: Of the command.
        reasons: In words.
        decision: None where none was made: the circuit is open, something could not be read, or a backfill.
        run_id: None without a run.
        model_version: What it pushed.
    """

    status: str
    exit_code: int
    reasons: tuple[str, ...]
    decision: Decision | None = None
    run_id: str | None = None
    model_version: str | None = None


class Retrainer:
    """Retrains one model in one workspace."""

    def __init__(
        self,
        name: str,
        directory: Path,
        feed: Feed,
        config: RetrainConfig,
        registry: Registry,
        work: str,
        cache: Path,
        run: Run,
        tell: Callable[[list[dict[str, Any]], list[Attempt]], object],
        environment: Mapping[str, str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        """Keeps what it works with.

        Args:
            name: Of the model.
            directory: Where decisions and outcomes are kept, ``<workspace>/retrain``.
            feed: Where data arrive.
            config: Reasons and limits.
            registry: Of the model.
            work: Digest of settings and code of a run.
            cache: Directory for the champion's answers.
            run: Starts a run.
            tell: Called with all decisions and attempts after each decision, for MLflow.
            environment: Environment variables; one of them may have a webhook's URL.
            clock: Returns the time, with its zone.
        """
        self.name = name
        self.directory = directory
        self.feed = feed
        self.config = config
        self.registry = registry
        self.history = History(directory)
        self.notes = Notes(directory)
        self.decisions = directory / "decisions.jsonl"
        self._gatherer = Gatherer(feed, config, registry, work, cache)
        self._run = run
        self._tell = tell
        self._environment = environment
        self._clock = clock

    def look(self) -> Decision:
        """Returns the decision as it would be now, and leaves no trace of it.

        Raises:
            BadInputError: The data cannot be read, or MLflow does not answer.
        """
        found = self._gatherer.gather(self._clock(), self.notes.read(), self.history.attempts())
        return decide(found.evidence, self.config)

    def once(self) -> Outcome:
        """Makes one decision and acts.

        Raises:
            BadInputError: Another retraining is at work.
        """
        with one_at_a_time(self.directory):
            self._bury()
            try:
                return self._once()
            finally:
                self._tell(read(self.decisions), self.history.attempts())

    def backfill(self, days: str) -> list[Outcome]:
        """Runs the window of every whole span between two days, oldest first, without asking any policy.

        Spans that were late are read. A window that a run has come to a verdict on is not run again. It ends with a
        run that fails, and with the circuit.

        Args:
            days: ``FROM..TO``.

        Raises:
            BadInputError: ``days`` is not that, it holds no whole span, ``data.spans`` is a range of its own, or
                another retraining is at work.
        """
        between, window = Window.parse(days), Window.parse(self.feed.window)
        if not between.first:
            raise BadInputError(f"--backfill takes FROM..TO with days as YYYYMMDD, not {days!r}")
        if window.first:
            raise BadInputError(f"a backfill needs data.spans to be all or last N, not {window}: each day has its own")
        done: list[Outcome] = []
        with one_at_a_time(self.directory):
            self._bury()
            spans = find_spans(self.feed.directory, self.feed.settle_minutes, self._clock(), take_late=True)
            for last in choose(spans, between):
                if circuit := self._open_circuit():
                    return [*done, Outcome(outcomes.FAILED, 2, (_closed(circuit),))]
                until = [span for span in spans.whole if span.name <= last.name]
                chosen = until if window.count is None else until[-window.count :]
                source, digests = make_source(spans, chosen), {span.name: span.digest for span in chosen}
                work = self._gatherer.work_of(source)
                if any(item.work == work and item.status in outcomes.VERDICTS for item in self.history.attempts()):
                    _log.info("the window up to %s has been run already", last.name)
                    continue
                done.append(self._act(source, digests, work, None, None))
                if done[-1].status == outcomes.FAILED:
                    break
        return done

    def reset(self) -> None:
        """Closes the circuit."""
        self.history.reset(self._clock())

    def _once(self) -> Outcome:
        now = self._clock()
        if circuit := self._open_circuit():
            reasons = (_closed(circuit),)
            self._write(now, None, reasons, None)
            return Outcome(outcomes.FAILED, 2, reasons)
        try:
            found = self._gatherer.gather(now, self.notes.read(), self.history.attempts())
        except BadInputError as error:
            reasons = (str(error),)
            self._fail(_new_id(now), outcomes.UNREAD, reasons)
            self._write(now, None, reasons, None)
            return Outcome(outcomes.FAILED, 2, reasons)
        if any(attempt.status == outcomes.UNREAD for attempt in self.history.attempts()[-1:]):
            self.history.end(_new_id(now), now, outcomes.DECIDED)
        decision = decide(found.evidence, self.config)
        run_id = _new_id(now) if decision.retrain else None
        # Before anything is done about it: a kill from here on leaves a decision that can be read.
        self._write(now, decision, decision.reasons, run_id)
        self.notes.write(seen=found.seen, refused=found.refused)
        for span, broken in found.evidence.refused.items():
            self._alert("span_refused", f"{span} of {self.feed.directory} is refused: {'; '.join(broken)}", span=span)
        if not decision.retrain or found.source is None:
            status, code = (REFUSED, 3) if decision.refused else (NO, 0)
            return Outcome(status, code, decision.reasons, decision)
        champion = found.evidence.champion
        return self._act(
            found.source, found.digests, found.work, decision, champion.serving_version if champion else None, run_id
        )

    def _act(
        self,
        source: Source,
        digests: Mapping[str, str],
        work: str,
        decision: Decision | None,
        champion: str | None,
        run_id: str | None = None,
    ) -> Outcome:
        run_id = run_id or _new_id(self._clock())
        self.history.start(run_id, self._clock(), digests, work)
        try:
            done = self._run(source, run_id, champion if self.config.warm_start else None)
        except BadInputError as error:
            done = Finished(outcomes.FAILED, 2, (str(error),))
        except Exception as error:
            self._fail(run_id, outcomes.FAILED, (f"{error}" or type(error).__name__,))
            raise
        except BaseException:
            # Ended from outside: no fault of the run's.
            self.history.end(run_id, self._clock(), outcomes.STOPPED)
            raise
        if done.status == outcomes.PUSHED:
            self.history.end(run_id, self._clock(), outcomes.PUSHED)
        else:
            self._fail(run_id, done.status, done.reasons)
        return Outcome(done.status, done.exit_code, done.reasons, decision, run_id, done.model_version)

    def _fail(self, run_id: str, status: str, reasons: tuple[str, ...]) -> None:
        now = self._clock()
        self.history.end(run_id, now, status, reasons)
        circuit = self._circuit(now)
        if circuit.open:
            self._alert("circuit_open", f"retraining of {self.name} is off: the circuit is {circuit}", run=run_id)

    def _bury(self) -> None:
        """Gives an outcome to runs that were killed; whoever calls holds the lock, so none of them lives."""
        left = [attempt for attempt in self.history.attempts() if attempt.status == outcomes.STARTED]
        if not left:
            return
        try:
            versions = self.registry.versions()
        except BadInputError as error:
            _log.warning("what became of run %s is not known yet: %s", left[-1].run_id, error)
            return
        # A run may have promoted its model and been killed before it could say so.
        served = {item.tags.get("run") for item in versions if item.status == APPROVED}
        for attempt in left:
            if attempt.run_id in served:
                self.history.end(attempt.run_id, self._clock(), outcomes.PUSHED)
            else:
                _log.warning("run %s was killed; the next one goes on where it stopped", attempt.run_id)
                self._fail(attempt.run_id, outcomes.KILLED, (f"run {attempt.run_id} was killed",))

    def _open_circuit(self) -> Circuit | None:
        circuit = self._circuit(self._clock())
        return circuit if circuit.open else None

    def _circuit(self, now: datetime) -> Circuit:
        attempts = self.history.since_reset()
        return read_circuit(attempts, self.config.failures, self.config.cool_down_hours, now)

    def _write(self, now: datetime, decision: Decision | None, reasons: tuple[str, ...], run_id: str | None) -> None:
        line = {"retrain": False, "refused": False, "reasons": list(reasons), "votes": [], "evidence": None}
        line |= decision.to_dict() if decision else {}
        head = {"id": f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", "moment": now.isoformat(), "run_id": run_id}
        append(self.decisions, {**head, **line, "circuit": str(self._circuit(now))})

    def _alert(self, event: str, text: str, **facts: str) -> None:
        alert(
            self._environment,
            self.config.webhook_env,
            self.config.webhook_seconds,
            event,
            {"text": text, "model": self.name, "moment": self._clock().isoformat(), **facts},
        )


def _new_id(now: datetime) -> str:
    """Returns a run id as ``newsdesk run`` makes them; that module brings TFX, which a decision does not need."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _closed(circuit: Circuit) -> str:
    return f"the circuit is {circuit}; mend that, then newsdesk retrain --reset"
