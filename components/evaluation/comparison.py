"""Two models' answers on the same rows, A and B: which is better, by how much, and where they part."""

from dataclasses import dataclass, replace

import numpy as np

from components.evaluation.paired import (
    Estimate,
    McNemar,
    bootstrapped,
    mcnemar,
    mean,
    paired_difference,
    resample_f1,
    share,
)
from components.evaluation.predictions import Predictions

A, B, NEITHER = "a", "b", "neither"
_TINY = 1e-12


@dataclass(frozen=True)
class Metric:
    """One metric of both models, and B's less A's."""

    a: Estimate
    b: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Disagreement:
    """A row that one model gets right and the other wrong, with both answers and the probabilities they gave them."""

    text: str
    label: str
    a: str
    a_probability: float
    b: str
    b_probability: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        better: ``a``, ``b``, or ``neither`` where no difference of accuracy can be told.
        verdict: The same in words.
        rows: How many.
        confidence: Of all intervals.
        classes: Names in label-id order.
        metrics: By name; F1 of one class is ``f1/Sports``. Shares, but ``log_loss`` in nats.
        mcnemar: Rows that A alone (``b``) and B alone (``c``) gets right, exact p and mid-p.
        both_wrong_differently: Rows on which both are wrong with different answers.
        only_a_right, only_b_right: Such rows, the other model's most confident mistakes first.
    """

    better: str
    verdict: str
    rows: int
    confidence: float
    classes: tuple[str, ...]
    metrics: dict[str, Metric]
    mcnemar: McNemar
    both_wrong_differently: int
    only_a_right: list[Disagreement]
    only_b_right: list[Disagreement]


def compare_answers(
    a: Predictions, b: Predictions, classes: tuple[str, ...], most_rows: int = 10, confidence: float = 0.95
) -> Comparison:
    """Compares two models' answers.

    A difference of accuracy can be told where McNemar's mid-p is below 1 - ``confidence``. Its interval then leaves
    out 0 as well: at the usual levels the mid-p is the stricter of the two, by a row or none.

    Args:
        a, b: Answers to the same rows in the same order, such as ``align`` returns.
        classes: Names in label-id order.
        most_rows: Disagreements listed per direction.
        confidence: Of all intervals.

    Raises:
        ValueError: The rows differ.
    """
    if a.texts != b.texts or not np.array_equal(a.labels, b.labels):
        raise ValueError("the answers are to different rows: align them first")
    n = len(a.texts)
    right_a, right_b = a.label_ids == a.labels, b.label_ids == b.labels
    only_a, only_b = right_a & ~right_b, right_b & ~right_a
    test = mcnemar(int(only_a.sum()), int(only_b.sum()))
    better = NEITHER if test.mid_p >= 1 - confidence else B if test.c > test.b else A
    shares = [share(int(right.sum()), n, confidence) for right in (right_a, right_b)]
    accuracy = Metric(shares[0], shares[1], accuracy_gain(right_a, right_b, confidence))
    return Comparison(
        better=better,
        verdict=_verdict(better, accuracy.difference, test, n),
        rows=n,
        confidence=confidence,
        classes=classes,
        metrics={"accuracy": accuracy}
        | _f1_metrics(a, b, classes, confidence)
        | {"log_loss": _log_loss(a, b, confidence)},
        mcnemar=test,
        both_wrong_differently=int((~right_a & ~right_b & (a.label_ids != b.label_ids)).sum()),
        only_a_right=_disagreements(a, b, classes, only_a, b, most_rows),
        only_b_right=_disagreements(a, b, classes, only_b, a, most_rows),
    )


def accuracy_gain(right_a: np.ndarray, right_b: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Returns B's accuracy less A's, with its interval.

    Args:
        right_a, right_b: Whether each got a row right, bool [N] each, on the same rows.
        confidence: Of the interval.
    """
    only_a, only_b, n = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()), len(right_a)
    return paired_difference(only_a, only_b, n, confidence)


def row_losses(answers: Predictions) -> np.ndarray:
    """Returns the negative log-likelihood of each row's label in nats, float64 [N]."""
    chosen = answers.probabilities[np.arange(len(answers.labels)), answers.labels]
    return -np.log(np.maximum(chosen.astype(float), _TINY))


def align(answers: Predictions, like: Predictions) -> Predictions:
    """Returns ``answers`` in the order of ``like``, whose rows are the same but may stand in another order.

    Raises:
        ValueError: The rows differ.
    """
    theirs, ours = _order(answers), _order(like)
    places = np.empty(len(ours), np.int64)
    if len(theirs) == len(ours):
        places[ours] = theirs
        answers = replace(
            answers,
            texts=[answers.texts[place] for place in places],
            labels=answers.labels[places],
            label_ids=answers.label_ids[places],
            probabilities=answers.probabilities[places],
        )
    if answers.texts != like.texts or not np.array_equal(answers.labels, like.labels):
        raise ValueError("the answers are to different rows")
    return answers


def _order(answers: Predictions) -> list[int]:
    return sorted(range(len(answers.texts)), key=lambda place: (answers.texts[place], int(answers.labels[place])))


def _f1_metrics(a: Predictions, b: Predictions, classes: tuple[str, ...], confidence: float) -> dict[str, Metric]:
    f1 = resample_f1(a.labels, a.label_ids, b.label_ids, len(classes))

    def metric(values: np.ndarray, replicates: np.ndarray) -> Metric:
        """From values [2] and replicates [2, R]."""
        a, b = (bootstrapped(values[side], replicates[side], confidence) for side in (0, 1))
        return Metric(a, b, bootstrapped(values[1] - values[0], replicates[1] - replicates[0], confidence))

    metrics = {"macro_f1": metric(np.nanmean(f1.values, axis=-1), np.nanmean(f1.replicates, axis=-1))}
    for number, name in enumerate(classes):
        metrics[f"f1/{name}"] = metric(f1.values[..., number], f1.replicates[..., number])
    return metrics


def _log_loss(a: Predictions, b: Predictions, confidence: float) -> Metric:
    ours, theirs = row_losses(a), row_losses(b)
    return Metric(*(mean(losses, confidence) for losses in (ours, theirs, theirs - ours)))


def _verdict(better: str, difference: Estimate, test: McNemar, rows: int) -> str:
    ends = [100 * end for end in (difference.value, difference.low, difference.high) if end is not None]
    value, low, high = ends if better != A else (-ends[0], -ends[2], -ends[1])
    p = f"= {test.mid_p:.2g}" if test.mid_p >= 1e-4 else "< 0.0001"
    numbers = f"{value:+z.1f} points of accuracy ({low:z.1f} to {high:z.1f}), McNemar p {p} on {rows:,} rows"
    if better == NEITHER:
        return f"no difference can be told: B - A is {numbers}"
    return f"{better.upper()} is better: {numbers}"


def _disagreements(
    a: Predictions, b: Predictions, classes: tuple[str, ...], chosen: np.ndarray, wrong: Predictions, most: int
) -> list[Disagreement]:
    """Lists the chosen rows, those first where ``wrong``, which is a or b, is surest of its mistake."""
    rows = np.flatnonzero(chosen)
    sure = wrong.probabilities[rows, wrong.label_ids[rows]]
    return [
        Disagreement(
            text=a.texts[row].decode("utf-8", "replace"),
            label=classes[a.labels[row]],
            a=classes[a.label_ids[row]],
            a_probability=float(a.probabilities[row, a.label_ids[row]]),
            b=classes[b.label_ids[row]],
            b_probability=float(b.probabilities[row, b.label_ids[row]]),
        )
        for row in rows[np.argsort(-sure, kind="stable")][:most]
    ]
