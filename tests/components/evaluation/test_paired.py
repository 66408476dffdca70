"""Intervals and tests against published and enumerated values, and against what they promise about samples."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.paired import (
    Estimate,
    bootstrapped,
    mcnemar,
    mean,
    paired_difference,
    resample_f1,
    share,
    wilson_interval,
)

pytestmark = pytest.mark.stack

CLASSES = 3


# Newcombe 1998, Statistics in Medicine 17:857, table I, method 3: without continuity correction.
@pytest.mark.parametrize(("successes", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)])
def test_shares_have_wilson_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


# Bentur et al. 2009 and Cavo et al. 2012, as worked in Fagerland, Lydersen, Laake, Statistical Analysis of
# Contingency Tables, 2017, chapter 8.
@pytest.mark.parametrize(("b", "c", "exact", "mid_p"), [(7, 1, 0.070312, 0.039062), (16, 6, 0.052479, 0.034690)])
def test_mcnemar_gives_published_values(b: int, c: int, exact: float, mid_p: float) -> None:
    test = mcnemar(b, c)
    assert (test.b, test.c) == (b, c)
    assert (test.exact, test.mid_p) == pytest.approx((exact, mid_p), abs=1e-6)
    assert mcnemar(c, b).mid_p == test.mid_p


@pytest.mark.parametrize("n", range(13))
def test_mcnemar_counts_the_tables_that_are_as_far_out(n: int) -> None:
    shares = [Fraction(math.comb(n, k), 2**n) for k in range(n + 1)]
    for b in range(n + 1):
        farther = sum(share for k, share in enumerate(shares) if abs(2 * k - n) > abs(2 * b - n))
        as_far = sum(share for k, share in enumerate(shares) if abs(2 * k - n) == abs(2 * b - n))
        test = mcnemar(b, n - b)
        assert test.exact == pytest.approx(float(farther + as_far))
        # Half of the observed table's share; where b equals c nothing is farther in, and p is 1.
        assert test.mid_p == pytest.approx(float(farther + as_far / 2) if 2 * b != n else 1)


def test_mcnemar_without_disagreement_tells_nothing() -> None:
    assert (mcnemar(0, 0).exact, mcnemar(0, 0).mid_p) == (1, 1)


def test_mcnemar_keeps_its_level() -> None:
    """Enumerated for a given number of discordant rows; over that number, which varies, the mid-p evens out."""
    levels = []
    for n in range(10, 200, 7):
        tests = [(math.comb(n, b) / 2**n, mcnemar(b, n - b)) for b in range(n + 1)]
        exact, mid_p = (
            sum(share for share, test in tests if p(test) < 0.05)
            for p in (lambda test: test.exact, lambda test: test.mid_p)
        )
        assert exact <= min(0.05, mid_p)
        assert mid_p < 0.07
        levels.append(mid_p)
    assert np.mean(levels) == pytest.approx(0.05, abs=0.005)


def test_mcnemar_of_many_rows_is_a_number() -> None:
    assert 0 <= mcnemar(0, 1_000_000).mid_p < 1e-300
    assert mcnemar(500_000, 500_001).mid_p == pytest.approx(1, abs=2e-3)


# The same two studies; the interval is of the second model's accuracy less the first's.
@pytest.mark.parametrize(("b", "c", "n", "low", "high"), [(7, 1, 21, -0.5172, -0.0260), (16, 6, 161, -0.1240, -0.0054)])
def test_the_difference_has_published_intervals(b: int, c: int, n: int, low: float, high: float) -> None:
    interval = paired_difference(b, c, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert paired_difference(c, b, n) == Estimate(-interval.value, -interval.high, -interval.low)


def test_the_difference_of_models_that_never_disagree_is_not_a_point() -> None:
    interval = paired_difference(0, 0, 100)
    # With no row lost the score equation is n d = z^2 (1 - d).
    assert interval.high == pytest.approx(1.959964**2 / (100 + 1.959964**2), rel=1e-6)
    assert interval.low == -interval.high


def test_the_difference_ends_at_all_rows() -> None:
    assert paired_difference(0, 10, 10).high == 1
    assert paired_difference(10, 0, 10).low == -1


@pytest.mark.parametrize(("b", "n"), [(12, 200), (150, 7_600)])
def test_interval_and_test_agree(b: int, n: int) -> None:
    """At a difference of 0 the score test is McNemar's without continuity correction."""
    for c in range(2 * b):
        interval = paired_difference(b, c, n)
        assert (interval.low > 0 or interval.high < 0) == ((c - b) ** 2 / (b + c) > 1.959964**2)


