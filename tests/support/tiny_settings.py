"""A model so small that it learns the tiny world in seconds."""

TINY = {
    "text.vocab_size": "200",
    "text.max_tokens": "24",
    "text.min_count": "1",
    "transformer.width": "8",
    "transformer.heads": "2",
    "transformer.head_width": "4",
    "transformer.feed_forward": "8",
    "transformer.wide_buckets": "50",
    "transformer.epochs": "3",
    "transformer.batch_size": "16",
    "transformer.learning_rate": "0.02",
    # 80 test rows tell little.
    "model_gate.margin": "0.2",
}

TINY_BERT = {
    "bert.train": "top",
    "bert.top_layers": "2",
    "bert.max_tokens": "24",
    "bert.epochs": "4",
    "bert.batch_size": "8",
    "bert.learning_rate": "0.03",
    "bert.encoder_dropout": "false",
    "bert.wide_buckets": "50",
    "bert.precision": "float32",
}
"""More of them for the checkpoint of ``tiny_bert.py``."""


def to_options(settings: dict[str, str]) -> list[str]:
    """Returns settings as the command line takes them."""
    return [part for item in settings.items() for part in ("--set", "=".join(item))]
