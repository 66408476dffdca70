"""What a model is asked with: strings from a request, counted and measured."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from components import features
from serving.protocol.json_body import invalid

_CONTAINERS_BESIDE = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may bring; TensorFlow Serving itself has no such limits."""

    body_bytes: int = 1 << 20
    instances: int = 256
    text_characters: int = 10_000
    depth: int = 32

    @property
    def containers(self) -> int:
        """Arrays and objects: two for an instance that names its input and is base64, and plenty for what is beside."""
        return 2 * self.instances + _CONTAINERS_BESIDE


def check_count(rows: int, limits: Limits) -> None:
    """Refuses more rows than one request may bring."""
    if rows > limits.instances:
        message = f"The request has {rows} texts, {limits.instances} are allowed: send them in several requests"
        raise invalid(message)


def encode_inputs(found: Iterable[str | bytes], name: str, limits: Limits) -> list[bytes]:
    """Returns strings as the model takes them.

    Bytes need not be UTF-8: TensorFlow Serving passes them on, and the graph reads what is not as U+FFFD.

    Args:
        found: From the request.
        name: The input's; under ``examples`` they are serialized tf.Examples.
        limits: How long a text may be.

    Raises:
        RequestError: A text is too long, or an example is not one.
    """
    inputs: list[bytes] = []
    for value in found:
        given = value.encode() if type(value) is str else cast(bytes, value)
        if name == features.EXAMPLES_INPUT:
            text, given = _read_example(given)
        else:
            text = given
        # No text has more characters than bytes.
        if len(text) > limits.text_characters:
            length = len(text.decode("utf-8", "replace"))
            if length > limits.text_characters:
                raise invalid(
                    f"Text {len(inputs)} has {length} characters, {limits.text_characters} are allowed: shorten it"
                )
        inputs.append(given)
    return inputs


def _read_example(serialized: bytes) -> tuple[bytes, bytes]:
    """Returns the text of a tf.Example, and the example again with nothing but that.

    A batch holds rows of several requests, and the op that parses it refuses all of them for one that is damaged:
    none such may get that far.

    Raises:
        RequestError: It is no tf.Example with one value of bytes under ``text``.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    try:
        example = example_pb2.Example.FromString(serialized)
    except DecodeError as error:
        raise invalid("Could not parse example input: it is not a serialized tf.Example") from error
    if features.TEXT not in example.features.feature:
        raise invalid(f"Feature: {features.TEXT} (data type: string) is required but could not be found.")
    feature = example.features.feature[features.TEXT]
    values = feature.bytes_list.value
    if len(values) != 1:
        kind = feature.WhichOneof("kind") or "no list"
        raise invalid(f"Key: {features.TEXT}. Expected one value of bytes, not {len(values)} (the feature has {kind})")
    clean = example_pb2.Example()
    clean.features.feature[features.TEXT].bytes_list.value.append(values[0])
    return values[0], clean.SerializeToString()
