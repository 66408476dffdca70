"""The table of gates: one more gate is one more line here, and a folder beside ``components/gates/data``.

Nothing here imports TensorFlow or TFX: components are named and loaded by those who make a graph.
"""

from importlib import import_module
from typing import Any

from components.gates.gate import Gate

_MODULES = (
    "components.gates.data.gate",  # one a line
    "components.gates.model.gate",
    "components.gates.serving.gate",
)
"""Each has the ``GATE`` of its folder."""

GATES: tuple[Gate[Any], ...] = tuple(import_module(name).GATE for name in _MODULES)
"""All gates, in the order in which they run."""
