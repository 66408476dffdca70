"""Judges what a model did in its own process: in time, as the contract has it, and as it was evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components import features
from components.evaluation.predictions import Predictions
from components.gates.serving.gate import ServingGateConfig
from components.gates.serving.process import Answer, Probe, Signature, Spec
from components.gates.serving.requests import Request, make_requests
from components.gates.verdict import MOST_ROWS, Check

_SUM_TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class _Row:
    """The answer to one text, and what to call it."""

    name: str
    label: str
    label_id: int
    probabilities: np.ndarray


def check_serving(
    probe: Probe, settings: ServingGateConfig, classes: Sequence[str], answers: Predictions
) -> list[Check]:
    """Judges what a model did in its process.

    Args:
        probe: Of the texts that ``make_requests`` gives for ``answers``.
        settings: Limits.
        classes: Names in label-id order.
        answers: What the model answered when it was evaluated.

    Returns:
        One check per limit and per promise. Where a signature is wrong nothing was asked, and where answers are no
        probabilities of the classes they are not compared.
    """
    if probe.failure is not None:
        return [Check("process", "fail", False, probe.failure)]
    checks = [
        Check("process", "fail", True, f"the model's process was done after {probe.process_seconds:.1f} s"),
        ceiling(
            "load_seconds", "the first answer came after {} s of loading", probe.load_seconds, settings.load_seconds
        ),
        ceiling("memory_mb", "the model's process took {} MiB of memory", probe.memory_mb, settings.memory_mb),
        _check_signatures(probe.signatures, len(classes)),
    ]
    if not checks[-1].passed:
        return checks
    for share, limit in ((50, settings.p50_ms), (95, settings.p95_ms)):
        value = float(np.percentile(probe.latencies_ms, share))
        checks.append(ceiling(f"p{share}_ms", f"{share} % of single texts were answered within {{}} ms", value, limit))
    requests = make_requests(answers)
    checks.append(_check_answered(probe, requests))
    if not checks[-1].passed:
        return checks
    names = [request.name for request in requests]
    alone = [row for name, answer in zip(names, probe.alone, strict=True) for row in _rows([name], answer)]
    together, serialized = (
        _rows([f"{name}, in a batch of {signature}" for name in names], probe.together[signature])
        for signature in features.INPUTS
    )
    everything = [*alone, *together, *serialized]
    checks.append(_check_probabilities(everything, len(classes)))
    if not checks[-1].passed:
        return checks
    known = [(request.row, row) for request, row in zip(requests, alone, strict=True) if request.row is not None]
    evaluated = [_Row("", "", int(answers.label_ids[row]), answers.probabilities[row]) for row, _ in known]
    return [
        *checks,
        _check_labels(everything, classes),
        _check_same("batch", "alone and in a batch", alone, together, settings.tolerance),
        _check_same("agreement", "through both signatures", together, serialized, settings.tolerance),
        _check_same(
            "evaluated", "as served and as evaluated", [row for _, row in known], evaluated, settings.tolerance
        ),
    ]


def ceiling(name: str, found: str, value: float, limit: float) -> Check:
    """Returns a check that ``value`` is at most ``limit``; ``found`` says what it is, with braces for the number."""
    passed = value <= limit
    sentence = f"{found.format(f'{value:,.1f}')}, {'within' if passed else 'above'} the limit of {limit:,g}"
    return Check(name, "fail", passed, sentence, round(value, 3), limit)


def _check_signatures(found: dict[str, Signature], width: int) -> Check:
    text = Spec(dtype="string", shape=(None,))
    outputs = {
        features.OUTPUT_LABEL: text,
        features.OUTPUT_LABEL_ID: Spec(dtype="int64", shape=(None,)),
        features.OUTPUT_PROBABILITIES: Spec(dtype="float32", shape=(None, width)),
    }
    flaws = [f"signature {name} is in no contract" for name in sorted(found.keys() - features.INPUTS.keys())]
    for name, argument in features.INPUTS.items():
        if name not in found:
            flaws.append(f"signature {name} is missing")
            continue
        for wanted, has in (({argument: text}, found[name].inputs), (outputs, found[name].outputs)):
            flaws += [
                f"{tensor} of {name} is {_shown(has.get(tensor))} and should be {_shown(wanted.get(tensor))}"
                for tensor in sorted(wanted.keys() | has.keys())
                if wanted.get(tensor) != has.get(tensor)
            ]
    return Check("signatures", "fail", not flaws, "; ".join(flaws) or "both signatures are as the contract says")


def _shown(spec: Spec | None) -> str:
    if spec is None:
        return "absent"
    if spec.shape is None:
        return f"{spec.dtype} of any rank"
    return f"{spec.dtype} [{', '.join('N' if size is None else str(size) for size in spec.shape)}]"


def _check_answered(probe: Probe, requests: Sequence[Request]) -> Check:
    asked = [(request.name, answer) for request, answer in zip(requests, probe.alone, strict=True)]
    asked += [(f"all texts in a batch of {signature}", probe.together[signature]) for signature in features.INPUTS]
    flaws = [f"{name}: {answer.error}" for name, answer in asked if answer.error is not None]
    return _all_or("answered", flaws, len(asked), "requests were{} answered")


def _check_probabilities(rows: Sequence[_Row], width: int) -> Check:
    flaws = []
    for row in rows:
        shares = row.probabilities
        if len(shares) != width:
            flaws.append(f"{row.name}: {len(shares)} numbers for {width} classes")
        # Written so that what is not a number does not pass.
        elif not (shares.min() >= 0 and abs(shares.sum() - 1) <= _SUM_TOLERANCE):
            flaws.append(f"{row.name}: {shares.tolist()}")
    return _all_or("probabilities", flaws, len(rows), "answers are{} probabilities that sum to 1")


def _check_labels(rows: Sequence[_Row], classes: Sequence[str]) -> Check:
    flaws = []
    for row in rows:
        best = int(row.probabilities.argmax())
        if (row.label, row.label_id) != (classes[best], best):
            flaws.append(f"{row.name}: {row.label!r} with label_id {row.label_id}, not {classes[best]!r} with {best}")
    return _all_or("labels", flaws, len(rows), "labels are{} the class of the largest probability")


def _check_same(name: str, how: str, rows: Sequence[_Row], others: Sequence[_Row], tolerance: float) -> Check:
    flaws, widest = [], 0.0
    for row, other in zip(rows, others, strict=True):
        if len(row.probabilities) != len(other.probabilities):
            flaws.append(f"{row.name}: {len(row.probabilities)} classes and {len(other.probabilities)}")
            continue
        gap = float(np.abs(row.probabilities - other.probabilities).max())
        widest = max(widest, gap)
        if not gap <= tolerance or row.label_id != other.label_id:
            flaws.append(f"{row.name}: {gap:.2g} apart, label_id {row.label_id} and {other.label_id}")
    what = f"texts are answered{{}} {how}, probabilities up to {widest:.2g} apart where {tolerance:g} is allowed"
    check = _all_or(name, flaws, len(rows), what, " differently", " alike")
    return Check(name, "fail", check.passed, check.sentence, widest, tolerance, check.rows)


def _all_or(name: str, flaws: Sequence[str], asked: int, what: str, wrong: str = " not", right: str = "") -> Check:
    """``what`` has braces for the word that tells wrong from right."""
    if not flaws:
        return Check(name, "fail", True, f"all {asked} {what.format(right)}")
    said = f"{len(flaws)} of {asked} {what.format(wrong)}, first {flaws[0]}"
    return Check(name, "fail", False, said, rows=tuple(flaws[:MOST_ROWS]))


def _rows(names: Sequence[str], answer: Answer) -> list[_Row]:
    return [
        _Row(name, label, label_id, np.array(probabilities))
        for name, label, label_id, probabilities in zip(
            names, answer.labels, answer.label_ids, answer.probabilities, strict=True
        )
    ]
