"""Token ids are the same eagerly, inside tf.data, through Transform and from the saved graph."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from components import features
from components.errors import BadInputError
from components.text.transform import VOCABULARY, preprocessing_fn
from components.text.words import tokenize

pytestmark = pytest.mark.stack

CORPUS = ["Oil #39;s oil &lt;b&gt;OIL&lt;/b&gt;", "oil bank bank,", "bank , goal", "goal goal once"]
"""oil 4, bank 3, goal 3, "," 2, s 1, once 1; equal counts stand in reverse order of the alphabet."""
VOCABULARY_OF_CORPUS = ["oil", "goal", "bank", ","]
UNSEEN = ["goal, striker goal bank", "", "北京 oil's \u200b", "once BANK OIL"]
MAX_TOKENS = 4


@dataclass(frozen=True)
class Transformed:
    """What Transform made of the corpus."""

    rows: list[list[int]]
    labels: list[list[int]]
    output: tft.TFTransformOutput

    @property
    def vocabulary(self) -> list[str]:
        """Words in id order, from id 2 on."""
        return [word.decode() for word in self.output.vocabulary_by_name(VOCABULARY)]


def analyze(
    directory: Path, vocab_size: int, min_count: int, max_tokens: int, clean: bool = True, **given: str
) -> Transformed:
    """Runs Transform over the corpus in memory, with labels 0, 1, 2 and so on."""
    spec = {features.TEXT: tf.io.FixedLenFeature([1], tf.string), features.LABEL: tf.io.FixedLenFeature([1], tf.int64)}
    config = {
        "vocab_size": vocab_size,
        "min_count": min_count,
        "max_tokens": max_tokens,
        "clean": clean,
        "code_digest": "x",
        **given,
    }
    data = [{features.TEXT: [text], features.LABEL: [number]} for number, text in enumerate(CORPUS)]
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with tft_beam.Context(temp_dir=str(directory / "tmp")):
        (rows, _), transform = (data, metadata) | tft_beam.AnalyzeAndTransformDataset(
            partial(preprocessing_fn, custom_config=config)
        )
        _ = transform | tft_beam.WriteTransformFn(str(directory / "graph"))
    return Transformed(
        [list(row[features.TOKEN_IDS]) for row in rows],
        [list(row[features.LABEL]) for row in rows],
        tft.TFTransformOutput(str(directory / "graph")),
    )


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> Transformed:
    """The corpus with room for four words beside padding and out of vocabulary."""
    return analyze(tmp_path_factory.mktemp("transform"), vocab_size=6, min_count=1, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def first_words(tmp_path_factory: pytest.TempPathFactory) -> Transformed:
    """The first word of each text, with room for all but a floor on occurrences."""
    return analyze(tmp_path_factory.mktemp("transform"), vocab_size=100, min_count=2, max_tokens=1)


def eager_ids(texts: list[str], vocabulary: list[str], max_tokens: int = MAX_TOKENS) -> list[list[int]]:
    """Returns ids by the plain formula: place in the vocabulary plus 2, or 1."""
    ids = {word.encode(): place + features.RESERVED_IDS for place, word in enumerate(vocabulary)}
    return [[ids.get(token, features.OOV_ID) for token in row] for row in tokenize(texts, max_tokens).to_list()]


def ragged(ids: tf.SparseTensor) -> list[list[int]]:
    """Returns the rows of a sparse tensor."""
    return tf.RaggedTensor.from_sparse(ids).to_list()


def test_ids_count_from_two_by_descending_frequency(transformed: Transformed) -> None:
    assert transformed.vocabulary == VOCABULARY_OF_CORPUS
    assert transformed.rows == [[2, 1, 2, 2], [2, 4, 4, 5], [4, 5, 3], [3, 3, 1]]


def test_labels_pass_unchanged(transformed: Transformed) -> None:
    assert transformed.labels == [[0], [1], [2], [3]]


def test_ids_are_the_plain_formula(transformed: Transformed) -> None:
    assert transformed.rows == eager_ids(CORPUS, VOCABULARY_OF_CORPUS)


def test_vocab_size_bounds_all_ids(transformed: Transformed) -> None:
    assert {number for row in transformed.rows for number in row} == {1, 2, 3, 4, 5}


def test_words_below_min_count_or_behind_max_tokens_are_not_in_the_vocabulary(first_words: Transformed) -> None:
    assert first_words.vocabulary == ["oil"]
    assert first_words.rows == [[2], [2], [1], [1]]


def test_debris_is_in_the_vocabulary_where_text_is_not_cleaned(tmp_path: Path, transformed: Transformed) -> None:
    raw = analyze(tmp_path, vocab_size=100, min_count=1, max_tokens=MAX_TOKENS, clean=False)
    words = {word for row in tokenize(CORPUS, MAX_TOKENS, cleaned=False).to_list() for word in row}
    assert {word.encode() for word in raw.vocabulary} == words
    assert words - {word for row in tokenize(CORPUS, MAX_TOKENS).to_list() for word in row}


def test_padding_is_never_present(transformed: Transformed, first_words: Transformed) -> None:
    assert all(features.PADDING_ID not in row for run in (transformed, first_words) for row in run.rows)


UNSEEN_IDS = [[3, 5, 1, 3], [], [1, 1, 2, 1], [1, 4, 2]]


def test_unseen_texts_have_the_ids_of_the_plain_formula() -> None:
    assert eager_ids(UNSEEN, VOCABULARY_OF_CORPUS) == UNSEEN_IDS


def test_the_saved_graph_gives_the_same_ids(transformed: Transformed) -> None:
    layer = transformed.output.transform_features_layer()
    ids = layer({features.TEXT: tf.constant(CORPUS)[:, tf.newaxis]})[features.TOKEN_IDS]
    assert ids.dtype == tf.int64
    assert ragged(ids) == transformed.rows
    assert ragged(layer({features.TEXT: tf.constant(UNSEEN)[:, tf.newaxis]})[features.TOKEN_IDS]) == UNSEEN_IDS


@pytest.fixture
def batches() -> tf.data.Dataset:
    """Unseen texts in batches of three and one."""
    return tf.data.Dataset.from_tensor_slices(UNSEEN).batch(3)


def test_the_saved_graph_gives_the_same_ids_inside_a_dataset(
    transformed: Transformed, batches: tf.data.Dataset
) -> None:
    layer = transformed.output.transform_features_layer()
    mapped = batches.map(
        tf.autograph.experimental.do_not_convert(
            lambda texts: layer({features.TEXT: texts[:, tf.newaxis]})[features.TOKEN_IDS]
        )
    )
    assert [row for batch in mapped for row in ragged(batch)] == UNSEEN_IDS


def test_tokens_inside_a_dataset_give_the_same_ids(batches: tf.data.Dataset) -> None:
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            VOCABULARY_OF_CORPUS, range(2, 2 + len(VOCABULARY_OF_CORPUS)), value_dtype=tf.int64
        ),
        features.OOV_ID,
    )
    mapped = batches.map(lambda texts: tf.ragged.map_flat_values(table.lookup, tokenize(texts, MAX_TOKENS)).to_sparse())
    assert [row for batch in mapped for row in ragged(batch)] == UNSEEN_IDS


def test_the_graph_needs_no_label_to_serve(transformed: Transformed) -> None:
    served = transformed.output.transform_features_layer()({features.TEXT: tf.constant([["oil"]])})
    assert set(served) == {features.TOKEN_IDS}


def test_a_given_vocabulary_is_kept_with_the_graph(tmp_path: Path) -> None:
    """The model that it is of may be deleted or moved."""
    earlier = tmp_path / "earlier" / "assets" / VOCABULARY
    earlier.parent.mkdir(parents=True)
    earlier.write_text("bank\ngoal\nstriker\n")
    digest = hashlib.sha256(earlier.read_bytes()).hexdigest()
    made = analyze(tmp_path, 100, 1, MAX_TOKENS, vocabulary=str(earlier), vocabulary_digest=digest)
    earlier.unlink()
    output = tft.TFTransformOutput(str(tmp_path / "graph"))
    assert [word.decode() for word in output.vocabulary_by_name(VOCABULARY)] == ["bank", "goal", "striker"]
    texts = tf.constant([[text] for text in UNSEEN])
    ids = output.transform_features_layer()({features.TEXT: texts})[features.TOKEN_IDS]
    assert ragged(ids) == eager_ids(UNSEEN, ["bank", "goal", "striker"])
    assert made.rows == eager_ids(CORPUS, ["bank", "goal", "striker"])


def test_a_given_vocabulary_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    """Its ids would mean other words than to the weights that begin with them."""
    earlier = tmp_path / VOCABULARY
    earlier.write_text("bank\ngoal\n")
    digest = hashlib.sha256(b"goal\nbank\n").hexdigest()
    with pytest.raises(BadInputError, match=f"^the vocabulary {earlier} changed after the run was configured"):
        analyze(tmp_path, 100, 1, MAX_TOKENS, vocabulary=str(earlier), vocabulary_digest=digest)
