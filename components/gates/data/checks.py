"""What DataGate looks at in rows that can be read: the checks, and what their settings make of them."""

from collections import Counter
from collections.abc import Callable, Mapping

from components import features
from components.gates.data import drift_checks
from components.gates.data.facts import Data, Finding, leaked_rows, show_row
from components.gates.data.gate import DataGateConfig
from components.gates.data.profile import Profile
from components.gates.gate import Limit
from components.gates.verdict import MOST_ROWS, Check

_FEWEST_WORDS = 3


def check_data(data: Data, champion: Profile | None, settings: DataGateConfig) -> list[Check]:
    """Returns the checks of classes, texts and drift that are not ``off``, in the order of the settings.

    Args:
        data: Rows; no split is empty.
        champion: Profile of the data behind the model that serves; without one there is no drift to find, which is
            recorded as such.
        settings: Severity and limit of each check.
    """
    checks = []
    for name in type(settings).model_fields:
        limit = getattr(settings, name)
        if name == "missing_class":
            limit = Limit(severity=limit, threshold=0)
        if name not in _FORMS or limit.severity == "off":
            continue
        if name in _ALONE:
            checks.append(_judge(name, _ALONE[name](data), limit))
        elif champion is not None:
            checks.append(_judge(name, _AGAINST_CHAMPION[name](data, champion), limit))
        else:
            said = f"{name.replace('_', ' ')}: no champion's profile to compare with yet ({_setting(name)})"
            checks.append(Check(name, limit.severity, True, said, None, limit.threshold))
    return checks


def _missing_class(data: Data) -> Finding:
    missing = [
        f"{name} in {split}"
        for split in (features.TRAIN, features.TEST)
        for name, count in zip(data.classes, data.profile.classes[split], strict=True)
        if not count
    ]
    shown = ", ".join(missing[:MOST_ROWS]) or "none"
    return Finding(len(missing), f"classes without a row: {shown}", tuple(missing[:MOST_ROWS]))


def _class_ratio(data: Data) -> Finding:
    """A class without a row is another check's matter; here it would be a division by zero."""
    ratios, said = [], []
    for split in (features.TRAIN, features.TEST):
        counts = zip(data.profile.classes[split], data.classes, strict=True)
        present = [(count, name) for count, name in counts if count]
        if not present:
            return Finding(None, f"largest class over smallest: {split} has no row of a known class")
        (most, largest), (least, smallest) = max(present), min(present)
        ratios.append(most / least)
        said.append(f"{most / least:.3g} in {split} ({largest} {most:,} rows, {smallest} {least:,})")
    return Finding(max(ratios), f"largest class over smallest: {', '.join(said)}")


def _duplicates(data: Data) -> Finding:
    found = {}
    for name, split in data.splits.items():
        counts = Counter(split.texts)
        commonest = [(text, count) for text, count in counts.most_common(MOST_ROWS) if count > 1]
        repeats = [show_row(name, text, f", {count} times") for text, count in commonest]
        found[name] = len(split.texts) - len(counts), repeats
    return _by_split(data, "rows whose text stood there before", found)


def _near_empty(data: Data) -> Finding:
    found = {}
    for name, split in data.splits.items():
        short = [text for text, length in zip(split.texts, split.lengths, strict=True) if length < _FEWEST_WORDS]
        found[name] = len(short), [show_row(name, text) for text in short[:MOST_ROWS]]
    return _by_split(data, f"rows with fewer than {_FEWEST_WORDS} words", found)


def _leakage(data: Data) -> Finding:
    leaked, rows = leaked_rows(data), len(data.splits[features.TEST].texts)
    share = len(leaked) / rows
    said = f"{len(leaked):,} of {rows:,} test rows stand in train or eval too ({share:.2%})"
    return Finding(share, said, tuple(show_row(features.TEST, text) for text in leaked[:MOST_ROWS]))


def _by_split(data: Data, what: str, found: Mapping[str, tuple[int, list[str]]]) -> Finding:
    """The worst split decides, its rows come first, and each split is named."""
    shares = {name: count / len(data.splits[name].texts) for name, (count, _) in found.items()}
    said = [f"{name} {found[name][0]:,} of {len(data.splits[name].texts):,} ({shares[name]:.2%})" for name in found]
    rows = [shown for name in sorted(shares, key=lambda name: -shares[name]) for shown in found[name][1]]
    return Finding(max(shares.values()), f"{what}: {', '.join(said)}", tuple(rows[:MOST_ROWS]))


def _judge(name: str, finding: Finding, limit: Limit) -> Check:
    if finding.value is None:
        said = f"{finding.said} ({_setting(name)})"
        return Check(name, limit.severity, False, said, None, limit.threshold, finding.rows)
    floor = name in _FLOORS
    passed = finding.value >= limit.threshold if floor else finding.value <= limit.threshold
    held = "within the limit" if passed else "below the limit" if floor else "above the limit"
    said = f"{finding.said}, {held} of {_FORMS[name](limit.threshold)} ({_setting(name)})"
    return Check(name, limit.severity, passed, said, finding.value, limit.threshold, finding.rows)


def _setting(name: str) -> str:
    return f"data_gate.{name}" if name == "missing_class" else f"data_gate.{name}.threshold"


_ALONE: dict[str, Callable[[Data], Finding]] = {
    "missing_class": _missing_class,
    "class_ratio": _class_ratio,
    "duplicates": _duplicates,
    "leakage": _leakage,
    "near_empty": _near_empty,
}
_AGAINST_CHAMPION: dict[str, Callable[[Data, Profile], Finding]] = {
    "class_drift": drift_checks.class_drift,
    "length_drift": drift_checks.length_drift,
    "vocabulary_drift": drift_checks.vocabulary_drift,
    "oov_rate": drift_checks.new_words,
    "row_collapse": drift_checks.row_collapse,
}
_FLOORS = ("row_collapse",)
_FORMS: dict[str, Callable[[float], str]] = {
    **dict.fromkeys([*_ALONE, *_AGAINST_CHAMPION], "{:g}".format),
    **dict.fromkeys(["oov_rate", "row_collapse", "duplicates", "leakage", "near_empty"], "{:.2%}".format),
}
