"""How a model is built, trained and exported; one folder per model family."""
