"""What is answered: predictions, status, metadata, errors."""

from typing import Any

import numpy as np
import orjson
import pytest
from protocol_calls import SIGNATURES, refusal

from serving.errors import Code, RequestError
from serving.model.loaded import Answers
from serving.protocol.replies import render_error, render_metadata, render_predictions, render_status
from serving.repository.states import State, VersionStatus


def answers(rows: int = 2) -> Answers:
    probabilities = np.tile(np.array([[0.1, 0.2, 0.7]], np.float32), (rows, 1))
    return Answers(["Business"] * rows, np.full(rows, 2, np.int64), probabilities)


def test_rows_are_answered_by_row_in_the_digits_of_float32() -> None:
    one = b'{"label":"Business","label_id":2,"probabilities":[0.1,0.2,0.7]}'
    assert render_predictions(answers(2), rows=True) == b'{"predictions":[' + one + b"," + one + b"]}"


def test_columns_are_answered_by_column() -> None:
    assert orjson.loads(render_predictions(answers(2), rows=False)) == {
        "outputs": {
            "label": ["Business", "Business"],
            "label_id": [2, 2],
            "probabilities": [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]],
        }
    }


@pytest.mark.parametrize("rows", [True, False])
def test_a_part_of_a_batch_is_answered_whatever_its_layout(rows: bool) -> None:
    whole = answers(6)
    part = Answers(whole.labels[::3], whole.label_ids[::3], np.asfortranarray(whole.probabilities)[::3])
    assert render_predictions(part, rows) == render_predictions(answers(2), rows)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_a_number_is_an_error_and_not_null(number: float, rows: bool) -> None:
    broken = answers(2)
    broken.probabilities[1, 0] = number
    status, message = refusal(lambda: render_predictions(broken, rows))
    assert (status, message) == (500, "The model answered with a probability that is not a number")


def test_status_lists_the_newest_version_first() -> None:
    broken = VersionStatus(9, State.END, Code.INVALID_ARGUMENT, "the manifest does not match")
    assert orjson.loads(render_status([VersionStatus(2, State.AVAILABLE), broken])) == {
        "model_version_status": [
            {
                "version": "9",
                "state": "END",
                "status": {"error_code": "INVALID_ARGUMENT", "error_message": "the manifest does not match"},
            },
            {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        ]
    }


def test_metadata_has_the_shape_of_the_protos() -> None:
    def tensor(dtype: str, name: str, *sizes: str) -> dict[str, Any]:
        shape = {"dim": [{"size": size, "name": ""} for size in sizes], "unknown_rank": False}
        return {"dtype": dtype, "tensor_shape": shape, "name": name}

    assert orjson.loads(render_metadata("ag_news", 3, SIGNATURES)) == {
        "model_spec": {"name": "ag_news", "signature_name": "", "version": "3"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {"text": tensor("DT_STRING", "serving_default_text:0", "-1")},
                        "outputs": {
                            "label": tensor("DT_STRING", "StatefulPartitionedCall:0", "-1"),
                            "label_id": tensor("DT_INT64", "StatefulPartitionedCall:1", "-1"),
                            "probabilities": tensor("DT_FLOAT", "StatefulPartitionedCall:2", "-1", "4"),
                        },
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    },
                    "__saved_model_init_op": {
                        "inputs": {},
                        "outputs": {
                            "__saved_model_init_op": {
                                "dtype": "DT_INVALID",
                                "tensor_shape": {"dim": [], "unknown_rank": True},
                                "name": "NoOp",
                            }
                        },
                        "method_name": "",
                        "defaults": {},
                    },
                }
            }
        },
    }


def test_an_error_is_always_json() -> None:
    refused = RequestError(Code.NOT_FOUND, 'no "model" \\ named \ud800 or \0')
    assert orjson.loads(render_error(refused)) == {"error": 'no "model" \\ named ? or \0'}
