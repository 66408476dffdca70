"""Ingest of the AG News layout: find the files, read them, quarantine what is malformed, split."""
