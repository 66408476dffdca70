"""What can become of a node, of a run and of a candidate: one word for each, in files, tags and on screens alike."""

from enum import StrEnum


class NodeState(StrEnum):
    """The state of one node of one run."""

    WAITING = "waiting"
    RUNNING = "running"
    RAN = "ran"
    CACHED = "cached"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def finished(self) -> bool:
        """Whether the node left all of its outputs."""
        return self in (NodeState.RAN, NodeState.CACHED)


class Outcome(StrEnum):
    """What became of a run, or of a decision whether to run."""

    PUSHED = "pushed"
    REJECTED = "rejected"
    """A gate said no to data that parsed, or to a model."""
    BAD_INPUT = "bad input"
    """Data, configuration or environment could not be used."""
    FAILED = "failed"
    """Any other failure; ``status`` calls ``BAD_INPUT`` so as well."""

    STARTED = "started"
    """At work, or killed without a word."""
    KILLED = "killed"
    """Found dead by a later one."""
    STOPPED = "stopped"
    """Ended from outside, on purpose."""

    YES = "yes"
    """There is a reason to run, and nobody asked to."""
    NO = "no"
    """No reason to run."""
    REFUSED = "refused"
    """There is nothing to run on: every new span is refused."""
    UNREAD = "unread"
    """The evidence for a decision could not be read; stands in the history only."""
    DECIDED = "decided"
    """The evidence could be read again, after it could not; stands in the history only."""

    @property
    def status(self) -> str:
        """What ``newsdesk run --json`` calls it: ``failed`` whatever the kind of failure."""
        return str(Outcome.FAILED if self is Outcome.BAD_INPUT else self)

    @property
    def exit_code(self) -> int:
        """The exit code of the command that ends so."""
        if self in (Outcome.PUSHED, Outcome.YES, Outcome.NO):
            return 0
        return {Outcome.BAD_INPUT: 2, Outcome.REJECTED: 3, Outcome.REFUSED: 3}.get(self, 1)


class Standing(StrEnum):
    """What the registry knows of a candidate: MLflow's tag ``validation_status``."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled back"
