<<<<<<< HEAD
"""Diagrams, plots and interactive figures of the book: one folder a chapter, one file a section."""
=======
"""Diagrams, plots and moving figures of the book, a folder a chapter and a file a section."""
>>>>>>> w-kit
