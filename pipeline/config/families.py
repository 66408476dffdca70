"""The model families of the table, and what the configured one hands the nodes."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from trainers.families import MODULES
from trainers.family import Downloads, Family, Handed, Prepared

__all__ = ["FAMILIES", "Downloads", "Family", "Handed", "Prepared", "hand", "prepare", "summarize"]


class Configured(Protocol):
    """A configuration: the name of its family, and every family's sections."""

    @property
    def model(self) -> str: ...


FAMILIES: Mapping[str, Family[Any]] = {name: import_module(module).FAMILY for name, module in MODULES.items()}


def prepare(config: Configured, downloads: Downloads) -> Prepared:
    """Brings into place what the configured family needs before the graph starts."""
    family = FAMILIES[config.model]
    return family.prepare(family.of(config), downloads)


def hand(config: Configured, prepared: Prepared | None) -> tuple[Handed, Handed]:
    """Returns what Transform and Trainer are handed of the configured family.

    Args:
        config: Settings.
        prepared: What ``prepare`` returned; None where nothing is prepared since nothing is run.
    """
    if prepared is None:
        return {}, {}
    family = FAMILIES[config.model]
    own = family.of(config)
    for_trainer = family.trainer_config(own, prepared)
    if "warm_start" in prepared:
        for_trainer["warm_start"] = prepared["warm_start"]
    return family.transform_config(own, prepared), for_trainer


def summarize(config: Configured) -> str:
    """Returns what a model of the configured family is, as the beginning of a sentence."""
    family = FAMILIES[config.model]
    return family.summary(family.of(config))
