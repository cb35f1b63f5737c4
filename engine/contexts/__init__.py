"""What a loaded model's context holds: from where it starts, when its state is kept, and what reading costs."""
