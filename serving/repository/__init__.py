"""Versions on disk to versions in memory."""
