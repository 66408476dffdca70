"""Names for the columns of ``probabilities``.

A reply of TensorFlow Serving's holds the name and the number of one class, and the probabilities of all without names.
"""

from collections.abc import Sequence
from itertools import islice

from serving.errors import Code, RequestError
from serving.model.loaded import Prediction

CLASSES_HEADER = "newsdesk-classes"
"""Header of a reply with the names of all classes in label-id order, as a JSON array in ASCII."""


def make_predictions(
    texts: Sequence[str],
    labels: Sequence[str],
    label_ids: Sequence[int],
    probabilities: Sequence[Sequence[float]],
    classes: Sequence[str] | None,
) -> list[Prediction]:
    """Returns what a reply says.

    Args:
        texts, labels, label_ids, probabilities: N of each, as the signature returns them.
        classes: Names in label-id order. Without them only the classes that the reply names have a name, and any other
            goes by its number.

    Raises:
        RequestError: The reply is not of one shape, or says other names than ``classes``.
    """
    if not len(texts) == len(labels) == len(label_ids) == len(probabilities):
        raise _odd(f"{len(labels)} labels for {len(texts)} texts")
    count = len(probabilities[0]) if probabilities else 0
    names = dict(enumerate(classes)) if classes is not None else dict(zip(label_ids, labels, strict=True))
    if classes is not None and probabilities and len(classes) != count:
        raise _odd(f"{count} probabilities, while {len(classes)} classes are known ({', '.join(islice(classes, 8))})")
    found = []
    for text, label, label_id, row in zip(texts, labels, label_ids, probabilities, strict=True):
        if len(row) != count or not 0 <= label_id < count:
            raise _odd(f"the class {label_id} and {len(row)} probabilities, where another row has {count}")
        if names[label_id] != label:
            raise _odd(f"the name {label!r} for class {label_id}, which is {names[label_id]!r}")
        shares = {names.get(number, str(number)): share for number, share in enumerate(row)}
        if len(shares) != count:
            raise _odd(f"one name for two classes: {sorted(set(names.values()))}")
        found.append(Prediction(text, label, label_id, row[label_id], shares))
    return found


def _odd(what: str) -> RequestError:
    return RequestError(Code.INTERNAL, f"the server's reply has {what}: it does not serve a model of this kind")
