"""Whether a run may begin with the champion's weights: only if they mean the same in both, which its family knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.errors import BadInputError
from components.registry.registry import SERVING_VERSION, Registry
from components.registry.tracking import Store, find_runs
from pipeline.config.config import Config
from pipeline.config.families import FAMILIES, Prepared
from trainers.family import Champion, NoWarmStartError


@dataclass(frozen=True)
class WarmStart:
    """What a run begins with.

    Attributes:
        sentence: In words.
        prepared: What the graph is handed: under ``warm_start`` the place ``model`` and what the family adds; empty
            for new weights.
    """

    sentence: str
    prepared: dict[str, Any] = field(default_factory=dict)


def find_warm_start(config: Config, prepared: Prepared, base: Path, version: str, tracking: Store) -> WarmStart:
    """Returns how to begin with a pushed version; arguments and errors besides are those of ``plan_warm_start``.

    Args:
        base: Model base of the pushed versions.
        version: The champion's.
        tracking: MLflow's, which knows the run that trained it.
    """
    trained = Registry(tracking, config.name).with_tag(SERVING_VERSION, version)
    tags: Mapping[str, str] = find_runs(tracking, trained.run_id)[0].tags if trained else {}
    return plan_warm_start(config, prepared, Champion(base / version, tags))


def plan_warm_start(config: Config, prepared: Prepared, champion: Champion) -> WarmStart:
    """Returns how to begin with a pushed model; ``prepared`` is what the family's ``prepare`` returned.

    Raises:
        BadInputError: It is impossible, and ``retrain.vocabulary`` is ``refuse``.
    """
    try:
        entry = _entry(config, prepared, champion)
    except NoWarmStartError as error:
        if config.retrain.vocabulary == "refuse":
            raise BadInputError(
                f"no warm start: {error} (set retrain.vocabulary='from scratch', or retrain.warm_start=false)"
            ) from error
        return WarmStart(f"begins from scratch: {error}")
    return WarmStart(f"begins with the weights of {champion.directory}", {"warm_start": entry})


def _entry(config: Config, prepared: Prepared, champion: Champion) -> dict[str, Any]:
    known = champion.tags.get("model_family", "unknown")
    if known != config.model:
        raise NoWarmStartError(f"the champion is of family {known} and not {config.model}")
    if not (champion.directory / "variables").is_dir():
        raise NoWarmStartError(f"the champion's weights are no longer in {champion.directory}")
    family = FAMILIES[config.model]
    return {"model": str(champion.directory), **family.warm_start(family.of(config), prepared, champion)}
