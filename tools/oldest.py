"""Print pip's constraints for the oldest torch and torchvision that ``pyproject.toml`` allows.

    python tools/oldest.py > constraints.txt
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def constraints(root: Path = ROOT) -> list[str]:
    """``torch==2.11.*`` for ``torch>=2.11,<2.15``, and the same of torchvision."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = (re.match(r"(torch|torchvision)>=(\d+\.\d+)", one) for one in project["dependencies"])
    return [f"{one[1]}=={one[2]}.*" for one in found if one]


if __name__ == "__main__":
    print("\n".join(constraints()))
