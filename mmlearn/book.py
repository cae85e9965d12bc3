"""What the notebooks need and do not teach: the setup line, source code beside its equation, the table of
claims."""

import ast
import inspect
import os
import platform
import random
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmlearn
from mmlearn.claims import claims, claims_table, markdown_table, scale
from mmlearn.plot import use_style
from mmlearn.progress import in_notebook

COLUMNS = 79                        # of code, text and listings: what the site's column holds
OPEN_LINES = 30                     # a longer listing is folded

# Seconds a chapter may take at each scale; a chapter's own figures stand under its name.
SECONDS: dict[str, dict[str, int]] = {"": {"smoke": 120, "cpu": 600, "gpu": 600}}


def fitting_torchvision(torch_version: str) -> str | None:
    """The release of torchvision made for a release of torch ("2.14.1" -> "0.29"), None where the rule is
    unknown."""
    found = re.match(r"2\.(\d+)", torch_version)
    return f"0.{int(found.group(1)) + 15}" if found else None


def check_torchvision() -> str:
    """The version of torchvision, once it has been seen to work with the installed torch.

    Raises ``RuntimeError`` with the pair to install otherwise; nothing is installed or replaced here.
    """
    wanted = fitting_torchvision(torch.__version__)
    try:
        import torchvision
        version = torchvision.__version__
        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except Exception as error:  # torchvision fails in several ways when built for another torch
        raise RuntimeError(f"torchvision does not work with torch {torch.__version__} ({error}); "
                           f"install torchvision {wanted or 'of the same release'} and restart the "
                           f"kernel") from error
    if wanted is not None and not re.match(rf"{re.escape(wanted)}(\.|$|[a-z+])", version):
        raise RuntimeError(f"torchvision {version} was made for another torch than {torch.__version__}; "
                           f"install torchvision {wanted} and restart the kernel")
    return version


def device_name() -> str:
    """What the chapter runs on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"CPU ({cores} core{'s' if cores != 1 else ''})"


def setup(chapter: str, seed: int = 0) -> None:
    """Make a notebook reproducible and print what it runs on: a line of versions, one of device, scale and
    seconds.

    Sets the seeds and the style of figures, and forgets earlier claims.
    Raises ``RuntimeError`` if torch and torchvision do not fit, ``ValueError`` for an unknown scale.
    """
    vision = check_torchvision()
    expected = SECONDS.get(chapter, SECONDS[""])[scale()]
    random.seed(seed)
    np.random.seed(seed)                         # noqa: NPY002 (other people's code may draw from it)
    torch.manual_seed(seed)
    # libraries that look for Jupyter widgets
    warnings.filterwarnings("ignore", message="IProgress not found")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")      # else it warns when a data loader forks
    use_style()
    claims.clear()
    print(f"mmlearn {mmlearn.__version__} · Python {platform.python_version()} · torch {torch.__version__} · "
          f"torchvision {vision}\n{device_name()} · scale {scale()} · about {expected} s at most")


def source_of(thing: Callable[..., Any] | type, docstrings: bool = False) -> str:
    """Source of a function or class, without common indentation and, unless asked for, without docstrings."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))
    if docstrings:
        return source.rstrip()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node)
            and len(node.body) > 1
        ):
            text = node.body[0]
            for number in range(text.lineno, (text.end_lineno or text.lineno) + 1):
                lines[number - 1] = "\0"
            after = (text.end_lineno or text.lineno)
            if after < len(lines) and not lines[after].strip():   # the blank line after it belongs to it
                lines[after] = "\0"
    return "\n".join(line for line in lines if line != "\0").rstrip()


def listing(thing: Callable[..., Any] | type, docstrings: bool = False) -> str:
    """Source as a page shows it: headed by its file and the labels of its equations, which docstrings name.

    With ``MMLEARN_STRICT_LISTINGS=1``, as in the tests, a line that the page's column cannot hold raises
    ``ValueError``.
    """
    path = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "")
    root = Path(mmlearn.__file__).parent.parent
    where = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    labels = ", ".join(dict.fromkeys(re.findall(r"eq:[A-Za-z0-9][\w-]*", inspect.getdoc(thing) or "")))
    head = textwrap.wrap(f"{where} · {labels}" if labels else where, COLUMNS - 2, break_on_hyphens=False)
    source = "\n".join([*(f"# {line}" for line in head), source_of(thing, docstrings)])
    wide = [line for line in source.splitlines() if len(line) > COLUMNS]
    if wide and os.environ.get("MMLEARN_STRICT_LISTINGS") == "1":
        raise ValueError(f"{where} is shown in the book and has a line of {len(wide[0])} columns, "
                         f"{COLUMNS} fit a page: {wide[0].strip()}")
    return source


def show_source(*things: Callable[..., Any] | type, docstrings: bool = False,
                folded: bool | None = None) -> None:
    """Show the source of functions or classes, headed by file and equation, highlighted where the place can
    do it.

    A listing of more than ``OPEN_LINES`` lines is folded, unless ``folded`` says otherwise.
    """
    for thing in things:
        source = listing(thing, docstrings)
        lines = source.count("\n") + 1
        code = f"```python\n{source}\n```"
        if lines > OPEN_LINES if folded is None else folded:
            code = (f"<details>\n<summary>Listing of <code>{thing.__name__}</code>, {lines} "
                    f"lines</summary>\n\n"
                    f"{code}\n\n</details>")
        show_markdown(code, source)


def show_table(header: Sequence[str], rows: Iterable[Sequence[Any]], digits: int = 3) -> None:
    """Show results as a table: floats with ``digits`` digits, numbers flush right; a cell may hold Markdown.

    Raises ``ValueError`` if a row has not as many cells as the header.
    """
    text = markdown_table(header, rows, digits)
    show_markdown(literal_tags(text), text)


def chapter_claims() -> None:
    """Show the table of the claims made since ``setup``."""
    show_markdown(literal_tags(claims_table()), claims_table())


def literal_tags(markdown: str) -> str:
    """Words such as <eos> as text: Markdown would take them for HTML and show nothing."""
    return markdown.replace("<", "&lt;")


def show_markdown(markdown: str, plain: str) -> None:
    """Show Markdown in a notebook, and its plain form elsewhere."""
    if not in_notebook():
        print(plain)
        return
    from IPython.display import display
    display({"text/markdown": markdown, "text/plain": plain}, raw=True)
