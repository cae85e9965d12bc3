"""What each cell of a picture shows: the labels on which the grid captioner's trunk is trained first.

Paper: K. Xu et al. (2015), *Show, Attend and Tell*, arXiv:1502.03044, sec. 4.3 (a network trained on
ImageNet's labels, then kept); H. Jiang et al. (2020), *In Defense of Grid Features for Visual Question
Answering*, arXiv:2001.03615 (labels of things and attributes make good grids).  Survey: 1.2.
Differs from the papers: the labels are asked of every cell of the grid, not of the picture or of boxes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from mmlearn.data.batches import Batches
from mmlearn.data.scenes import CATEGORIES, CATEGORY, render, sample_scene
from mmlearn.data.scenes.graph import COLOURS, SETTINGS, SIZES, TEXTURES, Scene
from mmlearn.image2text.captioner import CNNTransformer
from mmlearn.image2text.regions import ATTRIBUTES, UNKNOWN
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.transformer import Context
from mmlearn.train import History, fit, warmup_cosine

NOTHING = 0  # category of a cell without a thing; the others count from 1
LEAST = 4  # pixels of a cell that a thing must cover
LABELS: dict[str, int] = {  # what is asked of a cell that shows a thing, and how many answers there are
    "category": len(CATEGORIES) + 1,
    "colour": len(COLOURS),
    "texture": len(TEXTURES),
    "size": len(SIZES),
    "pose": len(ATTRIBUTES["pose"]),
    "facing": 2,
}


def cell_labels(
    scene: Scene, masks: Bool[np.ndarray, "n s s"], cells: int = 8
) -> Int[np.ndarray, "label y x"]:
    """Of each of ``cells`` x ``cells`` squares the labels of the thing that covers most, rows as ``LABELS``.

    The category of an empty cell is ``NOTHING``, its other labels are ``UNKNOWN``.
    """
    labels = np.full((len(LABELS), cells, cells), UNKNOWN, dtype=np.int16)
    labels[0] = NOTHING
    if not scene.objects:
        return labels
    side = masks.shape[-1] // cells
    covered = masks.reshape(len(masks), cells, side, cells, side).sum((2, 4))  # n y x
    which, most = covered.argmax(0), covered.max(0)
    names = [category.name for category in CATEGORIES]
    for i, thing in enumerate(scene.objects):
        here = (which == i) & (most >= LEAST)
        facing = (0 if thing.flip else 1) if CATEGORY[thing.category].facing else UNKNOWN
        of_thing = (
            names.index(thing.category) + 1,
            COLOURS.index(thing.colour),
            TEXTURES.index(thing.texture),
            SIZES.index(thing.size),
            ATTRIBUTES["pose"].index(thing.pose),
            facing,
        )
        labels[:, here] = np.array(of_thing)[:, None]
    return labels


class CellBatch(NamedTuple):
    """Pictures in [0, 1] and their labels: ``cells`` (b, label, p) row by row, ``setting`` (b)."""

    images: Float[Tensor, "b 3 s s"]
    cells: Int[Tensor, "b label p"]
    setting: Int[Tensor, " b"]


class CellData:
    """Pictures as bytes and the labels of their cells, scenes ``0 … count-1``."""

    def __init__(
        self,
        count: int,
        split: str = "train",
        *,
        size: int = 64,
        cells: int = 8,
        seed: int = 1,
    ) -> None:
        images = np.empty((count, 3, size, size), dtype=np.uint8)
        labels = np.empty((count, len(LABELS), cells, cells), dtype=np.int16)
        settings = np.empty(count, dtype=np.int64)
        for i in range(count):
            scene = sample_scene(seed, i, split)
            picture = render(scene, size)
            images[i] = picture.image.transpose(2, 0, 1)
            labels[i] = cell_labels(scene, picture.masks, cells)
            settings[i] = SETTINGS.index(scene.setting)
        self.images: UInt8[Tensor, "n 3 s s"] = torch.from_numpy(images)
        self.labels, self.settings = torch.from_numpy(labels), torch.from_numpy(settings)

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: Sequence[int] | Tensor, mirror: bool = False) -> CellBatch:
        """The given pictures; ``mirror`` turns left and right round, directions too."""
        index = torch.as_tensor(index)
        images, labels = self.images[index].float() / 255, self.labels[index].long()
        if mirror:
            images, labels = images.flip(-1), labels.flip(-1)
            facing = labels[:, -1]
            labels[:, -1] = torch.where(facing == UNKNOWN, UNKNOWN, 1 - facing)
        return CellBatch(images, labels.flatten(2), self.settings[index])


class CellBatches(Batches):
    """Batches of pictures drawn with replacement, mirrored half of the time, a function of their number."""

    data: CellData

    def drawn(self, number: int) -> tuple[list[int], bool]:
        """The pictures of batch ``number``, and whether they are mirrored."""
        draw = torch.Generator().manual_seed(number)
        index = torch.randint(len(self.data), (self.size,), generator=draw).tolist()
        return index, bool(torch.rand((), generator=draw) < 0.5)

    def indices(self, number: int, rank: int = 0, world: int = 1) -> list[int]:
        return self.drawn(number)[0][rank::world]

    def make(self, indices: list[int], number: int) -> CellBatch:
        return self.data.rows(indices, mirror=self.drawn(number)[1])


class CellReader(nn.Module):
    """A trunk and one linear layer a label: pictures (b, 3, s, s) -> logits (b, p, answers) of each cell.

    The setting is read off the mean of the cells, (b, 6). Only the trunk is kept afterwards.
    """

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.labels = nn.ModuleDict({name: nn.Linear(channels, answers) for name, answers in LABELS.items()})
        self.setting = nn.Linear(channels, len(SETTINGS))

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> dict[str, Tensor]:
        grid = self.trunk(images)
        return {
            **{name: head(grid) for name, head in self.labels.items()},
            "setting": self.setting(grid.mean(1)),
        }


def cell_loss(model: CellReader, batch: CellBatch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Cross-entropies of the setting, every cell's category, and the attributes where a thing is; summed."""
    logits = model(batch.images)
    parts = {"setting": F.cross_entropy(logits["setting"], batch.setting)}
    for row, name in enumerate(LABELS):
        wanted = batch.cells[:, row]
        total = F.cross_entropy(logits[name].mT, wanted, ignore_index=UNKNOWN, reduction="sum")
        parts[name] = total / (wanted != UNKNOWN).sum().clamp(min=1)
    return torch.stack(list(parts.values())).sum(), {name: value.detach() for name, value in parts.items()}


