"""Public weights in our modules: ``load`` finds the reader that knows a checkpoint, and the reader matches
every name.

Survey: none; see the appendix on scaling up.  A reader is a module of this package that offers
``recognises(path)`` and ``load(path, **options)``; it is named in ``READERS``, once for each public name. A
reader whose models are on a hub offers ``fetch(name)``, which returns the path. Nothing is loaded that could
run code.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

READERS = {                             # public name -> the module of this package that reads it
    "aimagelab/meshed-memory-transformer": "m2",
    **{f"openai/clip-vit-{size}": "clip"
       for size in ("base-patch32", "base-patch16", "large-patch14", "large-patch14-336")},
    **{f"timm/{size}_clip.openai": "clip"
       for size in ("resnet50", "resnet101", "resnet50x4", "resnet50x16", "resnet50x64")},
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "clip",
    "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": "clip",
    "laion/CLIP-ViT-B-16-laion2B-s34B-b88K": "clip",
    "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K": "clip",
    "microsoft/UniCL": "unicl",
    "kakaobrain/align-base": "align",
    "tobran/DF-GAN": "dfgan",
    "mseitzer/pytorch-fid": "inception",
    "torchvision/inception_v3": "inception",
}


def load(source: str | Path, **options: Any) -> nn.Module:
    """The model of a public checkpoint, in evaluation mode: ``source`` is a public name, a file or a folder.

    ``options`` go to the reader (see its ``load``). Raises ``FileNotFoundError`` if there is neither a file
    nor a public name ``source``, ``ValueError`` if no reader knows the file or its names and shapes are not
    those expected.
    """
    if str(source) in READERS:
        found = reader(str(source))
        return found.load(found.fetch(str(source)) if hasattr(found, "fetch") else None, **options).eval()
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{source} is neither a file or folder nor one of {', '.join(READERS)}; "
                                f"check the path")
    unreadable = None
    for module in dict.fromkeys(READERS.values()):
        candidate = importlib.import_module(f"mmlearn.pretrained.{module}")
        try:
            known = candidate.recognises(path)
        except ValueError as error:  # not readable as this reader reads; perhaps as the next does
            unreadable, known = unreadable or error, False
        if known:
            return candidate.load(path, **options).eval()
    raise unreadable or ValueError(
        f"{path} is none of the checkpoints that can be read ({', '.join(READERS)}); check the file")


def reader(name: str) -> Any:
    """The module that reads the public checkpoint ``name``."""
    return importlib.import_module(f"mmlearn.pretrained.{READERS[name]}")


def match(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuse a checkpoint unless it has exactly the expected names, each of the expected shape.

    Raises ``ValueError`` that lists the names that differ (the first eight of each kind).
    """
    problems = []
    for about, names in (("missing", expected.keys() - found.keys()),
                         ("not expected", found.keys() - expected.keys())):
        if names:
            problems.append(f"{about}: {shorten(sorted(names))}")
    shapes = [f"{name} is {found[name]}, expected {expected[name]}"
              for name in sorted(expected.keys() & found.keys())
              if tuple(found[name]) != tuple(expected[name])]
    if shapes:
        problems.append(f"of another shape: {shorten(shapes)}")
    if problems:
        raise ValueError(f"{where} does not fit the model; {'; '.join(problems)}; load the checkpoint it was "
                         f"made for")


def shorten(names: list[str]) -> str:
    """At most eight names, and how many more there are."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
