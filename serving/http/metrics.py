"""What a server counts, under TensorFlow Serving's names and its own.

Requests add to plain numbers, on the event loop and nowhere else; Prometheus's families are made of them when
somebody asks. ``prometheus_client``'s own counters take a lock and a dictionary for each of some ten additions a
request.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.errors import Code
from serving.repository.repository import Observer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MICROSECONDS = tuple(10 * 1.8**step for step in range(33))
"""TensorFlow Serving's ``Buckets::Exponential(10, 1.8, 33)``."""
_PREFIX = ":tensorflow:serving:"


class Histogram:
    """Counts per bucket; ``bounds`` are the upper ones, inclusive, of all buckets but the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]):
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Returns each bucket's upper bound, as Prometheus writes it, and how many values are not above it."""
        bounds = [*(f"{bound:.12g}" for bound in self.bounds), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Series:
    """What is counted of one version under one label: kept at hand, so that a request looks nothing up."""

    __slots__ = ("_names", "_predicted", "label", "model", "requests", "seconds", "served", "version")

    def __init__(self, metrics: "Metrics", model: str, version: str, label: str):
        self.model, self.version, self.label = model, version, label
        self._names = (model, version, label)
        self.requests = metrics.requests
        self.seconds = metrics.seconds[model, version]
        self.served = metrics.served[model]
        self._predicted = metrics.predictions

    def count(self, code: Code, seconds: float) -> None:
        """Counts one request."""
        self.requests[(*self._names, code)] += 1
        self.seconds.add(seconds)
        self.served.add(seconds * 1e6)

    def predict(self, labels: Iterable[str]) -> None:
        """Counts the classes that were answered."""
        for label in labels:
            self._predicted[self.model, self.version, label] += 1


class Metrics(Collector, Observer):
    """All counts of one server.

    Model, version and label are those of something that is or was loaded, never words from a request, so that nobody
    can make more series than there are models.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, Code], int] = defaultdict(int)
        self.seconds: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.served: dict[str, Histogram] = defaultdict(lambda: Histogram(MICROSECONDS))
        self.ran: dict[str, Histogram] = defaultdict(lambda: Histogram(MICROSECONDS))
        self.predictions: dict[tuple[str, str, str], int] = defaultdict(int)
        self.rejected: dict[str, int] = defaultdict(int)
        self.batch_rows = Histogram(ROWS)
        self.load_failures: dict[str, int] = defaultdict(int)
        self.load_seconds: dict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.queue_rows: Callable[[], int] = lambda: 0
        self.versions: Callable[[], Iterable[tuple[str, int, Iterable[str]]]] = tuple
        self._series: dict[tuple[str, int, str], Series] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def series(self, model: str, version: int, label: str) -> Series:
        """Returns the counts of one version under one label, ``""`` for none."""
        key = (model, version, label)
        if key not in self._series:
            self._series[key] = Series(self, model, str(version), label)
        return self._series[key]

    def refuse(self, model: str, code: Code) -> None:
        """Counts a request that met no version; ``model`` is ``""`` where there is none of that name."""
        self.requests[model, "", "", code] += 1

    def ran_batch(self, model: str, rows: int, seconds: float) -> None:
        """Counts one pass through a model."""
        self.batch_rows.add(rows)
        self.ran[model].add(seconds * 1e6)

    def loaded(self, model: str, version: int, seconds: float) -> None:
        """Counts a version that was loaded."""
        self.load_seconds[model].add(seconds)

    def load_failed(self, model: str, version: int, message: str) -> None:
        """Counts a version that could not be loaded."""
        self.load_failures[model] += 1

    def render(self) -> bytes:
        """Returns ``newsdesk_*`` in Prometheus's text format."""
        return generate_latest(self._registry)

    def render_tensorflow(self) -> bytes:
        """Returns TensorFlow Serving's metrics as it writes them; ``prometheus_client`` would rename the counter."""
        lines = [f"# TYPE {_PREFIX}request_count counter"]
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for (model, _, _, code), count in self.requests.items():
            if model:
                counts[model, code.name] += count
        for (model, status), count in counts.items():
            lines.append(f'{_PREFIX}request_count{{model_name="{_quote(model)}",status="{status}"}} {count}')
        lines += _histograms("request_latency", 'API="predict",entrypoint="REST"', self.served)
        lines += _histograms("runtime_latency", 'API="Predict",runtime="TF1"', self.ran)
        return ("\n".join(lines) + "\n").encode()

    def collect(self) -> Iterator[Metric]:
        """Yields the families of ``newsdesk_*``."""
        named = ["model", "version"]
        requests = CounterMetricFamily(
            "newsdesk_requests", "Requests for predictions.", None, [*named, "label", "code"]
        )
        for (*names, code), count in self.requests.items():
            requests.add_metric([*names, str(code.status)], count)
        yield requests
        seconds = HistogramMetricFamily("newsdesk_request_seconds", "From first byte to answer.", labels=named)
        for pair, histogram in self.seconds.items():
            seconds.add_metric(list(pair), histogram.buckets(), histogram.total)
        yield seconds
        rows = HistogramMetricFamily("newsdesk_batch_rows", "Texts that went through a model together.")
        rows.add_metric([], self.batch_rows.buckets(), self.batch_rows.total)
        yield rows
        yield GaugeMetricFamily("newsdesk_queue_rows", "Texts that wait for a model.", self.queue_rows())
        rejected = CounterMetricFamily("newsdesk_rejected", "What a limit refused.", labels=["reason"])
        for reason, count in self.rejected.items():
            rejected.add_metric([reason], count)
        yield rejected
        loaded = GaugeMetricFamily("newsdesk_loaded_versions", "Versions in memory.", labels=[*named, "label"])
        for model, number, labels in self.versions():
            for label in sorted(labels) or [""]:
                loaded.add_metric([model, str(number), label], 1)
        yield loaded
        failures = CounterMetricFamily("newsdesk_load_failures", "Versions that did not load.", labels=["model"])
        for model, count in list(self.load_failures.items()):
            failures.add_metric([model], count)
        yield failures
        loads = HistogramMetricFamily("newsdesk_load_seconds", "To load a version and warm it.", labels=["model"])
        for model, histogram in list(self.load_seconds.items()):
            loads.add_metric([model], histogram.buckets(), histogram.total)
        yield loads
        predictions = CounterMetricFamily("newsdesk_predictions", "Answers.", labels=[*named, "class"])
        for triple, count in self.predictions.items():
            predictions.add_metric(list(triple), count)
        yield predictions


def _histograms(name: str, more: str, histograms: dict[str, Histogram]) -> Iterator[str]:
    yield f"# TYPE {_PREFIX}{name} histogram"
    for model, histogram in histograms.items():
        labels = f'model_name="{_quote(model)}",{more}'
        for bound, count in histogram.buckets():
            yield f'{_PREFIX}{name}_bucket{{{labels},le="{bound}"}} {count}'
        yield f"{_PREFIX}{name}_sum{{{labels}}} {histogram.total:.0f}"
        yield f"{_PREFIX}{name}_count{{{labels}}} {sum(histogram.counts)}"


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
