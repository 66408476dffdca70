"""What a server can be told, and what it cannot."""

from pathlib import Path

import pytest

from components.errors import BadInputError
from serving.config import ServerConfig, make_config


def test_texts_become_values() -> None:
    config = make_config(
        {
            "model_dir": "models",
            "port": "0",
            "canary_share": "0.25",
            "max_wait_ms": "1.5",
            "allowed_hosts": "news.example, desk.example",
            "token_env": "TOKEN",
        }
    )
    assert config.model_dir == Path("models")
    assert (config.port, config.canary_share, config.max_wait_ms) == (0, 0.25, 1.5)
    assert config.allowed_hosts == ("news.example", "desk.example")
    assert config.token_env == "TOKEN"
    assert make_config({"model_dir": "models", "token_env": "none"}).token_env is None


def test_nothing_is_open_by_default() -> None:
    config = make_config({"model_dir": "models"})
    assert (config.host, config.allowed_hosts, config.canary_share) == ("127.0.0.1", (), 0.0)


def test_an_unknown_setting_is_told_with_the_nearest() -> None:
    with pytest.raises(BadInputError, match="no setting 'max_batch_row': did you mean 'max_batch_rows'"):
        make_config({"model_dir": "models", "max_batch_row": "2"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", "65536"),
        ("canary_share", "1.5"),
        ("canary_share", "nan"),
        ("max_batch_rows", "0"),
        ("request_seconds", "inf"),
        ("body_bytes", "many"),
        ("token_env", "NOT A NAME"),
        ("host", ""),
        ("header_seconds", "0"),
        ("explain_words", "501"),
        ("explain_words", "-1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(BadInputError, match=rf"^setting {key}: .*, not '{value}'$"):
        make_config({"model_dir": "models", key: value})


def test_a_queue_that_holds_no_whole_request_is_refused() -> None:
    with pytest.raises(BadInputError, match="max_queue_rows"):
        make_config({"model_dir": "models", "max_queue_rows": "10", "instances": "11"})


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in ServerConfig.model_fields.items() if not field.description] == []


def test_the_model_directory_has_no_default() -> None:
    with pytest.raises(BadInputError, match="model_dir"):
        make_config({})
