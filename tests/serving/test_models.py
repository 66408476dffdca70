"""Finding the newest pushed version and asking a loaded model."""

from pathlib import Path

import pytest
import tensorflow as tf

from serving.models import LoadedModel, NoModelError, newest_version

CLASSES = ("World", "Sports", "Business")


class ByLength(tf.Module):
    """Stands in for a classifier: a text's class is its length in bytes modulo three."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = tf.constant(CLASSES)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        label_id = tf.cast(tf.strings.length(text) % 3, tf.int64)
        return {
            "label": tf.gather(self.classes, label_id),
            "label_id": label_id,
            "probabilities": tf.one_hot(label_id, 3, on_value=0.5, off_value=0.25),
        }


def push(base: Path, *versions: str) -> None:
    """Makes version directories that look pushed."""
    for version in versions:
        (base / version).mkdir(parents=True)
        (base / version / "saved_model.pb").touch()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    directory = tmp_path_factory.mktemp("model") / "7"
    module = ByLength()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.classify})
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    return LoadedModel(directory)


def test_newest_version_is_the_highest_number(tmp_path: Path) -> None:
    push(tmp_path / "ag_news", "9", "10", "2")
    assert newest_version(tmp_path, "ag_news") == tmp_path / "ag_news" / "10"


def test_newest_version_leaves_out_what_is_not_a_finished_version(tmp_path: Path) -> None:
    base = tmp_path / "ag_news"
    push(base, "3", ".tmp-12", "13.tmp", "14-old", "backup", "-15")
    (base / "16").mkdir()
    (base / "17").touch()
    (base / "18" / "saved_model.pb").mkdir(parents=True)
    assert newest_version(tmp_path, "ag_news") == base / "3"


def test_newest_version_looks_at_one_model_only(tmp_path: Path) -> None:
    push(tmp_path / "ag_news", "1")
    push(tmp_path / "ag_news_bert", "2")
    assert newest_version(tmp_path, "ag_news") == tmp_path / "ag_news" / "1"


@pytest.mark.parametrize("left", [None, "", ".tmp-1", "1"])
def test_no_pushed_model_is_an_error_that_names_it(tmp_path: Path, left: str | None) -> None:
    if left is not None:
        (tmp_path / "ag_news" / left).mkdir(parents=True)
    with pytest.raises(NoModelError, match="no model ag_news has been pushed to") as raised:
        newest_version(tmp_path, "ag_news")
    assert str(tmp_path) in str(raised.value)


def test_predictions_come_in_the_order_of_the_texts(model: LoadedModel) -> None:
    texts = ["ab", "", "a", "abcd", "abcde", "abc"]
    predictions = model.predict(texts)
    assert [prediction.text for prediction in predictions] == texts
    assert [prediction.label_id for prediction in predictions] == [2, 0, 1, 1, 2, 0]
    assert [prediction.label for prediction in predictions] == [CLASSES[n] for n in (2, 0, 1, 1, 2, 0)]


def test_prediction_has_every_class_in_label_order(model: LoadedModel) -> None:
    (prediction,) = model.predict(["ab"])
    assert list(prediction.probabilities.items()) == [("World", 0.25), ("Sports", 0.25), ("Business", 0.5)]
    assert prediction.to_dict() == {
        "text": "ab",
        "label": "Business",
        "label_id": 2,
        "probability": 0.5,
        "probabilities": {"World": 0.25, "Sports": 0.25, "Business": 0.5},
    }
    assert (type(prediction.label), type(prediction.label_id), type(prediction.probability)) == (str, int, float)


def test_predict_takes_any_text_and_none(model: LoadedModel) -> None:
    assert model.predict([]) == []
    texts = ("球", "zero\x00byte", "\n")
    assert [prediction.text for prediction in model.predict(texts)] == list(texts)


def test_class_names_come_with_the_model(model: LoadedModel) -> None:
    assert tuple(model.classes) == CLASSES
