"""What is counted, and how it is told."""

import re
import time
from types import SimpleNamespace

import pytest
from fake_models import FakeModel, FakeRepository
from prometheus_client.parser import text_string_to_metric_families
from running_server import Running, running_server, wait_until

from serving.errors import Code
from serving.http.metrics import MICROSECONDS, Histogram, Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: bytes) -> Samples:
    families = text_string_to_metric_families(text.decode())
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def own(server: Running, name: str, **labels: str) -> float:
    return parse(server.ask("GET", "/metrics").body).get((name, frozenset(labels.items())), 0.0)


@pytest.fixture
def quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request takes a quarter of a second."""
    monkeypatch.setattr("serving.http.exchange.time", SimpleNamespace(monotonic=lambda: 10.0))
    monkeypatch.setattr("serving.http.predictor.time", SimpleNamespace(monotonic=lambda: 10.25, time=time.time))


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 2, 3, 100):
        histogram.add(value)
    assert histogram.buckets() == [("1", 2), ("2", 3), ("4", 4), ("+Inf", 5)]
    assert histogram.total == 106.5


def test_requests_are_counted_by_model_version_label_and_code(quarter: None) -> None:
    repository = FakeRepository({1: FakeModel(), 2: FakeModel()}, {"champion": 1, "challenger": 2})
    with running_server(repository) as server:
        server.predict("a", "ab")
        server.predict("a", path="/v1/models/ag_news/versions/2:predict")
        server.predict("a", path="/v1/models/ag_news/labels/challenger:predict")
        server.predict("bad")
        server.predict("a", path="/v1/models/ag_news/versions/77:predict")
        server.predict("a", path="/v1/models/anything:predict")
        name = "newsdesk_requests_total"
        assert own(server, name, model="ag_news", version="1", label="champion", code="200") == 1
        assert own(server, name, model="ag_news", version="1", label="champion", code="400") == 1
        assert own(server, name, model="ag_news", version="2", label="", code="200") == 1
        assert own(server, name, model="ag_news", version="2", label="challenger", code="200") == 1
        assert own(server, name, model="ag_news", version="", label="", code="404") == 1
        assert own(server, name, model="", version="", label="", code="404") == 1
        assert own(server, "newsdesk_request_seconds_count", model="ag_news", version="1") == 2
        assert own(server, "newsdesk_request_seconds_sum", model="ag_news", version="1") == 0.5
        assert own(server, "newsdesk_predictions_total", **{"model": "ag_news", "version": "1", "class": "Sports"}) == 1
        assert (
            own(server, "newsdesk_predictions_total", **{"model": "ag_news", "version": "1", "class": "Business"}) == 1
        )
        assert own(server, "newsdesk_loaded_versions", model="ag_news", version="1", label="champion") == 1
        assert own(server, "newsdesk_loaded_versions", model="ag_news", version="2", label="challenger") == 1
        assert own(server, "newsdesk_batch_rows_sum") == 5
        assert own(server, "newsdesk_batch_rows_count") == 4


def test_no_client_can_make_series() -> None:
    with running_server() as server:
        for number in range(50):
            server.predict("a", path=f"/v1/models/m{number}:predict")
            server.predict("a", path=f"/v1/models/ag_news/versions/{number + 2}:predict")
            server.predict("a", path=f"/v1/models/ag_news/labels/l{number}:predict")
        names = {name for name, _ in server.app.metrics.seconds}
        assert len(server.app.metrics.requests) == 3
        assert names == set()
        assert b"m49" not in server.ask("GET", "/metrics").body


def test_the_queue_is_told_while_it_is_there() -> None:
    model = FakeModel()
    with running_server(FakeRepository({1: model})) as server:
        model.gate.clear()
        clients = [server.connect() for _ in range(3)]
        body = b'{"instances": ["a", "b"]}'
        for client in clients:
            client.sendall(
                b"POST /v1/models/ag_news:predict HTTP/1.1\r\nhost: localhost\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            wait_until(model.asked.is_set)
        wait_until(lambda: own(server, "newsdesk_queue_rows") == 4)
        model.gate.set()
        wait_until(lambda: own(server, "newsdesk_queue_rows") == 0)
        for client in clients:
            client.close()


def test_limits_are_counted_by_reason() -> None:
    with running_server(token="secret", body_bytes=100) as server:
        server.predict("a")
        server.ask("GET", "/v1/models/ag_news")
        server.predict("a", host="evil.example")
        server.predict("a" * 200, authorization="Bearer secret")
        text = server.ask("GET", "/metrics", authorization="Bearer secret").body
        found = {dict(labels)["reason"]: value for (name, labels), value in parse(text).items() if "rejected" in name}
        assert found == {"token": 2, "host": 1, "body": 1}


def test_tensorflow_servings_names_and_units(quarter: None) -> None:
    with running_server() as server:
        server.predict("a")
        server.predict("bad")
        answer = server.ask("GET", "/monitoring/prometheus/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        text = answer.body.decode()
        assert ':tensorflow:serving:request_count{model_name="ag_news",status="OK"} 1\n' in text
        assert ':tensorflow:serving:request_count{model_name="ag_news",status="INVALID_ARGUMENT"} 1\n' in text
        bounds = re.findall(
            r'^:tensorflow:serving:request_latency_bucket{model_name="ag_news",API="predict",entrypoint="REST",le="(.+)"}',
            text,
            re.MULTILINE,
        )
        assert bounds[:3] == ["10", "18", "32.4"]
        assert (len(bounds), bounds[-1]) == (34, "+Inf")
        total = re.search(r'request_latency_sum{model_name="ag_news",API="predict",entrypoint="REST"} (\d+)', text)
        assert total
        # Two requests in microseconds, not in seconds or milliseconds.
        assert int(total[1]) == 500_000
        assert ':tensorflow:serving:runtime_latency_count{model_name="ag_news",API="Predict",runtime="TF1"} 2\n' in text
        for line in text.splitlines():
            assert re.fullmatch(r"# TYPE \S+ \w+|:[a-z:_]+\{[^{}]+\} \d+", line), line


def test_buckets_are_those_of_tensorflow_serving() -> None:
    assert len(MICROSECONDS) == 33
    assert MICROSECONDS[-1] == pytest.approx(10 * 1.8**32)


def test_loads_are_counted() -> None:
    metrics = Metrics()
    metrics.load_seconds["ag_news"].add(3.0)
    metrics.load_failures["ag_news"] += 1
    metrics.load_failures["ag_news"] += 1
    found = parse(metrics.render())
    assert found["newsdesk_load_failures_total", frozenset({("model", "ag_news")})] == 2
    assert found["newsdesk_load_seconds_sum", frozenset({("model", "ag_news")})] == 3.0


def test_names_are_quoted() -> None:
    metrics = Metrics()
    metrics.series('a"b\\c\nd', 1, "").count(Code.OK, 0.001)
    assert b'model_name="a\\"b\\\\c\\nd"' in metrics.render_tensorflow()
    assert parse(metrics.render())
