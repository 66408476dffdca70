"""One loaded model and its signatures."""
