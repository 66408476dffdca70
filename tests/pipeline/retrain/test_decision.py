"""Each reason to retrain at its limit, and what the decision makes of all of them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from components.evaluation.paired import wilson_interval
from pipeline.config.retrain import DriftConfig, RetrainConfig
from pipeline.retrain.decision import decide
from pipeline.retrain.evidence import Accuracy, ChampionFacts, Evidence, Measured, NewestFacts

DAYS = ("span-20260301", "span-20260302")
QUIET = Evidence(
    datetime(2026, 3, 10, 6, tzinfo=UTC),
    ChampionFacts("3", "7", "abc", days=1, accuracy=0.9, spans=DAYS),
    window=DAYS,
    new=(),
    newest=NewestFacts(
        DAYS[-1],
        {"class_drift": Measured(1.2, "odds changed 1.2-fold"), "length_drift": Measured(0.01, "0.01 bits")},
        Accuracy(0.9, 400, 0.87, 0.92),
    ),
)


def reasons(evidence: Evidence, **settings: Any) -> tuple[str, ...]:
    decision = decide(evidence, RetrainConfig.model_validate(settings))
    assert decision.retrain == any(vote.retrain for vote in decision.votes)
    return tuple(vote.policy for vote in decision.votes if vote.retrain)


def with_newest(**values: Any) -> Evidence:
    assert QUIET.newest
    return replace(QUIET, newest=replace(QUIET.newest, **values))


def test_a_quiet_day_gives_no_reason_and_says_what_was_looked_at() -> None:
    decision = decide(QUIET, RetrainConfig())
    assert not decision.retrain
    assert not decision.refused
    assert len(decision.reasons) == 4
    assert "0 spans new" in decision.reasons[0]
    assert "1.0 days old, of 30" in decision.reasons[1]


def test_without_a_champion_there_is_a_reason() -> None:
    assert reasons(replace(QUIET, champion=None)) == ("no_champion",)


@pytest.mark.parametrize(("count", "limit", "yes"), [(1, 1, True), (1, 2, False), (2, 2, True), (2, None, False)])
def test_new_spans_are_counted(count: int, limit: int | None, yes: bool) -> None:
    assert reasons(replace(QUIET, new=DAYS[:count]), new_spans=limit) == (("new_spans",) if yes else ())


@pytest.mark.parametrize(("days", "limit", "yes"), [(30, 30, True), (29.9, 30, False), (400, None, False)])
def test_an_old_champion_is_a_reason(days: float, limit: float | None, yes: bool) -> None:
    assert QUIET.champion
    old = replace(QUIET, champion=replace(QUIET.champion, days=days))
    assert reasons(old, champion_days=limit) == (("champion_days",) if yes else ())


@pytest.mark.parametrize(
    ("value", "limit", "yes"), [(0.03, 0.03, False), (0.031, 0.03, True), (9, None, False), (None, 0.03, True)]
)
def test_drift_beyond_its_limit_is_a_reason(value: float | None, limit: float | None, yes: bool) -> None:
    drifted = with_newest(drift={"length_drift": Measured(value, "words per text diverge")})
    found = decide(drifted, RetrainConfig(drift=DriftConfig(length_drift=limit)))
    assert found.retrain is yes
    if yes:
        (reason,) = found.reasons
        assert "span-20260302: words per text diverge, above 0.03 (retrain.drift.length_drift)" in reason


def test_drift_that_was_not_measured_says_why() -> None:
    vote = decide(replace(with_newest(drift={}), unmeasured={"drift": "too few rows"}), RetrainConfig()).votes[3]
    assert (vote.policy, vote.retrain, vote.sentence) == ("drift", False, "too few rows")


@pytest.mark.parametrize(
    ("right", "rows", "settings", "yes"),
    [
        # 0.85 on 400 rows may be 0.882: within 0.03 of the 0.9 of then.
        (340, 400, {}, False),
        # On ten times as many rows it may not.
        (3400, 4000, {}, True),
        (3400, 4000, {"accuracy_loss": None}, False),
        (3400, 4000, {"accuracy_loss": None, "accuracy_floor": 0.9}, True),
        (3400, 4000, {"accuracy_loss": None, "accuracy_floor": 0.855}, False),
    ],
)
def test_accuracy_is_a_reason_only_where_chance_does_not_explain_it(
    right: int, rows: int, settings: dict[str, Any], yes: bool
) -> None:
    found = with_newest(accuracy=Accuracy(right / rows, rows, *wilson_interval(right, rows)))
    assert reasons(found, **settings) == (("accuracy",) if yes else ())


def test_a_refused_newest_span_stops_a_retrain_that_everything_else_wants() -> None:
    evidence = replace(QUIET, champion=None, new=DAYS, refused={"span-20260303": ("class Sports is gone", "and short")})
    decision = decide(evidence, RetrainConfig())
    assert (decision.retrain, decision.refused) == (False, True)
    assert decision.reasons == ("span-20260303 is refused: class Sports is gone", "span-20260303 is refused: and short")


def test_an_older_refused_span_does_not_stop_it() -> None:
    decision = decide(replace(QUIET, new=DAYS[1:], refused={"span-20260228": ("short",)}), RetrainConfig())
    assert (decision.retrain, decision.refused) == (True, False)


def test_a_reason_that_another_run_would_not_remove_starts_none() -> None:
    assert QUIET.champion
    old = replace(QUIET, champion=replace(QUIET.champion, days=99), tried="run 20260309 was pushed")
    decision = decide(old, RetrainConfig())
    assert not decision.retrain
    assert decision.reasons[0] == "run 20260309 was pushed on the same spans already"


def test_without_a_whole_span_there_is_nothing_to_train_on() -> None:
    decision = decide(replace(QUIET, champion=None, window=(), newest=None, left_out=("x left out",)), RetrainConfig())
    assert decision.reasons == ("there is no whole span to train on: x left out",)
    assert not decision.retrain
