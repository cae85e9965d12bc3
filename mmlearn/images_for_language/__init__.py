"""Chapter 3, Images supporting language models: one file a system."""
