"""The page for people, and the documentation of the API."""
