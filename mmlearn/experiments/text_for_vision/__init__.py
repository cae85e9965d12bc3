"""Studies of chapter 4, one file a study."""
