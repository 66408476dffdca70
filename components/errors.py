"""The ways a run ends on purpose. The command line turns the first two into exit codes 2 and 3."""

import signal


class BadInputError(Exception):
    """Data, configuration or environment cannot be used; the message says what to do about it."""


class GateRejectedError(Exception):
    """A gate said no to data that parsed or to a model.

    Attributes:
        gate: Name of the gate, such as ``DataGate``.
        reasons: One sentence per failed check.
        files: What the gate wrote, by name: the launcher deletes the outputs of a node that raises.
    """

    def __init__(self, gate: str, reasons: list[str], files: dict[str, bytes] | None = None):
        super().__init__(f"{gate}: " + "; ".join(reasons))
        self.gate = gate
        self.reasons = reasons
        self.files = files or {}


class StoppedError(SystemExit):
    """The process was asked to end by a signal; it ends with 128 and the signal's number, as a shell reports it."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self._name = signal.Signals(number).name

    def __str__(self) -> str:
        return f"stopped by {self._name}"
