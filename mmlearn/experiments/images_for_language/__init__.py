"""Studies of chapter 3."""
