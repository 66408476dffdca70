"""The transformer that is trained from scratch, as the pipeline knows it."""

from components.files import sha256_of
from components.settings import Settings
from trainers.family import Champion, Family, Handed, NoWarmStartError, Prepared
from trainers.transformer.config import TextConfig, TransformerConfig

VOCABULARY_ASSET = "assets/vocabulary"
"""Where an exported model holds the vocabulary that Transform made."""


class TransformerSections(Settings):
    """Its sections of the configuration."""

    text: TextConfig = TextConfig()
    transformer: TransformerConfig = TransformerConfig()


def _transform_config(own: TransformerSections, prepared: Prepared) -> Handed:
    given = prepared.get("warm_start", {})
    return own.text.model_dump() | {name: value for name, value in given.items() if name.startswith("vocabulary")}


def _trainer_config(own: TransformerSections, prepared: Prepared) -> Handed:
    return {"model": own.transformer.model_dump(), "vocab_size": own.text.vocab_size, "max_tokens": own.text.max_tokens}


def _warm_start(own: TransformerSections, prepared: Prepared, champion: Champion) -> Handed:
    """The vocabulary is learned from the data, so new data would make another one: the champion's takes its place."""
    vocabulary = champion.directory / VOCABULARY_ASSET
    if not vocabulary.is_file():
        raise NoWarmStartError(f"the champion's vocabulary is not at {vocabulary}")
    return {"vocabulary": str(vocabulary), "vocabulary_digest": sha256_of(vocabulary)}


FAMILY = Family(
    sections=TransformerSections,
    epochs="transformer.epochs",
    summary=lambda own: "A transformer trained from scratch",
    preprocessing_fn="components.text.transform.preprocessing_fn",
    run_fn="trainers.transformer.run.run_fn",
    transform_config=_transform_config,
    trainer_config=_trainer_config,
    warm_start=_warm_start,
)
