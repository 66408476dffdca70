"""The curated schema as it enters the graph."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from components import features
from components.example_gen.schema import SCHEMA_FILE, ImportSchema, load_schema


def parse(text: str) -> dict[str, schema_pb2.Feature]:
    """Returns the features by name."""
    return {feature.name: feature for feature in text_format.Parse(text, schema_pb2.Schema()).feature}


@pytest.mark.parametrize("classes", [2, 4, 20])
def test_the_label_domain_follows_the_number_of_classes(classes: int) -> None:
    domain = parse(load_schema(classes))[features.LABEL].int_domain
    assert (domain.min, domain.max, domain.is_categorical) == (0, classes - 1, True)


def test_nothing_but_the_label_domain_follows_it() -> None:
    curated, two = parse(SCHEMA_FILE.read_text()), parse(load_schema(2))
    assert curated.pop(features.LABEL) != two.pop(features.LABEL)
    assert curated == two


def test_the_schema_names_the_features_that_ingest_writes() -> None:
    found = parse(load_schema(4))
    assert set(found) == {features.TEXT, features.LABEL, features.LENGTH}
    assert found[features.LABEL].type == schema_pb2.INT
    assert {found[name].type for name in (features.TEXT, features.LENGTH)} == {schema_pb2.BYTES}


@pytest.mark.parametrize("name", [features.TEXT, features.LABEL, features.LENGTH])
def test_every_feature_must_stand_in_every_row_once(name: str) -> None:
    feature = parse(load_schema(4))[name]
    assert feature.presence.min_fraction == 1
    assert [dim.size for dim in feature.shape.dim] == [1]


def test_the_length_domain_is_the_buckets() -> None:
    schema = text_format.Parse(load_schema(4), schema_pb2.Schema())
    (domain,) = schema.string_domain
    assert parse(load_schema(4))[features.LENGTH].domain == domain.name
    assert tuple(domain.value) == features.LENGTH_BUCKETS


def test_an_edit_of_the_file_changes_the_text(tmp_path: Path) -> None:
    copy = tmp_path / "schema.pbtxt"
    schema = text_format.Parse(SCHEMA_FILE.read_text(), schema_pb2.Schema())
    copy.write_text(text_format.MessageToString(schema))
    assert load_schema(4, copy) == load_schema(4)
    schema.string_domain[0].value.append("endless")
    copy.write_text(text_format.MessageToString(schema))
    assert load_schema(4, copy) != load_schema(4)
    assert "endless" in load_schema(4, copy)


def test_a_comment_does_not_change_the_text(tmp_path: Path) -> None:
    copy = tmp_path / "schema.pbtxt"
    copy.write_text("# Reviewed.\n" + SCHEMA_FILE.read_text())
    assert load_schema(4, copy) == load_schema(4)


def test_a_schema_without_the_label_is_an_error(tmp_path: Path) -> None:
    copy = tmp_path / "schema.pbtxt"
    schema = text_format.Parse(SCHEMA_FILE.read_text(), schema_pb2.Schema())
    kept = [feature for feature in schema.feature if feature.name != features.LABEL]
    copy.write_text(text_format.MessageToString(schema_pb2.Schema(feature=kept)))
    with pytest.raises(ValueError, match="not enough values"):
        load_schema(4, copy)


def test_the_node_writes_what_the_other_nodes_read(tmp_path: Path) -> None:
    schema = standard_artifacts.Schema()
    schema.uri = str(tmp_path)
    ImportSchema.test_call(schema=schema, text=load_schema(3), code_digest="")
    (file,) = tmp_path.iterdir()
    assert io_utils.SchemaReader().read(str(file)) == text_format.Parse(load_schema(3), schema_pb2.Schema())
    assert io_utils.get_only_uri_in_dir(str(tmp_path)) == str(tmp_path / "schema.pbtxt")
