"""Transform writes WordPiece ids, and its graph serves them without the vocabulary's file and with old ops only."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from components import features
from components.errors import BadInputError
from components.text.vocabulary import CLS, PAD, SEP, UNK, vocabulary_digest
from components.text.wordpiece import preprocessing_fn

pytestmark = pytest.mark.stack

UNCASED = (PAD, UNK, CLS, SEP, "oil", "##s", "cafe", "&", ";", "'", "#", "39", "b", "lt", "gt", "s")
CASED = (PAD, UNK, CLS, SEP, "oil", "##s", "Oil", "'", "s", "Café")
TEXTS = ["Oil #39;s oil &lt;b&gt;OILS", "", "Café bank oil oil oil oil"]
IDS = {
    # Raw text spends its tokens on the debris of entities.
    "raw": (UNCASED, True, False, [[2, 4, 10, 11, 8, 15, 4, 7, 13, 3], [2, 3], [2, 6, 1, 4, 4, 4, 4, 3]]),
    "clean": (UNCASED, True, True, [[2, 4, 9, 15, 4, 4, 5, 3], [2, 3], [2, 6, 1, 4, 4, 4, 4, 3]]),
    "cased": (CASED, False, True, [[2, 6, 7, 8, 4, 1, 3], [2, 3], [2, 9, 1, 4, 4, 4, 4, 3]]),
}
MAX_TOKENS = 10

TEXT_OPS = {"FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}
"""Of tensorflow-text; both are older than its version 2.12, so that TensorFlow Serving 2.12 and later know them."""
CORE_OPS = {
    *("AddV2", "All", "Assert", "Cast", "ConcatV2", "Const", "Cumsum", "DenseBincount", "Equal", "Fill", "GatherV2"),
    *("Greater", "Identity", "If", "LessEqual", "Max", "Maximum", "MergeV2Checkpoints", "Minimum", "Mul", "NoOp"),
    *("Pack", "Placeholder", "RaggedGather", "RaggedRange", "RaggedTensorToSparse", "Range", "Reshape", "RestoreV2"),
    *("SaveV2", "Select", "SelectV2", "Shape", "ShardedFilename", "Size", "Squeeze", "StatefulPartitionedCall"),
    *("StaticRegexFullMatch", "StaticRegexReplace", "StridedSlice", "StringJoin", "StringLength", "StringLower"),
    *("StringSplitV2", "StringStrip", "Sub", "Transpose", "UnicodeTranscode"),
}


def make_config(directory: Path, pieces: tuple[str, ...], lower_case: bool, clean: bool) -> dict[str, Any]:
    """Writes a vocabulary and returns the node's ``custom_config``."""
    path = directory / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return {
        "vocabulary": str(path),
        "vocabulary_digest": vocabulary_digest(path),
        "lower_case": lower_case,
        "max_tokens": MAX_TOKENS,
        "clean": clean,
        "code_digest": "x",
    }


def analyze(directory: Path, config: dict[str, Any]) -> tuple[list[dict[str, Any]], Path]:
    """Runs Transform over the texts in memory; returns its rows and the place of its graph."""
    spec = {features.TEXT: tf.io.FixedLenFeature([1], tf.string), features.LABEL: tf.io.FixedLenFeature([1], tf.int64)}
    data = [{features.TEXT: [text], features.LABEL: [number]} for number, text in enumerate(TEXTS)]
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with tft_beam.Context(temp_dir=str(directory / "tmp")):
        (rows, _), transform = (data, metadata) | tft_beam.AnalyzeAndTransformDataset(
            partial(preprocessing_fn, custom_config=config)
        )
        _ = transform | tft_beam.WriteTransformFn(str(directory / "graph"))
    return rows, directory / "graph"


