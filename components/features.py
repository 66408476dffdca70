"""Names that more than one room uses: features, splits, labels, signatures.

Read by ingest, transform, trainers, evaluation and serving, and free of TensorFlow, so that a client
can import it.
"""

TEXT = "text"
"""What models see: title, one space, description, stripped of surrounding space."""
LINE_BREAK = "\\"
"""AG News' line break inside a text. Ingest and server hand it on, and the graphs of the families take it for one."""
LABEL = "label"
"""Class id, int64, 0 to C - 1 in the order of ``classes.txt``."""
LENGTH = "length"
"""Slice feature: which of ``LENGTH_BUCKETS`` the text falls into, by words between white space and line breaks."""
TOKEN_IDS = "token_ids"
"""Transformed feature: int64 ids of variable length; 0 pads, 1 is out of vocabulary."""

TRAIN = "train"
EVAL = "eval"
TEST = "test"
SPLITS = (TRAIN, EVAL, TEST)

PADDING_ID = 0
OOV_ID = 1
RESERVED_IDS = 2

SERVING_SIGNATURE = "serving_default"
EXAMPLES_SIGNATURE = "serve_examples"
EXAMPLES_INPUT = "examples"
OUTPUT_LABEL = "label"
OUTPUT_LABEL_ID = "label_id"
OUTPUT_PROBABILITIES = "probabilities"
INPUTS = {SERVING_SIGNATURE: TEXT, EXAMPLES_SIGNATURE: EXAMPLES_INPUT}
"""The signatures of a model, each with the name of its only input."""
OUTPUTS = (OUTPUT_LABEL, OUTPUT_LABEL_ID, OUTPUT_PROBABILITIES)
"""What each of them answers with."""

AG_NEWS_CLASSES = ("World", "Sports", "Business", "Sci/Tech")

LENGTH_BUCKETS = ("short", "medium", "long")
