"""The table of model families: a family is a folder and one line here."""

MODULES = {
    "transformer": "trainers.transformer.family",  # the default
    "bert": "trainers.bert.family",
}
"""Value of the setting ``model`` to the module whose ``FAMILY`` describes it."""
