"""The choice of compressed rows: Hadamard transform, scores, causal top-k."""
