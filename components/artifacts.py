"""Artifact types of this project's own components. Each is a directory with the named files."""

from tfx.types import artifact


class IngestReport(artifact.Artifact):
    """``report.json`` with counts per split and class, and ``quarantine.jsonl`` with the malformed rows."""

    TYPE_NAME = "newsdesk.IngestReport"


class Verdict(artifact.Artifact):
    """``verdict.json``: what a gate checked, the numbers it saw and its decision."""

    TYPE_NAME = "newsdesk.Verdict"


class DataProfile(artifact.Artifact):
    """``profile.json``: counts of rows, classes, text lengths and words, what later data are held against."""

    TYPE_NAME = "newsdesk.DataProfile"


class Champion(artifact.Artifact):
    """``champion.json`` says which version serves, or that none does; beside it that version's ``model/``, and
    ``profile.json`` and ``predictions.npz`` where its run kept them."""

    TYPE_NAME = "newsdesk.Champion"


class Answers(artifact.Artifact):
    """``predictions.npz``: what a model answers on the test split."""

    TYPE_NAME = "newsdesk.Answers"


class Baseline(artifact.Artifact):
    """``baseline.json``: how good a linear model is on the test split; ``label_ids.npy``: its answers to it."""

    TYPE_NAME = "newsdesk.Baseline"


class Registration(artifact.Artifact):
    """``registration.json``: the version of MLflow's registry that holds the candidate."""

    TYPE_NAME = "newsdesk.Registration"


class ModelCard(artifact.Artifact):
    """``MODEL_CARD.md``, which is pushed with the model."""

    TYPE_NAME = "newsdesk.ModelCard"


class Promotion(artifact.Artifact):
    """Says in its properties which alias was pointed at what was pushed."""

    TYPE_NAME = "newsdesk.Promotion"
