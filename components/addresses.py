"""What an address, such as that of a store or a server, may hold and show: no secret, which the environment has."""

import re
from urllib.parse import unquote

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/+", re.IGNORECASE)
_WEB = ("http", "ftp")
# Up to the last @: a password with a slash that was not escaped hides before it.
_LOGIN = re.compile(r"[^?#\s]*?(?::|%3a).*@", re.IGNORECASE | re.DOTALL)
_USER = re.compile(r"[^/?#\s]*@")
_NAME = re.compile(r"(?<=[?&;#])[^=&;#]*(?==)")
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|signature|(api|access|account|private|shared)[-_]?key|auth$|^(sig|key)$",
    re.IGNORECASE,
)


def holds_secret(text: str) -> bool:
    """Returns whether an address in the text carries a password, or a token as its user or in its query.

    A user alone is no secret but on the web, where he may be a token. What cannot be told from a password is one: an @
    in the path behind a port is to be written %40.
    """
    return any(_is_secret(found[0].lower(), text[found.end() :]) for found in _SCHEME.finditer(text))


def shown(url: str) -> str:
    """Returns a URL as it may be printed: on one line, without user, password, query values and fragment."""
    without_login = re.sub(r"(:/+).*@", r"\1***@", url, flags=re.DOTALL)
    plain = re.sub(r"\?.*", "?***", without_login.partition("#")[0], flags=re.DOTALL)
    return "".join(letter if letter.isprintable() else "?" for letter in plain)


def redacted(text: str) -> str:
    """Returns a text without the secrets of the addresses in it."""
    return re.sub(_SCHEME.pattern + r"\S*", lambda found: _redact(found[0]), text, flags=re.IGNORECASE)


def _redact(address: str) -> str:
    return shown(address) if holds_secret(address) else address


def _is_secret(scheme: str, rest: str) -> bool:
    web = scheme.startswith(_WEB)
    # A path, which follows three slashes, has no user.
    login = (web or not scheme.endswith("///")) and _LOGIN.match(rest)
    names = _NAME.findall(unquote(rest))
    return bool(login or (web and _USER.match(rest)) or any(map(_SECRET_NAME.search, names)))
