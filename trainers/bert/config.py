"""How a pretrained encoder is fine-tuned."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from trainers.config import FitConfig

NETRC = "keep it in the file that NETRC names, by default ~/.netrc"
"""Where user and password for an encoder's server go."""
AS_SAVED = "as saved"


class BertConfig(FitConfig):
    """Rates are probabilities; the encoder's own dropout is part of its graph."""

    secrets_go: ClassVar = {"encoder": NETRC}
    epochs: int = Field(2, ge=1, description="passes over the train split")
    batch_size: int = Field(16, ge=1, description="rows per gradient step")
    learning_rate: float = Field(1e-4, gt=0, description="peak rate, reached at the end of warm-up")
    encoder: str = Field("minilm-l6", min_length=1, description="a name, a TF-Hub handle or a directory")
    train: Literal["frozen", "top", "full"] = Field("top", description="which weights learn beside the head")
    top_layers: int = Field(4, ge=1, description="layers that learn where train=top, counted from the last")
    pooling: Literal["mean", "pooled"] = Field("mean", description="mean of the last layer, or pooled_output")
    max_tokens: int = Field(128, ge=3, description="word pieces kept per text, [CLS] and [SEP] included")
    clean: bool = Field(False, description="entities resolved and markup dropped before texts are split")
    lower_case: bool | None = Field(None, description="None for what the encoder says of itself")
    hidden: int = Field(0, ge=0, description="units of a ReLU layer before the softmax; 0 leaves it out")
    dropout: float = Field(0.1, ge=0, lt=1, description="before the softmax, and before the hidden layer")
    encoder_dropout: bool = Field(False, description="whether the encoder's own dropout is on in training")
    head_epochs: int = Field(20, ge=1, description="where train=frozen: passes over the encoded rows, nearly free")
    head_batch_size: int = Field(128, ge=1, description="where train=frozen")
    head_learning_rate: float = Field(2e-3, gt=0, description="where train=frozen")
    wide_buckets: int = Field(300_000, ge=0, description="hash buckets of the linear expert; 0 leaves it out")
    wide_dropout: float = Field(0.5, ge=0, lt=1, description="share of word pieces hidden from the linear part")
    wide_learning_rate: float = Field(0.02, gt=0, description="peak rate of the linear part")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="in training; auto is bfloat16 where the processor has instructions for it"
    )
    serving_precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="in the exported model; bfloat16 lets answers depend a little on their batch"
    )

    def head_fit(self) -> FitConfig:
        """Returns how the head alone is fitted to the outputs of a frozen encoder."""
        return FitConfig.model_validate(
            {name: getattr(self, name) for name in FitConfig.model_fields}
            | {name: getattr(self, f"head_{name}") for name in ("epochs", "batch_size", "learning_rate")}
        )


@dataclass(frozen=True)
class Encoder:
    """An encoder that is ready for the graph.

    Attributes:
        name: As configured.
        digest: SHA-256 in hex of the files it was made from.
        training, serving: Directories of SavedModels with the interface of TF-Hub's text encoders; they differ in
            the precision of their arithmetic.
        precision: Of ``training``: ``float32``, ``bfloat16``, or ``AS_SAVED`` for one that is read where it lies.
        vocabulary: Path of ``vocab.txt``.
        vocabulary_digest: Its SHA-256 in hex.
        lower_case: Whether texts are lower-cased before they are split.
        strip_accents: Whether accents are stripped; None does as ``lower_case`` says.
        tokenize_chinese_chars: Whether every ideograph is a word of its own.
    """

    name: str
    digest: str
    training: str
    serving: str
    precision: str
    vocabulary: str
    vocabulary_digest: str
    lower_case: bool
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
