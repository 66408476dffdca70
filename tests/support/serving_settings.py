"""Reads TensorFlow Serving's settings as it does: protocol buffers in text format, strictly.

``tensorflow-serving-api`` has neither message. From tensorflow_serving/servables/tensorflow/session_bundle_config.proto
and tensorflow_serving/config/monitoring_config.proto, the fields that we may write.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from proto_fields import add_field

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "newsdesk_test_settings"


def parse_batching(text: str) -> Any:
    """Returns ``BatchingParameters``.

    Raises:
        google.protobuf.text_format.ParseError: TensorFlow Serving would not start with it.
    """
    return text_format.Parse(text, _message("BatchingParameters")())


def parse_monitoring(text: str) -> Any:
    """Returns ``MonitoringConfig``.

    Raises:
        google.protobuf.text_format.ParseError: TensorFlow Serving would not start with it.
    """
    return text_format.Parse(text, _message("MonitoringConfig")())


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3", dependency=[wrappers.name]
    )
    batching = file.message_type.add(name="BatchingParameters")
    numbers = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for number, name in enumerate(numbers, start=1):
        add_field(batching, name, number, _Field.TYPE_MESSAGE, ".google.protobuf.Int64Value")
    add_field(batching, "thread_pool_name", 5, _Field.TYPE_MESSAGE, ".google.protobuf.StringValue")
    add_field(batching, "allowed_batch_sizes", 6, _Field.TYPE_INT64, repeated=True)
    add_field(batching, "pad_variable_length_inputs", 7, _Field.TYPE_BOOL)
    prometheus = file.message_type.add(name="PrometheusConfig")
    add_field(prometheus, "enable", 1, _Field.TYPE_BOOL)
    add_field(prometheus, "path", 2, _Field.TYPE_STRING)
    monitoring = file.message_type.add(name="MonitoringConfig")
    add_field(monitoring, "prometheus_config", 1, _Field.TYPE_MESSAGE, f".{_PACKAGE}.PrometheusConfig")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(wrappers)
    pool.Add(file)
    return pool


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))
