"""Reading COCO folders: images with captions, images with boxes and masks, and the Karpathy split.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO*, arXiv:1405.0312; X. Chen et al. (2015), arXiv:1504.00325; A.
Karpathy and L. Fei-Fei (2015), arXiv:1412.2306, for the split that captioning reports.  Survey: 1.1.

Any folder in COCO's format will do: COCO itself, the scenes that ``mmlearn data scenes`` writes, or one's
own. The items look like those of ``SceneDataset``. Nothing outside the given image folder is ever opened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mmlearn.data.coco_files import (
    Id,
    Record,
    box,
    caption_records,
    category_records,
    check_known,
    checked,
    file_name,
    identity,
    image_records,
    instance_records,
    karpathy_records,
    mask_or_none,
    named,
    optional,
    positive,
    read_lists,
)
from mmlearn.data.images import read_image
from mmlearn.metrics.detection import decode_segmentation

Transform = Callable[..., Any]
KARPATHY_SPLITS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CaptionRecord:
    """An image and what people said of it."""

    image_id: Id
    path: Path
    captions: tuple[str, ...]


def to_pixels(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """An RGB image as float32 in [0, 1]; the transform of the data sets here unless another is given."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def imagenet_transform(size: int = 224, crop: bool = True) -> Transform:
    """What torchvision's classifiers expect: resized, cropped (or squeezed) to a square, normalised."""
    shape = [v2.Resize(size, antialias=True),
             v2.CenterCrop(size)] if crop else [v2.Resize((size, size), antialias=True)]
    return v2.Compose([v2.ToImage(), *shape, v2.ToDtype(torch.float32, scale=True),
                       v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))])


# ---- files -------------------------------------------------------------------------------------------------

def inside(folder: Path, name: str, where: str = "") -> Path:
    """``folder / name``, refused if it lies outside the folder (also by way of a symbolic link).

    ``where`` the name stands begins the sentence.
    """
    path, begin = folder / name, f"{where}: " if where else ""
    try:
        here = bool(name) and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:                # too long, or a loop of links
        raise ValueError(f"{begin}file_name {shown(name)} names no file in {folder} ({error}); correct the "
                         f"annotation file") from None
    if not here:
        raise ValueError(f"{begin}file_name {shown(name)} leaves the image folder {folder}; correct the "
                         f"annotation file")
    return path


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _paths(images: dict[Id, Record], folder: Path, source: Path) -> dict[Id, Path]:
    return {i: inside(folder, image["file_name"], f"{source}, image {shown(i)}")
            for i, image in images.items()}


def _require(source: Path, folder: Path, problem: str, bad: Sequence[str], total: int) -> None:
    if bad:
        some = ", ".join(str(name)[:60] for name in bad[:3]) + (", …" if len(bad) > 3 else "")
        raise ValueError(f"{source}: {len(bad)} of {total} images {problem} {folder} ({some}); complete "
                         f"them, or leave such images out (--skip-incomplete, skip_incomplete=True)")


