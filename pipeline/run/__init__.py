"""One run in this process, from its request to its report."""
