"""Studies of chapter 2."""
