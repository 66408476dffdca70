"""The report of one run, a single page, and the model card beside a pushed model."""
