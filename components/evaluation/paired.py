"""Statistics of classifiers on one set of rows: how sure a number is, and whether two models differ on it.

Two models that answer the same rows are compared pair by pair: the rows that both get right, or both get wrong,
say nothing about which is better, and an interval that ignores the pairing is nearly twice as wide.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import special

_HALVINGS = 60


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval, both ends included; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class McNemar:
    """Whether two models are right equally often on the same rows.

    Attributes:
        b: Rows that only the first model gets right.
        c: Rows that only the second model gets right.
        exact: Two-sided p of the exact conditional test; never above its nominal level, often far below.
        mid_p: Two-sided mid-p, which is close to its nominal level; the one to report.
    """

    b: int
    c: int
    exact: float
    mid_p: float


@dataclass(frozen=True)
class PairedF1:
    """F1 per class of two models, and the same on resampled rows; NaN where a class has no row and no prediction.

    Attributes:
        values: float64 [2, C].
        replicates: float64 [2, R, C]; replicate r of both models is of the same rows.
    """

    values: np.ndarray
    replicates: np.ndarray


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the score interval of a share (Wilson 1927, JASA 22:209), without continuity correction.

    Raises:
        ValueError: ``n`` is not positive, ``successes`` is not in 0 to n, or ``confidence`` not in 0 to 1.
    """
    # SciPy itself refuses these in some versions, and in others answers NaN.
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} rows is no share")
    # Takes a second to import, and most who import this module need no share.
    from scipy import stats

    found = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def share(part: int, whole: int, confidence: float = 0.95) -> Estimate:
    """Returns the share that ``part`` is of ``whole``, with Wilson's interval; no number where ``whole`` is 0."""
    return Estimate(part / whole, *wilson_interval(part, whole, confidence)) if whole else Estimate(None)


def mcnemar(b: int, c: int) -> McNemar:
    """Tests whether two models are right equally often on the same rows (McNemar 1947, Psychometrika 12:153).

    If they are, b is binomial of b + c with share 1/2. The mid-p counts the observed table half (Fagerland,
    Lydersen and Laake 2013, BMC Med Res Methodol 13:91).

    Raises:
        ValueError: A count is negative.
    """
    if min(b, c) < 0:
        raise ValueError(f"counts of rows are not negative: {b} and {c}")
    least, n = min(b, c), b + c
    below = float(special.bdtr(least - 1, n, 0.5)) if least else 0.0
    up_to = float(special.bdtr(least, n, 0.5))
    return McNemar(b, c, exact=min(1.0, 2 * up_to), mid_p=min(1.0, below + up_to))


def paired_difference(b: int, c: int, n: int, confidence: float = 0.95) -> Estimate:
    """Returns the second model's accuracy less the first's on the same rows, a number between -1 and 1.

    Its interval is that of Tango 1998, Statistics in Medicine 17:891: all differences that a score test with the
    constrained maximum-likelihood estimate does not reject. At a difference of 0 that test is McNemar's, so that
    interval and test agree, and unlike Wald's it is not a point where the models never disagree.

    Args:
        b, c: Rows that only the first, and only the second model gets right, of ``n`` rows in all.

    Raises:
        ValueError: A count is negative, ``n`` is not positive or below b + c, or ``confidence`` not between 0 and 1.
    """
    if min(b, c) < 0 or n < max(1, b + c):
        raise ValueError(f"{b} and {c} rows of {n} are not counts of disjoint rows of one set")
    z = _z(confidence)
    return Estimate((c - b) / n, -_highest_difference(b, c, n, z), _highest_difference(c, b, n, z))


def mean(values: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Returns the mean of ``values``, float [N], with its large-sample interval, z standard errors on both sides.

    One value alone has no interval.

    Raises:
        ValueError: ``confidence`` is not between 0 and 1.
    """
    z, middle = _z(confidence), float(np.mean(values))
    if len(values) < 2:
        return Estimate(middle)
    half = z * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(middle, middle - half, middle + half)


def resample_f1(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int, replicates: int = 2_000, seed: int = 0
) -> PairedF1:
    """Returns F1 per class of two models, and its bootstrap replicates (Efron 1979, Annals of Statistics 7:1).

    F1 depends on a row only through its label and the two answers, so drawing N rows with replacement is one
    multinomial draw over the combinations that occur, and costs the same for a million rows as for a thousand.

    Args:
        labels, first, second: Class ids, int [N]: the true ones and the two models' answers.
        classes: C.
        replicates: R.
        seed: Of the draws; the same seed gives the same replicates.

    Raises:
        ValueError: The three differ in length or are empty.
    """
    if not len(labels) == len(first) == len(second) > 0:
        raise ValueError(f"{len(labels)} labels, {len(first)} and {len(second)} answers are not the same rows")
    kinds, counts = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(labels), counts / len(labels), size=replicates)
    weights = np.vstack([counts, draws]).astype(np.float64)
    one_hot = np.eye(classes)
    true = one_hot[kinds[0]]
    scores = np.stack([_f1(weights, true, one_hot[answers]) for answers in kinds[1:]])
    return PairedF1(scores[:, 0], scores[:, 1:])


def bootstrapped(value: float, replicates: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Returns a statistic with the percentile interval of its bootstrap replicates, float [R], NaN ones left out.

    No number where the statistic is NaN, which is not defined. Of a model without a mistake on its rows the interval
    is a point: resampling shows nothing that the rows do not.

    Raises:
        ValueError: No replicate is a number, or ``confidence`` is not between 0 and 1.
    """
    _z(confidence)
    if np.isnan(value):
        return Estimate(None)
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        raise ValueError("no replicate is a number: the statistic is not defined on these rows")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), float(low), float(high))


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a share between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _highest_difference(gains: int, losses: int, n: int, z: float) -> float:
    """Returns the upper end of Tango's interval for (gains - losses) / n."""

    def rejected(difference: float) -> bool:
        # p: maximum-likelihood share of rows lost, given the difference; the root of a quadratic equation.
        linear = (2 * n - gains + losses) * difference - gains - losses
        square = linear**2 + 8 * n * losses * difference * (1 - difference)
        p = (math.sqrt(max(square, 0.0)) - linear) / (4 * n)
        variance = n * (2 * p + difference * (1 - difference))
        return (gains - losses - n * difference) ** 2 > z * z * variance

    low, high = (gains - losses) / n, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rejected(middle) else (middle, high)
    return low


def _f1(weights: np.ndarray, true: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """F1 [R, C] from the weights [R, K] of K kinds of rows and each kind's label and answer, one-hot [K, C]."""
    whole = weights @ (true + answered)
    right = weights @ (true * answered)
    return np.divide(2 * right, whole, out=np.full_like(whole, np.nan), where=whole > 0)
