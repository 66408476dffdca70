"""The ModelGate's checks one by one: at their limits, just below and just above, and all that they say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluation.comparison import NEITHER, Comparison, Metric, accuracy_gain
from components.evaluation.paired import Estimate, mcnemar
from components.evaluation.predictions import Predictions
from components.evaluation.result import SliceMetrics
from components.gates.model.component import (
    BETTER,
    NOT_WORSE,
    WORSE,
    check_baseline,
    check_champion,
    check_floors,
    check_slices,
    judge,
)
from components.gates.model.gate import ModelGateConfig
from components.gates.verdict import Check
from components.records import BaselineRecord, ChampionRecord

ROWS = 2_000
# The number of test rows of AG News: what a share of a point means there.
NEWS_ROWS = 7_600
TINY = 1e-12
SERVES = ChampionRecord("3", "7", "run7", "version 3 of ag_news serves")
NOBODY = ChampionRecord(None, None, None, "ag_news has no champion yet")
MAY_LOSE = "; a loss of 1 points or more (model_gate.margin) must be ruled out"
Counts = tuple[int, int]


def told(gain: Estimate, rows: int = NEWS_ROWS, confidence: float = 0.95, counts: Counts = (0, 0)) -> Comparison:
    """Returns as much of a comparison as a check reads."""
    metrics = {"accuracy": Metric(Estimate(0.5), Estimate(0.5), gain)}
    return Comparison(NEITHER, "", rows, confidence, ("World", "Sports"), metrics, mcnemar(*counts), 0, [], [])


def compared(counts: Counts, rows: int = NEWS_ROWS, confidence: float = 0.95) -> Comparison:
    """Compares champion and candidate; ``counts`` are rows that the one alone and the other alone gets right."""
    wrong_champion, wrong_candidate = apart(counts, rows)
    return told(accuracy_gain(~wrong_champion, ~wrong_candidate, confidence), rows, confidence, counts)


def apart(counts: Counts, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which rows each of two models gets wrong, bool [N]; ``counts`` are rows that each alone gets right."""
    only_first, only_second = counts
    return np.arange(rows) >= rows - only_second, np.arange(rows) < only_first


# What can be claimed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin", "low", "verdict"),
    [
        (0.01, -0.01 - TINY, WORSE),
        (0.01, -0.01, WORSE),
        (0.01, -0.01 + TINY, NOT_WORSE),
        (0.01, -TINY, NOT_WORSE),
        (0.01, 0.0, NOT_WORSE),
        (0.01, TINY, BETTER),
        (0.01, math.nan, WORSE),
        (0.0, -TINY, WORSE),
        (0.0, 0.0, WORSE),
        (0.0, TINY, BETTER),
        (1.0, -1.0, WORSE),
        (1.0, -1.0 + TINY, NOT_WORSE),
    ],
)
def test_the_lower_end_of_the_interval_alone_decides(margin: float, low: float, verdict: str) -> None:
    for value, high in ((0.5, 0.6), (-0.5, 0.6), (-0.5, -0.4), (math.nan, math.nan)):
        assert judge(told(Estimate(value, low, high)), ModelGateConfig(margin=margin)) == verdict


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        pytest.param((136, 60), WORSE, id="worse by a point"),
        pytest.param((98, 98), NOT_WORSE, id="equal"),
        pytest.param((94, 102), NOT_WORSE, id="better by a tenth of a point"),
        pytest.param((60, 136), BETTER, id="better by a point"),
        pytest.param((300, 270), WORSE, id="perhaps worse by more than the margin"),
        pytest.param((0, 0), NOT_WORSE, id="never apart"),
    ],
)
def test_the_verdict_follows_the_interval(counts: Counts, verdict: str) -> None:
    check, said = check_champion(SERVES, compared(counts), False, ModelGateConfig())
    assert said == judge(compared(counts), ModelGateConfig()) == verdict
    assert check.value == (counts[1] - counts[0]) / NEWS_ROWS


def test_rows_are_paired() -> None:
    """All four have one accuracy: only where two err on the same rows can a loss be ruled out."""
    assert judge(compared((5, 5), 1_000), ModelGateConfig()) == NOT_WORSE
    assert judge(compared((100, 100), 1_000), ModelGateConfig()) == WORSE


