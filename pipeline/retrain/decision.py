"""The decision: what every policy says, what follows, and why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config.retrain import RetrainConfig
from pipeline.retrain.evidence import Evidence
from pipeline.retrain.policy import POLICIES, Policy, Vote


@dataclass(frozen=True)
class Decision:
    """Whether to retrain.

    Attributes:
        retrain: The answer.
        reasons: Why, in words; where the answer is no, why not.
        votes: What every policy said.
        evidence: What they looked at.
        refused: Whether the answer is no because new data broke a limit of the DataGate.
    """

    retrain: bool
    reasons: tuple[str, ...]
    votes: tuple[Vote, ...]
    evidence: Evidence
    refused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        values = asdict(self)
        values["evidence"]["moment"] = self.evidence.moment.isoformat()
        return values


def decide(evidence: Evidence, config: RetrainConfig, policies: Sequence[Policy] = POLICIES) -> Decision:
    """Asks every policy; one that says yes is enough.

    A newest span that breaks a limit of the DataGate stops the retrain whatever the policies say: with one bad day
    among many good ones the gate itself might not see it. Later days go on without that span.
    """
    votes = tuple(policy(evidence, config) for policy in policies)
    newest = max((*evidence.window, *evidence.refused), default="")
    if newest in evidence.refused:
        reasons = tuple(f"{newest} is refused: {reason}" for reason in evidence.refused[newest])
        return Decision(False, reasons, votes, evidence, refused=True)
    if not evidence.window:
        found = "; ".join(evidence.left_out[-3:])
        return Decision(False, (f"there is no whole span to train on{f': {found}' if found else ''}",), votes, evidence)
    reasons = tuple(vote.sentence for vote in votes if vote.retrain)
    if reasons and evidence.tried:
        # The same spans and settings make the same model: the reason stays, and another run would not remove it.
        return Decision(False, (f"{evidence.tried} on the same spans already", *reasons), votes, evidence)
    if reasons:
        return Decision(True, reasons, votes, evidence)
    return Decision(False, tuple(vote.sentence for vote in votes if vote.policy != "no_champion"), votes, evidence)
