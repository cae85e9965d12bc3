"""Embeddings of the pictures of a folder, kept in a file, so that a picture is looked at once."""

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmlearn.files import write_atomically

FORMAT = "mmlearn index 1"


def model_number(ready: Any) -> str:
    """A short name of a dual encoder's weights and of the way in which its pictures are prepared."""
    number = zlib.crc32(repr(ready.recipe).encode())
    for value in ready.model.state_dict().values():
        number = zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes(), number)
    return f"{number:08x}"


def stamp(path: Path) -> list[int]:
    """Size and time of a file: what changes when another picture takes its name."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


@dataclass
class PictureIndex:
    """Unit embeddings (n, e) of pictures, by their names within the folder, with the stamps of their files.

    The file is .safetensors: one tensor, and names and stamps as JSON in its head.
    """

    model: str
    names: list[str]
    stamps: list[list[int]]
    rows: Float[Tensor, "n e"]

    @classmethod
    def read(cls, path: Path, model: str, weights: str) -> "PictureIndex":
        """Read what ``write`` wrote. Raises ``ValueError`` for anything else, and for one of another
        model."""
        wrong = f"{path} is no index of pictures"
        try:
            with safe_open(path, "pt") as file:
                head = file.metadata() or {}
                rows = file.get_tensor("embeddings")
            content = json.loads(head["index"])
            found = cls(content["model"], content["names"], content["stamps"], rows)
            if head.get("format") != FORMAT or not found._whole():
                raise ValueError("its names and rows do not belong together")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{wrong} ({error}); delete it, or give --index another name") from error
        if found.model != model:
            raise ValueError(f"{path} holds embeddings of another model than {weights}; delete it, or give "
                             f"--index another name")
        return found

    def _whole(self) -> bool:
        return (isinstance(self.model, str) and len(self.names) == len(self.stamps) == len(self.rows)
                and self.rows.ndim == 2 and self.rows.dtype == torch.float32
                and all(isinstance(name, str) for name in self.names)
                and all(isinstance(s, list) and len(s) == 2 for s in self.stamps)
                and bool(self.rows.isfinite().all()))

    def write(self, path: Path) -> None:
        """Write the index, in one step."""
        head = {"model": self.model, "names": self.names, "stamps": self.stamps}
        write_atomically(path, safetensors.torch.save(
            {"embeddings": self.rows.contiguous()}, {"format": FORMAT, "index": json.dumps(head)}))


def name_in(folder: Path, path: Path) -> str:
    """The name of a picture in its index."""
    return os.fspath(path.relative_to(folder))
