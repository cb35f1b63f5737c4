"""Clamped SwiGLU experts."""
