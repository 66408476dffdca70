"""Reads tables: delimited text, JSON lines and Parquet, from files or stores."""
