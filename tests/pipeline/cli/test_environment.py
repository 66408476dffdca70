"""What the process sets for the libraries it loads."""

from pipeline.cli.main import set_libraries


def test_an_empty_environment_gets_every_default() -> None:
    environment: dict[str, str] = {}
    set_libraries(environment)
    assert environment == {
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOG_UV_FILES": "false",
        "MLFLOW_UV_AUTO_DETECT": "false",
    }


def test_the_user_chooses_all_but_the_keras() -> None:
    chosen = {
        "TF_USE_LEGACY_KERAS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "MLFLOW_DISABLE_TELEMETRY": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "9",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "true",
        "MLFLOW_LOG_UV_FILES": "true",
        "MLFLOW_UV_AUTO_DETECT": "true",
    }
    environment = dict(chosen)
    set_libraries(environment)
    assert environment == chosen | {"TF_USE_LEGACY_KERAS": "1"}
