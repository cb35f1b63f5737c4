"""The choice and the weights of experts."""
