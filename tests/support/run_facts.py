"""A run that never was, with everything a report can show: 3,800 test rows, a champion, three gates.

Every text is written for this project; the rows are combinations of a few phrases.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from components.evaluation.comparison import compare_answers
from components.evaluation.paired import Estimate
from components.evaluation.predictions import Predictions
from components.gates.verdict import Check, Verdict
from components.outcomes import NodeState
from components.report.facts import Champion, Data, Lengths, Node, RunFacts
from components.report.measures import Baseline, EpochMeasures, Training
from components.report.tables import evaluation_tables, mistakes

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
HOSTILE = '<script>document.title=\'owned\'</script><img src=x onerror="alert(1)"> "quoted" &amp; {{ 7*7 }} </style>'
BOUNDS = {"accuracy": 0.9, "macro_f1": 0.9, "worst_class_f1": 0.84, "calibration_error": 0.1}
_WHO = ("The harbour town", "A coalition of farmers", "The visiting side", "An orchard of startups", "The night ferry")
_DID = ("reopens its doors to", "turns its back on", "signs a long contract with", "measures itself against", "outruns")
_WHAT = ("a rival across the bay", "the old telescope", "its largest lender", "a treaty nobody read", "the home crowd")
_MORE = (
    "Observers who had waited through the rain said that the outcome surprised even those who had arranged it.",
    "The announcement came late on a weekday, with few details and fewer questions.",
    "Numbers released in the morning tell a different story from the one told at dinner.",
    "It is the third time this season, and the second since the rules were rewritten.",
)
LENGTH_EDGES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 1024]


@dataclass(frozen=True)
class Slice:
    """What the Evaluator's reader returns, without TensorFlow."""

    feature: str
    value: str
    scalars: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def make_answers(rows: int = 3_800, accuracy: float = 0.92, seed: int = 0, classes: int = 4) -> Predictions:
    """Answers to rows whose texts and labels are the same for every seed."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed + 1)
    picks = fixed.integers(0, 1000, (rows, 4))
    texts = [
        f"{_WHO[a % 5]} {_DID[b % 5]} {_WHAT[c % 5]} {_MORE[d % 4]} Item {number}.".encode()
        for number, (a, b, c, d) in enumerate(picks)
    ]
    labels = np.arange(rows) % classes
    # Most mistakes are the same ones: rows have a difficulty of their own.
    hard = fixed.uniform(0, 1, rows) + rng.normal(0, 0.02, rows) > accuracy
    answered = np.where(hard, (labels + rng.choice([1, 1, 2, 3], rows)) % classes, labels)
    sure = np.clip(np.where(hard, rng.beta(4, 2, rows), rng.beta(14, 1.2, rows)), 1 / classes + 0.05, 0.9995)
    probabilities = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1)
    probabilities[np.arange(rows), answered] = sure
    return Predictions(texts, labels, answered, probabilities.astype(np.float32))


def make_slice(feature: str, value: str, answers: Predictions, chosen: Any, classes: tuple[str, ...]) -> Slice:
    """Counts what the Evaluator counts."""
    labels, answered = answers.labels[chosen], answers.label_ids[chosen]
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, (labels, answered), 1)
    sure = answers.probabilities[chosen].max(axis=1)
    bins = np.zeros((15, 3))
    np.add.at(
        bins, np.minimum((sure * 15).astype(int), 14), np.stack([np.ones_like(sure), sure, labels == answered], 1)
    )
    f1 = 2 * np.diag(matrix) / np.maximum(matrix.sum(0) + matrix.sum(1), 1)
    truth = answers.probabilities[chosen][np.arange(len(labels)), labels]
    scalars = {
        "accuracy": float((labels == answered).mean()),
        "macro_f1": float(f1.mean()),
        "worst_class_f1": float(f1.min()),
        "log_loss": float(-np.log(truth).mean()),
        "calibration_error": float(np.abs(bins[:, 1] - bins[:, 2]).sum() / len(labels)),
        "example_count": float(len(labels)),
    }
    return Slice(feature, value, scalars, {"confusion_matrix": matrix, "reliability_bins": bins})


def make_slices(answers: Predictions, classes: tuple[str, ...] = CLASSES) -> list[Slice]:
    """The overall slice, one per class and one per length."""
    places = np.arange(len(answers.texts))
    everything = places >= 0
    chosen = {("", ""): everything} | {("label", name): answers.labels == at for at, name in enumerate(classes)}
    chosen |= {("length", "medium"): places % 3 > 0, ("length", "short"): places % 3 == 0}
    return [make_slice(*name, answers, rows, classes) for name, rows in chosen.items() if rows.any()]


def make_facts(rows: int = 3_800, hostile: bool = False, classes: tuple[str, ...] = CLASSES) -> RunFacts:
    """A run that was pushed; ``hostile`` puts ``HOSTILE`` wherever a text comes from outside."""
    bad = HOSTILE if hostile else ""
    classes = tuple(f"{name}{bad}" for name in classes)
    candidate = make_answers(rows, 0.925, seed=1, classes=len(classes))
    champion = make_answers(rows, 0.915, seed=2, classes=len(classes))
    if bad:
        texts = [f"{text.decode()} {bad}".encode() for text in candidate.texts]
        candidate, champion = replace(candidate, texts=texts), replace(champion, texts=texts)
    evaluation = evaluation_tables(make_slices(candidate, classes), classes, BOUNDS, candidate)
    counts = {name: 22_000 + 117 * number for number, name in enumerate(classes)}
    lengths = np.exp(-((np.array(LENGTH_EDGES) - 38) ** 2) / 300) * 9_000 + 3
    return RunFacts(
        run_id="20260314-092653-5f3a",
        mlflow_run_id="0c1f5c2ab0f94b2c9c1b8f6e2d7a4c11",
        registry_version="9",
        tracking="sqlite:////home/someone/workspace/mlflow.db",
        workspace="/home/someone/workspace",
        status="pushed",
        reasons=[],
        finished_at="2026-03-14T09:29:11+00:00",
        seconds=138.4,
        preset="ag-news",
        model_family="transformer",
        summary="A transformer trained from scratch",
        model_name="ag_news",
        model_version="7",
        pushed_as="champion",
        model_dir="/home/someone/workspace/serving/ag_news/7",
        classes=list(classes),
        nodes=make_nodes(),
        gates=make_gates(bad),
        evaluation=evaluation,
        mistakes=mistakes(candidate, classes),
        champion=Champion(
            serving_version="6",
            registry_version="8",
            reason=f"version 6 of ag_news serves{bad}",
            verdict="better",
            margin=0.01,
            comparison=compare_answers(champion, candidate, classes, 25),
        ),
        baseline=Baseline(
            train_rows=88_400,
            of_rows=88_400,
            test_rows=rows,
            accuracy=Estimate(0.912, 0.903, 0.921),
            macro_f1=0.9117,
            f1=dict.fromkeys(classes, 0.91),
            gain=Estimate(0.013, 0.006, 0.02),
        ),
        training=Training(
            epochs=[
                EpochMeasures(n, 0.31 + 0.33 / n**1.4, 0.9 - 0.1 / n, 0.3 + 0.09 / n, 0.905 - 0.03 / n, 11.4)
                for n in range(1, 9)
            ],
            best_epoch=7,
            parameters=4_812_036,
            steps=11_092,
        ),
        data=Data(
            source="ag-news",
            directory=f"/data/ag_news{bad}",
            digest="1faa930a6423273c4f4dd89810b9bbf32ac3c9faf5eb8e1d58e4952e46f6ca89",
            rows=97_219,
            splits={
                "train": counts,
                "eval": {name: count // 19 for name, count in counts.items()},
                "test": dict.fromkeys(classes, rows // len(classes)),
            },
            malformed=3,
            quarantine={f"2 fields instead of 3{bad}": 2, "not UTF-8": 1},
            quarantine_file="/home/someone/workspace/quarantine/20260314-092653-5f3a.jsonl",
            lengths=[
                Lengths("this run", LENGTH_EDGES, [int(item) for item in lengths]),
                Lengths("the champion's data", LENGTH_EDGES, [int(item) for item in np.roll(lengths, -1)]),
            ],
        ),
        settings={f"section.setting_{number}": f"{number}{bad}" for number in range(40)} | {"preset": "ag-news"},
        versions={
            "newsdesk": "0.1.0",
            "code": "4b1d0e9a77c2f310",
            "python": "3.11.9",
            "tfx": "1.16.0",
            "tensorflow": f"2.16.2{bad}",
        },
    )


def make_nodes(stopped_at: str | None = None) -> list[Node]:
    """The nodes of the graph; what comes after ``stopped_at``, which failed, was skipped."""
    cost = {
        "ExampleGen": (9.3, 611), "StatisticsGen": (8.8, 702), "ImportSchema": (0.2, 702),
        "ExampleValidator": (0.4, 702), "Champion": (0.9, 715), "DataGate": (3.4, 940), "Transform": (21.2, 1_204),
        "Trainer": (71.5, 1_890), "Evaluator": (8.1, 1_702), "Answers": (2.9, 1_702), "Register": (1.3, 1_702),
        "ModelGate": (0.7, 1_702), "ServingGate": (7.9, 1_702), "Pusher": (0.4, 1_702), "Promote": (0.2, 1_702),
    }  # fmt: skip
    nodes, over = [], False
    for name, (seconds, peak) in cost.items():
        if over:
            nodes.append(Node(name, NodeState.SKIPPED, 0.0, 0))
            continue
        over = name == stopped_at
        state = "failed" if over else "cached" if name == "StatisticsGen" else "ran"
        outputs = {} if over else {"output": f"/home/someone/workspace/artifacts/{name}/output/{len(nodes) + 1}"}
        nodes.append(Node(name, NodeState(state), seconds, peak, outputs))
    return nodes


def make_gates(bad: str = "") -> list[Verdict]:
    """Three gates that let pass, one with a warning."""
    said = "1.8 % of the rows of train repeat another, above the limit of 1.0 %"
    return [
        Verdict(
            "DataGate",
            True,
            warnings=[f"{said}{bad}"],
            checks=[
                Check("schema_anomalies", "fail", True, "nothing breaks the schema"),
                Check("class_drift", "fail", True, "the share of Sports grew by a factor of 1.02", 1.02, 3.0),
                Check("length_drift", "fail", True, "text lengths diverge by 0.004 bits", 0.004, 0.1),
                Check("duplicates", "warn", False, f"{said}{bad}", 0.018, 0.01, (f"The ferry is late, again{bad}",)),
                Check("leakage", "off", True, "not looked at"),
            ],
            numbers={"test_rows": 3_800, "test_rows_in_train": 12, "champion": None, "data": {"words": 3_401_220}},
        ),
        Verdict(
            "ModelGate",
            True,
            checks=[
                Check("floors", "fail", True, "no floor missed"),
                Check("champion", "fail", True, "the candidate is better than version 6", 0.0101, -0.01),
            ],
            numbers={"champion": "6", "verdict": "better", "difference": 0.0101, "rows": 3_800},
        ),
        Verdict(
            "ServingGate",
            True,
            checks=[
                Check("load_seconds", "fail", True, "the first answer after 1.9 s of loading", 1.912, 30.0),
                Check("p95_ms", "fail", True, "95 % of single texts were answered in 3.1 ms", 3.104, 200.0),
            ],
            numbers={"load_seconds": 1.912, "memory_mb": 512.4, "tensorflow": "2.16.2", "requests": 64},
        ),
    ]


def make_rejected() -> RunFacts:
    """A run that the ModelGate stopped, because the candidate may be worse than the champion."""
    full = make_facts()
    reasons = [
        "accuracy is 0.8821, below the floor of 0.9000",
        "the candidate is worse than version 6: accuracy -3.11 points, 95% interval -3.90 to -2.31, on 3,800 rows; "
        "a loss of up to 1 points is allowed (model_gate.margin)",
    ]
    worse = make_answers(3_800, 0.88, seed=3)
    champion = make_answers(3_800, 0.915, seed=2)
    data, model, _ = full.gates
    assert full.champion
    return replace(
        full,
        status="rejected",
        reasons=reasons,
        model_version=None,
        model_dir=None,
        pushed_as=None,
        nodes=make_nodes("ModelGate"),
        gates=[
            data,
            replace(
                model,
                passed=False,
                reasons=reasons,
                checks=[
                    Check("floors", "fail", False, reasons[0]),
                    Check("champion", "fail", False, reasons[1], -0.0311, -0.01),
                ],
            ),
        ],
        evaluation=evaluation_tables(make_slices(worse), CLASSES, BOUNDS, worse),
        mistakes=mistakes(worse, CLASSES),
        champion=replace(full.champion, verdict="worse", comparison=compare_answers(champion, worse, CLASSES, 25)),
    )


def make_stopped_early() -> RunFacts:
    """A run whose data were refused: there is no champion yet, and nothing was trained."""
    full = make_facts()
    reason = "train split, feature label: unexpected value ('5' in 40 rows)"
    return replace(
        full,
        status="rejected",
        reasons=[reason],
        model_version=None,
        registry_version=None,
        model_dir=None,
        pushed_as=None,
        nodes=make_nodes("DataGate"),
        gates=[Verdict("DataGate", False, [reason], [], [Check("schema_anomalies", "fail", False, reason)])],
        evaluation=None,
        mistakes=None,
        champion=Champion(None, None, "ag_news has no champion yet"),
        training=None,
        data=replace(full.data, lengths=[], malformed=0, quarantine={}, quarantine_file=None),
    )
