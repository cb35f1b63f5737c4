"""What is kept: sessions as a message tree in SQLite."""
