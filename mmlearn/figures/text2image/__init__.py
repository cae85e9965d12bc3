"""Figures of chapter 2, one file a section."""
