"""What is to be served: models.config as TensorFlow Serving reads it, aliases.json, or what stands there."""

import json
from pathlib import Path

import pytest

from components.errors import BadInputError
from components.push.aliases import MODELS_CONFIG, write_aliases
from serving.repository import models_source
from serving.repository.models_config import MOST_BYTES, ModelConfig, find_versions, parse_models_config
from serving.repository.models_source import ModelsSource, find_wanted

PRESENT = {number: Path(f"/models/a/{number}") for number in (1, 2, 3, 10)}


def config(policy: str = "", more: str = "", name: str = "a", base: str = "/models/a") -> str:
    """Returns a models.config of one model."""
    version_policy = f"model_version_policy {{ {policy} }}" if policy else ""
    return (
        f'model_config_list {{ config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" '
        f"{version_policy} {more} }} }}"
    )


def label(name: str, number: int) -> str:
    return f'version_labels {{ key: "{name}" value: {number} }}'


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """A directory with the bases of two models, three versions in one and one in the other."""
    for place in ("ag_news/1", "ag_news/2", "ag_news/10", "other/7", "ag_news/.tmp-11", ".cache/3"):
        (tmp_path / "serving" / place).mkdir(parents=True)
    return tmp_path / "serving"


def versions(source: ModelsSource) -> dict[str, list[int]]:
    """Returns the numbers that are wanted, by model."""
    configs, _ = source.read()
    return {name: list(find_wanted(found, [])) for name, found in configs.items()}


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", [10]),
        ("latest {}", [10]),
        ("latest { num_versions: 0 }", [10]),
        ("latest { num_versions: 1 }", [10]),
        ("latest { num_versions: 3 }", [2, 3, 10]),
        ("latest { num_versions: 9 }", [1, 2, 3, 10]),
        ("all {}", [1, 2, 3, 10]),
        ("specific { versions: 2 }", [2]),
        ("specific { versions: 10 versions: 2 versions: 2 }", [2, 10]),
    ],
)
def test_policies_choose_as_tensorflow_serving_does(policy: str, chosen: list[int]) -> None:
    found = parse_models_config(config(policy), "here")["a"]
    assert found.choose(PRESENT) == {number: PRESENT[number] for number in chosen}


@pytest.mark.parametrize("policy", ["", "all {}", "latest { num_versions: 2 }"])
def test_from_nothing_nothing_is_chosen(policy: str) -> None:
    assert parse_models_config(config(policy), "here")["a"].choose({}) == {}


def test_a_specific_version_is_wanted_though_it_is_not_there() -> None:
    found = parse_models_config(config("specific { versions: 4 versions: 2 }"), "here")["a"]
    assert found.choose(PRESENT) == {2: PRESENT[2], 4: Path("/models/a/4")}


def test_every_field_is_read() -> None:
    text = config("specific { versions: 3 }", label("champion", 3) + label("stable", 2), base="/models/./a/")
    assert parse_models_config(text, "here") == {
        "a": ModelConfig("a", Path("/models/a"), (3,), 1, {"champion": 3, "stable": 2})
    }


def test_what_promotion_writes_is_read(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 2, "challenger": 10, "previous": 1})
    write_aliases(serving, "other", {"champion": 7})
    found = parse_models_config((serving / MODELS_CONFIG).read_text(), "here")
    assert found["ag_news"] == ModelConfig(
        "ag_news", serving / "ag_news", (1, 2, 10), labels={"champion": 2, "challenger": 10}
    )
    assert found["other"].specific == (7,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no model_config_list"),
        ("# nothing", "holds no model_config_list"),
        ('custom_model_config { type_url: "x" }', "holds no model_config_list"),
        ("model_config_list {", "is no ModelServerConfig"),
        (config()[:-3], "is no ModelServerConfig"),
        (config(more='nmae: "b"'), "is no ModelServerConfig"),
        (config("specific { versions: 9223372036854775808 }"), "is no ModelServerConfig"),
        (config("latest { num_versions: -1 }"), "is no ModelServerConfig"),
        ("\x00\x01", "is no ModelServerConfig"),
        (config("specific {}"), "specific policy without versions for a"),
        (config("specific { versions: -3 }"), "the version -3 for a"),
        (config(more=label("stable", -1)), "the version -1 for a"),
        (config(name=""), "a config without a name"),
        (config(base=""), "the base_path '' for a: give an absolute path"),
        (config(base="models/a"), "the base_path 'models/a' for a: give an absolute path"),
        (config(base="gs://bucket/a"), "give an absolute path"),
        (config().replace('"tensorflow"', '"tflite"'), "the model_platform 'tflite' for a: only 'tensorflow'"),
        (config().replace('model_platform: "tensorflow"', ""), "the model_platform '' for a"),
        (config()[:-1] + config(base="/else")[len("model_config_list {") :], "lists the model a twice"),
    ],
)
def test_what_tensorflow_serving_would_not_take_is_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason) as caught:
        parse_models_config(text, "/models/models.config")
    assert str(caught.value).startswith("/models/models.config ")


