"""Fields of protocol buffers that no package declares."""

from typing import Any

from google.protobuf import descriptor_pb2

_Field = descriptor_pb2.FieldDescriptorProto


def add_field(message: Any, name: str, number: int, kind: Any, of: str = "", repeated: bool = False) -> None:
    """Adds one field to a ``DescriptorProto``; ``of`` is the full name of its message, with a dot in front."""
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, type=kind, label=label)
    if of:
        field.type_name = of
