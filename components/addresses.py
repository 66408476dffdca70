"""What an address, such as that of a store or a server, may hold and show: no secret, which the environment has."""

import re
from urllib.parse import unquote

# Bounded, since a message may repeat a file that is one long word.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}:/+", re.IGNORECASE)
_WEB = ("http", "ftp")
_LOGIN = re.compile(r"[^?#\s]*?(?::|%3a)", re.IGNORECASE)
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
    schemes = list(_SCHEME.finditer(text))
    names = _NAME.findall(unquote(text[schemes[0].end() :])) if schemes else ()
    return any(map(_SECRET_NAME.search, names)) or any(_has_login(text, scheme) for scheme in schemes)


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


def _has_login(text: str, scheme: re.Match[str]) -> bool:
    web = scheme[0].lower().startswith(_WEB)
    if web and _USER.match(text, scheme.end()):
        return True
    # Up to the last @: a password with a slash that was not escaped hides before it. A path, which follows three
    # slashes, has no user.
    last = max(text.rfind("@"), 0)
    return (web or not scheme[0].endswith("///")) and bool(_LOGIN.match(text, scheme.end(), last))
