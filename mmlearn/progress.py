"""A text progress bar that leaves one clean line behind, in a terminal, a notebook, and a log."""

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """``with Progress(200, "M2") as bar: bar.update(step, "loss 2.31")``.

    In a notebook the line is one plain-text output that is replaced, so that only the last state is stored;
    in a terminal it is overwritten; elsewhere (a log, a pipe) about ten lines are printed. The unit "B"
    counts bytes.
    """

    def __init__(self, total: int, title: str = "", file: Any = None, start: int = 0,
                 shown: bool = True, unit: str = "step") -> None:
        self.total, self.title, self.start, self.shown, self.unit = total, title, start, shown, unit
        self.notebook = file is None and in_notebook()
        self.file = file or sys.stdout
        self.live = self.notebook or self.file.isatty()
        self.began = self.last = time.perf_counter()
        self.done, self.note, self.printed = start, "", start
        self.handle: Any = None

    def line(self) -> str:
        """The bar as text, at most 79 characters."""
        elapsed = time.perf_counter() - self.began
        # tqdm counts what was done before this run into its rate unless told
        text = tqdm.format_meter(self.done, self.total, elapsed, ncols=78 - len(self.note), prefix=self.title,
                                 ascii=True, unit=self.unit, unit_scale=self.unit == "B", initial=self.start)
        return f"{text} {self.note}".rstrip()

    def update(self, done: int, note: str = "") -> None:
        """Say that ``done`` of the total are done, with a short ``note``; shown at most ten times a
        second."""
        self.done, self.note = done, note
        now = time.perf_counter()
        if not self.shown:
            return
        if self.live and now - self.last >= 0.1:
            self.last = now
            self._show()
        elif not self.live and done - self.printed >= max(1, self.total // 10) and done < self.total:
            self.printed = done
            print(self.line(), file=self.file, flush=True)

    def _show(self) -> None:
        if not self.notebook:
            print(f"\r{self.line():<79}", end="", file=self.file, flush=True)
            return
        from IPython.display import display
        if self.handle is None:
            self.handle = display(_Text(self.line()), display_id=True)
        else:
            self.handle.update(_Text(self.line()))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if not self.shown:
            return
        if self.live:
            self._show()
        if not self.live:
            print(self.line(), file=self.file, flush=True)
        elif not self.notebook:
            print(file=self.file, flush=True)


class _Text:
    """Shown as it is, without the quotation marks of a string's representation."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
