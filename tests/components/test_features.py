"""Names shared by all rooms."""

import subprocess
import sys

from components import features


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
