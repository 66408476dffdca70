"""A SavedModel in a session: answers, threads, and what it keeps."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
from tiny_versions import CLASSES, push_tiny

from serving.model.graph_session import GraphSession
from serving.model.signatures import read_signatures

pytestmark = pytest.mark.stack

NAMES = ("serving_default", "serve_examples")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return push_tiny(tmp_path_factory.mktemp("pushed"), 1)


def open_session(version: Path, batches: int = 0) -> GraphSession:
    signatures = read_signatures(version)
    return GraphSession(version, {name: signatures[name] for name in NAMES}, batches)


@pytest.fixture(scope="module")
def session(version: Path) -> GraphSession:
    return open_session(version, batches=2)


def test_outputs_come_by_name_with_their_types(session: GraphSession) -> None:
    found = session.run("serving_default", [b"abc", b""])
    assert found["label"].tolist() == [CLASSES[0].encode(), CLASSES[1].encode()]
    assert (found["label_id"].dtype, found["probabilities"].dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(found["probabilities"], [[0.5, 1 / 6, 1 / 6, 1 / 6], [1 / 6, 0.5, 1 / 6, 1 / 6]], 1e-6)


def test_it_answers_as_the_loaded_saved_model_does(version: Path, session: GraphSession) -> None:
    texts = ["", "headline", "球", "zero\x00byte", "x" * 10_000]
    expected = tf.saved_model.load(str(version)).signatures["serving_default"](text=tf.constant(texts))
    found = session.run("serving_default", [text.encode() for text in texts])
    assert found["label"].tolist() == expected["label"].numpy().tolist()
    np.testing.assert_array_equal(found["probabilities"], expected["probabilities"].numpy())


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_many_threads_get_their_own_answers(version: Path, batches: int) -> None:
    session = open_session(version, batches)

    def ask(number: int) -> bool:
        texts = [b"x" * (number + step) for step in range(20)]
        return session.run("serving_default", texts)["label_id"].tolist() == [(len(text) + 1) % 4 for text in texts]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))


def test_threads_that_ask_at_a_time_have_a_pool_each(session: GraphSession) -> None:
    both = threading.Barrier(2)

    def ask(_: int) -> int:
        both.wait(10)
        session.run("serving_default", [b"x"])
        return session._thread.options.inter_op_thread_pool

    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(ask, range(2))) == {0, 1}


def test_two_sessions_are_apart(version: Path, tmp_path: Path) -> None:
    other = open_session(push_tiny(tmp_path, 2))
    assert other.run("serving_default", [b""])["label_id"].tolist() == [2]
    assert open_session(version).run("serving_default", [b""])["label_id"].tolist() == [1]


def test_an_error_is_tensorflow_s(session: GraphSession) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="Could not parse example input"):
        session.run("serve_examples", [b"garbage"])


def test_a_call_leaves_nothing_behind(session: GraphSession) -> None:
    """An eager tensor made of Python's values leaves 340 bytes, which is a gigabyte in three million batches."""
    texts = [b"one", b"two", b"three"]

    def resident() -> int:
        return psutil.Process().memory_info().rss

    def growth() -> float:
        before = resident()
        for _ in range(10_000):
            session.run("serving_default", texts)
        return (resident() - before) / 10_000

    growth()
    # What else the process does may grow meanwhile; a leak grows every time.
    assert min(growth() for _ in range(5)) < 100
