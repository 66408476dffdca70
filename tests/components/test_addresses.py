"""What is a secret in an address, and that no sentence repeats one."""

import pytest

from components.addresses import holds_secret, shown
from components.clean import printable
from components.errors import BadInputError, GateRejectedError

SECRET = "s3cr3t"
WITH = [
    "https://me:s3cr3t@host/a",
    "https://me:a/s3cr3t@host",
    "https://me:a?s3cr3t@host",
    "https://me:a#s3cr3t@host",
    "https://me:a@s3cr3t@host",
    "https://m/e:s3cr3t@host",
    "https://me%3As3cr3t@host",
    "https://s3cr3t@host",
    "https://:s3cr3t@host",
    "HTTPS://me:s3cr3t@host",
    "https:/me:s3cr3t@host",
    "https:///me:s3cr3t@host",
    "https://host/a?password=s3cr3t",
    "https://host/a?x=1;p%61sswd=s3cr3t",
    "https://host/a?X-Amz-Signature=s3cr3t",
    "https://host/a?sig=s3cr3t",
    "https://host/a?api_key=s3cr3t",
    "https://host/a#access_token=s3cr3t",
    "mysql://me:s3cr3t@db/mlmd",
    "mysql://me:a/s3cr3t@db/mlmd",
    "mysql://me@db/mlmd?password=s3cr3t",
    "postgresql+psycopg://me:s3cr3t@db/mlflow",
    "sqlite:////srv/mlflow.db?key=s3cr3t",
    "gs://me:s3cr3t@bucket/a",
    "--option=https://host,https://me:s3cr3t@host",
]
WITHOUT = [
    "minilm-l6",
    "/srv/a:b@c",
    "at 50:50 @ home",
    "mysql://newsdesk@db.example:3307/mlmd",
    "https://mlflow.example:5000/x?page=1",
    "https://tfhub.dev/a/b/1?tf-hub-format=compressed",
    "https://host/models/name@1",
    "https://host:8080/a%40b",
    "https://host/a?author=x&keyword=y",
    "gs://bucket/span-20261201",
    "sqlite:////srv/me:you@work/mlflow.db",
    "file:///srv/a:b@c",
]


@pytest.mark.parametrize("address", WITH)
def test_a_secret_is_found_and_never_said(address: str) -> None:
    assert holds_secret(address)
    for said in (
        shown(address),
        printable(f"{address!r} is none: try again"),
        str(BadInputError(f"there is no {address}: give another")),
        str(GateRejectedError("DataGate", [f"{address} is gone"])),
    ):
        assert SECRET not in said


@pytest.mark.parametrize("address", WITHOUT)
def test_what_holds_no_secret_is_said_as_it_is(address: str) -> None:
    assert not holds_secret(address)
    assert str(BadInputError(f"there is no {address}")) == f"there is no {address}"


@pytest.mark.parametrize("content", ["x", ":", "a:/", "http://", "http://h/?a=1&"])
def test_a_message_does_not_repeat_a_whole_file(content: str) -> None:
    """Nor does it take minutes to look for addresses in it."""
    content *= 200_000 // len(content)
    message = str(BadInputError(f"models.config holds {content}: newsdesk models promote writes it anew"))
    assert message.startswith(f"models.config holds {content[:20]}")
    assert message.endswith(f"{content[-20:]}: newsdesk models promote writes it anew")
    assert len(message) < 5_000


def test_a_message_is_one_printable_line() -> None:
    assert str(BadInputError("a\nb\x1b[31m\x9b\u202e\udce9 é 通貨")) == "a b [31m  \\udce9 é 通貨"
    assert GateRejectedError("DataGate", ["class 'a\r\nb'"]).reasons == ["class 'a  b'"]