def call(config: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """Calls the function eagerly."""
    inputs = {
        features.TEXT: tf.constant(texts)[:, tf.newaxis],
        features.LABEL: tf.range(len(texts), dtype=tf.int64)[:, tf.newaxis],
    }
    return preprocessing_fn(inputs, config)


def ragged(ids: tf.SparseTensor) -> list[list[int]]:
    """Returns the rows of a sparse tensor."""
    return tf.RaggedTensor.from_sparse(ids).to_list()


@pytest.mark.parametrize(("pieces", "lower_case", "clean", "ids"), IDS.values(), ids=IDS)
def test_ids_are_the_same_eagerly_through_transform_and_from_its_graph(
    tmp_path: Path, pieces: tuple[str, ...], lower_case: bool, clean: bool, ids: list[list[int]]
) -> None:
    config = make_config(tmp_path, pieces, lower_case, clean)
    eager = call(config, TEXTS)
    assert isinstance(eager[features.TOKEN_IDS], tf.SparseTensor)
    assert eager[features.TOKEN_IDS].dtype == tf.int64
    assert ragged(eager[features.TOKEN_IDS]) == ids

    rows, graph = analyze(tmp_path, config)
    assert [list(row[features.TOKEN_IDS]) for row in rows] == ids
    assert [list(row[features.LABEL]) for row in rows] == [[0], [1], [2]]

    Path(config["vocabulary"]).unlink()
    served = tft.TFTransformOutput(str(graph)).transform_features_layer()(
        {features.TEXT: tf.constant(TEXTS)[:, tf.newaxis]}
    )
    assert set(served) == {features.TOKEN_IDS}
    assert ragged(served[features.TOKEN_IDS]) == ids


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, [[2, 1, 1, 1, 3]]),
        ({"strip_accents": False, "tokenize_chinese_chars": False}, [[2, 4, 5, 3]]),
        ({"strip_accents": False}, [[2, 4, 1, 1, 3]]),
    ],
)
def test_settings_of_the_tokenizer_are_obeyed(tmp_path: Path, settings: dict[str, bool], ids: list[list[int]]) -> None:
    config = make_config(tmp_path, (PAD, UNK, CLS, SEP, "über", "北京"), lower_case=True, clean=False) | settings
    assert ragged(call(config, ["Über 北京"])[features.TOKEN_IDS]) == ids


@pytest.mark.parametrize("clean", [True, False])
def test_a_backslash_is_a_line_break(tmp_path: Path, clean: bool) -> None:
    config = make_config(tmp_path, (*UNCASED, "\\"), lower_case=True, clean=clean)
    typed, broken = ragged(call(config, ["oil\\oils \\\\cafe\\", "oil\noils \n\ncafe\n"])[features.TOKEN_IDS])
    assert typed == broken == [2, 4, 4, 5, 6, 3]


def test_the_graph_holds_no_op_that_an_older_server_lacks(tmp_path: Path) -> None:
    _, graph = analyze(tmp_path, make_config(tmp_path, UNCASED, lower_case=True, clean=True))
    saved = saved_model_pb2.SavedModel.FromString((graph / "transform_fn" / "saved_model.pb").read_bytes())
    ops = set()
    for meta in saved.meta_graphs:
        ops |= {node.op for node in meta.graph_def.node}
        ops |= {node.op for function in meta.graph_def.library.function for node in function.node_def}
    assert ops >= TEXT_OPS
    assert ops <= TEXT_OPS | CORE_OPS


def test_a_vocabulary_that_changed_since_the_run_was_configured_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path, UNCASED, lower_case=True, clean=False)
    with Path(config["vocabulary"]).open("a", encoding="utf-8") as file:
        file.write("bank\n")
    with pytest.raises(BadInputError, match=r"changed after the run was configured .*: start the run again"):
        call(config, TEXTS)


@pytest.mark.parametrize(("pieces", "lower_case"), [(CASED, True), (UNCASED, False)])
def test_casing_that_contradicts_the_vocabulary_is_refused(
    tmp_path: Path, pieces: tuple[str, ...], lower_case: bool
) -> None:
    with pytest.raises(BadInputError, match=f"vocab.txt .*: set lower_case={str(not lower_case).lower()}"):
        call(make_config(tmp_path, pieces, lower_case, clean=False), TEXTS)


def test_no_room_for_the_special_tokens_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path, UNCASED, lower_case=True, clean=False) | {"max_tokens": 1}
    with pytest.raises(BadInputError, match="max_tokens is 1"):
        call(config, TEXTS)
