"""Figures of chapter 3, one file a section."""
