"""The table of gates: each line is complete, and whoever is to hear of all gates does."""

import subprocess
import sys

import pytest

from components.artifacts import Verdict
from components.gates.gate import Gate
from components.gates.table import GATES
from components.pusher import PusherSpec
from components.report.card import CardSpec
from components.report.left_behind import VERDICT
from pipeline.config.config import Config
from pipeline.config.presets import make_config

each = pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)


def test_names_and_sections_are_told_apart() -> None:
    for names in ([gate.name for gate in GATES], [gate.section for gate in GATES], [gate.anchor for gate in GATES]):
        assert len(set(names)) == len(names)
    assert [gate.section for gate in GATES[:3]] == ["data_gate", "model_gate", "serving_gate"]


@each
def test_a_component_takes_what_the_line_gives_it_and_leaves_a_verdict(gate: Gate) -> None:
    """A launcher knows a gate by this output: a gate that called it otherwise would be asked by nobody."""
    spec = gate.load().SPEC_CLASS
    assert set(spec.INPUTS) == set(gate.inputs)
    assert spec.OUTPUTS[VERDICT].type is Verdict
    assert {"settings", "code_digest"} <= set(spec.PARAMETERS) <= {"settings", "code_digest", "classes"}


@each
def test_every_verdict_reaches_the_card_and_the_pusher(gate: Gate) -> None:
    for spec in (CardSpec, PusherSpec):
        assert spec.INPUTS[gate.verdict_input].type is Verdict


@each
def test_a_gate_has_a_section_of_settings(gate: Gate) -> None:
    assert Config.model_fields[gate.section].annotation is gate.settings
    assert make_config("ag-news").of(gate) == gate.settings()


def test_the_table_waits_for_neither_tensorflow_nor_tfx() -> None:
    heavy = "import sys, pipeline.config.config; print([name for name in ('tfx', 'tensorflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