@torch.no_grad()
def cell_accuracy(model: CellReader, data: CellData, batch: int = 100) -> dict[str, float]:
    """Fraction of right answers; the category among cells with a thing ("thing") and all ("category")."""
    right: dict[str, int] = dict.fromkeys([*LABELS, "thing", "setting"], 0)
    asked = dict(right)
    for start in range(0, len(data), batch):
        rows = data.rows(range(start, min(start + batch, len(data))))
        with eval_mode(model):
            logits = model(rows.images)
        answers = {"setting": (logits["setting"], rows.setting)}
        answers |= {name: (logits[name], rows.cells[:, row]) for row, name in enumerate(LABELS)}
        things = rows.cells[:, 0].masked_fill(rows.cells[:, 0] == NOTHING, UNKNOWN)
        answers["thing"] = logits["category"], things
        for name, (scores, wanted) in answers.items():
            counts = wanted != UNKNOWN
            right[name] += int(((scores.argmax(-1) == wanted) & counts).sum())
            asked[name] += int(counts.sum())
    return {name: right[name] / max(1, asked[name]) for name in right}


def train_cells(
    model: CellReader, data: CellData, *, steps: int = 2000, batch: int = 64, lr: float = 2e-3, seed: int = 0,
    **options: Any
) -> History:
    """Train trunk and linear layers on the labels of the cells; ``options`` go to ``fit``."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = warmup_cosine(lr, min(100, steps // 5), steps, lr / 100)
    return fit(
        model,
        cell_loss,
        CellBatches(data, min(batch, len(data))),
        steps=steps,
        optimizer=optimizer,
        schedule=schedule,
        clip=5.0,
        seed=seed,
        **options,
    )


class OnCells(nn.Module):
    """A captioner whose trunk has looked already: it reads grids (b, p, c) and speaks as the captioner does.

    A frozen trunk gives the same cells at every step: computed once. The weights are the captioner's.
    """

    def __init__(self, captioner: CNNTransformer) -> None:
        super().__init__()
        self.captioner, self.config = captioner, captioner.config

    def encode(self, grid: Float[Tensor, "b p c"], mask: Bool[Tensor, "b p"] | None = None) -> Context:
        return self.captioner.encode_grid(grid, mask)

    def decode(self, tokens: Int[Tensor, "r t"], context: Context) -> Float[Tensor, "r t v"]:
        return self.captioner.decode(tokens, context)

    def forward(self, grid: Float[Tensor, "b p c"], tokens: Int[Tensor, "r t"]) -> Float[Tensor, "r t v"]:
        return self.decode(tokens, self.encode(grid))


@torch.no_grad()
def grids(trunk: nn.Module, pictures: UInt8[Tensor, "n 3 s s"], batch: int = 100) -> Float[Tensor, "n p c"]:
    """The cells of all pictures, given as bytes, in half precision."""
    with eval_mode(trunk):
        return torch.cat([trunk(part.float() / 255).half() for part in pictures.split(batch)])
