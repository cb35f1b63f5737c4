"""The models on this machine: where they are and whether they can be loaded."""
