"""What the schema of a request allows, the parser takes, and the other way round."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_description import LIMITS, validator

from components.features import INPUTS
from serving.errors import Code, RequestError
from serving.protocol.kserve import parse_infer
from serving.protocol.tensorflow_serving import parse_predict

# What the schema of a request allows, the parser takes, and the other way round

BASE64 = ("", "YQ==", "YQ", "Y", "YQ=", " Y\nQ = =", "YQ==YQ==", "-_-_", "é", "YWJj", "Y" * 7, "\u00a0", None)
leaves = st.none() | st.integers(0, 3) | st.text(max_size=3) | st.sampled_from([{"b64": data} for data in BASE64])
tensor = st.lists(leaves, max_size=3) | leaves | st.lists(st.lists(leaves, max_size=2), max_size=2)
named = st.dictionaries(st.sampled_from(["text", "b64", "x"]), tensor, max_size=2)
requests = st.fixed_dictionaries(
    {},
    optional={
        "instances": tensor | named | st.lists(named, max_size=3),
        "inputs": tensor | named,
        "signature_name": st.sampled_from(["serving_default", "", "other", None, 7]),
        "more": leaves,
    },
)
plain = st.lists(st.text(max_size=2), min_size=1, max_size=2)
one_of_them = st.fixed_dictionaries({"instances": plain | st.lists(named, max_size=2)}) | st.fixed_dictionaries(
    {"inputs": plain | named}
)
parameters = st.just({}) | st.dictionaries(st.sampled_from(["content_type", "x"]), st.just("str") | leaves, max_size=1)
v2_tensor = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["text", "x"]),
        "datatype": st.just("BYTES") | st.none(),
        "shape": st.just([1]),
        "data": st.lists(st.text(max_size=2), min_size=1, max_size=1) | leaves,
    },
    optional={"parameters": parameters, "more": leaves},
)
output = st.fixed_dictionaries(
    {"name": st.sampled_from(["label", "label_id", "logits"])}, optional={"parameters": parameters}
)
v2_requests = st.fixed_dictionaries(
    {"inputs": st.lists(v2_tensor, min_size=1, max_size=1) | leaves},
    optional={"id": leaves, "outputs": leaves | st.lists(output, max_size=4), "parameters": parameters | leaves},
)
thorough = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


def takes(call: Callable[[], Any]) -> bool:
    try:
        call()
    except RequestError as error:
        return error.code is not Code.INVALID_ARGUMENT
    return True


@thorough
@given(requests | one_of_them)
def test_predict_takes_what_its_schema_allows_and_nothing_else(document: Any) -> None:
    allowed = validator("PredictRequest").is_valid(document)
    assert takes(lambda: parse_predict(json.dumps(document).encode(), LIMITS, INPUTS)) == allowed


@thorough
@given(v2_requests)
def test_infer_takes_what_its_schema_allows_and_nothing_else(document: Any) -> None:
    allowed = validator("V2InferRequest").is_valid(document)
    assert takes(lambda: parse_infer(json.dumps(document).encode(), LIMITS)) == allowed
