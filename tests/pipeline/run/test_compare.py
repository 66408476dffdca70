"""Two runs side by side: real tracking and tiny SavedModels, without a pipeline run; and what the screen shows."""

import contextlib
import json
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

from components import features
from components.errors import BadInputError, GateRejectedError
from components.evaluation.comparison import Comparison, Disagreement, Metric
from components.evaluation.paired import Estimate, McNemar
from components.registry.spool import Spool
from components.registry.tracking import Store, choose_store, start_run
from pipeline.cli import main as entry
from pipeline.run import compare as module
from pipeline.run.compare import RunComparison, Side, compare
from pipeline.run.finished import find_run, open_run

CLASSES = ("World", "Sports")
# The word says which class a row is of; the number, which models err on it.
ROWS = [(f"{'minister' if number % 2 == 0 else 'goal'} {number:03}", number % 2) for number in range(60)]
TRACKED = {"test/calibration_error": 0.1, "seconds/Trainer": 12.5, "peak_mb/Trainer": 900.0, "peak_mb/Pusher": 950.0}
COST = {"parameters": 1234.0, "training_seconds": 10.0}


class Words(tf.Module):
    """Sports where the text has the word goal, and the opposite where it matches ``mistakes``."""

    def __init__(self, mistakes: str, classes: tuple[str, ...]):
        super().__init__()
        self.mistakes, self.classes = mistakes, tf.constant(classes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    def texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        goal = tf.strings.regex_full_match(text, ".*goal.*")
        wrong = tf.strings.regex_full_match(text, self.mistakes)
        label_id = tf.cast(tf.math.logical_xor(goal, wrong), tf.int64)
        share = 0.6 + 0.005 * tf.strings.to_number(tf.strings.substr(text, -2, 2))
        sports = tf.where(label_id == 1, share, 1 - share)
        return {
            features.OUTPUT_LABEL: tf.gather(self.classes, label_id),
            features.OUTPUT_LABEL_ID: label_id,
            features.OUTPUT_PROBABILITIES: tf.stack([1 - sports, sports], axis=1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.texts(tf.io.parse_example(examples, {"text": tf.io.FixedLenFeature([], tf.string)})["text"])


def write_model(directory: Path, mistakes: str, classes: tuple[str, ...] = CLASSES) -> Path:
    model = Words(mistakes, classes)
    tf.saved_model.save(model, str(directory), {"serving_default": model.texts, "serve_examples": model.examples})
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "classes.txt").write_text("\n".join(classes) + "\n")
    return directory


def write_examples(directory: Path, rows: list[tuple[str, int]]) -> Path:
    place = directory / "Split-test"
    place.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(place / "data_tfrecord-00000-of-00001")) as writer:
        for text, label in rows:
            example = tf.train.Example()
            example.features.feature["text"].bytes_list.value.append(text.encode())
            example.features.feature["label"].int64_list.value.append(label)
            writer.write(example.SerializeToString())
    return directory


class World:
    """A workspace's tracking, models and examples."""

    def __init__(self, root: Path):
        self.root = root
        self.store = choose_store({}, root / "mlflow.db", root / "mlartifacts")
        self.spool = Spool(root / "spool")
        self.models = {"good": write_model(root / "good", ".*0[0-4]"), "bad": write_model(root / "bad", ".*[0-5][0-3]")}
        self.examples = write_examples(root / "examples", ROWS)

    def run(
        self,
        name: str,
        model: Path | None = None,
        tags: dict[str, str] | None = None,
        metrics: dict[str, float] | None = None,
        params: dict[str, str] | None = None,
        error: BaseException | None = None,
    ) -> str:
        """Tracks a run and returns its MLflow id."""
        left = {"model_uri": str(model), "examples_uri": str(self.examples), "node.Trainer": "ran"} if model else {}
        tracking = start_run(self.store, "ag_news", name, self.spool)
        with contextlib.suppress(type(error) if error else ()), tracking as tracked:
            tracked.params(params or {"preset": "sample", "transformer.seed": "1"})
            tracked.tags({"model_family": "transformer"} | left | (tags or {}))
            tracked.metrics(TRACKED | COST | (metrics or {}))
            if error:
                raise error
        return tracked.id


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two runs, ``r-good`` and ``r-bad``, and whatever a test adds under names of its own."""
    made = World(tmp_path_factory.mktemp("world"))
    ours = {"preset": "a", "transformer.seed": "1"}
    theirs = {"preset": "b", "transformer.seed": "1", "transformer.epochs": "2"}
    made.run("r-good", made.models["good"], {"serving_version": "3", "node.Transform": "cached"}, params=ours)
    made.run("r-bad", made.models["bad"], params=theirs)
    return made


Compare = Callable[..., RunComparison]


@pytest.fixture
def compared(world: World, tmp_path: Path) -> Compare:
    """Compares two runs with an empty cache, or with ``cache``."""

    def call(first: str, second: str, cache: Path | None = None, **options: bool | int) -> RunComparison:
        return compare(world.store, cache or tmp_path / "cache", first, second, **options)

    return call


def test_a_and_b_are_the_runs_in_the_order_of_their_names(compared: Compare) -> None:
    found = compared("r-good", "r-bad")
    # good errs on rows 0 to 4, bad on the first four rows of every ten: 5 and 24 of 60, of which 4 are the same.
    assert (found.a.run_id, found.b.run_id) == ("r-good", "r-bad")
    assert (found.answers.mcnemar.b, found.answers.mcnemar.c) == (20, 1)
    accuracy = found.answers.metrics["accuracy"]
    assert (accuracy.a.value, accuracy.b.value) == pytest.approx((55 / 60, 36 / 60))
    assert found.answers.better == "a"
    assert compared("r-bad", "r-good").answers.better == "b"


def test_rows_are_those_of_the_model_that_is_right(compared: Compare) -> None:
    found = compared("r-good", "r-bad", most_rows=3).answers
    assert [row.text for row in found.only_a_right] == ["goal 053", "minister 052", "goal 051"]
    assert [(row.text, row.label, row.a, row.b) for row in found.only_b_right] == [
        ("minister 004", "World", "Sports", "World")
    ]
    assert found.only_a_right[0].b_probability == pytest.approx(0.6 + 0.005 * 53)


def test_cost_and_settings_are_as_tracked(world: World, compared: Compare) -> None:
    found = compared("r-good", "r-bad")
    size = sum(path.stat().st_size for path in world.models["good"].rglob("*") if path.is_file())
    assert found.a.model_mb == pytest.approx(size / 2**20)
    assert (found.a.trainer_seconds, found.a.epochs_seconds, found.a.peak_mb) == (12.5, 10.0, 950.0)
    assert (found.a.parameters, found.a.model_version, found.b.model_version) == (1234, "3", None)
    assert (found.a.cached_nodes, found.b.cached_nodes) == (1, 0)
    assert found.a.run_seconds is not None
    assert found.settings == {"transformer.epochs": (None, "2")}
    assert found.answers.metrics["calibration_error"] == Metric(Estimate(0.1), Estimate(0.1), Estimate(0.0))
    assert found.notes == []


def test_speed_is_measured_only_where_models_are_asked(compared: Compare, tmp_path: Path) -> None:
    speeds = [
        compared("r-good", "r-bad", tmp_path / "kept", refresh=refresh).a.rows_per_second
        for refresh in (False, False, True)
    ]
    assert [speed is None for speed in speeds] == [False, True, False]


def test_a_number_that_is_not_finite_is_null(compared: Compare) -> None:
    found = compared("r-good", "r-bad")
    text = replace(found, a=replace(found.a, run_seconds=float("nan"))).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["a"]["run_seconds"] is None


def test_everything_is_one_json_object(compared: Compare) -> None:
    found = json.loads(compared("r-good", "r-bad").to_json())
    assert set(found) == {
        "a", "b", "better", "verdict", "rows", "confidence", "classes", "metrics", "mcnemar", "both_wrong_differently",
        "only_a_right", "only_b_right", "settings", "notes",
    }  # fmt: skip
    assert found["rows"] == 60
    assert found["a"]["mlflow_run_id"] != found["b"]["mlflow_run_id"]
    assert set(found["metrics"]["f1/Sports"]["difference"]) == {"value", "low", "high"}
    assert found["mcnemar"]["b"] == 20


def test_a_run_is_found_by_either_id_and_by_its_beginning(world: World) -> None:
    mlflow_id = world.run("20261123-000000-aaaa", world.models["good"])
    world.run("20261123-000000-bbbb", world.models["good"])
    for wanted in (mlflow_id, mlflow_id[:12], "20261123-000000-aaaa", "20261123-000000-a"):
        assert find_run(world.store, wanted).id == mlflow_id


def test_a_whole_name_wins_over_a_beginning(world: World) -> None:
    wanted = world.run("whole", world.models["good"])
    world.run("whole-and-more", world.models["good"])
    assert find_run(world.store, "whole").id == wanted


@pytest.mark.parametrize("wanted", ["nope", "", "x' OR 1=1", "r%", "r_good", "R-GOOD", "r-good-"])
def test_an_unknown_run_is_bad_input(world: World, wanted: str) -> None:
    with pytest.raises(BadInputError, match=r"there is no run .* newsdesk ui lists"):
        find_run(world.store, wanted)


def test_an_ambiguous_beginning_is_bad_input(world: World) -> None:
    for number in range(6):
        world.run(f"many-{number}")
    with pytest.raises(BadInputError, match=r"'many' may be any of 6 runs, many-5 .*, \.\.\.: give more of the id"):
        find_run(world.store, "many")


def test_a_store_that_does_not_answer_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(BadInputError, match=rf"{uri} does not answer"):
        find_run(Store(uri, None), "r-good")


def test_two_names_of_one_run_are_bad_input(world: World, compared: Compare) -> None:
    with pytest.raises(BadInputError, match="both names stand for run r-good"):
        compared("r-good", find_run(world.store, "r-good").id)


def test_a_run_that_failed_before_training_is_bad_input(world: World) -> None:
    reasons = GateRejectedError("DataGate", ["the test split\nholds no rows"])
    world.run("failed", tags={"examples_uri": str(world.examples)}, error=reasons)
    with pytest.raises(BadInputError, match=r"run failed trained no model \(DataGate: the test split holds no rows\)"):
        open_run(world.store, "failed")


def test_a_rejected_run_is_compared(world: World, compared: Compare) -> None:
    world.run("rejected", world.models["bad"], error=GateRejectedError("ModelGate", ["accuracy is low"]))
    found = compared("r-good", "rejected")
    assert found.b.model_version is None
    assert found.b.model_dir == str(world.models["bad"])


def test_a_run_that_is_not_finished_is_bad_input(world: World) -> None:
    with (
        start_run(world.store, "ag_news", "open", world.spool),
        pytest.raises(BadInputError, match="not finished or was killed"),
    ):
        open_run(world.store, "open")


def test_a_run_of_an_older_version_is_bad_input(world: World) -> None:
    world.run("older", tags={"node.Trainer": "cached", "model_dir": str(world.models["good"])})
    with pytest.raises(BadInputError, match=r"does not say where its model is.*repeat"):
        open_run(world.store, "older")


def test_a_pushed_model_is_taken_and_the_trained_one_where_it_is_gone(world: World, tmp_path: Path) -> None:
    pushed = Path(shutil.copytree(world.models["good"], tmp_path / "serving" / "7"))
    world.run("pushed", world.models["good"], {"model_dir": str(pushed)})
    assert open_run(world.store, "pushed").model_dir == pushed
    shutil.rmtree(pushed)
    assert open_run(world.store, "pushed").model_dir == world.models["good"]


def test_a_deleted_model_is_bad_input_and_named(world: World, tmp_path: Path) -> None:
    world.run("deleted", tmp_path / "Format-Serving", {"model_dir": str(tmp_path / "serving" / "9")})
    with pytest.raises(BadInputError, match="model of run deleted is no longer at") as caught:
        open_run(world.store, "deleted")
    for place in ("serving/9", "Format-Serving"):
        assert str(tmp_path / place) in str(caught.value)


def test_deleted_rows_are_bad_input(world: World, tmp_path: Path) -> None:
    world.run("no-rows", world.models["good"], {"examples_uri": str(tmp_path / "gone")})
    with pytest.raises(BadInputError, match="test rows of run no-rows are no longer at"):
        open_run(world.store, "no-rows")


def test_other_classes_are_bad_input(world: World, compared: Compare, tmp_path: Path) -> None:
    world.run("classes", write_model(tmp_path / "model", "x", ("World", "Sport")))
    with pytest.raises(BadInputError, match=r"different classes apart \(World, Sports; World, Sport\)"):
        compared("r-good", "classes")


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        (ROWS[:-1], 59),
        ([*ROWS[:-1], (ROWS[-1][0], 0)], 59),
        ([*ROWS[:-1], ("goal 060", 1)], 59),
        ([*ROWS, ROWS[0]], 60),
    ],
    ids=["fewer", "another label", "another text", "one twice"],
)
def test_other_rows_are_bad_input_before_a_model_is_asked(
    world: World, compared: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list, same: int
) -> None:
    monkeypatch.setattr(module, "score_cached", lambda *_: pytest.fail("a model was asked"))
    name = f"rows-{tmp_path.name}"
    world.run(name, world.models["bad"], {"examples_uri": str(write_examples(tmp_path / "other", rows))})
    with pytest.raises(BadInputError, match=rf"different rows \(60 and {len(rows)}, of which {same} are the same\)"):
        compared("r-good", name)


def test_the_same_rows_in_another_order_are_compared(world: World, compared: Compare, tmp_path: Path) -> None:
    world.run("order", world.models["bad"], {"examples_uri": str(write_examples(tmp_path / "other", ROWS[::-1]))})
    expected, found = (compared("r-good", name).answers for name in ("r-bad", "order"))
    assert found == expected


def test_what_makes_numbers_doubtful_is_noted(world: World, compared: Compare) -> None:
    world.run("twin", world.models["good"], {"node.Trainer": "cached"}, {"test/accuracy": 0.8})
    found = compared("r-good", "twin")
    assert found.b.trainer_seconds is None
    assert len(found.notes) == 3
    same, changed, cached = found.notes
    assert same == "both runs hold the same model"
    assert changed.startswith("the Evaluator measured an accuracy of 0.8000 in run B, its model now reaches 0.9167")
    assert cached.startswith("B's Trainer was answered from the cache")


def test_a_row_that_ties_is_no_change_of_model(world: World, compared: Compare) -> None:
    world.run("tie", world.models["bad"], metrics={"test/accuracy": 37 / 60})
    assert compared("r-good", "tie").notes == []


def side(run_id: str, rows_per_second: float | None = 2_000.0) -> Side:
    return Side(
        run_id, "0" * 32, "transformer", "ag-news", "3", "/ws/serving/ag_news/3", 61.2, 55.0, 101.0, 0, 1234.0, 8.5,
        1_234_567, rows_per_second,
    )  # fmt: skip


RESULT = RunComparison(
    a=side("20261123-052522-ab12"),
    b=replace(side("20261123-061100-cd34"), model_version=None, trainer_seconds=None, cached_nodes=7),
    answers=Comparison(
        better="b",
        verdict="B is better: +1.3 points of accuracy (0.7 to 1.9), McNemar p = 0.0001 on 7,600 rows",
        rows=7_600,
        confidence=0.95,
        classes=("World", "[red]Sports"),
        metrics={
            "accuracy": Metric(
                Estimate(0.921, 0.9147, 0.9269), Estimate(0.934, 0.9282, 0.9394), Estimate(0.013, 0.0070, 0.0190)
            ),
            "f1/[red]Sports": Metric(Estimate(None), Estimate(0.5, 0.4, 0.6), Estimate(None)),
            "log_loss": Metric(
                Estimate(0.2314, 0.2251, 0.2377), Estimate(0.2196, 0.2136, 0.2256), Estimate(-0.0118, -0.0201, -0.0042)
            ),
        },
        mcnemar=McNemar(101, 200, 0.0001, 0.0001),
        both_wrong_differently=1_042,
        only_a_right=[Disagreement("long " * 100, "World", "World", 0.61, "[red]Sports", 0.998)],
        only_b_right=[
            Disagreement(
                "[red]red[/red] [/nothing] \x1b[31m\x1b]0;title\x07 two\nlines\r\t\u202e", "World", "x", 1, "World", 1
            )
        ],
    ),
    settings={"transformer.epochs": ("12", None), "code_version": ("0123456789abcdef", "fedcba9876543210")},
    notes=["both [bold]hold[/bold] the same model"],
)


@pytest.fixture
def screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> Callable[..., tuple[str, str]]:
    """Calls ``newsdesk compare`` on a result made up here; returns what it printed on both streams."""
    (tmp_path / "mlflow.db").touch()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked: list[tuple[object, ...]] = []

    def call(*arguments: str, width: int = 80, result: RunComparison = RESULT) -> tuple[str, str]:
        def answer(store: Store, cache: Path, *rest: object) -> RunComparison:
            sys.stdout.write("noise of the stack\n")
            asked.append((store.uri, cache, *rest))
            return result

        monkeypatch.setattr(module, "compare", answer)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["newsdesk", "compare", "--workspace", str(tmp_path), *arguments])
        capfd.readouterr()
        with (
            open(1, "w", closefd=False) as out,
            open(2, "w", closefd=False) as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as done,
        ):
            entry.main()
        assert not done.value.code
        assert asked.pop()[:2] == (f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "predictions")
        return capfd.readouterr()

    return call


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits_and_shows_both_runs(screen: Callable[..., tuple[str, str]], width: int) -> None:
    out, err = screen("a", "b", width=width)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert max(len(line) for line in out.splitlines()) <= width
    assert lines[0] == "A 20261123-052522-ab12 transformer preset ag-news version 3"
    assert lines[1] == "B 20261123-061100-cd34 transformer preset ag-news not pushed"
    assert f"{RESULT.answers.verdict}." in " ".join(lines)
    assert "accuracy 92.1 (91.5–92.7) 93.4 (92.8–93.9) +1.3 (0.7 to 1.9)" in lines  # noqa: RUF001
    assert "F1 [red]Sports - 50.0 (40.0–60.0) -" in lines  # noqa: RUF001
    assert "training, s 61.2 cached" in lines
    assert "whole run, s 101.0 101.0 (7 nodes cached)" in lines
    assert "parameters 1,234,567 1,234,567" in lines
    assert "inference, rows/s 2,000 2,000" in lines
    assert "transformer.epochs 12 -" in lines
    assert "code_version 0123456789ab fedcba987654" in lines
    assert "Note: both [bold]hold[/bold] the same model." in lines
    assert "A right, B wrong: 101 of 7,600 rows" in lines
    assert "B right, A wrong: 200 of 7,600 rows" in lines
    assert "Both wrong, with different answers: 1,042 rows" in lines
    assert any(line.startswith("World World 61% [red]Sports 100% long long") and line.endswith("…") for line in lines)
    assert "noise" not in out + err


def test_others_words_neither_style_nor_steer_the_terminal(screen: Callable[..., tuple[str, str]]) -> None:
    out, _ = screen("a", "b", width=120)
    assert "[red]red[/red] [/nothing] [31m ]0;title two lines" in out
    assert not set(out) & set("\x1b\x07\r\t\u202e")


def test_what_comes_from_the_cache_has_no_speed(screen: Callable[..., tuple[str, str]]) -> None:
    out, _ = screen("a", "b", result=replace(RESULT, a=side("one", None)))
    assert "--no-cache measures it" in out
    assert "--no-cache" not in screen("a", "b")[0]


def test_json_is_alone_on_stdout(screen: Callable[..., tuple[str, str]]) -> None:
    out, err = screen("a", "b", "--json", "--rows", "3")
    assert json.loads(out)["only_b_right"][0]["text"] == RESULT.answers.only_b_right[0].text
    assert len(out.splitlines()) == 1
    assert err == ""


def test_options_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    (tmp_path / "mlflow.db").touch()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def answer(*arguments: object) -> RunComparison:
        asked.append(arguments[2:])
        raise BadInputError("enough")

    monkeypatch.setattr(module, "compare", answer)
    for options in ([], ["--rows", "3", "--no-cache"]):
        monkeypatch.setattr(sys, "argv", ["newsdesk", "compare", "x", "y", "--workspace", str(tmp_path), *options])
        with pytest.raises(SystemExit):
            entry.main()
    assert asked == [("x", "y", 10, False), ("x", "y", 3, True)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["x", "y"], "has no runs yet"), (["x"], "Missing argument"), (["x", "y", "--rows", "-1"], "--rows")],
)
def test_bad_input_is_one_sentence_and_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str], words: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["newsdesk", "compare", *arguments, "--workspace", str(tmp_path / "ws")])
    with pytest.raises(SystemExit) as done:
        entry.main()
    err = capsys.readouterr().err
    assert done.value.code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "ws").exists()
