"""Training settings that every model family has."""

from pydantic import Field

from components.settings import Settings


class FitConfig(Settings):
    """How a model is fitted. Steps are counted in batches."""

    epochs: int = Field(3, ge=1, description="passes over the train split")
    batch_size: int = Field(256, ge=1, description="rows per gradient step")
    learning_rate: float = Field(4e-3, gt=0, description="peak rate, reached at the end of warm-up")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate rises")
    weight_decay: float = Field(0.01, ge=0, description="decoupled decay of kernels; never of biases, norms, tables")
    clip_norm: float = Field(
        1.0, gt=0, description="largest global norm of the dense gradients; rows of tables are not clipped"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(1, ge=0, description="of initial weights, batch order and dropout")
