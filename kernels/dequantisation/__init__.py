"""Numbers of a weight matrix from the bytes that they lie in."""
