"""Artifact types of this project's own components. Each is a directory with the named files."""

from typing import Any

from tfx.types import artifact


class _Artifact(artifact.Artifact):
    """MLMD knows a type by the name of its class: under another name, the artifacts of earlier runs are lost."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.TYPE_NAME = f"newsdesk.{cls.__name__}"


class IngestReport(_Artifact):
    """``report.json`` with counts per split and class, and ``quarantine.jsonl`` with the malformed rows."""


class Verdict(_Artifact):
    """``verdict.json``: what a gate checked, the numbers it saw and its decision."""


class DataProfile(_Artifact):
    """``profile.json``: counts of rows, classes, text lengths and words, what later data are held against."""


class Champion(_Artifact):
    """``champion.json`` says which version serves, or that none does; beside it that version's ``model/``, and
    ``profile.json`` and ``predictions.npz`` where its run kept them."""


class Answers(_Artifact):
    """``predictions.npz``: what a model answers on the test split."""


class Baseline(_Artifact):
    """``baseline.json``: how good a linear model is on the test split; ``label_ids.npy``: its answers to it."""


class Registration(_Artifact):
    """``registration.json``: the version of MLflow's registry that holds the candidate."""


class ModelCard(_Artifact):
    """``MODEL_CARD.md``, which is pushed with the model."""


class Promotion(_Artifact):
    """Says in its properties which alias was pointed at what was pushed."""
