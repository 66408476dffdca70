"""Named configurations: ``presets/*.toml`` beside this file. Each begins with its command; the README has results."""

import tomllib
from pathlib import Path

from components.errors import BadInputError
from pipeline.config.config import Config, parse

_DIRECTORY = Path(__file__).with_name("presets")
PRESETS = ("sample", "fast", "ag-news", "best", "seed")


def make_config(preset: str) -> Config:
    """Returns a preset.

    Raises:
        BadInputError: There is none of that name.
    """
    if preset not in PRESETS:
        raise BadInputError(f"there is no preset {preset!r}: choose {', '.join(PRESETS)}")
    text = (_DIRECTORY / f"{preset}.toml").read_text(encoding="utf-8")
    return parse({"preset": preset, **tomllib.loads(text)})
