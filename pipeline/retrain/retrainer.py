"""Decides, acts, remembers, and stops acting where acting fails."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from components.clean import to_json
from components.errors import BadInputError
from components.example_gen.source import Source
from components.example_gen.spans import choose, find_spans, make_source
from components.example_gen.window import Window
from components.files import append_line
from components.outcomes import Outcome, Standing
from components.registry.tracking import open_runs
from pipeline.retrain.alerts import alert
from pipeline.retrain.circuit import Circuit, read_circuit
from pipeline.retrain.decision import Decision, decide
from pipeline.retrain.gathering import Gatherer
from pipeline.retrain.history import VERDICTS, Attempt, History, Notes, one_at_a_time, read
from pipeline.run.record import RunResult, explain, new_run_id

_TOLD = ("id", "moment", "retrain", "reasons", "circuit")
_log = logging.getLogger("newsdesk.retrain")


class Run(Protocol):
    """Starts one pipeline run of some files and waits for it.

    ``champion`` is the serving version whose weights it begins with; None for new weights.
    """

    def __call__(self, source: Source, run_id: str, champion: str | None) -> RunResult: ...


@dataclass(frozen=True)
class Done:
    """What one call of ``newsdesk retrain`` did.

    Attributes:
        outcome: Of the decision, and of the run where there was one.
        reasons: In words.
        decision: None where none was made: the circuit is open, something could not be read, or a backfill.
        run_id: None without a run.
        model_version: What it pushed.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    decision: Decision | None = None
    run_id: str | None = None
    model_version: str | None = None


