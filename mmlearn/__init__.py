"""mmlearn: the models, losses, metrics and data behind the textbook *Multimodal Deep Learning, Executed*.

A part is imported when it is first used: after ``import mmlearn``, ``mmlearn.pretrained.load(…)`` works.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    import importlib
    import importlib.util

    if name.startswith("_") or importlib.util.find_spec(f"mmlearn.{name}") is None:
        raise AttributeError(f"module 'mmlearn' has no attribute {name!r}")
    return importlib.import_module(f"mmlearn.{name}")


def __dir__() -> list[str]:
    import pkgutil

    return sorted({*globals(), *(part.name for part in pkgutil.iter_modules(__path__))})
