"""When to retrain: each reason as a function of the evidence and of the settings."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config.retrain import RetrainConfig
from pipeline.retrain.evidence import Evidence


@dataclass(frozen=True)
class Vote:
    """What one policy says.

    Attributes:
        policy: Its setting.
        retrain: Whether it is a reason to retrain.
        sentence: The same in words, with number and limit; also why it could not be measured.
    """

    policy: str
    retrain: bool
    sentence: str


Policy = Callable[[Evidence, RetrainConfig], Vote]


def no_champion(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Where nothing serves, anything is better."""
    if evidence.champion is None:
        return Vote("no_champion", True, "there is no champion yet")
    return Vote("no_champion", False, f"version {evidence.champion.serving_version} serves")


def new_spans(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Counts spans that no run has come to a verdict on."""
    count = len(evidence.new)
    said = f"{count} span{'s' * (count != 1)} new ({', '.join(evidence.new[-3:]) or 'none'})"
    if config.new_spans is None:
        return Vote("new_spans", False, f"{said}, which is no reason here")
    # Data of which every new day was refused are the data of last time.
    return Vote("new_spans", count >= config.new_spans, f"{said}, of {config.new_spans} that are a reason")


def champion_days(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Looks at the age of the champion."""
    if evidence.champion is None:
        return Vote("champion_days", False, "there is no champion whose age could be a reason")
    days = evidence.champion.days
    if config.champion_days is None:
        return Vote("champion_days", False, f"the champion is {days:.1f} days old, which is no reason here")
    said = f"the champion is {days:.1f} days old, of {config.champion_days:g} that are a reason"
    return Vote("champion_days", days >= config.champion_days, said)


def drift(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Holds the newest span against the data behind the champion."""
    if evidence.newest is None or not evidence.newest.drift:
        return Vote("drift", False, _unknown("drift", evidence))
    reasons, calm = [], []
    for name, measured in evidence.newest.drift.items():
        limit = getattr(config.drift, name)
        if limit is None:
            continue
        if measured.value is None or measured.value > limit:
            reasons.append(f"{measured.said}, above {limit:g} (retrain.drift.{name})")
        else:
            calm.append(f"{name} {measured.value:.3g} of {limit:g}")
    where = evidence.newest.span
    return Vote("drift", bool(reasons), f"{where}: " + ("; ".join(reasons) or ", ".join(calm) or "every limit is none"))


def accuracy(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Looks at the champion's answers on the newest labelled span: worse than chance explains is a reason."""
    if evidence.newest is None or evidence.newest.accuracy is None:
        return Vote("accuracy", False, _unknown("accuracy", evidence))
    found = evidence.newest.accuracy
    said = (
        f"the champion's accuracy on {evidence.newest.span} is {found.share:.4f} on {found.rows:,} rows "
        f"({found.low:.4f} to {found.high:.4f} at 95%)"
    )
    reasons = []
    if config.accuracy_floor is not None and found.high < config.accuracy_floor:
        reasons.append(f"below {config.accuracy_floor:g} (retrain.accuracy_floor)")
    then = evidence.champion.accuracy if evidence.champion else None
    if config.accuracy_loss is not None and then is not None and found.high < then - config.accuracy_loss:
        reasons.append(f"more than {config.accuracy_loss:g} below its {then:.4f} of then (retrain.accuracy_loss)")
    return Vote("accuracy", bool(reasons), ", ".join([said, *reasons]))


POLICIES: tuple[Policy, ...] = (no_champion, new_spans, champion_days, drift, accuracy)


def _unknown(what: str, evidence: Evidence) -> str:
    return evidence.unmeasured.get(what, f"{what} was not measured")
