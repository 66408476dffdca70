"""A graph that could reach outside of its model is refused before it is loaded."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from components.errors import BadInputError
from components.push import model_graph
from components.push.model_graph import check_model_graph

TEXT = [tf.TensorSpec([None], tf.string)]
# Arguments of operations that name a file, a host or a database.
OUTSIDE = re.compile(r"file|path|pattern|directory|logdir|address|url|uri|data_source|^prefix$|_dir$|memory_region")
# The initializer of a vocabulary reads an asset; the others make names, parse, or are covered by _CHECKPOINT.
HARMLESS = {
    "InitializeTableFromTextFile",
    "InitializeTableFromTextFileV2",
    "SaveV2",
    "RestoreV2",
    "MergeV2Checkpoints",
    "CTCBeamSearchDecoder",
    "RegexFullMatch",
    "RegexReplace",
    "StaticRegexFullMatch",
    "StaticRegexReplace",
    "TensorSliceDataset",
}


class Tokenizer(tf.Module):
    """Variables, an asset and a function in a function, as encoders and preprocessing models have."""

    def __init__(self, vocabulary: Path):
        super().__init__()
        index = tf.lookup.TextFileIndex
        initializer = tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
        )
        self.table = tf.lookup.StaticVocabularyTable(initializer, 1)
        self.weights = tf.Variable(tf.ones([3]))

    @tf.function(input_signature=TEXT)
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        tf.print(tf.size(text))
        return tf.gather(self.weights, self.table.lookup(text))


class Reads(tf.Module):
    @tf.function(input_signature=TEXT)
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(tf.io.read_file, text)


class Runs(tf.Module):
    @tf.function(input_signature=TEXT)
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda value: value, [text], tf.string)


class Prints(tf.Module):
    @tf.function(input_signature=TEXT)
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        tf.print(text, output_stream="file:///tmp/printed")
        return text


class Saves(tf.Module):
    @tf.function
    def save(self, text: tf.Tensor) -> None:
        tf.raw_ops.SaveV2(prefix=text[0], tensor_names=["a"], shape_and_slices=[""], tensors=[text])

    @tf.function(input_signature=TEXT)
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        self.save(text)
        return text


@pytest.fixture
def model(tmp_path: Path) -> Callable[[Callable[[meta_graph_pb2.MetaGraphDef], None]], Path]:
    """Writes a SavedModel with one graph, changed by a function."""

    def write(change: Callable[[meta_graph_pb2.MetaGraphDef], None] = lambda _: None) -> Path:
        saved = saved_model_pb2.SavedModel()
        graph = saved.meta_graphs.add()
        graph.object_graph_def.SetInParent()
        change(graph)
        (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
        return tmp_path

    return write


def refused(directory: Path, *words: str) -> None:
    for name in (None, "https://host/model/1"):
        with pytest.raises(BadInputError) as error:
            check_model_graph(directory, name)
        assert str(error.value).startswith(f"{name or directory} ")
        assert "\n" not in str(error.value)
        for word in words:
            assert word in str(error.value)


def test_a_model_with_variables_and_a_vocabulary_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    tf.saved_model.save(Tokenizer(tmp_path / "vocab.txt"), str(tmp_path / "model"))
    assert b"SaveV2" in (tmp_path / "model" / "saved_model.pb").read_bytes()
    check_model_graph(tmp_path / "model")


@pytest.mark.parametrize(
    ("module", "op"), [(Reads, "ReadFile"), (Runs, "PyFunc"), (Prints, "PrintV2"), (Saves, "SaveV2")]
)
def test_a_model_that_reaches_out_is_refused_by_the_name_of_the_operation(
    tmp_path: Path, module: type[tf.Module], op: str
) -> None:
    tf.saved_model.save(module(), str(tmp_path))
    refused(tmp_path, f"uses the operation {op},")


@pytest.mark.parametrize(
    "op",
    [
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "Save",
        "Restore",
        "TextLineDataset",
        "TFRecordDatasetV2",
        "ExperimentalCSVDataset",
        "ExperimentalMatchingFilesDataset",
        "DataServiceDatasetV4",
        "DebugIdentityV3",
        "DatasetFromGraph",
        "XlaCustomCallV2",
    ],
)
@pytest.mark.parametrize("place", ["graph", "function"])
def test_an_operation_is_found_wherever_it_is(model: Callable[..., Path], op: str, place: str) -> None:
    def add(graph: meta_graph_pb2.MetaGraphDef) -> None:
        nodes = graph.graph_def.node if place == "graph" else graph.graph_def.library.function.add().node_def
        nodes.add(name="first", op="Identity")
        nodes.add(name="second", op=op)

    refused(model(add), f"uses the operation {op},")


@pytest.mark.parametrize("place", ["graph", "function"])
def test_an_operation_that_nobody_knows_is_refused(model: Callable[..., Path], place: str) -> None:
    def add(graph: meta_graph_pb2.MetaGraphDef) -> None:
        function = graph.graph_def.library.function.add()
        function.signature.name = "inner"
        nodes = graph.graph_def.node if place == "graph" else function.node_def
        nodes.add(name="call", op="inner")
        nodes.add(name="text", op="FastWordpieceTokenizeWithOffsets")
        nodes.add(name="own", op="RunNativeCode")

    refused(model(add), "uses the operation RunNativeCode, which neither TensorFlow nor tensorflow-text has")


def test_a_function_and_an_operation_of_tensorflow_text_are_known(model: Callable[..., Path]) -> None:
    def add(graph: meta_graph_pb2.MetaGraphDef) -> None:
        graph.graph_def.library.function.add().signature.name = "inner"
        graph.graph_def.node.add(name="call", op="inner")
        graph.graph_def.node.add(name="text", op="FastWordpieceTokenizeWithOffsets")

    check_model_graph(model(add))


def test_a_second_graph_is_looked_into_too(model: Callable[..., Path]) -> None:
    directory = model()
    saved = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    second = saved.meta_graphs.add()
    second.object_graph_def.SetInParent()
    second.graph_def.node.add(name="a", op="ReadFile")
    (directory / "saved_model.pb").write_bytes(saved.SerializeToString())
    refused(directory, "ReadFile")


def by_attribute(node: object) -> None:
    node.attr["f"].func.name = "saver"


def by_list(node: object) -> None:
    node.attr["branches"].list.func.add(name="other")
    node.attr["branches"].list.func.add(name="saver")


def by_operation(node: object) -> None:
    node.op = "saver"


@pytest.mark.parametrize("op", ["SaveV2", "RestoreV2", "MergeV2Checkpoints"])
@pytest.mark.parametrize("call", [by_attribute, by_list, by_operation, None])
def test_a_checkpoint_is_for_the_saver_only(
    model: Callable[..., Path], op: str, call: Callable[[object], None] | None
) -> None:
    def add(graph: meta_graph_pb2.MetaGraphDef) -> None:
        for name in ("served", "inner", "saver"):
            graph.graph_def.library.function.add().signature.name = name
        served, inner, saver = graph.graph_def.library.function
        graph.object_graph_def.concrete_functions["served"].SetInParent()
        graph.graph_def.node.add(name="save", op="StatefulPartitionedCall").attr["f"].func.name = "saver"
        saver.node_def.add(name="it", op=op)
        served.node_def.add(name="inner", op="PartitionedCall").attr["f"].func.name = "inner"
        inner.node_def.add(name="back", op="PartitionedCall").attr["f"].func.name = "served"
        if call:
            call(inner.node_def.add(name="call", op="PartitionedCall"))

    directory = model(add)
    if call:
        refused(directory, f"uses the operation {op},")
    else:
        check_model_graph(directory)


@pytest.mark.parametrize("stream", ["stderr", "stdout", "log(info)"])
def test_printing_elsewhere_than_to_a_file_is_harmless(model: Callable[..., Path], stream: str) -> None:
    def add(graph: meta_graph_pb2.MetaGraphDef) -> None:
        graph.graph_def.node.add(name="a", op="PrintV2").attr["output_stream"].s = stream.encode()

    check_model_graph(model(add))


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/../../b"])
def test_an_asset_outside_is_refused(model: Callable[..., Path], name: str) -> None:
    refused(model(lambda graph: graph.asset_file_def.add(filename=name)), repr(name), "outside")


def test_an_asset_inside_is_let_in(model: Callable[..., Path]) -> None:
    check_model_graph(model(lambda graph: graph.asset_file_def.add(filename="vocab.txt")))


def test_a_model_of_tensorflow_1_is_refused(model: Callable[..., Path]) -> None:
    refused(model(lambda graph: graph.ClearField("object_graph_def")), "TensorFlow 1")


def test_what_is_no_whole_saved_model_is_refused(
    model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(tmp_path, "no saved_model.pb", "No such file")
    path = model(lambda graph: graph.graph_def.node.add(name="a" * 1000, op="Identity")) / "saved_model.pb"
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    refused(tmp_path, "damaged")
    path.write_bytes(b"")
    refused(tmp_path, "without a graph")
    path.write_bytes(content)
    monkeypatch.setattr(model_graph, "MOST_GRAPH_BYTES", len(content))
    check_model_graph(tmp_path)
    monkeypatch.setattr(model_graph, "MOST_GRAPH_BYTES", len(content) - 1)
    refused(tmp_path, f"{len(content):,} bytes")
    monkeypatch.undo()
    path.unlink()
    path.mkdir()
    refused(tmp_path, "Is a directory")


def test_every_operation_of_this_tensorflow_that_names_something_outside_is_denied() -> None:
    names = [name for name in dir(tf.raw_ops) if name[0].isupper()]
    assert len(names) > 1000
    reaching = {
        name
        for name in names
        if any(OUTSIDE.search(argument) for argument in inspect.signature(getattr(tf.raw_ops, name)).parameters)
    }
    assert {"ReadFile", "CSVDatasetV2", "DataServiceDataset"} <= reaching
    assert sorted(name for name in reaching - HARMLESS if model_graph._family(name) not in model_graph._DENIED) == []
