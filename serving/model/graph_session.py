"""A SavedModel's graph and weights, run the way TensorFlow Serving runs them.

A session brings the graph into memory in a fifth of a second and holds Python's lock for next to nothing of it, where
``tf.saved_model.load`` builds every function in Python, for a second or more in which no request moves. A call takes
half the processor time, since no eager tensors are made; of those, TensorFlow 2.16 keeps 340 bytes each for ever.
"""

import itertools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.model.signatures import Signature

if TYPE_CHECKING:
    import numpy as np


class GraphSession:
    """One SavedModel in memory. Many threads may run it at once."""

    def __init__(self, directory: Path, signatures: Mapping[str, Signature], batches: int = 0, op_threads: int = 0):
        """Reads a SavedModel.

        Args:
            directory: It, looked at by ``components.push.model_graph``.
            signatures: What will be asked of it, each with one input.
            batches: Calls that run at a time, each on a thread of its own and not spread over several, which costs
                more than it saves where ops are small; 0 leaves that to TensorFlow.
            op_threads: Threads within one op, such as a large matrix product; 0 leaves that to TensorFlow.
        """
        import numpy as np
        import tensorflow as tf

        v1 = tf.compat.v1
        config = v1.ConfigProto(intra_op_parallelism_threads=op_threads, use_per_session_threads=batches > 0)
        for _ in range(batches):
            config.session_inter_op_thread_pool.add(num_threads=1)
        self._array = np.array
        self._session = v1.Session(graph=tf.Graph(), config=config)
        # Its notice that it is of version 1 of the API; TensorFlow Serving has no other.
        v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(directory))
        self._run = {
            name: self._session.make_callable(
                {output: tensor.name for output, tensor in signature.outputs.items()},
                [tensor.name for tensor in signature.inputs.values()],
                accept_options=True,
            )
            for name, signature in signatures.items()
        }
        self._options = [v1.RunOptions(inter_op_thread_pool=number) for number in range(batches)] or [None]
        self._numbers = itertools.count()
        self._thread = threading.local()

    def run(self, signature: str, values: Sequence[bytes]) -> dict[str, "np.ndarray"]:
        """Returns the outputs of a signature by name.

        Args:
            signature: Its name.
            values: For its only input, string [N].

        Raises:
            tf.errors.OpError: TensorFlow could not.
        """
        # Each thread that asks stays with one pool.
        if not hasattr(self._thread, "options"):
            self._thread.options = self._options[next(self._numbers) % len(self._options)]
        return self._run[signature](self._array(values, dtype=object), options=self._thread.options)