@pytest.mark.parametrize(("b", "c"), [(0.05, 0.05), (0.1, 0.2), (0.02, 0.1), (0.3, 0.1), (0.2, 0.2)])
def test_the_difference_covers_what_it_promises(b: float, c: float) -> None:
    """Every table of 60 rows, weighed with its probability."""
    n, covered = 60, 0.0
    for losses in range(n + 1):
        for gains in range(n - losses + 1):
            ways = math.comb(n, losses) * math.comb(n - losses, gains)
            chance = ways * b**losses * c**gains * (1 - b - c) ** (n - losses - gains)
            if chance > 1e-9:
                interval = paired_difference(losses, gains, n)
                covered += chance * (interval.low <= c - b <= interval.high)
    assert 0.93 < covered < 0.975


def test_the_difference_covers_in_samples_of_a_test_split() -> None:
    draws = np.random.default_rng(0).multinomial(7_600, [0.018, 0.024, 0.958], size=1_500)
    intervals = [paired_difference(int(b), int(c), 7_600, 0.9) for b, c, _ in draws]
    assert np.mean([item.low <= 0.006 <= item.high for item in intervals]) == pytest.approx(0.9, abs=0.02)
    # Half as wide as two independent samples of these accuracies would allow: this is what pairing buys.
    assert np.mean([item.high - item.low for item in intervals]) / 2 == pytest.approx(0.0039, abs=0.0002)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**7), st.sampled_from([0.5, 0.95, 0.999]))
def test_the_difference_holds_its_estimate(b: int, c: int, agree: int, confidence: float) -> None:
    n = b + c + agree + 1
    interval = paired_difference(b, c, n, confidence)
    assert -1 <= interval.low < (c - b) / n < interval.high <= 1


def test_a_mean_has_its_standard_error() -> None:
    # Mean 2.5, variance 5/3, n 4: 1.96 * sqrt(5/12).
    interval = mean(np.array([1.0, 2.0, 3.0, 4.0]))
    assert (interval.low, interval.high) == pytest.approx((2.5 - 1.26515, 2.5 + 1.26515), abs=1e-4)


def test_what_cannot_be_told_is_none() -> None:
    assert share(0, 0) == Estimate(None)
    assert mean(np.array([2.0])) == Estimate(2.0)
    assert bootstrapped(math.nan, np.array([math.nan])) == Estimate(None)


def test_f1_is_twice_the_hits_by_rows_and_answers() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    first = np.array([0, 0, 1, 1, 2, 2])
    f1 = resample_f1(labels, first, labels, CLASSES, replicates=10)
    assert f1.values[0] == pytest.approx([4 / 5, 2 / 4, 2 / 3])
    assert f1.values[1] == pytest.approx([1, 1, 1])
    assert f1.replicates.shape == (2, 10, CLASSES)