def _usable(records: list[CaptionRecord], folder: Path, source: Path,
            skip_incomplete: bool) -> list[CaptionRecord]:
    """Records with file and captions; raises if some have not and are not to be skipped."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the folder that holds the images of {source}")
    here = {r.image_id for r in records if is_file(r.path)}
    if not skip_incomplete:
        total = len(records)
        absent = [r.path.name for r in records if r.image_id not in here]
        _require(source, folder, "are missing in", absent, total)
        silent = [r.path.name for r in records if not r.captions]
        _require(source, source, "have no caption in", silent, total)
    usable = [r for r in records if r.image_id in here and r.captions]
    if not usable:
        raise ValueError(f"none of the {len(records)} images of {source} has a file in {folder} and a "
                         f"caption; "
                         "check that images and annotations belong together")
    return usable


# ---- captions ----------------------------------------------------------------------------------------------

class CocoCaptions(Dataset):
    """Images with captions from a COCO captions file.

    An item is a dict: ``image`` (what ``transform`` makes of the PIL image; float32 (3, h, w) in [0, 1] by
    default), ``captions`` (tuple of sentences), ``image_id``, ``index``. ``records`` can be read without
    opening images.
    Raises ``ValueError`` or ``FileNotFoundError`` for files that do not belong together (see
    ``skip_incomplete``).
    """

    def __init__(self, images: str | Path, annotations: str | Path, transform: Transform | None = None, *,
                 skip_incomplete: bool = False) -> None:
        folder, source = Path(images), Path(annotations)
        content = read_lists(source, "images", "annotations")
        by_id = image_records(content, source, file_name=file_name)
        spoken: dict[Id, list[str]] = {}
        for annotation in caption_records(content, source, by_id):
            if annotation["caption"].strip():
                spoken.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
        records = [CaptionRecord(i, path, tuple(spoken.get(i, ())))
                   for i, path in _paths(by_id, folder, source).items()]
        self.records: list[CaptionRecord] = _usable(records, folder, source, skip_incomplete)
        self.transform: Transform = transform or to_pixels

    @classmethod
    def karpathy(cls, images: str | Path, annotations: str | Path, split: str = "train",
                 transform: Transform | None = None, *, skip_incomplete: bool = False) -> "CocoCaptions":
        """The same from ``dataset_coco.json``; its "train" and "restval" together are the split *train*."""
        data = cls.__new__(cls)
        data.records = read_karpathy(images, annotations, split, skip_incomplete=skip_incomplete)
        data.transform = transform or to_pixels
        return data

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        return {"image": self.transform(read_image(record.path)), "captions": record.captions,
                "image_id": record.image_id, "index": index % len(self.records)}


def read_karpathy(images: str | Path, annotations: str | Path, split: str = "train", *,
                  skip_incomplete: bool = False) -> list[CaptionRecord]:
    """The images of one split of a Karpathy file. ``images`` holds train2014/ and val2014/, or all images
    together."""
    folder, source = Path(images), Path(annotations)
    if split not in KARPATHY_SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(KARPATHY_SPLITS)}")
    records = []
    for image in karpathy_records(read_lists(source, "images"), source):
        if image["split"] in KARPATHY_SPLITS[split]:
            where = f"{source}, image {shown(image['id'])}"
            nested = inside(folder, str(Path(image["filepath"]) / image["filename"]), where)
            path = nested if is_file(nested) else inside(folder, image["filename"], where)
            spoken = tuple(sentence for sentence in image["sentences"] if sentence)
            records.append(CaptionRecord(image["id"], path, spoken))
    if not records:
        raise ValueError(f"{source} has no image of split {split!r}")
    return _usable(records, folder, source, skip_incomplete)


def read_classes(images: str | Path, annotations: str | Path) -> list[tuple[Path, str]]:
    """Pictures with the name of their class, from annotations whose images have one category each."""
    folder, source = Path(images), Path(annotations)
    content = read_lists(source, "images", "annotations", "categories")
    by_id = image_records(content, source, file_name=file_name)
    categories, where = category_records(content, source), f"{source}, annotations"
    records = checked(content["annotations"], where, {"image_id": identity, "category_id": identity})
    check_known(records, where, "image_id", by_id, "'images'")
    check_known(records, where, "category_id", categories, "'categories'")
    class_of: dict[Id, Id] = {}
    for place, record in enumerate(records):
        if class_of.setdefault(record["image_id"], record["category_id"]) != record["category_id"]:
            raise ValueError(f"{where}, {named(place, record)}: image {shown(record['image_id'])} has a "
                             f"second category; to be classified, a picture has one")
    paths = _paths(by_id, folder, source)
    _require(source, folder, "are missing in", [p.name for p in paths.values() if not is_file(p)], len(paths))
    bare = [paths[i].name for i in paths if i not in class_of]
    _require(source, source, "have no category in", bare, len(paths))
    return [(path, categories[class_of[i]]["name"]) for i, path in paths.items()]


# ---- boxes and masks ---------------------------------------------------------------------------------------

def to_mask(segmentation: Any, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """A COCO segmentation (polygons, run lengths as numbers or as a string) as a boolean mask.

    Raises ``ValueError`` for numbers that make no mask, or one of another size.
    """
    return decode_segmentation(segmentation, (height, width))


class CocoFolder(Dataset):
    """Images with boxes and masks from a COCO instances file.

    An item is a dict: ``image``; ``boxes`` (n, 4) left, top, right, bottom in pixels; ``labels`` (n,) from 0
    to K - 1 (``names[label]``; COCO's own ids have gaps, ``class_of`` and ``category_ids`` lead there and
    back); ``masks`` (n, h, w) bool; ``crowd`` (n,) bool; ``area`` (n,) in pixels; ``image_id``. ``transform``
    is a torchvision v2 transform and gets the whole item, so that boxes and masks move with the image.
    """

    def __init__(self, images: str | Path, annotations: str | Path, transform: Transform | None = None, *,
                 skip_incomplete: bool = False) -> None:
        folder, source = Path(images), Path(annotations)
        content = read_lists(source, "images", "annotations", "categories")
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder; give the folder that holds the images of "
                                    f"{source}")
        by_id = image_records(content, source, file_name=file_name, height=optional(positive),
                              width=optional(positive))
        self.paths = _paths(by_id, folder, source)
        missing = [path.name for path in self.paths.values() if not is_file(path)]
        if not skip_incomplete:
            _require(source, folder, "are missing in", missing, len(by_id))
        self.images: list[Id] = [i for i, path in self.paths.items() if is_file(path)]
        if not self.images:
            raise ValueError(f"none of the {len(by_id)} images of {source} has a file in {folder}; check "
                             f"that images and "
                             "annotations belong together")
        categories = category_records(content, source)
        self.category_ids: list[Id] = list(categories)
        self.names: list[str] = [category["name"] for category in categories.values()]
        self.class_of: dict[Id, int] = {id: label for label, id in enumerate(self.category_ids)}
        self.annotations: dict[Id, list[Record]] = {i: [] for i in by_id}
        where = f"{source}, annotations"
        records = instance_records(content["annotations"], where, bbox=box, segmentation=mask_or_none)
        check_known(records, where, "image_id", by_id, "'images'")
        check_known(records, where, "category_id", categories, "'categories'")
        for place, record in enumerate(records):
            self.annotations[record["image_id"]].append(record)
            self._check_size(record, by_id[record["image_id"]], f"{where}, {named(place, record)}")
        self.source, self.transform = source, transform

    @staticmethod
    def _check_size(record: Record, image: Record, where: str) -> None:
        outline, size = record["segmentation"], [image["height"], image["width"]]
        if isinstance(outline, dict) and None not in size and outline["size"] != size:
            raise ValueError(f"{where}: its run lengths are of a picture of {outline['size']}, its image has "
                             f"[height, width] = {size}; export the file again")

    def _mask(self, record: Record, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        if record["segmentation"] is None:
            return np.zeros((height, width), bool)
        try:
            return to_mask(record["segmentation"], height, width)
        except ValueError as error:
            path = self.paths[record["image_id"]]
            raise ValueError(f"{self.source}: annotation {record.get('id')} has no mask for {path}: {error}; "
                             f"export the file again") from None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_id = self.images[index]
        image = tv_tensors.Image(to_pixels(read_image(self.paths[image_id])))
        height, width = image.shape[-2:]
        own = self.annotations[image_id]
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]                             # left, top, width, height -> corners
        masks = [self._mask(a, height, width) for a in own]
        areas = [float(mask.sum() if a["segmentation"] else a["bbox"][2] * a["bbox"][3])
                 if a["area"] is None else float(a["area"]) for a, mask in zip(own, masks)]
        item: dict[str, Any] = {
            "image": image, "image_id": image_id,
            "boxes": tv_tensors.BoundingBoxes(boxes, format=tv_tensors.BoundingBoxFormat.XYXY,
                                              canvas_size=(height, width)),
            "labels": torch.tensor([self.class_of[a["category_id"]] for a in own], dtype=torch.long),
            "masks": tv_tensors.Mask(torch.from_numpy(np.stack(masks) if masks
                                                      else np.zeros((0, height, width), bool))),
            "crowd": torch.tensor([bool(a["iscrowd"]) for a in own], dtype=torch.bool),
            "area": torch.tensor(areas, dtype=torch.float32),
        }
        return self.transform(item) if self.transform else item
