"""Studies of chapter 3, one file a study."""