def answers(rows: int, seed: int, accuracies: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws labels and two models' answers, wrong ones at random; both err on the same rows more often than chance."""
    rng = np.random.default_rng(seed)
    labels, wrong = rng.integers(0, CLASSES, rows), rng.integers(1, CLASSES, rows)
    hardness = rng.random(rows)
    first, second = (
        np.where(0.7 * hardness + 0.3 * rng.random(rows) < share, labels, (labels + wrong) % CLASSES)
        for share in accuracies
    )
    return labels, first, second


def test_replicates_spread_as_drawing_rows_does() -> None:
    labels, first, second = answers(300, 1, (0.8, 0.7))
    replicates = resample_f1(labels, first, second, CLASSES, replicates=4_000).replicates
    rng, drawn = np.random.default_rng(2), []
    for _ in range(2_000):
        rows = rng.integers(0, 300, 300)
        drawn.append(resample_f1(labels[rows], first[rows], second[rows], CLASSES, replicates=1).values)
    expected = np.stack(drawn, axis=1)
    for a, b in ((replicates, expected), (replicates[1] - replicates[0], expected[1] - expected[0])):
        assert a.std(axis=-2) == pytest.approx(b.std(axis=-2), rel=0.08)
        assert a.mean(axis=-2) == pytest.approx(b.mean(axis=-2), abs=0.003)


def test_replicates_of_both_models_are_of_the_same_rows() -> None:
    labels, first, _ = answers(200, 3, (0.8, 0.7))
    replicates = resample_f1(labels, first, first, CLASSES).replicates
    assert (replicates[0] == replicates[1]).all()
    assert replicates[0].std() > 0


def test_the_seed_fixes_the_replicates() -> None:
    rows = answers(100, 4, (0.8, 0.7))
    same = [resample_f1(*rows, CLASSES, seed=seed).replicates for seed in (5, 5, 6)]
    assert (same[0] == same[1]).all()
    assert (same[0] != same[2]).any()


def test_a_class_without_rows_and_answers_has_no_f1() -> None:
    f1 = resample_f1(np.array([0, 1]), np.array([0, 1]), np.array([1, 1]), CLASSES)
    assert np.isnan(f1.values).tolist() == [[False, False, True]] * 2
    assert np.isnan(f1.replicates[..., 2]).all()
    with pytest.raises(ValueError, match="not defined"):
        bootstrapped(0.5, f1.replicates[0, :, 2])


def test_the_bootstrap_interval_cuts_equal_tails() -> None:
    interval = bootstrapped(500.0, np.append(np.arange(1_001.0), np.nan), 0.9)
    assert (interval.low, interval.high) == pytest.approx((50, 950))


def test_the_bootstrap_covers_the_macro_f1_and_its_difference() -> None:
    accuracies = (0.8, 0.7)
    truth = np.nanmean(resample_f1(*answers(400_000, 0, accuracies), CLASSES, replicates=1).values, axis=-1)
    covered = []
    for seed in range(1, 301):
        macro = np.nanmean(resample_f1(*answers(300, seed, accuracies), CLASSES, replicates=400).replicates, axis=-1)
        for true, drawn in ((truth[0], macro[0]), (truth[1], macro[1]), (truth[1] - truth[0], macro[1] - macro[0])):
            interval = bootstrapped(true, drawn)
            covered.append(interval.low <= true <= interval.high)
    assert np.reshape(covered, (-1, 3)).mean(axis=0) == pytest.approx([0.95] * 3, abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(1, 0), "of 0 rows"),
        (lambda: wilson_interval(-1, 5), "-1 of 5 rows"),
        (lambda: wilson_interval(6, 5), "6 of 5 rows"),
        (lambda: wilson_interval(1, 5, 95), "confidence"),
        (lambda: mcnemar(-1, 3), "-1"),
        (lambda: paired_difference(3, 3, 5), "3 and 3 rows of 5"),
        (lambda: paired_difference(0, 0, 0), "of 0"),
        (lambda: paired_difference(-1, 2, 5), "-1"),
        (lambda: paired_difference(1, 2, 5, 0.0), "not 0.0"),
        (lambda: mean(np.array([1.0, 2.0]), 1.0), "not 1.0"),
        (lambda: bootstrapped(1.0, np.array([1.0]), 1.0), "not 1.0"),
        (lambda: resample_f1(np.array([0, 1]), np.array([0]), np.array([0, 1]), 2), "2 labels, 1 and 2"),
        (lambda: resample_f1(np.array([]), np.array([]), np.array([]), 2), "0 labels"),
    ],
)
def test_what_is_no_sample_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
