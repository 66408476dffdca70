"""The toy family as the pipeline knows it."""

from components.settings import Settings
from trainers.family import Champion, Downloads, Family, Handed, NoWarmStartError, Prepared
from trainers.toy.config import ToyConfig


class ToySections(Settings):
    """Its section of the configuration."""

    toy: ToyConfig = ToyConfig()


def _prepare(own: ToySections, downloads: Downloads) -> Prepared:
    return {"hash": f"farm64 modulo {own.toy.buckets}"}


def _warm_start(own: ToySections, prepared: Prepared, champion: Champion) -> Handed:
    hashed = champion.tags.get("prepared.hash")
    if hashed != prepared["hash"]:
        raise NoWarmStartError(f"the champion hashes by {hashed} and not by {prepared['hash']}")
    return {"hash": hashed}


FAMILY = Family(
    sections=ToySections,
    epochs="toy.passes",
    summary=lambda own: f"A toy of {own.toy.buckets} buckets",
    preprocessing_fn="trainers.toy.trigrams.preprocessing_fn",
    run_fn="trainers.toy.run.run_fn",
    transform_config=lambda own, prepared: {"buckets": own.toy.buckets},
    trainer_config=lambda own, prepared: {"toy": own.toy.model_dump(), "hash": prepared["hash"]},
    warm_start=_warm_start,
    prepare=_prepare,
)
