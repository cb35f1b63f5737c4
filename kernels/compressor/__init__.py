"""Compression of keys and values over tokens."""
