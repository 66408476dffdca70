"""Finds a file in the package index that the user's installer takes packages from, so that mirrors work."""

import configparser
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from components.download import ADVICE, read_page, shown
from components.errors import BadInputError

PUBLIC_INDEX = "https://pypi.org/simple"
_SYSTEM_CONFIGURATION = Path("/etc/pip.conf")
_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True)
class Index:
    """A package index.

    Attributes:
        url: Root of its simple API (PEP 503), with credentials where the user's settings have them.
        certificates: PEM file of the authorities to trust; None leaves it to the requests library.
    """

    url: str = field(repr=False)
    certificates: str | None = None


def find_index(environment: Mapping[str, str]) -> Index:
    """Returns the index that uv or pip would use: from their variables, from pip's configuration, or the public one.

    Args:
        environment: Environment variables.

    Raises:
        BadInputError: A configuration file of pip's cannot be read.
    """
    configured = list(_pip_configuration(environment))
    urls = [_with_named_login(environment.get(name, ""), environment) for name in _VARIABLES]
    urls += [values.get("index-url", "") for values in configured]
    url = next((url for url in urls if url), PUBLIC_INDEX)
    if environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE"):
        return Index(url)
    files = [environment.get("SSL_CERT_FILE", ""), environment.get("PIP_CERT", "")]
    files += [values.get("cert", "") for values in configured]
    return Index(url, next((file for file in files if file), None))


def find_file(index: Index, project: str, file: str, advice: str = ADVICE) -> str:
    """Returns the URL of one file of a project, from the index's JSON page (PEP 691) or its HTML page (PEP 503).

    Args:
        index: Where to look.
        project: Normalized name of the project.
        file: Name of the file.
        advice: What to do, for the error where the index cannot be reached or refuses.

    Returns:
        The URL, with the index's credentials if it is on the same host.

    Raises:
        BadInputError: The index cannot be reached or refuses, answers with something else, or lacks the file.
    """
    page = read_page(f"{index.url.rstrip('/')}/{project}/", _ACCEPT, index.certificates, advice)
    try:
        links = _json_links(page.text) if page.media_type.endswith("json") else _html_links(page.text)
        for name, link in links:
            if name == file:
                return _with_login_of(index.url, urljoin(page.url, link))
    except (ValueError, RecursionError) as error:
        raise BadInputError(
            f"{shown(index.url)} does not answer as a package index does: set PIP_INDEX_URL to one"
        ) from error
    raise BadInputError(
        f"the package index {shown(index.url)} has no {file}: ask for {project} there, "
        "or set PIP_INDEX_URL to an index that has it"
    )


def _pip_configuration(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yields the section ``global`` of each file, the one that wins first."""
    named = environment.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    home = Path(environment.get("HOME") or Path.home())
    settings = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    usual = [settings / "pip" / "pip.conf", home / ".pip" / "pip.conf", _SYSTEM_CONFIGURATION]
    for path in [Path(named), *usual] if named else usual:
        parser = configparser.RawConfigParser()
        try:
            if path.is_file():
                parser.read_string(path.read_text(encoding="utf-8"))
        except (configparser.Error, ValueError, OSError):
            # Not raised from the cause, which quotes the line that may hold a password.
            raise BadInputError(f"{path} cannot be read: mend it, or set PIP_CONFIG_FILE={os.devnull}") from None
        if parser.has_section("global"):
            yield {key.replace("_", "-"): value.strip() for key, value in parser.items("global")}


def _with_named_login(setting: str, environment: Mapping[str, str]) -> str:
    """uv's ``name=url``, whose user and password are in variables of their own."""
    match = re.fullmatch(r"([\w.-]+)=(https?://.*)", setting.strip())
    if not match:
        return setting.strip()
    name, url = re.sub(r"\W", "_", match[1]).upper(), match[2]
    user, password = (environment.get(f"UV_INDEX_{name}_{part}", "") for part in ("USERNAME", "PASSWORD"))
    if not user and not password:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def _json_links(text: str) -> Iterator[tuple[str, str]]:
    page = json.loads(text)
    files = page.get("files") if isinstance(page, dict) else None
    if not isinstance(files, list):
        raise ValueError("no files")
    for file in files:
        if isinstance(file, dict):
            yield str(file.get("filename")), str(file.get("url"))


def _html_links(text: str) -> Iterator[tuple[str, str]]:
    parser = _Links()
    parser.feed(text)
    for link in parser.links:
        link = urljoin(parser.base, link)
        yield unquote(PurePosixPath(urlsplit(link).path).name), link


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        link = dict(attrs).get("href")
        if link and tag == "a":
            self.links.append(link)
        elif link and tag == "base":
            self.base = link


def _with_login_of(index_url: str, link: str) -> str:
    index, file = urlsplit(index_url), urlsplit(link)
    login, at, host = index.netloc.rpartition("@")
    # Credentials go to the index's own host only, and never from an encrypted connection to a plain one.
    if at and file.netloc == host and file.scheme in (index.scheme, "https"):
        file = file._replace(netloc=f"{login}@{host}")
    return urlunsplit(file._replace(fragment=""))
