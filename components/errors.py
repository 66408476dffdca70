"""The two ways a run ends on purpose. The command line turns them into exit codes 2 and 3."""


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
