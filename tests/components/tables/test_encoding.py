# ruff: noqa: RUF001
"""Which encoding a file is in, and what it costs where bytes are none of it."""

import io
from pathlib import Path

import pytest

from components.errors import BadInputError
from components.tables.encoding import check_encoding, find_encoding, in_utf_8
from components.tables.files import open_input
from components.tables.rows import Asked, Malformed, Place, Row
from components.tables.table import describe, inspect, read_rows

WESTERN = {
    "German": "Die Börse schließt höher.\nFür Köln ändert sich nichts.\nÜber Nacht fiel Schnee in Österreich.\n",
    "French": "Le projet a été présenté.\nLa forêt brûle à côté du château.\nÇa coûte déjà trop à l’État.\n",
    "Spanish": "El niño marcó un gol.\n¿Cuándo abrirá la estación?\nLa compañía anunció más pérdidas.\n",
    "Portuguese": "A seleção não jogou bem.\nO avião aterrissou às cinco.\nA população pede soluções rápidas.\n",
    "Italian": "Il governo cambierà così.\nPiù tardi però piove.\nLa città è già più verde perché c’è un fiume.\n",
    "English": "It’s late – he said “no”.\nThe price is £5.\nWe’ll see.\nA café opens.\n",
}
OTHER = {
    "cp1251": "Курс рубля вырос.\nКоманда выиграла матч.\nУчёные открыли вид рыб.\n",
    "iso8859-2": "Vláda představila nový rozpočet.\nTým vyhrál zápas.\nŽivot ve městě je těžký.\n",
    "cp1250": "Rząd ogłosił nowy plan.\nDrużyna wygrała mecz, choć było ciężko.\nProszę, żeby się udało.\n",
    "cp1254": "Hükümet bütçeyi açıkladı.\nTakım maçı kazandı.\nŞehirde güneş var, yarın da olacak.\n",
    "cp1253": "Η ομάδα κέρδισε τον αγώνα.\nΗ οικονομία αναπτύσσεται.\nΝέα ταινία.\n",
    "gb18030": "今天股市大涨。\n球队在最后一分钟获胜。\n明天天气很好。\n",
    "shift_jis": "株価は今日大きく上がった。\nチームは試合に勝った。\n新しい映画。\n",
    "cp850": "El niño marcó un gol.\n¿Cuándo abrirá la estación?\nLa compañía anunció más pérdidas.\n",
}


def read(path: Path, encoding: str | None = None) -> tuple[str, list[str]]:
    layout = inspect([str(path)], "csv", Asked(encoding=encoding))
    with open_input(str(path), layout.encoding) as file:
        records = [record for record, _ in read_rows(file, str(path), "csv", layout, Place())]
    told = describe("csv", layout).split(", ")[1]
    return told, [record.text if isinstance(record, Row) else record.reason for record in records]


@pytest.mark.parametrize("language", WESTERN)
def test_western_text_in_windows_1252_is_recognised(tmp_path: Path, language: str) -> None:
    (tmp_path / "in.tsv").write_bytes(f"text\n{WESTERN[language]}".encode("cp1252"))
    assert read(tmp_path / "in.tsv") == ("Windows-1252", WESTERN[language].splitlines())
    (tmp_path / "in.tsv").write_text(f"text\n{WESTERN[language]}", encoding="utf-8")
    assert read(tmp_path / "in.tsv") == ("UTF-8", WESTERN[language].splitlines())


@pytest.mark.parametrize("encoding", OTHER)
def test_other_text_is_refused_until_its_encoding_is_said(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "in.tsv").write_bytes(f"text\n{OTHER[encoding]}".encode(encoding))
    with pytest.raises(BadInputError, match="is not in UTF-8: say what it is in, such as --encoding"):
        read(tmp_path / "in.tsv")
    assert read(tmp_path / "in.tsv", encoding)[1] == OTHER[encoding].splitlines()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_a_mark_says_which_encoding_it_is(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "in.csv").write_bytes(f"{mark}text,id\r\nहिन्दी में,1\r\nčeský,2\r\n".encode(encoding))
    assert read(tmp_path / "in.csv")[1] == ["हिन्दी में", "český"]
    assert read(tmp_path / "in.csv", encoding)[1] == ["हिन्दी में", "český"]


@pytest.mark.parametrize("bad", [1, 2])
def test_a_few_bad_bytes_make_no_other_encoding(tmp_path: Path, bad: int) -> None:
    (tmp_path / "in.csv").write_bytes(b"text\n" + b"caf\xe9\n" * bad + b"tea\n")
    assert read(tmp_path / "in.csv") == ("UTF-8", ["bytes that are not UTF-8"] * bad + ["tea"])
    found = find_encoding("Zürich\n".encode() * 9 + b"caf\xe9 de Par\xeds\n" * 8, "in.csv")
    assert found == "utf-8"


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("cp1252", b"text\nsun\ncaf\x81\nr\xe9al\n"),
        ("utf-16-le", "text\nsun\n\udc00\nréal\n".encode("utf-16-le", "surrogatepass")),
    ],
)
def test_bytes_that_are_none_of_the_encoding_cost_their_record(tmp_path: Path, encoding: str, content: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    assert read(tmp_path / "in.csv", encoding)[1] == ["sun", "bytes that are not UTF-8", "réal"]


@pytest.mark.parametrize("name", ["utf-88", "base64", "idna", "undefined", "a\0b"])
def test_what_is_no_encoding_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="there is no encoding"):
        check_encoding(name)
    assert (check_encoding("Latin1"), check_encoding("UTF8"), check_encoding("utf-8-sig")) == (
        *("iso8859-1", "utf-8", "utf-8"),
    )


def test_utf_16_without_a_mark_is_refused_until_its_order_is_said(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("text\nsun\n".encode("utf-16-be"))
    with pytest.raises(BadInputError, match=r"is not in utf-16 \(.*\): say what it is in"):
        read(tmp_path / "in.csv", "utf-16")
    assert read(tmp_path / "in.csv", "utf-16-be")[1] == ["sun"]


def test_reading_may_begin_behind_any_record(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("text,id\nĀ,1\n\nब,2\n中文,3\n".encode("utf-16"))
    path = str(tmp_path / "in.csv")
    layout = inspect([path], "csv", Asked())
    with open_input(path, layout.encoding) as file:
        found = list(read_rows(file, path, "csv", layout, Place()))
    assert not [record for record, _ in found if isinstance(record, Malformed)]
    for number, (_, place) in enumerate(found):
        with open_input(path, layout.encoding) as file:
            assert list(read_rows(file, path, "csv", layout, place)) == found[number + 1 :]


def test_a_large_file_is_not_held_in_memory() -> None:
    with in_utf_8(io.BytesIO("é".encode("utf-16") * (6 << 20)), "utf-16") as text:
        assert text._rolled  # type: ignore[attr-defined]
