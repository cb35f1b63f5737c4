"""Arithmetic: number formats, reference operators, fast kernels, their proofs."""
