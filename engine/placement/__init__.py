"""What this machine is, and what goes where on it."""
