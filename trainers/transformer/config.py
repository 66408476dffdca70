"""Tokenisation and architecture of the from-scratch transformer."""

from typing import Literal

from pydantic import Field

from components.settings import Settings
from trainers.config import FitConfig


class TextConfig(Settings):
    """Tokenisation."""

    vocab_size: int = Field(30_000, ge=3, description="token ids in all, padding and out-of-vocabulary included")
    min_count: int = Field(2, ge=1, description="occurrences below which a word is out of vocabulary")
    max_tokens: int = Field(128, ge=1, description="tokens kept per text")
    clean: bool = Field(False, description="entities resolved and markup dropped before texts are split")


class TransformerConfig(FitConfig):
    """Widths are in units, rates are probabilities."""

    width: int = Field(32, ge=1, description="of the embeddings and the residual stream")
    blocks: int = Field(1, ge=1)
    heads: int = Field(2, ge=1)
    head_width: int = Field(16, ge=1, description="of query, key and value per head")
    feed_forward: int = Field(64, ge=1)
    norm: Literal["pre", "post"] = Field("pre", description="layer norm before or after each residual branch")
    pooling: Literal["mean", "mean_max"] = "mean_max"
    hidden: int = Field(0, ge=0, description="units of a ReLU layer before the softmax; 0 leaves it out")
    dropout: float = Field(0.1, ge=0, lt=1)
    word_dropout: float = Field(0.4, ge=0, lt=1, description="share of words hidden from a training step")
    transformers: int = Field(1, ge=1, description="how many learn side by side; the model answers with their mean")
    wide_buckets: int = Field(1_000_000, ge=0, description="hash buckets of the linear bigram part; 0 leaves it out")
    wide_dropout: float = Field(0.0, ge=0, lt=1, description="share of words hidden from the linear part")
    wide_prior: float = Field(
        0.2, ge=0, description="weight of the counts that the linear part begins with; 0 for none"
    )
