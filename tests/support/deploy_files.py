"""The deployment files as they are parsed, and what they may speak of."""

from pathlib import Path
from typing import Any

import yaml
from deploy_tools import DEPLOY, read_compose

from serving.config import ServerConfig

LIMITS = ServerConfig(model_dir=Path("serving"))
SCRAPED = "/monitoring/prometheus/metrics"
# Every flag that is used here, from tensorflow_serving/model_servers/main.cc: an unknown one stops the server.
FLAGS = {
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_batching",
    "load_retry_interval_micros",
    "max_num_load_retries",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "model_name",
    "monitoring_config_file",
    "num_load_threads",
    "rest_api_timeout_in_ms",
}
# What is no metric in an expression.
PROMQL = {"abs", "and", "count", "histogram_quantile", "increase", "or", "rate", "sum", "unless"}
NOT_OURS = {"up", "ALERTS"}


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def inference_service() -> dict[str, Any]:
    return yaml.safe_load(read("inference-service.yaml"))


def flags(arguments: list[str]) -> dict[str, str]:
    pairs = [argument.removeprefix("--").partition("=") for argument in arguments]
    assert len({name for name, _, _ in pairs}) == len(pairs), "a flag stands twice"
    return {name: value for name, _, value in pairs}


def compose_flags() -> dict[str, str]:
    return flags(read_compose()["services"]["serving"]["command"])


def kserve_flags() -> dict[str, str]:
    return flags(inference_service()["spec"]["predictor"]["model"]["args"])
