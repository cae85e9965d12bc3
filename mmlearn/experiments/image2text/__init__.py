"""Studies of chapter 1, one file a study."""
