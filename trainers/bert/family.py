"""A pretrained BERT encoder that is fine-tuned, as the pipeline knows it."""

from dataclasses import asdict

from components.settings import Settings
from trainers.bert.config import BertConfig
from trainers.family import Champion, Downloads, Family, Handed, NoWarmStartError, Prepared


class BertSections(Settings):
    """Its section of the configuration."""

    bert: BertConfig = BertConfig()


def _prepare(own: BertSections, downloads: Downloads) -> Prepared:
    from trainers.bert.encoders import prepare_encoder

    return asdict(prepare_encoder(own.bert, downloads))


def _transform_config(own: BertSections, prepared: Prepared) -> Handed:
    names = ("vocabulary", "vocabulary_digest", "lower_case", "strip_accents", "tokenize_chinese_chars")
    return {name: prepared[name] for name in names} | {"max_tokens": own.bert.max_tokens, "clean": own.bert.clean}


def _trainer_config(own: BertSections, prepared: Prepared) -> Handed:
    return {
        "model": own.bert.model_dump(),
        "encoder": {name: value for name, value in prepared.items() if name != "warm_start"},
    }


def _warm_start(own: BertSections, prepared: Prepared, champion: Champion) -> Handed:
    """The vocabulary belongs to the encoder, and must be the champion's already."""
    digest = champion.tags.get("prepared.vocabulary_digest")
    if digest is None or digest != prepared["vocabulary_digest"]:
        raise NoWarmStartError(f"the champion's vocabulary is not that of {prepared['name']}")
    return {"vocabulary_digest": digest}


FAMILY = Family(
    sections=BertSections,
    epochs="bert.epochs",
    summary=lambda own: f"A fine-tuned BERT encoder ({own.bert.encoder})",
    preprocessing_fn="components.text.wordpiece.preprocessing_fn",
    run_fn="trainers.bert.run.run_fn",
    transform_config=_transform_config,
    trainer_config=_trainer_config,
    warm_start=_warm_start,
    prepare=_prepare,
)
