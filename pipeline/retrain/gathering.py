"""Gathers the evidence for a decision: which spans there are, and how the champion stands towards the newest."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from components import features
from components.errors import BadInputError
from components.example_gen.source import Source, read_classes
from components.example_gen.spans import REFUSED, Known, LeftOut, Span, Spans, choose, find_spans, make_source
from components.example_gen.window import Window
from components.file_names import CLASSES_FILE, PROFILE_FILE
from components.gates.data.gate import DataGateConfig
from components.gates.data.profile import Profile, from_json
from components.outcomes import Outcome
from components.registry.registry import CHAMPION, RegisteredVersion, Registry
from pipeline.config.config import DataConfig
from pipeline.config.retrain import RetrainConfig
from pipeline.retrain.evidence import ChampionFacts, Evidence, NewestFacts
from pipeline.retrain.history import VERDICTS, Attempt
from pipeline.retrain.measure import judge, measure_drift, read_span, score

_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Gathered:
    """The evidence, what a run would read, and what the next decision must know.

    Attributes:
        source: None where there is no whole span.
        work: Digest of all that the model of that run would depend on.
        seen: Digest by name of the spans that were whole.
        refused: By digest, the spans that are refused; see ``Gatherer.gather``.
        digests: By name, of the spans of ``source``.
    """

    evidence: Evidence
    source: Source | None
    work: str
    seen: Mapping[str, str]
    refused: Mapping[str, Any]
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Champion:
    """The champion's facts, its model, and the profile of its data; None for what is lost."""

    facts: ChampionFacts
    model: Path | None
    profile: Profile | None
    troubles: Mapping[str, str]


