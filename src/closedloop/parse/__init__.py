"""Bytes to values; no I/O."""
