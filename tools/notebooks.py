"""Work on the book's notebooks: the setup cell, the public address, running them in place.

    python tools/notebooks.py setup-cell 1-image2text    print the setup cell of a notebook
    python tools/notebooks.py conform [NOTEBOOK ...]     put the current setup cell, folded, into notebooks,
                                                         and what it installs into book/colab.txt
    python tools/notebooks.py check [NOTEBOOK ...]       words, and lines of code and output that are too wide
    python tools/notebooks.py execute [NOTEBOOK ...]     run top to bottom, in place (needs extra book)
    python tools/notebooks.py shrink [NOTEBOOK ...]      make stored figures smaller where no eye sees it
    python tools/notebooks.py repository URL             change the public address everywhere

A notebook is a chapter, a side page of a chapter (``book/deeper/1-annotation.ipynb``: its number, its topic),
an exercise notebook or a page of the appendix. Only the standard library is imported at the top, so that all
commands but ``execute`` and ``shrink`` work before anything is installed.
"""

import argparse
import base64
import io
import json
import os
import re
import sys
import tempfile
import time
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "_config.yml"
MAX_PNG_BYTES = 100_000
# By how much a figure of 256 colours may differ (of 255): one pixel, all but one in a thousand, the mean.
MAX_ERRORS = (32, 16, 0.5)
STEP = 4        # of what is rounded in the others, such as pictures: no number is off by more than 2
COLUMNS = 79  # of code, text outputs and listings: what the site's column holds at 1300 px
CHECKED = "nbval-check-output"  # the cell tag, nbval's own, of cells whose output is the same everywhere
ADDRESS = re.compile(r"https://(?P<host>[\w.-]+)/(?P<owner>[\w.-]+)/(?P<name>[\w-]+(?:\.[\w-]+)*)")

SETUP_CELL = '''\
# Setup. In Colab: fetches this version of the book and what Colab lacks.
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules:
    if not Path("/content/mmlearn").exists():
        book = "{url}"
        clone = "git clone -q --depth 1 --branch {tag}".split()
        subprocess.run([*clone, book, "/content/mmlearn"], check=True)
        needs = "pip install -q -r /content/mmlearn/book/colab.txt"
        subprocess.run(needs.split(), check=True)
    sys.path.insert(0, "/content/mmlearn")

import matplotlib.pyplot as plt
import numpy as np
import torch

from mmlearn import plot
from mmlearn.book import setup, show_source
from mmlearn.claims import budget, claim

setup("{name}")'''

NEEDS = Path("book") / "colab.txt"      # what the setup cell installs: the tag that it fetches brings its own
IN_COLAB = {"torch", "torchvision", "numpy", "pillow", "matplotlib", "tqdm"}       # and must stay as they are


def notebooks(root: Path | None = None) -> list[Path]:
    """The notebooks of the book, in the order of their paths."""
    found = ((root or ROOT) / "book").rglob("*.ipynb")
    return sorted(p for p in found if ".ipynb_checkpoints" not in p.parts)


def needs(root: Path = ROOT) -> list[str]:
    """The lines of ``NEEDS``: what Colab may lack, with the bounds of ``pyproject.toml``, in the order of
    names."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(re.sub(r"\s", "", one) for one in project["dependencies"]
                  if re.split(r"[<>=!~\[; ]", one)[0] not in IN_COLAB)


def version(root: Path = ROOT) -> str:
    """The version of the book, from ``mmlearn/__init__.py``; ``make release`` tags it with a v before it."""
    return re.findall(r'^__version__ = "([^"]+)"$',
                      (root / "mmlearn" / "__init__.py").read_text(encoding="utf-8"), re.M)[0]


def toc_pages() -> list[str]:
    """The pages of the site, without their endings, in the order of ``_toc.yml``."""
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    return re.findall(r"(?m)^\s*(?:root|-\s*file):\s*(\S+)\s*$", toc)


def repository(root: Path = ROOT) -> str:
    """The public address, from ``_config.yml``."""
    config = (root / CONFIG.name).read_text(encoding="utf-8")
    found = re.search(r"(?m)^repository:\n\s+url:\s*(\S+)\s*$", config)
    if not found:
        raise ValueError(f"{CONFIG} has no 'repository: url'; add it")
    return found[1]


def setup_cell(name: str, root: Path = ROOT) -> str:
    """The first code cell of the notebook ``name`` (a file name without its ending)."""
    return SETUP_CELL.format(url=repository(root), tag=f"v{version(root)}", name=name)


def deeper() -> list[Path]:
    """The side pages of the chapters, ``book/deeper/<number of the chapter>-<topic>.ipynb``."""
    return [p for p in notebooks() if p.parent == ROOT / "book" / "deeper"]


def lines_of(cell: dict) -> list[str]:
    """The source of a cell of a notebook's JSON."""
    return "".join(cell["source"]).split("\n")


