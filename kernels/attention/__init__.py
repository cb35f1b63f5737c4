"""Attention over the window and the compressed rows."""
