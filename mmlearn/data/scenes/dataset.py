"""The scene world as a PyTorch data set: made while it is read, nothing on disk.

Survey: 1.1.  Differs from COCO: the number of images is up to the caller, and an image is a function of its
index.
"""

from typing import Any

import torch
from torch.utils.data import Dataset

from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import captions
from mmlearn.data.scenes.render import STYLES, render
from mmlearn.data.scenes.sample import SPLITS, sample_scene


class SceneDataset(Dataset):
    """``count`` scenes of a split, each a dict.

    ``image`` float32 (3, size, size) in [0, 1]; ``captions`` a tuple of five sentences; ``scene`` the graph;
    ``index``.
    Raises ``ValueError`` for an unknown split or style, a negative count, or a size that cannot be drawn.
    """

    def __init__(self, count: int, split: str = "train", size: int = 64, seed: int = 0,
                 style: str = "normal") -> None:
        check_recipe(count, size, split, style)
        self.count, self.split, self.size, self.seed, self.style = count, split, size, seed, style

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """The graph alone, without drawing it; negative indices count from the end."""
        index = index + self.count if index < 0 else index
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} is outside the {self.count} scenes of this data set")
        return sample_scene(self.seed, index, self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene = self.scene(index)
        pixels = torch.from_numpy(render(scene, self.size, self.style).image.copy())
        return {"image": pixels.permute(2, 0, 1).float() / 255, "captions": captions(scene), "scene": scene,
                "index": scene.index}

    def captions(self, index: int) -> tuple[str, ...]:
        """The five captions alone, without drawing the picture."""
        return captions(self.scene(index))

    @staticmethod
    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch for ``DataLoader(collate_fn=…)``: images stacked to (b, 3, size, size), everything else in
        lists."""
        batch: dict[str, Any] = {key: [item[key] for item in items] for key in items[0]}
        batch["image"] = torch.stack(batch["image"])
        return batch


def check_recipe(count: int, size: int, split: str, style: str) -> None:
    """One sentence if a number of images, size, split or drawing style cannot be made."""
    if count < 0:
        raise ValueError(f"count is {count}; the number of scenes is 0 or more")
    if not 16 <= size <= 1024:
        raise ValueError(f"size {size} is outside 16..1024 pixels; 64 is usual")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")
    if style not in STYLES:
        raise ValueError(f"style {style!r} is unknown; take one of {', '.join(STYLES)}")
