"""Cached keys and values in one byte and in half a byte."""
