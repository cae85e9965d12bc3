"""Reading COCO folders: images with captions, images with boxes and masks, and the Karpathy split.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO*, arXiv:1405.0312; X. Chen et al. (2015), arXiv:1504.00325; A.
Karpathy and L. Fei-Fei (2015), arXiv:1412.2306, for the split that captioning reports.  Survey: 1.1.

Any folder in COCO's format will do: COCO itself, the scenes that ``mmlearn data scenes`` writes, or one's
own. The items look like those of ``SceneDataset``. Nothing outside the given image folder is ever opened.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from pycocotools import mask as run_lengths
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mmlearn.data.images import read_image

Transform = Callable[..., Any]
KARPATHY_SPLITS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CaptionRecord:
    """An image and what people said of it."""

    image_id: int
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

def read_json(path: str | Path, *keys: str) -> dict[str, Any]:
    """A JSON object that has all of ``keys``; one sentence otherwise."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give the path of an annotation file such as "
                                f"captions_val2017.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); download or export it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not the object of a COCO annotation file")
    missing = [key for key in keys if not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(f"{path} has no list {missing[0]!r}; it has {sorted(content)}: is it the right "
                         f"annotation file?")
    return content


def inside(folder: Path, name: str) -> Path:
    """``folder / name``, refused if it lies outside the folder (also by way of a symbolic link)."""
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"file_name {name!r} leaves the image folder {folder}; correct the annotation file")
    return path


def _unique_images(content: dict[str, Any], source: Path) -> dict[int, dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    for image in content["images"]:
        if not {"id", "file_name"} <= image.keys():
            raise ValueError(f"{source}: an image has no 'id' or no 'file_name' but {sorted(image)}")
        if image["id"] in images:
            raise ValueError(f"{source}: image id {image['id']} occurs twice; ids must be unique")
        images[image["id"]] = image
    return images


def _require(folder: Path, problem: str, bad: Sequence[str], total: int) -> None:
    if bad:
        some = ", ".join(str(name) for name in bad[:3]) + (", …" if len(bad) > 3 else "")
        raise ValueError(f"{len(bad)} of {total} images {problem} {folder} ({some}); complete them, or leave "
                         f"such images "
                         "out with skip_incomplete=True")


def _usable(records: list[CaptionRecord], folder: Path, source: Path,
            skip_incomplete: bool) -> list[CaptionRecord]:
    """Records with file and captions; raises if some have not and are not to be skipped."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the folder that holds the images of {source}")
    here = {r.image_id for r in records if r.path.is_file()}
    if not skip_incomplete:
        total = len(records)
        _require(folder, "are missing in", [r.path.name for r in records if r.image_id not in here], total)
        _require(source, "have no caption in", [r.path.name for r in records if not r.captions], total)
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
        content = read_json(source, "images", "annotations")
        by_id = _unique_images(content, source)
        spoken: dict[int, list[str]] = {}
        for annotation in content["annotations"]:
            if not {"image_id", "caption"} <= annotation.keys():
                raise ValueError(f"{source}: annotation {annotation.get('id')} has no 'image_id' or no "
                                 f"'caption'; take "
                                 "the captions file, not the instances file")
            if annotation["image_id"] not in by_id:
                raise ValueError(f"{source}: caption {annotation.get('id')} belongs to image "
                                 f"{annotation['image_id']}, "
                                 "which is not in the list of images")
            if annotation["caption"].strip():
                spoken.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
        records = [CaptionRecord(i, inside(folder, image["file_name"]), tuple(spoken.get(i, ())))
                   for i, image in by_id.items()]
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
    for image in read_json(source, "images")["images"]:
        if not {"filename", "split", "sentences"} <= image.keys():
            raise ValueError(f"{source}: an image has not the keys 'filename', 'split' and 'sentences' of a "
                             f"Karpathy "
                             f"file but {sorted(image)}")
        if image["split"] in KARPATHY_SPLITS[split]:
            nested = inside(folder, str(Path(image.get("filepath", "")) / image["filename"]))
            path = nested if nested.is_file() else inside(folder, image["filename"])
            said = tuple(s["raw"].strip() for s in image["sentences"] if s["raw"].strip())
            records.append(CaptionRecord(int(image.get("cocoid", image.get("imgid"))), path, said))
    if not records:
        raise ValueError(f"{source} has no image of split {split!r}")
    return _usable(records, folder, source, skip_incomplete)


# ---- boxes and masks ---------------------------------------------------------------------------------------

def to_mask(segmentation: Any, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """A COCO segmentation (polygons, run lengths as numbers or as a string) as a boolean mask."""
    if isinstance(segmentation, list):
        runs = run_lengths.merge(run_lengths.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = run_lengths.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    return run_lengths.decode(runs).astype(bool)


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
        content = read_json(source, "images", "annotations", "categories")
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder; give the folder that holds the images of "
                                    f"{source}")
        by_id = _unique_images(content, source)
        self.paths = {i: inside(folder, image["file_name"]) for i, image in by_id.items()}
        missing = [path.name for path in self.paths.values() if not path.is_file()]
        if not skip_incomplete:
            _require(folder, "are missing in", missing, len(by_id))
        self.images: list[int] = [i for i, path in self.paths.items() if path.is_file()]
        if not self.images:
            raise ValueError(f"none of the {len(by_id)} images of {source} has a file in {folder}; check "
                             f"that images and "
                             "annotations belong together")
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.category_ids: list[int] = [category["id"] for category in categories]
        self.names: list[str] = [category["name"] for category in categories]
        self.class_of: dict[int, int] = {id: label for label, id in enumerate(self.category_ids)}
        self.annotations: dict[int, list[dict[str, Any]]] = {i: [] for i in by_id}
        for annotation in content["annotations"]:
            if not {"image_id", "category_id", "bbox"} <= annotation.keys():
                raise ValueError(f"{source}: annotation {annotation.get('id')} has no 'image_id', "
                                 f"'category_id' or "
                                 "'bbox'; take the instances file, not the captions file")
            if annotation["image_id"] not in by_id or annotation["category_id"] not in self.class_of:
                raise ValueError(f"{source}: annotation {annotation.get('id')} names image "
                                 f"{annotation['image_id']} and "
                                 f"category {annotation['category_id']}, and one of them is not in its list")
            self.annotations[annotation["image_id"]].append(annotation)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_id = self.images[index]
        image = tv_tensors.Image(to_pixels(read_image(self.paths[image_id])))
        height, width = image.shape[-2:]
        own = self.annotations[image_id]
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]                             # left, top, width, height -> corners
        masks = [to_mask(a["segmentation"], height, width) if a.get("segmentation")
                 else np.zeros((height, width), bool)
                 for a in own]
        item: dict[str, Any] = {
            "image": image, "image_id": image_id,
            "boxes": tv_tensors.BoundingBoxes(boxes, format=tv_tensors.BoundingBoxFormat.XYXY,
                                              canvas_size=(height, width)),
            "labels": torch.tensor([self.class_of[a["category_id"]] for a in own], dtype=torch.long),
            "masks": tv_tensors.Mask(torch.from_numpy(np.stack(masks) if masks
                                                      else np.zeros((0, height, width), bool))),
            "crowd": torch.tensor([bool(a.get("iscrowd", 0)) for a in own], dtype=torch.bool),
            "area": torch.tensor([float(a.get("area", a["bbox"][2] * a["bbox"][3])) for a in own]),
        }
        return self.transform(item) if self.transform else item
