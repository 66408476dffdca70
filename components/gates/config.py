"""What settings of gates are made of."""

from typing import Literal

from pydantic import Field

from components.settings import Settings

Severity = Literal["fail", "warn", "off"]


class Limit(Settings):
    """One check: ``fail`` stops the run where ``threshold`` is passed, ``warn`` only says so, ``off`` does not look."""

    severity: Severity = "fail"
    threshold: float = Field(ge=0)
