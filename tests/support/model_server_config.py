"""Reads what TensorFlow Serving reads: a ``ModelServerConfig`` in text format, with the fields that we write.

From tensorflow_serving/config/model_server_config.proto and
tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto. Parsing is strict: a field that is not
here is an error.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from proto_fields import add_field

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "newsdesk_test_serving"


@dataclass(frozen=True)
class ServedModel:
    """One ``config`` of the list."""

    base_path: str
    platform: str
    versions: tuple[int, ...]
    labels: dict[str, int]


def parse_models_config(text: str) -> dict[str, ServedModel]:
    """Returns what is to be served, by model name.

    Raises:
        google.protobuf.text_format.ParseError: TensorFlow Serving would not start with it.
        ValueError: A name stands there twice, or a label names a version that is not to be loaded.
    """
    config = text_format.Parse(text, _message("ModelServerConfig")())
    found: dict[str, ServedModel] = {}
    for item in config.model_config_list.config:
        if item.name in found:
            raise ValueError(f"model {item.name} is configured twice")
        versions = tuple(item.model_version_policy.specific.versions)
        labels = dict(item.version_labels)
        if not set(labels.values()) <= set(versions):
            raise ValueError(f"labels {labels} of {item.name} name more than its versions {versions}")
        found[item.name] = ServedModel(item.base_path, item.model_platform, versions, labels)
    return found


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    policy = file.message_type.add(name="ServableVersionPolicy")
    add_field(policy.nested_type.add(name="Specific"), "versions", 1, _Field.TYPE_INT64, repeated=True)
    add_field(policy, "specific", 102, _Field.TYPE_MESSAGE, f".{_PACKAGE}.ServableVersionPolicy.Specific")
    config = file.message_type.add(name="ModelConfig")
    add_field(config, "name", 1, _Field.TYPE_STRING)
    add_field(config, "base_path", 2, _Field.TYPE_STRING)
    add_field(config, "model_platform", 4, _Field.TYPE_STRING)
    add_field(config, "model_version_policy", 7, _Field.TYPE_MESSAGE, f".{_PACKAGE}.ServableVersionPolicy")
    entry = config.nested_type.add(name="VersionLabelsEntry")
    entry.options.map_entry = True
    add_field(entry, "key", 1, _Field.TYPE_STRING)
    add_field(entry, "value", 2, _Field.TYPE_INT64)
    add_field(
        config, "version_labels", 8, _Field.TYPE_MESSAGE, f".{_PACKAGE}.ModelConfig.VersionLabelsEntry", repeated=True
    )
    models = file.message_type.add(name="ModelConfigList")
    add_field(models, "config", 1, _Field.TYPE_MESSAGE, f".{_PACKAGE}.ModelConfig", repeated=True)
    server = file.message_type.add(name="ModelServerConfig")
    add_field(server, "model_config_list", 1, _Field.TYPE_MESSAGE, f".{_PACKAGE}.ModelConfigList")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))
