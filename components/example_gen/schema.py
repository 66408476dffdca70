"""The curated schema and the node that brings it into the graph.

TFX's own ImportSchemaGen is cached by path and would not see an edit. Here the text itself is the node's
property, so an edited schema is a new node input, and no orchestrator needs access to the file.
"""

import os
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components import features

SCHEMA_FILE = Path(__file__).with_name("schema.pbtxt")


def load_schema(class_count: int, path: Path = SCHEMA_FILE) -> str:
    """Returns the schema as text, with the label's domain set to ``0 .. class_count - 1``."""
    schema = text_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    (label,) = (feature for feature in schema.feature if feature.name == features.LABEL)
    label.int_domain.max = class_count - 1
    return text_format.MessageToString(schema)


@component
def ImportSchema(
    schema: OutputArtifact[standard_artifacts.Schema], text: Parameter[str], code_digest: Parameter[str]
) -> None:
    """Writes the curated schema as an artifact that the other nodes read."""
    with fileio.open(os.path.join(schema.uri, "schema.pbtxt"), "w") as file:
        file.write(text)