@dataclass
class Retrainer:
    """Retrains one model in one workspace.

    Attributes:
        name: Of the model.
        directory: Where decisions and outcomes are kept, ``<workspace>/retrain``.
        gatherer: Of the evidence.
        run: Starts a run.
        tell: Called with all decisions and attempts after each decision, for MLflow.
        environment: Environment variables; one of them may have a webhook's URL.
        clock: Returns the time, with its zone.
    """

    name: str
    directory: Path
    gatherer: Gatherer
    run: Run
    tell: Callable[[list[dict[str, Any]], list[Attempt]], object]
    environment: Mapping[str, str]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        self.config = self.gatherer.config
        self.history = History(self.directory)
        self.notes = Notes(self.directory)
        self.decisions = self.directory / "decisions.jsonl"

    def look(self) -> Done:
        """Returns what would be decided now, and leaves no trace of it.

        Raises:
            BadInputError: The data cannot be read, or MLflow does not answer.
        """
        found = self.gatherer.gather(self.clock(), self.notes.read(), self.history.attempts())
        decision = decide(found.evidence, self.config)
        return Done(Outcome.YES if decision.retrain else _why_not(decision), decision.reasons, decision)

    def once(self) -> Done:
        """Makes one decision and acts.

        Raises:
            BadInputError: Another retraining is at work.
        """
        with one_at_a_time(self.directory):
            self._bury()
            try:
                return self._once()
            finally:
                self.tell(read(self.decisions, *_TOLD), self.history.attempts())

    def backfill(self, days: str) -> list[Done]:
        """Runs the window of every whole span between two days, oldest first, without asking any policy.

        Spans that were late are read. A window that a run has come to a verdict on is not run again. It ends with a
        run that fails, and with the circuit.

        Args:
            days: ``FROM..TO``.

        Raises:
            BadInputError: ``days`` is not that, it holds no whole span, ``data.spans`` is a range of its own, or
                another retraining is at work.
        """
        between, window = Window.parse(days), Window.parse(self.gatherer.data.spans)
        if not between.first:
            raise BadInputError(f"--backfill takes FROM..TO with days as YYYYMMDD, not {days!r}")
        if window.first:
            raise BadInputError(f"a backfill needs data.spans to be all or last N, not {window}: each day has its own")
        done: list[Done] = []
        with one_at_a_time(self.directory):
            self._bury()
            spans = find_spans(self.gatherer.directory, self.gatherer.data.settle_minutes, self.clock(), take_late=True)
            for last in choose(spans, between):
                if reasons := self._why_shut():
                    return [*done, Done(Outcome.BAD_INPUT, reasons)]
                until = [span for span in spans.whole if span.name <= last.name]
                chosen = until if window.count is None else until[-window.count :]
                source, digests = make_source(spans, chosen), {span.name: span.digest for span in chosen}
                work = self.gatherer.work_of(source)
                if any(item.work == work and item.outcome in VERDICTS for item in self.history.attempts()):
                    _log.info("the window up to %s has been run already", last.name)
                    continue
                done.append(self._act(source, digests, work, None, None))
                if done[-1].outcome in (Outcome.FAILED, Outcome.BAD_INPUT):
                    break
        return done

    def reset(self) -> None:
        """Closes the circuit."""
        self.history.reset(self.clock())

    def _once(self) -> Done:
        now = self.clock()
        if reasons := self._why_shut():
            self._write(now, None, reasons, None)
            return Done(Outcome.BAD_INPUT, reasons)
        try:
            found = self.gatherer.gather(now, self.notes.read(), self.history.attempts())
        except BadInputError as error:
            reasons = (str(error),)
            self._fail(new_run_id(now), Outcome.UNREAD, reasons)
            self._write(now, None, reasons, None)
            return Done(Outcome.BAD_INPUT, reasons)
        if any(attempt.outcome is Outcome.UNREAD for attempt in self.history.attempts()[-1:]):
            self.history.end(new_run_id(now), now, Outcome.DECIDED)
        decision = decide(found.evidence, self.config)
        run_id = new_run_id(now) if decision.retrain else None
        # Before anything is done about it: a kill from here on leaves a decision that can be read.
        self._write(now, decision, decision.reasons, run_id)
        self.notes.write(seen=found.seen, refused=found.refused)
        for span, broken in found.evidence.refused.items():
            said = f"{span} of {self.gatherer.directory} is refused: {'; '.join(broken)}"
            self._alert("span_refused", said, span=span)
        if not decision.retrain or found.source is None:
            return Done(_why_not(decision), decision.reasons, decision)
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
    ) -> Done:
        run_id = run_id or new_run_id(self.clock())
        self.history.start(run_id, self.clock(), digests, work)
        try:
            result = self.run(source, run_id, champion if self.config.warm_start else None)
        except BadInputError as error:
            outcome, reasons = explain(error)
            result = RunResult(outcome, run_id, reasons=reasons)
        except Exception as error:
            self._fail(run_id, *explain(error))
            raise
        except BaseException:
            # Ended from outside: no fault of the run's.
            self.history.end(run_id, self.clock(), Outcome.STOPPED)
            raise
        if result.outcome is Outcome.PUSHED:
            self.history.end(run_id, self.clock(), Outcome.PUSHED)
        else:
            self._fail(run_id, result.outcome, result.reasons)
        return Done(result.outcome, tuple(result.reasons), decision, run_id, result.model_version)

    def _fail(self, run_id: str, outcome: Outcome, reasons: Sequence[str]) -> None:
        now = self.clock()
        self.history.end(run_id, now, outcome, reasons)
        circuit = self._circuit(now)
        if circuit.open:
            self._alert("circuit_open", f"retraining of {self.name} is off: the circuit is {circuit}", run=run_id)

    def _bury(self) -> None:
        """Gives an outcome to runs that were killed; whoever calls holds the lock, so none of them lives."""
        left = [attempt for attempt in self.history.attempts() if attempt.outcome is Outcome.STARTED]
        if not left:
            return
        try:
            versions = self.gatherer.registry.versions()
            # A run may have promoted its model and been killed before it could say so. Its version is tagged before
            # the alias moves, so only the alias, or that it was taken back, shows that it has served.
            served = {item.tags.get("run") for item in versions if item.aliases or item.status == Standing.ROLLED_BACK}
            names = {attempt.run_id for attempt in left}
            open_runs(self.gatherer.registry.store, lambda run: run.name in names, close=True)
        except BadInputError as error:
            _log.warning("what became of run %s is not known yet: %s", left[-1].run_id, error)
            return
        for attempt in left:
            if attempt.run_id in served:
                self.history.end(attempt.run_id, self.clock(), Outcome.PUSHED)
            else:
                _log.warning("run %s was killed; the next one goes on where it stopped", attempt.run_id)
                self._fail(attempt.run_id, Outcome.KILLED, (f"run {attempt.run_id} was killed",))

    def _why_shut(self) -> tuple[str, ...]:
        """Returns why nothing is tried; empty where the circuit lets a run pass."""
        circuit = self._circuit(self.clock())
        return (f"the circuit is {circuit}; mend that, then newsdesk retrain --reset",) if circuit.open else ()

    def _circuit(self, now: datetime) -> Circuit:
        attempts = self.history.since_reset()
        return read_circuit(attempts, self.config.failures, self.config.cool_down_hours, now)

    def _write(self, now: datetime, decision: Decision | None, reasons: tuple[str, ...], run_id: str | None) -> None:
        line = {"retrain": False, "refused": False, "reasons": list(reasons), "votes": [], "evidence": None}
        line |= decision.to_dict() if decision else {}
        head = {"id": new_run_id(now), "moment": now.isoformat(), "run_id": run_id}
        append_line(self.decisions, to_json({**head, **line, "circuit": str(self._circuit(now))}))

    def _alert(self, event: str, text: str, **facts: str) -> None:
        alert(
            self.environment,
            self.config.webhook_env,
            self.config.webhook_seconds,
            event,
            {"text": text, "model": self.name, "moment": self.clock().isoformat(), **facts},
        )


def _why_not(decision: Decision) -> Outcome:
    return Outcome.REFUSED if decision.refused else Outcome.NO
