"""What the REST client makes of replies: columns, names and signatures, or the reason why there are none."""

from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import requests

from components import features
from serving.errors import Code, RequestError
from serving.model.class_names import CLASSES_HEADER
from serving.model.signatures import TensorInfo

_SHOWN = 200


def parse_json(response: requests.Response) -> Any:
    """Returns what a reply says, or raises ``odd_reply``, as do all that read one."""
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise odd_reply("no JSON") from error


def read_columns(reply: Any) -> tuple[list[str], list[int], list[list[float]]]:
    """Returns labels, label ids and probabilities of a reply to ``:predict``, a row each."""
    try:
        rows = reply["predictions"]
        labels = [row[features.OUTPUT_LABEL] for row in rows]
        label_ids = [row[features.OUTPUT_LABEL_ID] for row in rows]
        # The model's numbers are float32, which JSON shortens: rounded to it, they are what the model said.
        shares = [array("f", row[features.OUTPUT_PROBABILITIES]).tolist() for row in rows]
    except (KeyError, TypeError, OverflowError) as error:
        raise odd_reply("no predictions with label, label_id and probabilities") from error
    if not all(type(label) is str for label in labels) or not all(type(number) is int for number in label_ids):
        raise odd_reply("labels that are no text or label ids that are no numbers")
    return labels, label_ids, shares


def read_names(response: requests.Response) -> list[str] | None:
    """Returns the class names that our server sends in a header, None where there is no such header."""
    header = response.headers.get(CLASSES_HEADER)
    if header is None:
        return None
    try:
        names = orjson.loads(header)
    except orjson.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise odd_reply(f"a header {CLASSES_HEADER} that is no list of names")
    return names


def read_tensors(items: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Returns the inputs or outputs of a signature; raises what its values raise where they are none."""
    found = {}
    for name, item in items.items():
        shape = item["tensor_shape"]
        sizes = None if shape["unknown_rank"] else tuple(int(dim["size"]) for dim in shape["dim"])
        found[name] = TensorInfo(item["name"], item["dtype"], sizes)
    return found


def read_message(response: requests.Response) -> str:
    """Returns why a request was refused, in the server's words where it has some."""
    try:
        found = orjson.loads(response.content)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        found = None
    if isinstance(found, str) and found:
        return found[:_SHOWN]
    where = response.headers.get("Location")
    to = f" to {where[:_SHOWN]}: give that address" if where else ", which is not TensorFlow Serving's API"
    return f"the server answers {response.status_code} {response.reason}{to}"


def retry_after(header: str | None) -> float | None:
    """Returns the seconds of a ``Retry-After``, which is a number or a date (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    try:
        return max(float(header), 0.0) if header.strip().isdigit() else _until(parsedate_to_datetime(header))
    except ValueError:
        return None


def _until(then: datetime) -> float:
    return max(((then if then.tzinfo else then.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds(), 0.0)


def reason_of(error: Exception) -> str:
    """Returns what the innermost cause says: the outer ones repeat the request."""
    reason: BaseException = error
    while reason.__context__ is not None:
        reason = reason.__context__
    return (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)[:_SHOWN]


def odd_reply(what: str) -> RequestError:
    """Returns the error for a reply that has something it must not."""
    return RequestError(Code.INTERNAL, f"the server's reply has {what}: it is not TensorFlow Serving's API")
