"""mmlearn: the models, losses, metrics and data behind the textbook *Multimodal Deep Learning, Executed*."""

__version__ = "0.1.0"
