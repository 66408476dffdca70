"""Names shared by all rooms, and the length slices."""

import subprocess
import sys

import pytest

from components import features


@pytest.mark.parametrize(
    ("words", "bucket"),
    [(0, "short"), (1, "short"), (29, "short"), (30, "medium"), (49, "medium"), (50, "long"), (5000, "long")],
)
def test_length_bucket_counts_words(words: int, bucket: str) -> None:
    assert features.length_bucket("word " * words) == bucket


def test_length_bucket_takes_any_run_of_white_space_as_one_separator() -> None:
    assert features.length_bucket("a\t b\n\n" * 14 + " c \u00a0 ") == "short"
    assert features.length_bucket("a\t b\n\n" * 14 + " c \u00a0 d") == "medium"
    assert features.length_bucket("a\\b\\\\" * 14 + " c \\d\\") == "medium"


def test_every_bucket_can_be_reached_and_is_named() -> None:
    assert {features.length_bucket("a " * words) for words in range(100)} == set(features.LENGTH_BUCKETS)


def test_reserved_ids_are_the_lowest() -> None:
    assert {features.PADDING_ID, features.OOV_ID} == set(range(features.RESERVED_IDS))


def test_names_of_the_contract_do_not_change() -> None:
    assert features.AG_NEWS_CLASSES == ("World", "Sports", "Business", "Sci/Tech")
    assert features.SPLITS == ("train", "eval", "test")
    assert (features.SERVING_SIGNATURE, features.EXAMPLES_SIGNATURE) == ("serving_default", "serve_examples")
    assert (features.TEXT, features.EXAMPLES_INPUT) == ("text", "examples")
    assert features.OUTPUTS == ("label", "label_id", "probabilities")
    assert features.INPUTS == {"serving_default": "text", "serve_examples": "examples"}


def test_a_client_can_import_the_names_without_tensorflow() -> None:
    program = "import sys; import components.features; sys.exit('tensorflow' in sys.modules or 'tfx' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
