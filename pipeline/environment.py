"""Environment variables that libraries read when they are imported, set once at the edge of the process."""

from collections.abc import MutableMapping


def prepare(environment: MutableMapping[str, str]) -> None:
    """Sets what TensorFlow and MLflow read; all but the first only where the user has not chosen otherwise.

    Both model families, Transform's layer and Hub's are Keras 2. MLflow reports its use to its makers by
    default, tries an absent server for four minutes, and draws bars over the screen.
    """
    environment["TF_USE_LEGACY_KERAS"] = "1"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    environment.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    environment.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It would copy the lock file of whatever project is in the current directory into every registered model.
    environment.setdefault("MLFLOW_LOG_UV_FILES", "false")
    environment.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
