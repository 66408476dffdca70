"""AdamW that touches only the rows of an embedding table which a batch uses, and the warm-up schedule."""

import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable("newsdesk")
class LazyAdamW(tf_keras.optimizers.AdamW):
    """AdamW (Loshchilov & Hutter 2019) with lazy updates for sparse gradients.

    The parent class decays both moments of a whole table at every step, which costs more than the model where
    tables are large. Rows that a batch does not use keep their moments here, as in lazy Adam.
    """

    def _clip_gradients(self, gradients: list[tf.Tensor | tf.IndexedSlices]) -> list[tf.Tensor | tf.IndexedSlices]:
        """Clips dense gradients. A row's step is bounded by the rate whatever its gradient, and a table whose
        gradients are large must not shrink those of the rest."""
        dense = iter(super()._clip_gradients([item for item in gradients if not isinstance(item, tf.IndexedSlices)]))
        return [item if isinstance(item, tf.IndexedSlices) else next(dense) for item in gradients]

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable, or the rows of it that ``gradient`` names; the rows are unique."""
        slot = self._index_dict[self._var_key(variable)]
        first, second = self._momentums[slot], self._velocities[slot]
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate, beta_1, beta_2 = (
            tf.cast(value, variable.dtype) for value in (self.learning_rate, self.beta_1, self.beta_2)
        )
        power_1, power_2 = tf.pow(beta_1, step), tf.pow(beta_2, step)
        if not isinstance(gradient, tf.IndexedSlices):
            # One pass over the weights instead of the parent's ten.
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=power_1,
                beta2_power=power_2,
                lr=rate,
                beta1=beta_1,
                beta2=beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )
            return
        corrected = rate * tf.sqrt(1 - power_2) / (1 - power_1)
        rows, values = gradient.indices, gradient.values
        new_first = beta_1 * tf.gather(first, rows) + (1 - beta_1) * values
        new_second = beta_2 * tf.gather(second, rows) + (1 - beta_2) * tf.square(values)
        first.scatter_update(tf.IndexedSlices(new_first, rows))
        second.scatter_update(tf.IndexedSlices(new_second, rows))
        variable.scatter_sub(tf.IndexedSlices(corrected * new_first / (tf.sqrt(new_second) + self.epsilon), rows))


@tf_keras.utils.register_keras_serializable("newsdesk")
class WarmupLinearDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to ``peak`` over ``warmup_steps``, then falls linearly to 0 at ``total_steps``.

    Steps are batches, as the optimizer counts them.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int):
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        done = tf.cast(step, tf.float32) + 1.0
        rising = done / max(1, self.warmup_steps)
        falling = (self.total_steps - done + 1.0) / max(1, self.total_steps - self.warmup_steps)
        return self.peak * tf.clip_by_value(tf.minimum(rising, falling), 0.0, 1.0)

    def get_config(self) -> dict[str, float | int]:
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}
