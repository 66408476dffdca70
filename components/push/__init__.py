"""The model base: versions, manifests, aliases, and what a pushed model may hold."""