@dataclass(frozen=True)
class Gatherer:
    """Looks at the data and the registry.

    Attributes:
        directory: Of the spans.
        data: What of them a run reads.
        gate: Limits that a span alone is held against.
        config: What is measured, and how closely.
        registry: Of the model.
        work: Digest of settings and code of a run.
        cache: Directory for the champion's answers.
    """

    directory: Path | str
    data: DataConfig
    gate: DataGateConfig
    config: RetrainConfig
    registry: Registry
    work: str
    cache: Path

    def gather(self, now: datetime, notes: Mapping[str, Any], attempts: Sequence[Attempt]) -> Gathered:
        """Returns all that a decision needs.

        Args:
            now: The time, with its zone.
            notes: ``seen`` and ``refused`` of the decision before. A span is refused as long as it stays as it is and
                the limits and the champion that it was held against do.
            attempts: All so far.

        Raises:
            BadInputError: The directory cannot be read, or MLflow does not answer.
        """
        version = self.registry.with_alias(CHAMPION)
        key = self._refusal_key(version)
        refused = {digest: item for digest, item in notes.get("refused", {}).items() if item["key"] == key}
        seen = dict(notes.get("seen", {}))
        pushed = [max(attempt.spans) for attempt in attempts if attempt.outcome is Outcome.PUSHED and attempt.spans]
        known = Known(pushed[-1], seen) if pushed and seen else None
        spans = find_spans(self.directory, self.data.settle_minutes, now, known, self.data.late_spans == "take")
        seen |= {span.name: span.digest for span in spans.whole}
        judged = {digest for attempt in attempts if attempt.outcome in VERDICTS for digest in attempt.spans.values()}
        classes = read_classes(f"{self.directory}/{CLASSES_FILE}")
        with tempfile.TemporaryDirectory() as temporary:
            champion = self._fetch(version, attempts, now, Path(temporary)) if version else None
            spans, window, fresh = self._sift(spans, refused, judged, champion, classes, key)
            evidence = Evidence(
                now,
                champion.facts if champion else None,
                tuple(span.name for span in window),
                tuple(span.name for span in window if span.digest not in judged),
                left_out=tuple(map(str, spans.left_out)),
                refused={item["span"]: tuple(item["reasons"]) for item in fresh.values()},
            )
            newest = max(window, key=lambda span: span.name, default=None)
            if newest and champion:
                evidence = self._measure(evidence, newest, champion, classes, Path(temporary))
        source = make_source(spans, window) if window else None
        work = self.work_of(source) if source else ""
        tried = [item for item in attempts if item.work == work and item.outcome in VERDICTS]
        if tried:
            evidence = replace(evidence, tried=f"run {tried[-1].run_id} was {tried[-1].outcome}")
        # One that is mended is neither late nor changed.
        seen = {name: digest for name, digest in seen.items() if digest not in {*refused, *fresh}}
        return Gathered(evidence, source, work, seen, refused | fresh, {span.name: span.digest for span in window})

    def work_of(self, source: Source) -> str:
        """Returns the digest of everything that the model of a run on some files depends on."""
        return hashlib.sha256(f"{source.digest} {self.work}".encode()).hexdigest()

    def _sift(
        self,
        spans: Spans,
        refused: Mapping[str, Any],
        judged: set[str],
        champion: _Champion | None,
        classes: tuple[str, ...],
        key: str,
    ) -> tuple[Spans, list[Span], dict[str, Any]]:
        """Returns the spans without those that are refused, the window, and what is refused from now on."""
        for digest, item in refused.items():
            spans = _without(spans, digest, item["reasons"])
        fresh: dict[str, Any] = {}
        good = set(judged)
        wanted = Window.parse(self.data.spans)
        while True:
            try:
                window = choose(spans, wanted)
            except BadInputError:
                # There is none.
                return spans, [], fresh
            span = next((item for item in reversed(window) if item.digest not in good), None)
            if span is None:
                return spans, window, fresh
            found = read_span(self.directory, span, classes, self.data.eval_fraction)
            reasons = judge(
                found,
                classes,
                champion.profile if champion else None,
                self.gate,
                self.data.malformed_budget,
                self.config.least_rows,
            )
            if reasons:
                # Another span may move up into the window, and is looked at in its turn.
                fresh[span.digest] = {"span": span.name, "key": key, "reasons": list(reasons)}
                spans = _without(spans, span.digest, reasons)
            good.add(span.digest)

    def _measure(
        self, evidence: Evidence, newest: Span, champion: _Champion, classes: tuple[str, ...], temporary: Path
    ) -> Evidence:
        found = read_span(self.directory, newest, classes, self.data.eval_fraction)
        # What cannot be measured is told, and the other reasons are looked at all the same.
        facts, unmeasured = NewestFacts(newest.name), dict(champion.troubles)
        train = len(found.rows[features.TRAIN])
        if train < self.config.least_rows:
            said = f"{newest.name} has {train} rows of train, fewer than {self.config.least_rows} (retrain.least_rows)"
            unmeasured |= {"drift": said}
        elif champion.profile:
            facts = replace(facts, drift=measure_drift(found, classes, champion.profile, self.config.drift))
        # Rows that the champion was trained on say nothing about it.
        own = newest.name in champion.facts.spans
        rows = found.rows[features.TEST] if own else [row for split in features.SPLITS for row in found.rows[split]]
        if len(rows) < self.config.least_rows:
            said = (
                f"{newest.name} has {len(rows)} rows for it, fewer than {self.config.least_rows} (retrain.least_rows)"
            )
            unmeasured |= {"accuracy": said}
        elif champion.model:
            try:
                answers = score(champion.model, rows, self.config.score_rows, temporary / "examples", self.cache)
                facts = replace(facts, accuracy=answers)
            except BadInputError as error:
                unmeasured |= {"accuracy": str(error)}
        return replace(evidence, newest=facts, unmeasured=unmeasured)

    def _fetch(
        self, version: RegisteredVersion, attempts: Sequence[Attempt], now: datetime, temporary: Path
    ) -> _Champion:
        trained = next((item for item in attempts if item.run_id == version.tags.get("run")), None)
        facts = ChampionFacts(
            str(version.serving_version) if version.serving_version is not None else None,
            version.version,
            version.run_id,
            (now.timestamp() - version.created / 1000) / _DAY_SECONDS,
            self.registry.test_metrics(version).get("accuracy"),
            tuple(trained.spans) if trained else (),
        )
        try:
            self.registry.download(version, temporary)
        except BadInputError as error:
            return _Champion(facts, None, None, {"drift": str(error), "accuracy": str(error)})
        try:
            profile = from_json((temporary / PROFILE_FILE).read_bytes())
        except (OSError, ValueError) as error:
            return _Champion(facts, temporary / "model", None, {"drift": f"the champion's {PROFILE_FILE}: {error}"})
        return _Champion(facts, temporary / "model", profile, {})

    def _refusal_key(self, version: RegisteredVersion | None) -> str:
        settings = f"{self.gate.model_dump_json()} {self.data.malformed_budget} {self.config.least_rows}"
        return hashlib.sha256(f"{settings} {version.version if version else ''}".encode()).hexdigest()[:16]


def _without(spans: Spans, digest: str, reasons: Sequence[str]) -> Spans:
    out = tuple(LeftOut(span.name, REFUSED, reasons[0]) for span in spans.whole if span.digest == digest)
    left_out = sorted((*spans.left_out, *out), key=lambda item: item.name)
    return Spans(spans.directory, tuple(span for span in spans.whole if span.digest != digest), tuple(left_out))
