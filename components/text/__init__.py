"""From text to token ids, for each family."""
