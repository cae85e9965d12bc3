"""Folders of runs that are damaged in one place, and numbers that make no sense.

``damaged(folder, draw)`` changes one file of a folder and says what it did. ``wrong(value, draw)`` changes
one place within a JSON value.
"""

import json
import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

COUNT = int(os.environ.get("MMLEARN_BAD_INPUTS", 0))          # 0: a few
NUMBERS: list[Any] = [0, -1, -1e-9, 0.5, 1.5, math.nan, math.inf, -math.inf, 1e308, 10**9 + 1, 10**30,
                      10**400]
VALUES: list[Any] = [None, "", "x", True, 3, -1, 0.5, math.nan, 10**30, [], {}, [1], [[]], {"a": 1}, "ä" * 99]
TEXTS = ["", " ", "[]", "{}", "null", "3", '"x"', "{", "[" * 100_000, '{"a": 1}', "\ud800", "\x00" * 20]


def damaged(folder: Path, draw: random.Random) -> str:
    """Change one file below ``folder`` as a disk, a copy or an editor does."""
    file = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = bytearray(file.read_bytes())
    kind = draw.choice(["flip", "flip", "flip", "cut", "longer", "swap", "zeros", "text", "json", "gone",
                        "folder", "others"])
    if kind == "flip":
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del content[draw.randrange(len(content)):]
    elif kind == "longer":
        content += bytes(draw.randrange(1, 9))
    elif kind == "swap":
        i, j = draw.randrange(len(content)), draw.randrange(len(content))
        content[i], content[j] = content[j], content[i]
    elif kind == "zeros":
        start = draw.randrange(len(content))
        content[start:start + 50] = bytes(len(content[start:start + 50]))
    elif kind == "text":
        content = bytearray(draw.choice(TEXTS).encode("utf-8", "surrogatepass"))
    elif kind == "json" and file.suffix == ".json":
        content = bytearray(json.dumps(wrong(json.loads(content), draw)).encode())
    elif kind == "others":
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        content = bytearray(draw.choice(files).read_bytes())
    file.write_bytes(content)
    if kind in ("gone", "folder"):
        file.unlink()
    if kind == "folder":
        file.mkdir()
    return f"{kind} {file.name}"


def wrong(value: Any, draw: random.Random) -> Any:
    """The same JSON value with one place of it changed, left out or of another kind."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(sorted(value))
        if draw.random() < 0.2:
            return {key: kept for key, kept in value.items() if key != name}
        return {**value, name: wrong(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        return [*value[:place], wrong(value[place], draw), *value[place + 1:]]
    return draw.choice(VALUES)


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)
