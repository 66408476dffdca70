"""What an encoder is known by: one digest of the files that it is made of."""

import hashlib
from pathlib import Path

from components.errors import BadInputError, changed
from components.files import sha256_of
from trainers.bert.checkpoint import CONFIG_FILE, weights_file
from trainers.bert.tokenizer_file import TOKENIZER_FILE

GRAPH_FILE = "saved_model.pb"


def encoder_digest(place: Path, vocabulary: Path, expected: str | None = None) -> str:
    """Returns the SHA-256 of a vocabulary and of a SavedModel, or of what is read of a checkpoint, in hex.

    Raises:
        BadInputError: A file is missing or cannot be read, or the digest is not the one that is expected.
    """
    if (place / GRAPH_FILE).is_file():
        files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    else:
        files = [place / CONFIG_FILE, weights_file(place), *place.glob(TOKENIZER_FILE)]
    digest = hashlib.sha256()
    for path in [*files, vocabulary]:
        try:
            digest.update(f"\n{path.name} {sha256_of(path)}".encode())
        except OSError as error:
            raise BadInputError(f"{path} cannot be read ({error.strerror})") from error
    if expected not in (None, found := digest.hexdigest()):
        raise changed(place)
    return found
