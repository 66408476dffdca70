"""The base of all settings, and the type of a table that the command line gives as JSON."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from components.addresses import holds_secret
from components.errors import HOLDS_SECRET

_SECRET = "secret"  # noqa: S105


class Settings(BaseModel):
    """Settings that cannot be changed once they are read, know no key but their own, and hold no secret in an address.

    Attributes:
        secrets_go: By setting, what to do with a secret that an address would hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)
    secrets_go: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _no_secret_in_an_address(self) -> Self:
        # Of the whole and not of a field: what is wrong with a field is shown with its value.
        for name in type(self).model_fields:
            value = getattr(self, name)
            texts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
            for text in texts:
                if isinstance(text, str) and holds_secret(text):
                    instead = self.secrets_go.get(name, "leave it out: secrets come from the environment")
                    raise PydanticCustomError(
                        _SECRET, f"{name} {HOLDS_SECRET}: take it out and {{instead}}", {"instead": instead}
                    )
        return self


def describe(error: ValidationError) -> str:
    """Returns what is wrong with the first wrong setting; a text that may hold a secret is not repeated."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] == _SECRET:
        return f"setting {key}.{message}"
    hidden = isinstance(first["input"], dict) or "{" in str(first["input"]) or holds_secret(str(first["input"]))
    got = "" if hidden else f", not {first['input']!r}"
    return f"setting {key}: {message}{got}" if key else message


def parse_table(value: Any) -> Any:
    """Returns what a JSON text says, and anything else as it is: a validator before pydantic's own.

    Raises:
        ValueError: The text is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"must be a JSON object ({error})") from error


Texts = Annotated[dict[str, str], BeforeValidator(parse_table)]
"""A table of texts, which the command line gives as JSON."""
