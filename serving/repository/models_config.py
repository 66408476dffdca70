"""Which models and versions are to be served, as TensorFlow Serving's ``models.config`` says it.

From tensorflow_serving/config/model_server_config.proto.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.errors import BadInputError

MOST_BYTES = 1 << 20
"""Of a configuration file."""
_MOST_VERSION = 2**63 - 1
# TensorFlow Serving reads leading zeros too.
_VERSION = re.compile(r"[0-9]{1,64}")
_PLATFORM = "tensorflow"


@dataclass(frozen=True)
class ModelConfig:
    """One model that is to be served.

    Attributes:
        name: What requests call it.
        base: Absolute path of the directory that holds its versions.
        specific: The versions to serve; empty where ``newest`` decides.
        newest: How many of the highest that stand there; None for all.
        labels: Version by label.
    """

    name: str
    base: Path
    specific: tuple[int, ...] = ()
    newest: int | None = 1
    labels: Mapping[str, int] = field(default_factory=dict)

    def choose(self, present: Mapping[int, Path]) -> dict[int, Path]:
        """Returns the versions to serve, each with its directory.

        Args:
            present: What stands in the base; a specific version that does not is returned nevertheless.
        """
        if self.specific:
            return {number: present.get(number, self.base / str(number)) for number in sorted(set(self.specific))}
        highest = sorted(present)[-self.newest :] if self.newest else sorted(present)
        return {number: present[number] for number in highest}


def parse_models_config(text: str, place: str) -> dict[str, ModelConfig]:
    """Returns the models of a ``ModelServerConfig`` in text format, by name.

    Args:
        text: Its content.
        place: Where it is from, for the errors.

    Raises:
        BadInputError: TensorFlow Serving would not take it, or could not make sense of it.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise BadInputError(
            f"{place} is no ModelServerConfig ({error}): newsdesk models promote writes it anew"
        ) from error
    # An empty file parses too.
    if config.WhichOneof("config") != "model_config_list":
        raise BadInputError(f"{place} holds no model_config_list: newsdesk models promote writes it anew")
    found: dict[str, ModelConfig] = {}
    for item in config.model_config_list.config:
        if item.name in found:
            raise BadInputError(f"{place} lists the model {item.name} twice: name each once")
        found[item.name] = _read_model(item, place)
    return found


def find_versions(base: Path) -> dict[int, Path]:
    """Returns the directories of a model base whose names are version numbers.

    Raises:
        OSError: The base is not there or cannot be read.
    """
    found: dict[int, Path] = {}
    with os.scandir(base) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if _VERSION.fullmatch(entry.name) and int(entry.name) <= _MOST_VERSION and entry.is_dir():
                number = int(entry.name)
                # `1` and `001` are one version: the spelling that push uses counts.
                if number not in found or entry.name == str(number):
                    found[number] = Path(entry.path)
    return found


def _read_model(item: Any, place: str) -> ModelConfig:
    name, base, policy = item.name, item.base_path, item.model_version_policy
    if not name:
        raise BadInputError(f"{place} has a config without a name: name the model")
    if not os.path.isabs(base):
        raise BadInputError(f"{place} has the base_path {base!r} for {name}: give an absolute path")
    if item.model_platform != _PLATFORM:
        raise BadInputError(
            f"{place} has the model_platform {item.model_platform!r} for {name}: only {_PLATFORM!r} is served"
        )
    specific: tuple[int, ...] = ()
    newest: int | None = max(policy.latest.num_versions, 1)
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        newest = None
    elif kind == "specific":
        specific = tuple(policy.specific.versions)
        if not specific:
            raise BadInputError(f"{place} has a specific policy without versions for {name}: list them")
    numbers = (*specific, *item.version_labels.values())
    if any(number < 0 for number in numbers):
        raise BadInputError(f"{place} has the version {min(numbers)} for {name}: versions are not negative")
    return ModelConfig(name, Path(os.path.normpath(base)), specific, newest, dict(item.version_labels))
