"""Chapter 2, Text2Image: one file a system."""
