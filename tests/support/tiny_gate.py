"""A gate that decides as it is told, and a node that reads its verdict, for a tiny graph."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.artifacts import Verdict
from components.gates.verdict import Check, write_verdict


@component
def TinyGate(verdict: OutputArtifact[Verdict], said: Parameter[str], log: Parameter[str]) -> None:
    """Says no in the words ``said``, yes where it is empty and nothing at all for a dash; adds a line to ``log``."""
    with Path(log).open("a") as file:
        file.write("asked\n")
    if said != "-":
        write_verdict(verdict.uri, "TinyGate", [Check("told", "fail", not said, said or "fine")])


@component
def TinyReader(verdict: InputArtifact[Verdict]) -> None:
    """Needs what the gate leaves, and leaves nothing."""
    assert Path(verdict.uri).is_dir()
