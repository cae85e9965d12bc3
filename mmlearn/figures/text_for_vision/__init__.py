"""Figures of chapter 4, one file a section."""
