"""Figures of chapter 5, one file a section."""
