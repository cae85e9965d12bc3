"""Chapter 5, Models for both modalities: one file a system."""
