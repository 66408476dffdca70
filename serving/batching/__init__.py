"""Requests of many clients become one batch."""