def columns(line: str) -> int:
    """How many columns of a fixed-width font a line takes; Chinese and Japanese signs take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in line)


def fenced(markdown: str) -> list[str]:
    """The lines inside the code fences of Markdown."""
    return "\n".join(
        m[2] for m in re.finditer(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1", markdown, re.M | re.S)
    ).split("\n")


def shown_lines(cell: dict) -> Iterator[tuple[str, int, str]]:
    """(what, number, line) of every line of code or fixed-width output that a cell shows."""
    if cell["cell_type"] == "markdown":
        yield from (("fence", n, line) for n, line in enumerate(fenced("".join(cell["source"])), 1))
        return
    yield from (("code", n, line) for n, line in enumerate(lines_of(cell), 1))
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        if "text/markdown" in data:
            yield from (("listing", n, line) for n,
                        line in enumerate(fenced("".join(data["text/markdown"])), 1))
        elif not any(kind == "text/html" or kind.startswith("image/") for kind in data):
            text = "".join(output.get("text", data.get("text/plain", "")))
            yield from (("output", n, line) for n, line in enumerate(text.split("\n"), 1))


def wide_lines(path: Path) -> list[str]:
    """What a notebook shows in a fixed-width font beyond ``COLUMNS``, one sentence a line."""
    out = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"], 1):
        for what, n, line in shown_lines(cell):
            if (width := columns(line.rstrip())) > COLUMNS:
                out.append(f"cell {number}, {what} line {n}, {width} columns: {line.strip()[:60]}")
    return out


def words(path: Path) -> int:
    """How many words of prose a page has: code, formulas, tags and the targets of links do not count."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"]
                           if c["cell_type"] == "markdown")
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1", " ", text, flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`|<[^>]+>|\]\([^)]*\)", " ", text, flags=re.S)
    return len(re.findall(r"[A-Za-z\u00c0-\u024f][\w'’-]*", text))


def conform(path: Path, root: Path = ROOT) -> bool:
    """Put the current setup cell, tagged to be folded on the site, into a notebook; says whether that changed
    it."""
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    first = next(c for c in notebook["cells"] if c["cell_type"] == "code")
    first["source"] = setup_cell(path.stem, root).splitlines(keepends=True)
    tags = first["metadata"].setdefault("tags", [])
    if "hide-input" not in tags:
        tags.append("hide-input")
    after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if after != before:
        write(path, after)
    return after != before


def write(path: Path, text: str) -> None:
    """Write through a temporary name, so that nothing half-written is left."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def set_repository(url: str) -> list[Path]:
    """Change the public address in ``_config.yml`` and in every file that repeats it; returns the changed
    files."""
    url = url.removesuffix("/").removesuffix(".git")
    new = ADDRESS.fullmatch(url)
    if not new:
        raise ValueError(f"URL is {url!r}; give the address of a repository, such as "
                         f"https://github.com/you/fork")
    old_url = repository()
    old = ADDRESS.fullmatch(old_url)
    assert old is not None, old_url
    pairs = [(old_url, url),
             # Colab's links
             (f"/github/{old['owner']}/{old['name']}", f"/github/{new['owner']}/{new['name']}")]
    files = [CONFIG, ROOT / "README.md", ROOT / "CITATION.cff", ROOT / "pyproject.toml", *notebooks(),
             *sorted((ROOT / "book").rglob("*.md")), *sorted((ROOT / ".github").rglob("*.yml"))]
    changed = []
    for path in files:
        if not path.exists():
            continue
        text = after = path.read_text(encoding="utf-8")
        for before, now in pairs:
            after = re.sub(re.escape(before) + r"(?![\w-])", lambda _, now=now: now, after)
        if after != text:
            write(path, after)
            changed.append(path)
    return changed


def settle(text: str) -> str:
    """What a terminal shows after carriage returns have overwritten the line."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def looks_alike(picture, other) -> bool:
    """Are two RGB pictures the same to an eye (``MAX_ERRORS``)?"""
    from PIL import ImageChops

    red, green, blue = ImageChops.difference(picture, other).split()
    count = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()      # of the worst channel
    one, nearly_all, mean = MAX_ERRORS
    return (not any(count[one + 1:]) and sum(count[nearly_all + 1:]) <= sum(count) / 1000
            and sum(error * n for error, n in enumerate(count)) <= mean * sum(count))


