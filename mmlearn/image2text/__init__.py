"""Chapter 1, Image2Text: one file a system."""
