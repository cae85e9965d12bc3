"""Pictures of chapter 4 that need more than a few lines."""
