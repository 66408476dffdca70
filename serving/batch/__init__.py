"""Batch inference on Beam: files in, the same rows with label and probability out."""
