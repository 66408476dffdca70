"""Every fault of the data that a check is for is planted and seen, with its number, limit, setting and rows."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import GateRejectedError
from components.gates.data.checks import check_data
from components.gates.data.facts import Data, gather, leaked_rows, show_row
from components.gates.data.gate import DataGateConfig
from components.gates.data.profile import Profile
from components.gates.gate import Limit
from components.gates.verdict import MOST_ROWS, Check, check_verdict, read_verdict, write_verdict

Rows = list[tuple[bytes, int]]
Splits = dict[str, Rows]

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
COMMON = ("the", "of", "and", "a", "in", "to", "on", "for", "with", "after", "new", "as")
OWN = (
    ("minister", "treaty", "border", "embassy", "parliament"),
    ("goal", "coach", "striker", "season", "penalty"),
    ("shares", "profit", "market", "bank", "merger"),
    ("software", "galaxy", "chip", "robot", "genome"),
)
DRIFT = ("class_drift", "length_drift", "vocabulary_drift", "oov_rate", "row_collapse")


def write(count: int, seed: int, common: tuple[str, ...] = COMMON) -> Rows:
    """Returns rows of 30 to 50 words, no two alike, with classes in turn."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        words = rng.choices(common, k=rng.randint(25, 40)) + rng.choices(OWN[number % 4], k=rng.randint(5, 9))
        rng.shuffle(words)
        rows.append((" ".join(words).encode(), number % 4))
    return rows


def honest(train: int = 800, seed: int = 1) -> Splits:
    return {"train": write(train, seed), "eval": write(40, seed + 100), "test": write(80, seed + 200)}


CHAMPION = gather(honest(seed=7), CLASSES).profile


def judge(splits: Splits, champion: Profile | None = CHAMPION, **limits: object) -> dict[str, Check]:
    """Returns the checks of rows by name."""
    checks = check_data(gather(splits, CLASSES), champion, DataGateConfig(**limits))
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def failed(splits: Splits, champion: Profile | None = CHAMPION) -> dict[str, Check]:
    return {name: check for name, check in judge(splits, champion).items() if not check.passed}


def only(label: int, rows: Rows) -> Rows:
    return [row for row in rows if row[1] == label]


def thin(label: int, rows: Rows) -> Rows:
    """Keeps every tenth row of a class."""
    kept = only(label, rows)[::10]
    return [row for row in rows if row[1] != label or row in kept]


def test_honest_data_pass_every_check() -> None:
    checks = judge(honest())
    assert list(checks) == [name for name in DataGateConfig.model_fields if name != "schema_anomalies"]
    assert [check.sentence for check in checks.values() if not check.passed] == []
    for name, check in checks.items():
        assert f"(data_gate.{name}" in check.sentence
        assert check.severity == ("warn" if name == "duplicates" else "fail")
        assert isinstance(check.value, int | float)


@pytest.mark.parametrize("rows", [200, 3_000])
def test_honest_data_of_another_size_pass(rows: int) -> None:
    champion = gather(honest(rows, seed=9), CLASSES).profile
    assert failed(honest(3_200 if rows == 200 else 1_600), champion) == {}


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_class_is_named(split: str) -> None:
    splits = honest()
    splits[split] = [row for row in splits[split] if row[1] != 2]
    check = failed(splits)["missing_class"]
    assert check.sentence == (
        f"classes without a row: Business in {split}, above the limit of 0 (data_gate.missing_class)"
    )
    assert (check.value, check.limit, check.rows) == (1, 0, (f"Business in {split}",))


