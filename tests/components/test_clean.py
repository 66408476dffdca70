"""What goes out as JSON is JSON to every reader."""

import json
import math

import numpy as np
import pytest

from components.clean import to_json


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_number_that_is_not_finite_is_null(number: float) -> None:
    found = to_json({"value": number, "each": (number, 0.1, [number])})
    assert json.loads(found, parse_constant=pytest.fail) == {"value": None, "each": [None, 0.1, [None]]}


@pytest.mark.parametrize(
    "value", [None, True, 0.1, 1e-300, 10**30, "NaN", "\ud800 Währung", {"Infinity": ["NaN", {"a": -0.0}]}]
)
def test_all_else_is_as_it_was(value: object) -> None:
    assert to_json(value) == json.dumps(value)
    assert to_json(value, indent=1, ensure_ascii=False) == json.dumps(value, indent=1, ensure_ascii=False)
