"""The charts of a report: matplotlib draws, the page's style sheet colours.

Each figure uses only the colours of ``components.report.svg``, which stand for roles. Every chart has a sentence that
says what it shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from components.evaluation.comparison import Comparison
from components.evaluation.paired import Estimate
from components.report.facts import Lengths, Node
from components.report.measures import Evaluation, ReliabilityBin, Training
from components.report.svg import ACCENT, BAD, INK, MUTED, RULE, SECOND, THIRD, drawing, to_svg

_WIDTH = 4.6
_SERIES = (ACCENT, SECOND, THIRD)
_MOST_TICKS = 8
_MOST_COUNTS = 10
"""Classes up to which the cells of a confusion matrix have room for their counts."""
_NAME_CHARACTERS = 18


@dataclass(frozen=True)
class Chart:
    """An inline ``<svg>`` element, and what it shows in one sentence."""

    svg: str
    text: str


def confusion_chart(evaluation: Evaluation) -> Chart:
    """Draws how often each class is taken for each other; the darker, the larger the share of the true class."""
    names = [item.name for item in evaluation.classes]
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off = np.where(np.eye(len(names), dtype=bool), -1, counts)
    label, answer = np.unravel_index(int(off.argmax()), off.shape)
    text = (
        f"Confusion matrix of {len(names)} classes on {evaluation.rows:,} rows. The most frequent mistake: "
        f"{names[label]} taken for {names[answer]}, {off[label, answer]:,} rows."
        if off.max() > 0
        else f"Confusion matrix of {len(names)} classes on {evaluation.rows:,} rows, without a mistake."
    )

    def draw(axes: Axes) -> None:
        for row, column in zip(*np.nonzero(counts), strict=True):
            # The larger the share, the stronger the colour; numbers stay readable on all of it, in light and dark.
            strength, colour = 0.08 + 0.6 * shares[row, column], ACCENT if row == column else BAD
            place = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(place, 1, 1, facecolor=colour, alpha=strength, edgecolor="none"))
            if len(names) <= _MOST_COUNTS:
                axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=INK)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), xlabel="answer", ylabel="label")
        shown = [_brief(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=0 if max(map(len, shown)) * len(shown) < 50 else 60)
        axes.set_yticks(range(len(names)), shown)
        axes.tick_params(length=0, labelsize=min(10, 130 / len(names)))
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)

    return _chart("confusion", text, draw, height=3.4 if len(names) <= 5 else 4.6)


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Chart:
    """Draws how often an answer is right against how sure the model is of it."""
    far = max(bins, key=lambda item: item.rows * abs((item.accuracy.value or 0.0) - item.confidence))
    text = (
        f"Reliability diagram of {len(bins)} bins of the top probability. Where the model is {far.confidence:.0%} sure "
        f"on average it is right {far.accuracy.value:.0%} of the time, on {far.rows:,} rows: the bin that adds most to "
        "the calibration error."
    )

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, dashes=(4, 3), linewidth=1)
        places = [item.confidence for item in bins]
        right, low, high = np.array(
            [(item.accuracy.value, item.accuracy.low, item.accuracy.high) for item in bins], float
        ).T
        axes.vlines(places, low, high, color=ACCENT, linewidth=1.5)
        axes.plot(places, right, color=ACCENT, linewidth=0, marker="o", markersize=5)
        axes.set(
            xlim=(min(0.2, bins[0].low), 1.02), ylim=(-0.03, 1.03), xlabel="mean probability", ylabel="share right"
        )

    return _chart("reliability", text, draw, height=3.4)


def training_charts(training: Training) -> list[Chart]:
    """Draws loss and accuracy by epoch, on the rows learned from and on those held out."""
    numbers = [item.epoch for item in training.epochs]

    def curve(name: str, what: str, ours: list[float], held_out: list[float]) -> Chart:
        text = (
            f"{what} over {len(numbers)} epoch{'s' * (len(numbers) != 1)}: train from {ours[0]:.3f} to {ours[-1]:.3f}, "
            f"eval from {held_out[0]:.3f} to {held_out[-1]:.3f}; the epoch kept is {training.best_epoch}."
        )

        def draw(axes: Axes) -> None:
            axes.axvline(training.best_epoch, color=RULE, linewidth=5)
            axes.plot(numbers, ours, color=SECOND, marker="o", markersize=4, label="train")
            axes.plot(numbers, held_out, color=ACCENT, marker="o", markersize=4, label="eval")
            step = max(1, -(-len(numbers) // _MOST_TICKS))
            axes.set_xticks(numbers[::step])
            axes.set(xlabel="epoch", ylabel=what.lower(), xlim=(numbers[0] - 0.4, numbers[-1] + 0.4))
            axes.legend()

        return _chart(name, text, draw, height=2.7)

    epochs = training.epochs
    return [
        curve("loss", "Loss", [item.loss for item in epochs], [item.eval_loss for item in epochs]),
        curve("accuracy", "Accuracy", [item.accuracy for item in epochs], [item.eval_accuracy for item in epochs]),
    ]


def difference_chart(comparison: Comparison, margin: float | None) -> Chart:
    """Draws the candidate's metrics less the champion's, in points, with intervals."""
    wanted = ["accuracy", "macro_f1", *(f"f1/{name}" for name in comparison.classes)]
    found = [(name, comparison.metrics[name].difference) for name in wanted if name in comparison.metrics]
    known = [(_metric_name(name), _points(item)) for name, item in found if item.value is not None]
    text = "Candidate less champion in points: " + "; ".join(
        f"{name} {value:+.1f} ({low:+.1f} to {high:+.1f})" for name, (value, low, high) in known
    )

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1)
        if margin is not None:
            axes.axvline(-100 * margin, color=BAD, linewidth=1, dashes=(4, 3))
        for place, (_, (value, low, high)) in enumerate(known):
            axes.plot([low, high], [place, place], color=ACCENT, linewidth=2, solid_capstyle="round")
            axes.plot([value], [place], color=ACCENT, marker="o", markersize=6)
        axes.set_yticks(range(len(known)), [_brief(name) for name, _ in known])
        axes.set(xlabel="points, candidate less champion", ylim=(len(known) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")

    return _chart("difference", text + ".", draw, height=1.1 + 0.36 * len(known))


def balance_chart(splits: dict[str, dict[str, int]]) -> Chart:
    """Draws each class's share of each split."""
    splits = {split: counts for split, counts in splits.items() if sum(counts.values())}
    names = list(next(iter(splits.values())))
    shares = {split: [100 * counts[name] / sum(counts.values()) for name in names] for split, counts in splits.items()}
    text = "Share of each class: " + "; ".join(
        f"{split} " + ", ".join(f"{name} {share:.1f} %" for name, share in zip(names, values, strict=True))
        for split, values in shares.items()
    )

    def draw(axes: Axes) -> None:
        height = 0.8 / len(shares)
        for number, (split, values) in enumerate(shares.items()):
            places = [place + (number - (len(shares) - 1) / 2) * height for place in range(len(names))]
            axes.barh(places, values, height * 0.86, color=_SERIES[number % len(_SERIES)], label=split)
        axes.set_yticks(range(len(names)), [_brief(name) for name in names])
        axes.set(xlabel="% of the split", ylim=(len(names) - 0.5, -0.5))
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=len(shares))

    return _chart("balance", text + ".", draw, height=max(2.7, 0.55 * len(names) + 1.0))


