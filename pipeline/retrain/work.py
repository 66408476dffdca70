"""What the model of a run depends on beside its data, in one digest."""

import hashlib
import json

from pydantic import BaseModel

from pipeline.source_digest import project_digest

_NOT_IN_THE_MODEL = ("retrain", "schedule", "orchestrator", "beam")


def work_digest(config: BaseModel) -> str:
    """Returns a digest of all settings that a run depends on, and of the source code.

    The same data with the same digest make the same model, so that trying again is useless.
    """
    settings = {name: value for name, value in config.model_dump().items() if name not in _NOT_IN_THE_MODEL}
    return hashlib.sha256(f"{json.dumps(settings, sort_keys=True)} {project_digest()}".encode()).hexdigest()