def test_versions_are_directories_with_numbers_for_names(tmp_path: Path) -> None:
    for name in ("1", "007", "12", "0", "9223372036854775807"):
        (tmp_path / name).mkdir()
    for name in (
        ".tmp-13",
        "13.tmp",
        "-14",
        "+15",
        "1e3",
        "v16",
        "9223372036854775808",
        "9" * 65,
        "\uff11\uff17",
        " 18",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "19").touch()
    assert sorted(find_versions(tmp_path)) == [0, 1, 7, 12, 2**63 - 1]
    assert find_versions(tmp_path)[7] == tmp_path / "007"


@pytest.mark.parametrize("other", ["07", "007"])
def test_of_two_spellings_that_of_push_counts(tmp_path: Path, other: str) -> None:
    for name in ("7", other):
        (tmp_path / name).mkdir()
    assert find_versions(tmp_path) == {7: tmp_path / "7"}


def test_a_directory_of_models_serves_the_highest_of_each(serving: Path) -> None:
    assert versions(ModelsSource(serving)) == {"ag_news": [10], "other": [7]}


def test_a_base_serves_its_highest_under_its_own_name(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions(ModelsSource(serving / "ag_news")) == {"ag_news": [10]}
    monkeypatch.chdir(serving / "other")
    assert versions(ModelsSource(Path("."))) == {"other": [7]}


def test_aliases_go_before_the_highest(serving: Path) -> None:
    (serving / "ag_news" / "aliases.json").write_text('{"champion": 2, "challenger": 1, "previous": 10}')
    assert versions(ModelsSource(serving)) == {"ag_news": [1, 2, 10], "other": [7]}
    configs, troubles = ModelsSource(serving / "ag_news").read()
    assert configs["ag_news"].labels == {"champion": 2, "challenger": 1}
    assert troubles == []


def test_a_models_config_goes_before_everything(serving: Path) -> None:
    (serving / "ag_news" / "aliases.json").write_text('{"champion": 2}')
    (serving / MODELS_CONFIG).write_text(config("all {}", base=str(serving / "ag_news"), name="renamed"))
    assert versions(ModelsSource(serving)) == {"renamed": [1, 2, 10]}


def test_each_read_sees_what_is_new(serving: Path) -> None:
    source = ModelsSource(serving)
    versions(source)
    (serving / "ag_news" / "11").mkdir()
    (serving / "third" / "1").mkdir(parents=True)
    assert versions(source) == {"ag_news": [11], "other": [7], "third": [1]}
    write_aliases(serving, "ag_news", {"champion": 2})
    assert versions(source) == {"ag_news": [2]}
    write_aliases(serving, "ag_news", {"champion": 1, "previous": 2})
    assert versions(source) == {"ag_news": [1, 2]}


def test_a_config_that_is_new_is_parsed_and_the_same_is_not(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str, place: str) -> dict[str, ModelConfig]:
        parsed.append(text)
        return parse_models_config(text, place)

    monkeypatch.setattr(models_source, "parse_models_config", parse)
    source = ModelsSource(serving)
    (serving / MODELS_CONFIG).write_text(config())
    for _ in range(3):
        source.read()
    (serving / MODELS_CONFIG).write_text("damaged {")
    assert len({str(source.read()) for _ in range(3)}) == 1
    assert len(parsed) == 2


@pytest.mark.parametrize(
    "text", ["", "model_config_list {", "model_config_list {}", "\xff", "x" * (MOST_BYTES + 1), None]
)
def test_a_config_that_is_damaged_or_gone_changes_nothing(serving: Path, text: str | None) -> None:
    write_aliases(serving, "ag_news", {"champion": 2})
    source = ModelsSource(serving)
    before, troubles = source.read()
    assert troubles == []
    if text is None:
        (serving / MODELS_CONFIG).unlink()
    else:
        (serving / MODELS_CONFIG).write_bytes(text.encode("latin-1"))
    now, troubles = source.read()
    assert now == before
    assert len(troubles) == 1
    assert troubles[0].startswith(str(serving / MODELS_CONFIG))
    write_aliases(serving, "ag_news", {"champion": 1})
    assert source.read()[1] == []
    assert versions(source) == {"ag_news": [1]}


def test_a_config_that_cannot_be_read_changes_nothing(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 2})
    source = ModelsSource(serving)
    before, _ = source.read()
    (serving / MODELS_CONFIG).unlink()
    (serving / MODELS_CONFIG).mkdir()
    now, troubles = source.read()
    assert now == before
    assert troubles == [f"{serving / MODELS_CONFIG} cannot be read (Is a directory): see to its owner and permissions"]


