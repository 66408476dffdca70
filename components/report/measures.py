"""What a report says of how good a model is, as plain values that survive as JSON."""

from dataclasses import dataclass

from components.evaluation.paired import Estimate

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "worst_class_f1": "Worst class F1",
    "log_loss": "Log loss, nats",
    "calibration_error": "Calibration error",
}
CONFIDENCE = 0.95
"""Of the intervals of one model's metrics."""


@dataclass(frozen=True)
class Headline:
    """One metric of the whole test split.

    Attributes:
        name: As everywhere, such as ``macro_f1``.
        value: With its interval, where it has one.
        bound: Its floor, or its ceiling where ``lower_is_better``; None where the run sets none.
        about: What the name leaves open, such as the class of ``worst_class_f1``.
    """

    name: str
    value: Estimate
    bound: float | None = None
    lower_is_better: bool = False
    about: str = ""

    @property
    def missed(self) -> bool:
        """Whether the bound is set and not kept."""
        if self.bound is None or self.value.value is None:
            return False
        return self.value.value > self.bound if self.lower_is_better else self.value.value < self.bound


@dataclass(frozen=True)
class ClassMeasures:
    """One class of the test split."""

    name: str
    rows: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class SliceMeasures:
    """One slice of the test split."""

    feature: str
    value: str
    rows: int
    accuracy: Estimate
    macro_f1: Estimate


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose top probability is between ``low`` and ``high``; ``confidence`` is its mean."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class Evaluation:
    """What the model does on the test split. ``confusion`` has true classes as rows, answers as columns."""

    rows: int
    headlines: list[Headline]
    classes: list[ClassMeasures]
    slices: list[SliceMeasures]
    confusion: list[list[int]]
    reliability: list[ReliabilityBin]


@dataclass(frozen=True)
class Mistake:
    """A row that the model gets wrong, and the probabilities of its answer and of the label."""

    text: str
    label: str
    label_probability: float
    answer: str
    probability: float


@dataclass(frozen=True)
class Baseline:
    """A linear model on the same rows, fitted on ``train_rows`` of the ``of_rows`` in train.

    Attributes:
        f1: By class; None where a class has neither row nor answer.
        gain: The candidate's accuracy less its own; None where the candidate gave no answers.
    """

    train_rows: int
    of_rows: int
    test_rows: int
    accuracy: Estimate
    macro_f1: float
    f1: dict[str, float | None]
    gain: Estimate | None = None


@dataclass(frozen=True)
class EpochMeasures:
    """Losses are mean cross-entropies in nats; accuracies are shares."""

    epoch: int
    loss: float
    accuracy: float
    eval_loss: float
    eval_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Training:
    """What a fit did; the model has the weights of ``best_epoch``."""

    epochs: list[EpochMeasures]
    best_epoch: int
    parameters: int
    steps: int
