"""Import every module of mmlearn: what a system lacks (fork, fcntl, resource) shows at once.

    python tools/import_all.py
"""

import importlib
import pkgutil

import mmlearn


def modules() -> list[str]:
    """The names of all modules but those that are programs."""
    return sorted(one.name for one in pkgutil.walk_packages(mmlearn.__path__, "mmlearn.")
                  if not one.name.endswith("__main__"))


if __name__ == "__main__":
    for name in modules():
        importlib.import_module(name)
    print(f"{len(modules())} modules")
