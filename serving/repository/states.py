"""The states of a version, as TensorFlow Serving tells them."""

from dataclasses import dataclass
from enum import Enum

from serving.errors import Code


class State(Enum):
    """Of a version, as in ``get_model_status.proto``."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """How a version is doing: its state, and why it is not well, if it is not."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""
