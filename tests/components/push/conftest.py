"""A model to push."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a directory laid out like a SavedModel; other weights, another model."""

    def make(weights: str) -> Path:
        directory = tmp_path / "models" / weights
        for name, text in (
            ("saved_model.pb", "graph"),
            ("variables/variables.index", "index"),
            ("variables/variables.data-00000-of-00001", weights),
            ("assets.extra/classes.txt", "World\nSports\n"),
        ):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        return directory

    return make