def length_chart(lengths: Sequence[Lengths]) -> Chart:
    """Draws the share of rows by number of words."""
    text = "Rows by number of words: " + "; ".join(f"{item.name}, median {_median(item)} words" for item in lengths)

    def draw(axes: Axes) -> None:
        for number, item in enumerate(lengths):
            edges = _closed(item.edges)
            # Per word of width, so that a wide bin does not look like a frequent length.
            heights = 100 * np.array(item.rows) / sum(item.rows) / np.diff(edges)
            axes.stairs(heights, edges, color=_SERIES[number], linewidth=1.6, label=item.name)
        axes.set(
            xlabel="words",
            ylabel="% of rows per word",
            ylim=(0, None),
            xlim=(0, max(_closed(item.edges)[_bin_at(item, 0.995) + 1] for item in lengths)),
        )
        axes.legend()

    return _chart("lengths", text + ".", draw, height=2.7)


def cost_charts(nodes: Sequence[Node]) -> list[Chart]:
    """Draws wall time and peak memory of the nodes that were launched."""
    launched = [node for node in nodes if node.seconds]

    def bars(name: str, what: str, unit: str, values: list[float], digits: int) -> Chart:
        most = max(range(len(values)), key=values.__getitem__)
        text = f"{what} by node. The most: {launched[most].id}, {values[most]:,.{digits}f} {unit}" + (
            f" of {sum(values):,.{digits}f} {unit} in all." if unit == "s" else "."
        )

        def draw(axes: Axes) -> None:
            colours = [
                BAD if node.state == "failed" else MUTED if node.state == "cached" else ACCENT for node in launched
            ]
            drawn = axes.barh(range(len(values)), values, 0.66, color=colours)
            axes.bar_label(drawn, fmt=f"{{:,.{digits}f}}", padding=4)
            axes.set_yticks(range(len(values)), [node.id for node in launched])
            axes.set(xlabel=f"{what.lower()}, {unit}", ylim=(len(values) - 0.4, -0.6), xlim=(0, max(values) * 1.2))
            axes.grid(visible=False, axis="y")

        return _chart(name, text, draw, height=0.9 + 0.26 * len(values))

    return [
        bars("seconds", "Wall time", "s", [node.seconds for node in launched], 1),
        bars("memory", "Peak memory", "MiB", [node.peak_mb for node in launched], 0),
    ]


def _chart(name: str, text: str, draw: Callable[[Axes], None], height: float) -> Chart:
    with drawing():
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        return Chart(to_svg(figure, name, text), text)


def _brief(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _metric_name(name: str) -> str:
    return {"accuracy": "accuracy", "macro_f1": "macro-F1"}.get(name, name.replace("f1/", "F1 "))


def _points(estimate: Estimate) -> tuple[float, float, float]:
    value = estimate.value or 0.0
    low, high = (value if end is None else end for end in (estimate.low, estimate.high))
    return 100 * value, 100 * low, 100 * high


def _closed(edges: Sequence[int]) -> list[int]:
    """The last bin has no upper end; it is drawn as wide as a quarter of where it begins."""
    return [*edges, edges[-1] + max(1, edges[-1] // 4)]


def _bin_at(item: Lengths, share: float) -> int:
    """Returns the bin in which the rows, the shortest first, reach a share of all."""
    return int(np.searchsorted(np.cumsum(item.rows), share * sum(item.rows)))


def _median(item: Lengths) -> str:
    place = _bin_at(item, 0.5)
    low, high = _closed(item.edges)[place : place + 2]
    return f"{low}" if high == low + 1 else f"{low} to {high - 1}"
