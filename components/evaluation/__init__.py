"""What a model answers, how good that is, and how two models compare."""
