"""How a pushed model answers."""
