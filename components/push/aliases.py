"""What serves, in files: ``<base>/aliases.json`` per model, and ``models.config`` for TensorFlow Serving.

MLflow's aliases decide; these files are their shadow, for servers that never talk to MLflow.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, TypeAdapter

from components.errors import BadInputError
from components.files import undamaged, write_whole

ALIASES_FILE = "aliases.json"
MODELS_CONFIG = "models.config"
LABELS = ("champion", "challenger")
"""Aliases that clients may ask for."""
SERVED = (*LABELS, "previous")
"""Aliases whose versions are loaded; the previous champion is, so that a rollback takes effect at once."""
# TensorFlow Serving refuses a whole file that moves a label to a version it has not begun to load. It reads the file
# every two seconds as ``serving/deploy`` starts it.
_POLLED_SECONDS = 3.0
# Servers run as another user, so everybody may read, whatever this process's umask.
FILE_MODE = 0o644
_ALIASES = TypeAdapter(dict[str, Annotated[int, Field(strict=True, gt=0)]])


def read_aliases(base: Path) -> dict[str, int]:
    """Returns alias to version of a model base; empty where nothing has been promoted.

    Raises:
        BadInputError: The file is damaged.
    """
    path = base / ALIASES_FILE
    try:
        with undamaged(path, "newsdesk models promote writes it anew"):
            return _ALIASES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}


def write_aliases(serving: Path, name: str, aliases: dict[str, int]) -> None:
    """Writes a model's aliases and the ``models.config`` of all models, each at once or not at all.

    Where a label moves to a version that servers have not loaded, they are first told to load it beside the others,
    and a few seconds later to move the label.

    ``serving`` is the directory of all models; each version in ``aliases`` has a directory.
    """
    try:
        before = read_aliases(serving / name)
    except BadInputError:
        before = {}  # damaged, and about to be written anew
    write_whole(serving / name / ALIASES_FILE, json.dumps(aliases, sort_keys=True), FILE_MODE)
    if any(alias in before and aliases.get(alias, 0) not in {0, *_versions(before)} for alias in LABELS):
        write_whole(serving / MODELS_CONFIG, render_models_config(serving, {name: before}), FILE_MODE)
        time.sleep(_POLLED_SECONDS)
    write_whole(serving / MODELS_CONFIG, render_models_config(serving), FILE_MODE)


def is_settled(serving: Path) -> bool:
    """Returns whether ``models.config`` names the versions that the aliases of all models do.

    After a move that was cut it does not. Its paths may be those of another mount.
    """
    path, promoted = serving / MODELS_CONFIG, any(serving.glob(f"*/{ALIASES_FILE}"))
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return not promoted or _without_paths(text) == _without_paths(render_models_config(serving))


def render_models_config(serving: Path, before: Mapping[str, dict[str, int]] = MappingProxyType({})) -> str:
    """Returns a ``ModelServerConfig`` in text format for all models below ``serving`` that have aliases.

    ``before`` is model to the aliases it had, which keep their labels and versions beside the new versions.

    Without a label TensorFlow Serving answers with the highest version that it has loaded, which may be the
    challenger: clients that must not meet it ask for ``labels/champion``.
    """
    # Most who import this module render nothing.
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    models = config.model_config_list
    models.SetInParent()
    for path in sorted(serving.glob(f"*/{ALIASES_FILE}")):
        aliases = read_aliases(path.parent)
        named = before.get(path.parent.name, aliases)
        if not any(alias in LABELS for alias in named):
            continue
        model = models.config.add(name=path.parent.name, base_path=str(path.parent), model_platform="tensorflow")
        model.model_version_policy.specific.versions.extend(sorted(_versions(aliases) | _versions(named)))
        model.version_labels.update({alias: version for alias, version in named.items() if alias in LABELS})
    return text_format.MessageToString(config)


def _without_paths(config: str) -> list[str]:
    return [line for line in config.splitlines() if "base_path:" not in line]


def _versions(aliases: dict[str, int]) -> set[int]:
    return {version for alias, version in aliases.items() if alias in SERVED}