@settings(max_examples=200, deadline=None)
@given(
    counts=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    margin=st.floats(0, 0.1),
    wider=st.floats(0, 0.1),
    confidence=st.floats(0.5, 0.99),
)
def test_a_wider_margin_and_less_confidence_never_forbid_more(
    counts: Counts, margin: float, wider: float, confidence: float
) -> None:
    ranks = [WORSE, NOT_WORSE, BETTER]

    def rank(margin: float, confidence: float, counts: Counts = counts) -> int:
        return ranks.index(judge(compared(counts, 500, confidence), ModelGateConfig(margin=margin)))

    assert rank(margin + wider, confidence) >= rank(margin, confidence)
    assert rank(margin, confidence / 2) >= rank(margin, confidence)
    assert rank(margin, confidence, (counts[0], counts[1] + 1)) >= rank(margin, confidence)
    # No two models are each better than the other.
    assert {rank(0, confidence), rank(0, confidence, counts[::-1])} != {ranks.index(BETTER)}


@pytest.mark.parametrize("bare", [Estimate(0.002), Estimate(0.002, 0.001), Estimate(None, 0.001, 0.003)])
def test_a_difference_without_an_interval_is_not_judged(bare: Estimate) -> None:
    with pytest.raises(ValueError, match="without an interval"):
        judge(told(bare), ModelGateConfig())


# What is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "same", "require", "passed", "verdict", "begins", "ends"),
    [
        (0.0005, False, NOT_WORSE, True, BETTER, "is better", ""),
        (0.0005, False, BETTER, True, BETTER, "is better", ""),
        (-0.002, False, NOT_WORSE, True, NOT_WORSE, "is not worse", ""),
        (-0.002, False, BETTER, False, NOT_WORSE, "is not worse", "; model_gate.require asks for better"),
        (-0.02, False, NOT_WORSE, False, WORSE, "may be worse", MAY_LOSE),
        (-0.02, False, BETTER, False, WORSE, "may be worse", MAY_LOSE),
        (-0.02, True, NOT_WORSE, True, NOT_WORSE, "is not worse", "; both give the same answers"),
        (-0.02, True, BETTER, False, NOT_WORSE, "is not worse",
         "; both give the same answers; model_gate.require asks for better"),
    ],
)  # fmt: skip
def test_the_champion_is_a_check_of_its_own(
    low: float, same: bool, require: str, passed: bool, verdict: str, begins: str, ends: str
) -> None:
    config = ModelGateConfig.model_validate({"require": require, "margin": 0.01})
    sentence = (
        f"the candidate {begins} than version 3: accuracy +0.10 points, 95% interval {100 * low:+.2f} to +3.00, "
        f"on 7,600 rows{ends}"
    )
    found = check_champion(SERVES, told(Estimate(0.001, low, 0.03)), same, config)
    assert found == (Check("champion", "fail", passed, sentence, 0.001, -0.01), verdict)


def test_the_check_says_the_settings_it_was_made_with() -> None:
    gain = Estimate(-0.0123, -0.02, -0.004)
    check, _ = check_champion(SERVES, told(gain, 1_234, 0.9), False, ModelGateConfig(margin=0.005, confidence=0.9))
    assert check.sentence == (
        "the candidate may be worse than version 3: accuracy -1.23 points, 90% interval -2.00 to -0.40, on 1,234 rows; "
        "a loss of 0.5 points or more (model_gate.margin) must be ruled out"
    )
    assert (check.value, check.limit) == (-0.0123, -0.005)


@pytest.mark.parametrize("require", [NOT_WORSE, BETTER])
def test_that_nobody_serves_is_said(require: str) -> None:
    found = check_champion(NOBODY, None, False, ModelGateConfig.model_validate({"require": require}))
    assert found == (Check("champion", "fail", True, "ag_news has no champion yet: the floors alone decide"), None)


def test_the_same_model_is_not_worse_whatever_the_rows_could_tell() -> None:
    config = ModelGateConfig(margin=0)
    assert judge(compared((0, 0), 50), config) == WORSE
    check, verdict = check_champion(SERVES, compared((0, 0), 50), True, config)
    assert (check.passed, verdict) == (True, NOT_WORSE)


# The floors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "blessed", "expected"),
    [
        ([], True, [(True, "no floor missed")]),
        ([], False, [(False, "the Evaluator did not bless the model")]),
        (["one"], True, [(False, "one")]),
        (["one", "two"], True, [(False, "one"), (False, "two")]),
        (["one", "two"], False, [(False, "one"), (False, "two")]),
    ],
)
def test_floors_are_checks_of_their_own(failures: list[str], blessed: bool, expected: list[tuple[bool, str]]) -> None:
    assert check_floors(failures, blessed) == [Check("floors", "fail", passed, said) for passed, said in expected]