def test_a_config_that_is_damaged_from_the_start_serves_nothing_and_says_so(serving: Path) -> None:
    (serving / MODELS_CONFIG).write_text("model_config_list {")
    source = ModelsSource(serving)
    assert source.read()[0] == {}
    assert "is no ModelServerConfig" in source.read()[1][0]
    (serving / MODELS_CONFIG).write_text(config(base=str(serving / "other")))
    assert source.read()[1] == []
    assert versions(source) == {"a": [7]}


def test_a_model_goes_when_the_config_lists_others(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 2})
    write_aliases(serving, "other", {"champion": 7})
    source = ModelsSource(serving)
    assert set(source.read()[0]) == {"ag_news", "other"}
    (serving / MODELS_CONFIG).write_text(config(base=str(serving / "other"), name="other"))
    assert (set(source.read()[0]), source.read()[1]) == ({"other"}, [])


@pytest.mark.parametrize("how", ["emptied", "gone", "a file"])
@pytest.mark.parametrize("base_only", [True, False])
def test_a_directory_that_is_emptied_or_gone_takes_nothing_away(serving: Path, how: str, base_only: bool) -> None:
    place = serving / "ag_news" if base_only else serving
    source = ModelsSource(place)
    before, _ = source.read()
    place.rename(serving.parent / "aside")
    if how == "emptied":
        place.mkdir(parents=True)
    elif how == "a file":
        place.touch()
    now, troubles = source.read()
    troubles = list(troubles)
    assert now == before
    for found in now.values():
        find_wanted(found, troubles)
    assert troubles
    if how != "gone":
        place.rmdir() if how == "emptied" else place.unlink()
    (serving.parent / "aside").rename(place)
    assert source.read() == (before, [])


def test_one_model_that_is_emptied_does_not_keep_others_from_being_followed(serving: Path) -> None:
    source = ModelsSource(serving)
    source.read()
    (serving / "other" / "7").rmdir()
    (serving / "ag_news" / "11").mkdir()
    configs, troubles = source.read()
    assert set(configs) == {"ag_news", "other"}
    assert troubles == [f"{serving / 'other'} holds no model that can be read: what was loaded from it goes on"]
    assert versions(source) == {"ag_news": [11], "other": []}


def test_one_model_that_may_not_be_read_does_not_keep_others_from_being_followed(
    serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ModelsSource(serving)
    source.read()

    def find(base: Path) -> dict[int, Path]:
        if base.name == "other":
            raise PermissionError(13, "Permission denied", str(base))
        return find_versions(base)

    monkeypatch.setattr(models_source, "find_versions", find)
    (serving / "ag_news" / "11").mkdir()
    configs, troubles = source.read()
    assert set(configs) == {"ag_news", "other"}
    assert f"{serving / 'other'} cannot be read (Permission denied)" in troubles[0]
    assert versions(source)["ag_news"] == [11]


@pytest.mark.parametrize("text", ["{", "{}", '{"previous": 1}', '{"champion": "2"}', "[]", None])
def test_aliases_that_are_damaged_or_gone_change_nothing(serving: Path, text: str | None) -> None:
    """Else the highest version would serve, which nobody has accepted."""
    path = serving / "ag_news" / "aliases.json"
    path.write_text('{"champion": 2}')
    source = ModelsSource(serving)
    before, _ = source.read()
    path.unlink() if text is None else path.write_text(text)
    now, troubles = source.read()
    assert now == before
    assert len(troubles) == 1
    assert str(path) in troubles[0]
    path.write_text(json.dumps({"champion": 1}))
    assert source.read()[1] == []
    assert versions(source)["ag_news"] == [1]


def test_aliases_that_are_damaged_from_the_start_let_nothing_serve(serving: Path) -> None:
    (serving / "ag_news" / "aliases.json").write_text("{")
    configs, troubles = ModelsSource(serving).read()
    assert set(configs) == {"other"}
    assert "is damaged" in troubles[0]


def test_a_base_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    troubles: list[str] = []
    assert find_wanted(ModelConfig("a", tmp_path / "nowhere"), troubles) == {}
    assert troubles == [
        f"{tmp_path / 'nowhere'} cannot be read (No such file or directory): what was loaded from it goes on"
    ]
    wanted = find_wanted(ModelConfig("a", tmp_path / "nowhere", specific=(3,)), [])
    assert wanted == {3: tmp_path / "nowhere" / "3"}


def test_nothing_at_the_start_is_told_and_what_comes_is_served(tmp_path: Path) -> None:
    source = ModelsSource(tmp_path / "serving")
    assert source.read()[0] == {}
    assert "cannot be read" in source.read()[1][0]
    (tmp_path / "serving" / "ag_news" / "1").mkdir(parents=True)
    assert versions(source) == {"ag_news": [1]}
