"""Looks into the graph of a SavedModel before it is loaded: a graph can read and write files, and run Python.

What its files may be is for ``components.push.model_files``.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from components.errors import BadInputError
from components.push.model_files import MOST_GRAPH_BYTES

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

# Names as ``_family`` gives them: without Experimental before and the version behind.
_PYTHON = "PyFunc PyFuncStateless EagerPyFunc"
_FILES = """
    ReadFile WriteFile MatchingFiles MatchingFilesDataset WholeFileReader TextLineReader FixedLengthRecordReader
    TFRecordReader LMDBReader TextLineDataset FixedLengthRecordDataset TFRecordDataset CSVDataset SqlDataset
    LMDBDataset SaveDataset LoadDataset SnapshotDataset SnapshotDatasetReader SnapshotChunkDataset
    ListSnapshotChunksDataset CacheDataset DatasetToTFRecord RecordInput ImmutableConst DumpTensor LoadAndRemapMatrix
    GenerateVocabRemapping FixedUnigramCandidateSampler Skipgram CreateSummaryFileWriter CreateSummaryDbWriter
    SaveSlices RestoreSlice DTensorRestore InitializeTRTResource SerializeTRTResource FileSystemSetConfiguration
"""
_NETWORK = """
    RpcCall RpcClient RpcServer RpcServerStart RpcServerRegister DataServiceDataset RegisterDataset DistributedSave
    DebugIdentity DebugNanCount DebugNumericSummary
"""
# These run code that is held in an attribute or a tensor, which this check cannot read.
_OPAQUE = "DatasetFromGraph DeserializeIterator MlirPassthroughOp XlaCallModule XlaCustomCall TRTEngineOp"
_DENIED = frozenset(f"{_PYTHON} {_FILES} {_NETWORK} {_OPAQUE}".split()) | {"Save", "Restore"}
# Every SavedModel has them to load its own variables, in functions that nothing else calls.
_CHECKPOINT = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints"})


def check_model_graph(directory: Path, name: str | None = None) -> None:
    """Refuses a SavedModel that could touch files other than its own, reach the network, or run Python or other code.

    Operations are held against a deny-list, and those that neither TensorFlow nor tensorflow-text has are refused
    because nobody knows what they do. The graph is parsed, and nothing of it runs.

    Args:
        directory: Holds ``saved_model.pb``.
        name: What the errors call it, by default the directory.

    Raises:
        BadInputError: There is no ``saved_model.pb``, it is damaged, too large or of TensorFlow 1, an asset lies
            outside, or an operation is on the deny-list or unknown; the first such operation is named.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    name = name or str(directory)
    path = directory / "saved_model.pb"
    try:
        size = path.stat().st_size
        if size > MOST_GRAPH_BYTES:
            raise BadInputError(
                f"{name} has a saved_model.pb of {size:,} bytes, more than {MOST_GRAPH_BYTES:,}: choose a model "
                "that keeps its weights in variables"
            )
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except OSError as error:
        raise BadInputError(
            f"{name} has no saved_model.pb that can be read ({error.strerror}): choose a SavedModel"
        ) from error
    except DecodeError as error:
        raise BadInputError(f"{name} has a damaged saved_model.pb: delete it and fetch it again") from error
    if not model.meta_graphs:
        raise BadInputError(f"{name} has a saved_model.pb without a graph: delete it and fetch it again")
    for graph in model.meta_graphs:
        _check_graph(graph, name)


def _check_graph(graph: "meta_graph_pb2.MetaGraphDef", name: str) -> None:
    if not graph.HasField("object_graph_def"):
        raise BadInputError(f"{name} was saved by TensorFlow 1: choose a version of it for TensorFlow 2")
    for asset in graph.asset_file_def:
        place = PurePosixPath(asset.filename)
        if place.is_absolute() or ".." in place.parts:
            raise BadInputError(f"{name} takes {asset.filename!r}, a file outside of it, for an asset: do not use it")
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    everything = [node for nodes in (graph.graph_def.node, *functions.values()) for node in nodes]
    for node in everything:
        # Printing is harmless, except to a file.
        prints_to_file = node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:")
        if (node.op not in _CHECKPOINT and _family(node.op) in _DENIED) or prints_to_file:
            raise _refused(node.op, name)
    _check_known({node.op for node in everything} - functions.keys(), name)
    for function in sorted(_reachable(graph.object_graph_def.concrete_functions, functions)):
        for node in functions[function]:
            if node.op in _CHECKPOINT:
                raise _refused(node.op, name)


def _check_known(operations: set[str], name: str) -> None:
    import tensorflow_text  # noqa: F401  registers the ops of text models
    from tensorflow.python.framework import op_def_registry

    unknown = sorted(operation for operation in operations if op_def_registry.get(operation) is None)
    if unknown:
        raise BadInputError(
            f"{name} uses the operation {unknown[0][:100]}, which neither TensorFlow nor tensorflow-text has: choose a "
            "model without it"
        )


def _refused(op: str, name: str) -> BadInputError:
    return BadInputError(
        f"{name} uses the operation {op}, with which a model can reach files, the network or Python: "
        "choose a model without it"
    )


def _family(op: str) -> str:
    return re.sub(r"^Experimental|V\d+$", "", op)


def _reachable(roots: Iterable[str], functions: "dict[str, Iterable[node_def_pb2.NodeDef]]") -> set[str]:
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        function = waiting.pop()
        if function in functions and function not in found:
            found.add(function)
            for node in functions[function]:
                waiting.append(node.op)
                for attribute in node.attr.values():
                    waiting.append(attribute.func.name)
                    waiting.extend(item.name for item in attribute.list.func)
    return found