@pytest.mark.parametrize(
    ("accuracy", "rows", "passed", "said"),
    [
        (0.7999, 100, False, "0.7999 on 100 rows, below the floor of 0.8000 (model_gate.length_accuracy)"),
        (0.8 - TINY, 100, False, "0.8000 on 100 rows, below the floor of 0.8000 (model_gate.length_accuracy)"),
        (0.8, 100, True, "0.8000 on 100 rows"),
        (0.8 + TINY, 100, True, "0.8000 on 100 rows"),
        (0.1, 101, False, "0.1000 on 101 rows, below the floor of 0.8000 (model_gate.length_accuracy)"),
        (0.1, 100, False, "0.1000 on 100 rows, below the floor of 0.8000 (model_gate.length_accuracy)"),
        (0.1, 99, True, "0.1000 on 99 rows, too few to judge"),
        (0.9, 99, True, "0.9000 on 99 rows, too few to judge"),
        (math.nan, 100, False, "nan on 100 rows, below the floor of 0.8000 (model_gate.length_accuracy)"),
        (math.nan, 0, True, "nan on 0 rows, too few to judge"),
    ],
)
def test_slices_of_length_have_a_floor(accuracy: float, rows: int, passed: bool, said: str) -> None:
    measured = [("", "", 0.1, 999), ("label", "World", 0.1, 999), ("length", "long", 0.9, 999)]
    slices = [
        SliceMetrics(feature, value, {"accuracy": share, "example_count": float(count)})
        for feature, value, share, count in [*measured, ("length", "short", accuracy, rows)]
    ]
    config = ModelGateConfig(length_accuracy=0.8, slice_rows=100)
    assert check_slices(slices, config) == [
        Check("length=long", "fail", True, "accuracy in slice length=long is 0.9000 on 999 rows", 0.9, 0.8),
        Check("length=short", "fail", passed, f"accuracy in slice length=short is {said}", accuracy, 0.8),
    ]
    assert check_slices(slices, ModelGateConfig()) == check_slices([], config) == []


# The linear baseline -----------------------------------------------------------------------------------------------


def beside(counts: Counts) -> tuple[BaselineRecord, np.ndarray, Predictions]:
    """Returns a linear model and a candidate; ``counts`` are rows that the one alone and the other alone gets right."""
    wrong_linear, wrong_candidate = apart(counts, ROWS)
    accuracy = 1 - counts[1] / ROWS
    record = BaselineRecord(900, 900, 50, ROWS, accuracy, accuracy, (accuracy, accuracy))
    candidate = Predictions([], np.zeros(ROWS, int), wrong_candidate.astype(int), np.empty((ROWS, 2), np.float32))
    return record, wrong_linear.astype(int), candidate


@pytest.mark.parametrize(
    ("counts", "confidence", "passed", "numbers"),
    [
        ((40, 10), 0.95, False, "0.9800 against 0.9950: -1.50 points, 95% interval -2.26 to -0.84"),
        ((40, 10), 0.5, False, "0.9800 against 0.9950: -1.50 points, 50% interval -1.74 to -1.27"),
        ((4, 3), 0.95, False, "0.9980 against 0.9985: -0.05 points, 95% interval -0.38 to +0.26"),
        ((3, 3), 0.95, False, "0.9985 against 0.9985: +0.00 points, 95% interval -0.31 to +0.31"),
        ((3, 4), 0.95, True, "0.9985 against 0.9980: +0.05 points, 95% interval -0.26 to +0.38"),
        ((0, 0), 0.95, False, "1.0000 against 1.0000: +0.00 points, 95% interval -0.19 to +0.19"),
    ],
)
def test_one_row_more_than_the_linear_baseline_passes(
    counts: Counts, confidence: float, passed: bool, numbers: str
) -> None:
    begins, ends = ("more", "") if passed else ("not more", " (model_gate.baseline)")
    said = f"the candidate is {begins} accurate than a linear model, {numbers}{ends}"
    value = (counts[1] - counts[0]) / ROWS
    for severity in ("fail", "warn"):
        config = ModelGateConfig.model_validate({"baseline": severity, "confidence": confidence})
        expected = Check("baseline", severity, passed, said, value, 0.0)
        assert check_baseline(*beside(counts), config) == [expected]
    assert check_baseline(*beside(counts), ModelGateConfig(baseline="off")) == []


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_answers_to_other_rows_are_no_baseline() -> None:
    record, linear, candidate = beside((40, 10))
    one_more_wrong = np.append(1, linear[1:])
    none = replace(candidate, labels=candidate.labels[:0], label_ids=candidate.label_ids[:0])
    for known, answers, ours in (
        (record, linear[:-1], candidate),
        (record, np.append(linear, 0), candidate),
        (record, one_more_wrong, candidate),
        (replace(record, accuracy=math.nan), linear, candidate),
        (record, linear[:0], candidate),
        (record, linear[:0], none),
    ):
        with pytest.raises(ValueError, match="other rows"):
            check_baseline(known, answers, ours, ModelGateConfig())
