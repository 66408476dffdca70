"""What a server is made of: one frozen, strictly parsed configuration. Nothing here imports TensorFlow."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from components.errors import BadInputError, nearest
from components.settings import Settings, describe


class ServerConfig(Settings):
    """One server. Times are in seconds and sizes in bytes unless the name says otherwise."""

    model_config = ConfigDict(protected_namespaces=())

    model_dir: Path = Field(description="directory of models, or the base of one")
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8501, ge=0, le=65535, description="0 for a free one")
    poll_seconds: float = Field(1.0, gt=0, description="between two looks at the model directory")
    canary_share: float = Field(
        0.0, ge=0, le=1, description="of requests that name no version and no label, how many the challenger answers"
    )
    token_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="environment variable that holds the bearer token"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="values of the Host header beside the address itself; * for any"
    )
    access_log: str = Field("-", min_length=1, description="file, - for standard output, none")

    max_batch_rows: int = Field(64, ge=1, le=4096, description="texts that go through the model together")
    max_wait_ms: float = Field(
        0.0, ge=0, le=1000, description="how long a batch waits for company while there is traffic"
    )
    max_queue_rows: int = Field(512, ge=1, description="texts that may wait for the model")
    model_threads: int = Field(
        0, ge=0, le=64, description="batches that run at a time, where they take long; 0 for one per core"
    )
    op_threads: int = Field(1, ge=0, le=64, description="threads within one op of a model; 0 for one per core")
    request_seconds: float = Field(5.0, gt=0, description="until a request that has no answer is refused")

    body_bytes: int = Field(1 << 20, ge=1, description="of a request's body")
    header_bytes: int = Field(32 << 10, ge=256, description="of a request's line and headers")
    instances: int = Field(256, ge=1, description="texts in one request")
    text_characters: int = Field(10_000, ge=1, description="in one text")
    json_depth: int = Field(32, ge=4, le=500, description="nesting of a body")
    # Together with the whole text they fill four passes through the model.
    explain_words: int = Field(
        60, ge=0, le=500, description="of a text that the page weighs, each a row more for the model; 0 for none"
    )
    connections: int = Field(1024, ge=1, description="open at a time")
    header_seconds: float = Field(10.0, gt=0, description="for a client to send the headers")
    body_seconds: float = Field(10.0, gt=0, description="for a client to send the body")
    write_seconds: float = Field(10.0, gt=0, description="for a client to take any of what it is sent")
    idle_seconds: float = Field(75.0, gt=0, description="that a connection is kept between requests")
    drain_wait_seconds: float = Field(
        1.0, ge=0, description="between SIGTERM, when readiness ends, and the last connection accepted"
    )
    drain_seconds: float = Field(10.0, gt=0, description="for requests in flight to finish")

    @property
    def batches_at_a_time(self) -> int:
        """Model threads, counted."""
        return self.model_threads or os.cpu_count() or 1

    @model_validator(mode="after")
    def _check_queue(self) -> Self:
        if self.max_queue_rows < self.instances:
            raise ValueError(
                f"max_queue_rows is {self.max_queue_rows}, but a request may bring {self.instances} (instances): "
                "raise the one or lower the other"
            )
        return self


def make_config(values: dict[str, Any]) -> ServerConfig:
    """Returns the configuration that plain values, or their texts, describe.

    Raises:
        BadInputError: A key is unknown, or a value is missing, of the wrong type or out of range.
    """
    fields = ServerConfig.model_fields
    for key in values:
        if key not in fields:
            raise BadInputError(f"there is no setting {key!r}: did you mean {nearest(key, fields)!r}?")
    given = {key: _plain(key, value) for key, value in values.items()}
    try:
        return ServerConfig.model_validate(given)
    except ValidationError as error:
        raise BadInputError(describe(error)) from error


def _plain(key: str, value: Any) -> Any:
    if value == "none" and key == "token_env":
        return None
    if key == "allowed_hosts" and isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value
