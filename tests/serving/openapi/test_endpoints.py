"""One table routes requests, says which need no token or no line in the log, and makes ``openapi.json``."""

from typing import get_args

import pytest
from openapi_description import operations
from openapi_document import render
from page_world import MemoryRepository
from starlette.routing import Route

from serving.config import make_config
from serving.endpoints import ENDPOINTS, bind
from serving.http.app import App
from serving.http.routes import QUIET, make_routes
from serving.page.docs import OPENAPI_FILE
from serving.protocol.targets import Action, parse_target


def test_the_file_is_what_the_table_makes_of_it() -> None:
    assert OPENAPI_FILE.read_bytes() == render(), "run python tests/support/openapi_document.py, commit openapi.json"


def test_starlette_routes_what_is_in_the_table() -> None:
    app = App(MemoryRepository(), make_config({"model_dir": "nowhere"}))  # type: ignore[arg-type]
    made = make_routes(app.repository, app.config, app.metrics, app.predictor, lambda: True)
    routes = [route for route in made if isinstance(route, Route)]
    routed = [(method, route.path) for route in routes for method in route.methods or () if method != "HEAD"]
    listed = [(each.method, each.path) for each in ENDPOINTS if not each.path.startswith("/v1/")]
    assert sorted(each for each in routed if not each[1].startswith("/page/")) == sorted(listed)


def test_a_handler_that_the_table_does_not_name_is_refused() -> None:
    async def explain(request: object) -> None: ...

    with pytest.raises(ValueError, match="no endpoint has the handler 'explane'"):
        bind({"explane": explain})  # type: ignore[dict-item]


def test_paths_of_tensorflow_serving_ask_what_the_table_says() -> None:
    asked = [each for each in ENDPOINTS if each.path.startswith("/v1/")]
    assert {each.handler for each in asked} == set(get_args(Action))
    for each in asked:
        found = parse_target(each.method, each.path.format(model="ag_news", version=3, label="champion"))
        named = (found.version is not None, found.label is not None)
        assert (found.action, found.model) == (each.handler, "ag_news")
        assert named == ("{version}" in each.path, "{label}" in each.path)


def test_probes_are_not_logged_and_only_what_holds_nothing_of_a_model_is_open() -> None:
    open_to_all = {path for _, path, operation in operations() if operation.get("security") == []}
    probes = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
    assert open_to_all == {"/", "/docs", "/openapi.json", *probes}
    assert {"/metrics", "/monitoring/prometheus/metrics", *probes} == QUIET
