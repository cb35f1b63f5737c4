"""Products with weight matrices, and rows of them."""
