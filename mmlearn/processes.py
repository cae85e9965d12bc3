"""Processes that work for another one, and end when it does, however it ends."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def pool(workers: int, start: Callable[[], Any] | None = None,
         method: str | None = None) -> ProcessPoolExecutor:
    """``workers`` processes that each call ``start`` first, and that a parent which is killed takes with it.

    ``method`` is how they begin ("spawn", "fork"; default: the platform's).
    """
    return ProcessPoolExecutor(workers, multiprocessing.get_context(method), _begin, (start,))


def _begin(start: Callable[[], Any] | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()                   # until it ends, on every platform
        os._exit(1)
