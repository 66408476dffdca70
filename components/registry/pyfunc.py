"""What MLflow loads to answer with a pushed model; it stands alone, since a server has no newsdesk installed."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class TextClassifier(PythonModel):
    """A SavedModel with the signature ``serving_default``: column ``text`` in; label, label_id, probabilities out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the SavedModel once per process."""
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the ops of text models

        self._tf = tf
        self._model = tf.saved_model.load(context.artifacts["saved_model"])

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Classifies the texts of one request."""
        texts = self._tf.constant(model_input["text"].tolist(), self._tf.string)
        answer = self._model.signatures["serving_default"](text=texts)
        return pd.DataFrame(
            {
                "label": [label.decode() for label in answer["label"].numpy()],
                "label_id": answer["label_id"].numpy(),
                "probabilities": answer["probabilities"].numpy().tolist(),
            }
        )


set_model(TextClassifier())
