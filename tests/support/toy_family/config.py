"""Settings of the toy family."""

from pydantic import Field

from components.settings import Settings


class ToyConfig(Settings):
    """One linear layer."""

    passes: int = Field(9, ge=1, description="over the train split")
    buckets: int = Field(5000, ge=1, description="that trigrams are hashed to")
    rate: float = Field(0.05, gt=0, description="of learning")
