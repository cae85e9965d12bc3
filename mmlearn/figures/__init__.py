"""Diagrams, plots and moving figures of the book, a folder a chapter and a file a section."""