def test_a_class_missing_from_train_has_drifted_too() -> None:
    splits = honest()
    splits["train"] = [row for row in splits["train"] if row[1] != 2]
    check = failed(splits)["class_drift"]
    assert check.sentence.startswith("class Business is 0.0% of train, was 25.0%: its odds changed ")
    assert check.value == pytest.approx(601 * 201 / 601, rel=0.01)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_of_few_rows_is_named(split: str) -> None:
    splits = honest()
    rows = splits[split]
    splits[split] = [row for row in rows if row[1] != 1] + only(1, rows)[: len(rows) // 40]
    check = failed(splits)["class_ratio"]
    few = len(rows) // 40
    assert check.value == 10
    assert f"10 in {split} (World {len(rows) // 4} rows, Sports {few})" in check.sentence.replace("Sci/Tech", "World")
    assert check.sentence.endswith(", above the limit of 5 (data_gate.class_ratio.threshold)")


def test_a_ratio_at_the_limit_passes() -> None:
    splits = honest()
    splits["test"] = [row for row in splits["test"] if row[1] != 1] + only(1, splits["test"])[:4]
    check = judge(splits)["class_ratio"]
    assert (check.value, check.passed) == (5, True)
    assert ", within the limit of 5 (" in check.sentence


def test_the_ratio_leaves_a_missing_class_to_its_own_check() -> None:
    splits = honest()
    splits["train"] = [row for row in splits["train"] if row[1] != 2]
    assert judge(splits)["class_ratio"].passed


@pytest.mark.parametrize("name", ["class_ratio", "class_drift"])
def test_rows_of_no_known_class_do_not_pass(name: str) -> None:
    splits = honest()
    splits["train"] = [(text, 7) for text, _ in splits["train"]]
    check = failed(splits)[name]
    assert (check.passed, check.value) == (False, None)
    assert "train has no row of a known class" in check.sentence


@pytest.mark.parametrize("skew", ["a tenth", "tenfold"])
def test_tenfold_skew_against_the_champion_is_drift(skew: str) -> None:
    splits = honest(4_000)
    if skew == "a tenth":
        splits["train"] = thin(1, splits["train"])
    else:
        splits["train"] = only(1, splits["train"]) + [row for row in splits["train"] if row[1] != 1][::10]
    check = failed(splits)["class_drift"]
    assert check.value == pytest.approx(10, rel=0.1)
    share = "3.2%" if skew == "a tenth" else "76.9%"
    assert check.sentence.startswith(f"class Sports is {share} of train, was 25.0%: its odds changed ")
    assert check.sentence.endswith("-fold, above the limit of 3 (data_gate.class_drift.threshold)")
    assert check.rows[0] == f"Sports: {share} of train, was 25.0%"
    assert len(check.rows) == 4


def test_a_champion_of_other_classes_cannot_be_compared() -> None:
    other = gather({split: [(text, label % 2) for text, label in rows] for split, rows in honest().items()}, "ab")
    check = failed(honest(), other.profile)["class_drift"]
    assert check.sentence == "train has 4 classes, the champion's had 2 (data_gate.class_drift.threshold)"
    assert check.value is None


@pytest.mark.parametrize("part", [0.5, 0.6, 2])
def test_shorter_and_longer_texts_are_drift(part: float) -> None:
    splits = honest()
    for split, rows in splits.items():
        splits[split] = [
            (b" ".join((text.split() * 2)[: int(len(text.split()) * part)]), label) for text, label in rows
        ]
    found = failed(splits)
    assert list(found) == ["length_drift"]
    check = found["length_drift"]
    assert check.value > 0.2
    assert f"words per text of train diverge by {check.value:.3g} bits, median now " in check.sentence
    assert ", was 40 to 47, above the limit of 0.1 (data_gate.length_drift.threshold)" in check.sentence


def test_other_words_are_drift_and_out_of_vocabulary() -> None:
    splits = honest()
    other = tuple(f"{word}x" for word in COMMON)
    splits["train"] = write(400, 1) + write(400, 2, other)
    found = failed(splits)
    assert list(found) == ["vocabulary_drift", "oov_rate"]
    drift, new = found["vocabulary_drift"], found["oov_rate"]
    assert drift.value > 0.2
    assert drift.sentence.startswith(f"words of train diverge by {drift.value:.3g} bits, measured on ")
    assert drift.sentence.endswith(", above the limit of 0.05 (data_gate.vocabulary_drift.threshold)")
    assert len(drift.rows) == MOST_ROWS
    assert all(row.startswith('word "') and 'x": ' in row and row.endswith(" was 0.00%") for row in drift.rows)
    assert new.value == pytest.approx(0.41, abs=0.03)
    assert new.sentence.startswith(
        f"the champion's data lack {new.value:.2%} of train's words, 0.00% expected: growth "
    )
    assert new.sentence.endswith(", above the limit of 10.00% (data_gate.oov_rate.threshold)")
    assert len(new.rows) == MOST_ROWS
    counts = [int(row.split('": ')[1].removesuffix(" times").replace(",", "")) for row in new.rows]
    assert counts == sorted(counts, reverse=True)


def test_words_of_names_that_occur_once_are_expected_to_be_new() -> None:
    def name(rows: Rows, prefix: str) -> Rows:
        return [(text + f" {prefix}{number} {prefix}a{number} {prefix}b{number}".encode(), label)
                for number, (text, label) in enumerate(rows)]  # fmt: skip

    splits = honest()
    splits["train"] = name([(b" ".join(text.split()[:15]), label) for text, label in splits["train"]], "p")
    champion = gather(splits, CLASSES).profile
    splits["train"] = name([(b" ".join(text.split()[:15]), label) for text, label in write(800, 5)], "q")
    check = judge(splits, champion)["oov_rate"]
    assert "lack 16.67% of train's words, 16.67% expected: growth 0.00%" in check.sentence
    assert check.passed


def test_texts_without_a_word_have_no_vocabulary_in_common() -> None:
    splits = honest()
    splits["train"] = [(b"... ?", label) for _, label in splits["train"]]
    found = failed(splits)
    assert found["vocabulary_drift"].value == 1
    assert "1 bit: train holds none, above" in found["vocabulary_drift"].sentence
    empty = gather(splits, CLASSES).profile
    assert "1 bit: the champion's train split holds none" in failed(honest(), empty)["vocabulary_drift"].sentence


@pytest.mark.parametrize(("rows", "passed"), [(396, False), (400, True), (4_000, True)])
def test_far_fewer_rows_than_the_champion_had_are_a_collapse(rows: int, passed: bool) -> None:
    check = judge(honest(rows))["row_collapse"]
    assert (check.passed, check.value, check.limit) == (passed, rows / 800, 0.5)
    held = "within" if passed else "below"
    assert check.sentence == (
        f"train has {rows:,} rows, {rows / 8:.2f}% of the champion's 800, "
        f"{held} the limit of 50.00% (data_gate.row_collapse.threshold)"
    )


@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_repeated_rows_are_a_warning(split: str) -> None:
    splits = honest()
    rows = splits[split]
    splits[split] = rows + [rows[0]] * len(rows) + rows[1:3]
    check = failed(splits)["duplicates"]
    assert check.severity == "warn"
    repeated, total = len(rows) + 2, 2 * len(rows) + 2
    assert check.value == repeated / total
    assert f"{split} {repeated:,} of {total:,} ({repeated / total:.2%})" in check.sentence
    assert check.sentence.endswith("above the limit of 5.00% (data_gate.duplicates.threshold)")
    assert check.rows[0].startswith(f'{split} row, {len(rows) + 1} times: "{rows[0][0][:40].decode()}')
    assert [row.split(":")[0] for row in check.rows[1:]] == [f"{split} row, 2 times"] * 2


def test_rows_that_differ_in_a_letter_do_not_repeat() -> None:
    splits = honest()
    splits["train"] += [(text.upper(), label) for text, label in splits["train"]]
    assert judge(splits)["duplicates"].value == 0


@pytest.mark.parametrize("source", ["train", "eval"])
@pytest.mark.parametrize(("leaked", "passed"), [(1, True), (2, True), (3, False), (200, False)])
def test_test_rows_in_train_or_eval_are_leakage(source: str, leaked: int, passed: bool) -> None:
    splits = honest()
    splits["test"] = write(200, 77)
    splits[source] += [(text, (label + 1) % 4) for text, label in splits["test"][:leaked]]
    check = judge(splits)["leakage"]
    assert (check.value, check.limit, check.passed) == (leaked / 200, 0.01, passed)
    held = "within" if passed else "above"
    assert check.sentence == (
        f"{leaked} of 200 test rows stand in train or eval too ({leaked / 2:.2f}%), "
        f"{held} the limit of 1.00% (data_gate.leakage.threshold)"
    )
    assert list(check.rows) == [show_row("test", text) for text, _ in splits["test"][: min(leaked, MOST_ROWS)]]


def test_overlap_compares_whole_texts() -> None:
    def leaked(test: list[bytes]) -> list[bytes]:
        rows = {"train": [b"a b"], "eval": [b"c"], "test": test}
        return leaked_rows(gather({name: [(text, 0) for text in texts] for name, texts in rows.items()}, ["one"]))

    assert leaked([b"a", b"b", b"A b", b"a b "]) == []
    assert leaked([b"c", b"a b", b"c"]) == [b"c", b"a b", b"c"]


@pytest.mark.parametrize("split", ["train", "eval", "test"])
@pytest.mark.parametrize("text", ["", "?!", "Two words.", "one"])
def test_near_empty_texts_are_shown(split: str, text: str) -> None:
    splits = honest()
    size = len(splits[split])
    splits[split][: size // 20] = [(text.encode(), 0)] * (size // 20)
    check = failed(splits)["near_empty"]
    assert check.value == 0.05
    assert f"{split} {size // 20} of {size} (5.00%)" in check.sentence
    assert check.sentence.endswith("above the limit of 1.00% (data_gate.near_empty.threshold)")
    assert check.rows == (f'{split} row: "{text}"',) * min(size // 20, MOST_ROWS)


def test_three_words_are_enough() -> None:
    splits = honest()
    splits["test"] = [(b"Just three words", label) for _, label in splits["test"]]
    assert judge(splits)["near_empty"].value == 0


def test_the_worst_split_decides_and_its_rows_come_first() -> None:
    splits = honest()
    for split, count in (("train", 16), ("eval", 3), ("test", 8)):
        splits[split][:count] = [(f"{split} {number}".encode(), 0) for number in range(count)]
    check = failed(splits)["near_empty"]
    assert check.sentence.startswith(
        "rows with fewer than 3 words: train 16 of 800 (2.00%), eval 3 of 40 (7.50%), test 8 of 80 (10.00%), above"
    )
    assert [row.split()[0] for row in check.rows] == ["test"] * 8 + ["eval"] * 2


def test_without_a_champion_there_is_nothing_to_compare_with() -> None:
    splits = honest()
    splits["train"] = [(b"words that nobody used before", 0)] * 10
    checks = judge(splits, None)
    for name in DRIFT:
        assert checks[name].passed
        assert checks[name].value is None
        assert checks[name].sentence == (
            f"{name.replace('_', ' ')}: no champion's profile to compare with yet (data_gate.{name}.threshold)"
        )
    assert not checks["missing_class"].passed


def faulty() -> Splits:
    """Returns data that no check lets pass."""
    splits = honest()
    splits["train"] = [(b"zyx wvu tsr qpo nml", 0)] * 80 + [(b"!", 1)] * 2
    splits["test"] = [*splits["train"][:2], (b"?", 3)]
    return splits


def test_every_check_can_fail() -> None:
    assert list(failed(faulty())) == [name for name in DataGateConfig.model_fields if name != "schema_anomalies"]


@pytest.mark.parametrize("name", [name for name in DataGateConfig.model_fields if name != "schema_anomalies"])
def test_severity_decides_what_a_failed_check_does(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    def configure(severity: str) -> DataGateConfig:
        """One check at ``severity``, all others off."""
        values: dict[str, object] = {"schema_anomalies": "off"}
        for other, field in DataGateConfig.model_fields.items():
            chosen = severity if other == name else "off"
            if isinstance(field.default, Limit):
                values[other] = Limit(severity=chosen, threshold=field.default.threshold)
            else:
                values[other] = chosen
        return DataGateConfig(**values)

    data = gather(faulty(), CLASSES)
    (check,) = check_data(data, CHAMPION, configure("fail"))
    assert (check.name, check.severity, check.passed) == (name, "fail", False)
    stopped = tmp_path_factory.mktemp("stopped")
    write_verdict(str(stopped), "DataGate", [check])
    with pytest.raises(GateRejectedError) as caught:
        check_verdict(read_verdict(stopped))
    assert caught.value.reasons == [check.sentence]
    (warning,) = check_data(data, CHAMPION, configure("warn"))
    assert (warning.severity, warning.passed, warning.sentence) == ("warn", False, check.sentence)
    told = tmp_path_factory.mktemp("told")
    write_verdict(str(told), "DataGate", [warning])
    assert read_verdict(told).warnings == [check.sentence]
    assert check_data(data, CHAMPION, configure("off")) == []
    assert check_data(data, None, configure("off")) == []


@pytest.mark.parametrize("name", ["class_ratio", "leakage", "near_empty", "row_collapse", "length_drift", "oov_rate"])
def test_the_threshold_is_the_setting(name: str) -> None:
    check = failed(faulty())[name]
    at = Limit(threshold=max(check.value, 0))
    beyond = Limit(threshold=check.value * (1.001 if name == "row_collapse" else 0.999))
    assert judge(faulty(), **{name: at})[name].passed
    assert not judge(faulty(), **{name: beyond})[name].passed


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.integers(-1, 5)), min_size=1, max_size=30),
    st.lists(st.tuples(st.text(max_size=12), st.integers(-1, 5)), min_size=1, max_size=30),
    st.booleans(),
)
def test_whatever_the_rows_a_verdict_can_be_written(train: list, test: list, with_champion: bool) -> None:
    splits = {
        "train": [(text.encode("utf-8", "replace"), label) for text, label in train],
        "eval": [(b"a b c", 0)],
        "test": [(text.encode("utf-8", "replace"), label) for text, label in test],
    }
    for check in judge(splits, CHAMPION if with_champion else None).values():
        json.dumps([check.value, check.sentence, check.rows], allow_nan=False)
        assert len(check.rows) <= MOST_ROWS
        assert all("\n" not in text and text.isprintable() for text in (check.sentence, *check.rows))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"short", "short"),
        (b"a\n b\t\tc ", "a b c"),
        ("\x1b[31mred\x07 \u202eright".encode(), "\ufffd[31mred\ufffd \ufffdright"),
        ("Währung 通貨 🙂".encode(), "Währung 通貨 🙂"),
        (b"bad \xff byte", "bad \ufffd byte"),
        (b"x" * 120, "x" * 120),
        (b"x" * 121, "x" * 120 + "..."),
        (b"w" * 119 + b" next", "w" * 119 + "..."),
    ],
)
def test_a_row_is_shown_on_one_safe_line(text: bytes, shown: str) -> None:
    assert show_row("test", text) == f'test row: "{shown}"'


def test_gathering_counts_each_split_and_profiles_train() -> None:
    rows: Splits = {
        "train": [(b"a b", 0), (b"b", 2), (b"", 9), (b"c", -1)],
        "eval": [(b"d", 1)],
        "test": [(b"e f g", 3)],
    }
    data: Data = gather(rows, CLASSES)
    assert data.profile.rows == {"train": 4, "eval": 1, "test": 1}
    assert data.profile.classes == {"train": (1, 0, 1, 0), "eval": (0, 1, 0, 0), "test": (0, 0, 0, 1)}
    assert data.words == {"a": 1, "b": 2, "c": 1} == data.profile.words
    assert list(data.splits["train"].lengths) == [2, 1, 0, 1]
    assert data.splits["test"].texts == [b"e f g"]
