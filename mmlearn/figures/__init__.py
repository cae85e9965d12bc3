"""Diagrams, plots and interactive figures of the book: one folder a chapter, one file a section."""
