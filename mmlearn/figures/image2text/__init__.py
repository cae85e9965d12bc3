"""Figures of chapter 1, one file a section."""