def rounded(picture):
    """An RGB picture whose numbers are multiples of ``STEP``, or 255."""
    return picture.point([min(255, STEP * round(value / STEP)) for value in range(256)] * 3)


def shrink_png(data: str) -> str:
    """A smaller base64 PNG: with 256 colours if it looks alike, else rounded; and with fewer colours, however
    it looks, if it would have more than 100 KB. What was made smaller already, or is transparent, is left."""
    from PIL import Image

    def written(picture) -> bytes:
        out = io.BytesIO()
        picture.save(out, "PNG", optimize=True)
        return out.getvalue()

    best = base64.b64decode(data)
    stored = Image.open(io.BytesIO(best))
    opaque = stored.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    mode, picture = stored.mode, stored.convert("RGB")
    if opaque and mode != "P" and (mode != "RGB" or rounded(picture).tobytes() != picture.tobytes()):
        few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        kept = few if looks_alike(picture, few.convert("RGB")) else rounded(picture)
        best = min(best, written(kept), key=len)
    for colours in (256, 128, 64):
        if len(best) > MAX_PNG_BYTES:
            best = min(best, written(picture.quantize(colours)), key=len)
    return base64.b64encode(best).decode() + "\n"


def shrink(path: Path) -> int:
    """Make the stored figures of a notebook smaller (``shrink_png``); returns how many bytes that saved."""
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = shrink_png("".join(output["data"]["image/png"]))
    after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    saved = len(before.encode()) - len(after.encode())
    if saved > 0:
        write(path, after)
    return max(0, saved)


def tidy(notebook) -> None:
    """Remove from an executed notebook what differs from run to run or from machine to machine."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "scrolled", "ExecuteTime", "outputId"):
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        merged: list = []
        for output in cell.outputs:
            if (output.output_type == "stream" and merged and merged[-1].output_type == "stream"
                    and merged[-1].name == output.name):
                merged[-1].text += output.text
            else:
                merged.append(output)
        for output in merged:
            if output.output_type == "stream":
                output.text = settle(output.text)
            elif "data" in output and "image/png" in output.data:
                output.data["image/png"] = shrink_png(output.data["image/png"])
                output.metadata.pop("image/png", None)
        cell.outputs = [o for o in merged if o.output_type != "stream" or o.text.strip()]


def execute(path: Path) -> float:
    """Run a notebook top to bottom in a fresh kernel and store its outputs; returns the seconds it took."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    start = time.perf_counter()
    client = nbclient.NotebookClient(notebook, timeout=3600, kernel_name="python3", record_timing=False,
                                     extra_arguments=["--IPKernelApp.log_level=ERROR"],
                                     resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    tidy(notebook)
    nbformat.validate(notebook)
    write(path, nbformat.writes(notebook) + "\n")
    return time.perf_counter() - start


def main() -> int:
    """Run one of the commands of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup-cell").add_argument("name")
    for name in ("conform", "check", "execute", "shrink"):
        commands.add_parser(name).add_argument("notebooks", nargs="*", type=Path)
    commands.add_parser("repository").add_argument("url")
    args = parser.parse_args()
    try:
        if args.command == "setup-cell":
            print(setup_cell(args.name))
        elif args.command == "repository":
            changed = set_repository(args.url)
            print("\n".join(str(path.relative_to(ROOT)) for path in changed) or "nothing to change")
        else:
            if args.command == "conform":
                write(ROOT / NEEDS, "\n".join(needs()) + "\n")
            for path in args.notebooks or notebooks():
                if args.command == "conform":
                    print(f"{path}: {'written' if conform(path) else 'as it should be'}")
                elif args.command == "check":
                    found = wide_lines(path)
                    print(f"{path}: {words(path):,} words, {len(found)} lines over {COLUMNS} columns", *found,
                          sep="\n  ")
                elif args.command == "shrink":
                    print(f"{path}: {shrink(path):,} bytes saved", flush=True)
                else:
                    print(f"{path}: {execute(path.resolve()):.0f} s", flush=True)
    except (ValueError, OSError, json.JSONDecodeError) as error:
        print(f"notebooks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
