"""Chapter 4, Text supporting vision models: one file a system."""
