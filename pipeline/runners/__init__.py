"""Where the graph runs. The graph itself is in ``pipeline.graph``."""
