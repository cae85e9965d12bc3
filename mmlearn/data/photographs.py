"""Five photographs that come with a package under a free licence: something real to look at without a
download.

Survey: 1.2.  They ship in scikit-image's wheel (the ``book`` extra), so that no file of ours and no network
is needed.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mmlearn.data.images import read_image


@dataclass(frozen=True)
class Photograph:
    """A photograph: where it lies, who took it, under which terms, and what it shows in words of ours."""

    name: str
    file: str               # in the folder skimage/data
    credit: str
    licence: str
    shows: str

    @property
    def path(self) -> Path:
        """The installed file. Raises ``FileNotFoundError`` if scikit-image is not installed or lacks it."""
        spec = find_spec("skimage")
        folder = Path(spec.origin).parent / "data" if spec is not None and spec.origin else None
        if folder is None or not (folder / self.file).is_file():
            raise FileNotFoundError(f"the photograph {self.file} comes with scikit-image; run pip install "
                                    f"scikit-image")
        return folder / self.file

    def pixels(self, size: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """RGB in 0..255; with ``size`` the middle square, resized."""
        image = read_image(self.path)
        if size is not None:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        return np.array(image)


PHOTOGRAPHS: tuple[Photograph, ...] = (
    Photograph("cat", "chelsea.png", "Stéfan van der Walt", "CC0", "the face of a tabby cat"),
    Photograph("coffee", "coffee.png", "Rachel Michetti, courtesy of Pikolo Espresso Bar", "CC0",
               "a cup of coffee with a spoon on a wooden table"),
    Photograph("rocket", "rocket.jpg", "SpaceX", "public domain", "a rocket takes off at night"),
    Photograph("astronaut", "astronaut.png", "NASA", "public domain",
               "a woman in an orange space suit in front of a flag and a model of a space shuttle"),
    Photograph("camera", "camera.png", "Lav Varshney", "CC0", "a man in a coat behind a camera on a tripod"),
)


def photograph(name: str) -> Photograph:
    """The photograph of a name. Raises ``ValueError`` for an unknown one."""
    for one in PHOTOGRAPHS:
        if one.name == name:
            return one
    raise ValueError(f"there is no photograph {name!r}; take one of {', '.join(p.name for p in PHOTOGRAPHS)}")
