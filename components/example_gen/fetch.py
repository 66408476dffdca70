"""Downloads the public AG News files: resumed where they stopped, kept only if the checksum is right."""

from collections.abc import Callable, Mapping
from pathlib import Path

from components.download import disk_errors, download, is_whole

BASE_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
FILES = {
    "train.csv": "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e",
    "test.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
}
"""Name to the SHA-256 that the file must have."""


def fetch(
    directory: Path,
    base_url: str = BASE_URL,
    files: Mapping[str, str] = FILES,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Brings files into a directory; those that are there and whole are left alone.

    The directory is made if missing; a download in progress is kept in ``<name>.part``. ``say`` is called with one
    line per file.

    Raises:
        BadInputError: The server cannot be reached or refuses, the directory cannot be written to, or a
            checksum is wrong; a wrong file is deleted.
    """
    with disk_errors(directory):
        for name, sha256 in files.items():
            target = directory / name
            if is_whole(target, sha256):
                say(f"{target} is there already")
                continue
            advice = (
                "check the network or the proxy and run the command again, it resumes; "
                f"or put {name} into {directory} by hand"
            )
            download(f"{base_url}/{name}", target, sha256, advice=advice)
            say(f"{target} fetched, SHA-256 {sha256}")
