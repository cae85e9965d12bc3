"""A dual encoder ready for use: its model, its tokeniser, and how its pictures are prepared.

Survey: 4.2.2.  The files of a checkpoint say how pictures and texts were prepared in training (Hugging Face's
or OpenCLIP's); a public name, a folder, a file and the book's own miniatures are opened alike.
"""

from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import nn

from mmlearn.checkpoints import is_saved
from mmlearn.data.clip_tokeniser import CLIPTokeniser
from mmlearn.data.images import MEAN, STD, ImageRecipe
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.files import read_json
from mmlearn.nn.configuration import shown
from mmlearn.pretrained import READERS, bert, load, reader
from mmlearn.pretrained.files import part_of
from mmlearn.text_for_vision.clip import CLIP
from mmlearn.text_for_vision.training import load_mini

MINIATURES = {"clip-mini": "vit", "clip-mini-resnet": "resnet"}  # the book's own, by the name of their file
# where a folder says how pictures are prepared
RECIPES = ("preprocessor_config.json", "open_clip_config.json")


# --------------------------------------------------------------------------------- what a checkpoint asks for

def recipe_for(folder: str | Path | None, size: int) -> ImageRecipe:
    """The recipe that a checkpoint's folder describes (Hugging Face's or OpenCLIP's), else CLIP's at ``size``
    pixels.

    Raises ``ValueError`` if the folder's picture size is not the model's ``size``, or its recipe is not one
    of these.
    """
    folder = Path(folder) if folder is not None and Path(folder).is_dir() else None
    if folder is None:
        return ImageRecipe(size)
    found = ImageRecipe(size)
    if (folder / RECIPES[0]).is_file():
        found = _hugging_face(read_json(folder / RECIPES[0]), size, folder)
    elif (folder / RECIPES[1]).is_file():
        where = f"{folder / RECIPES[1]}"
        cfg = part_of(read_json(folder / RECIPES[1]), "preprocess_cfg", where)
        mode, filter_name = cfg.get("resize_mode", "shortest"), cfg.get("interpolation", "bicubic")
        if mode not in ("shortest", "squash"):
            raise ValueError(f"{where} resizes by {shown(mode)}; 'shortest' and 'squash' are known")
        if str(filter_name).upper() not in Image.Resampling.__members__:
            raise ValueError(f"{where} interpolates by {shown(filter_name)}; use one of "
                             f"{', '.join(Image.Resampling.__members__).lower()}")
        found = ImageRecipe(size, (size, size) if mode == "squash" else None, *colours(cfg, "", where),
                            Image.Resampling[str(filter_name).upper()])
    if found.size != size:
        raise ValueError(f"{folder} prepares pictures of {found.size} pixels, its model reads {size}; the "
                         f"files do not "
                         "belong together")
    return found


def _hugging_face(found: dict[str, Any], size: int, folder: Path) -> ImageRecipe:
    """A recipe from ``preprocessor_config.json``: its rescaling and its standardisation become one mean and
    deviation."""
    where = f"{folder / RECIPES[0]}"

    def side(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_536:
            raise ValueError(f"{where}: {name} is {shown(value)}, expected pixels, from 1 to 65,536; "
                             f"download it again")
        return value

    def shape(name: str) -> int | tuple[int, int]:
        value = found.get(name, size)
        value = value.get("shortest_edge", value) if isinstance(value, dict) else value
        if isinstance(value, dict):
            height, width = (side(value.get(of), f"{of} of {name}") for of in ("height", "width"))
            return height, width
        return side(value, name)

    resize = shape("size") if found.get("do_resize", True) else None
    crop = shape("crop_size") if found.get("do_center_crop", True) else resize
    if crop is None or (isinstance(crop, tuple) and crop[0] != crop[1]):
        raise ValueError(f"{folder}/preprocessor_config.json does not end in a square of fixed size; give "
                         f"square crops")
    mean, std = (colours(found, "image_", where) if found.get("do_normalize", True)
                 else ((0.0,) * 3, (1.0,) * 3))
    factor = found.get("rescale_factor", 1 / 255)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1e-9 < factor < 1e9:
        raise ValueError(f"{where}: rescale_factor is {shown(factor)}, expected a number above 0; download "
                         "it "
                         f"again")
    factor *= 255
    resample = found.get("resample", int(Image.Resampling.BICUBIC))
    if isinstance(resample, bool) or resample not in list(Image.Resampling):
        raise ValueError(f"{where}: resample is {shown(resample)}, expected the number of one of Pillow's "
                         "filters, "
                         f"0 to 5; download it again")
    offset = 1.0 if found.get("rescale_offset") else 0.0  # EfficientNet: pixels in [-1, 1]
    if found.get("include_top") and "EfficientNet" in str(found.get("image_processor_type", "")):
        raise ValueError(f"{folder}/preprocessor_config.json sets include_top, which is for classifiers, not "
                         f"for ALIGN")
    return ImageRecipe(crop if isinstance(crop, int) else crop[0], resize,
                       tuple((offset + m) / factor for m in mean), tuple(s / factor for s in std),
                       int(resample))


def colours(found: dict[str, Any], prefix: str, where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the three colours. Raises ``ValueError`` for anything but numbers that
    can be so."""
    out = []
    for name, default, least in (("mean", MEAN, -1e6), ("std", STD, 1e-6)):
        values = found.get(prefix + name, default)
        if not isinstance(values, list | tuple) or len(values) != 3 or not all(
                isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= 1e6 for v in values):
            raise ValueError(f"{where}: {prefix}{name} is {shown(values)}, expected three numbers"
                             f"{' above 0' if name == 'std' else ''}; download it again")
        out.append(tuple(float(v) for v in values))
    return out[0], out[1]


def tokeniser_for(source: str | Path | nn.Module) -> Tokeniser:
    """The tokeniser of a checkpoint's folder, of a public name, or of a model with CLIP's vocabulary.

    A folder of BERT's family (``model_type`` "align", a ``vocab.txt``) gives word pieces; everything else
    CLIP's byte pairs, from the folder's own files or, where it has none, from the installed copy (all CLIP
    models share one list). Raises ``FileNotFoundError`` if there are no files, ``ValueError`` for a model
    with another vocabulary.
    """
    if isinstance(source, nn.Module):
        vocab = getattr(getattr(source, "config", None), "vocab", None)
        if vocab != len(tokeniser := CLIPTokeniser.find()):
            raise ValueError(f"the model has {vocab} tokens, CLIP's tokeniser {len(tokeniser)}; give the "
                             f"folder that holds "
                             "the model's own tokeniser")
        return tokeniser
    folder = Path(source)
    if not folder.is_dir():
        return CLIPTokeniser.find(folder.parent if folder.is_file() else None)
    kind = read_json(folder / "config.json").get("model_type") if (folder / "config.json").is_file() else None
    if kind == "align" or (folder / "vocab.txt").is_file():
        return bert.tokeniser_of(folder)
    return CLIPTokeniser.find(folder)


class Ready(NamedTuple):
    """A dual encoder and what stands before its towers."""

    model: nn.Module
    tokeniser: Tokeniser
    recipe: ImageRecipe


def open_model(source: str | Path, **options: Any) -> Ready:
    """Model, tokeniser and image recipe of a public name, a checkpoint's folder or file, or the book's
    "clip-mini".

    ``options`` go to the reader of the checkpoint. Raises ``FileNotFoundError`` or ``ValueError`` with the
    remedy.
    """
    path = Path(source)
    if str(source) in MINIATURES or is_saved(path):
        mini = load_mini(MINIATURES.get(str(source), source))
        return Ready(mini.model, mini.tokeniser, ImageRecipe(mini.model.config.size))
    where: str | Path = source
    if str(source) in READERS and hasattr(reader(str(source)), "fetch"):
        where = reader(str(source)).fetch(str(source))                  # a folder, downloaded once
    model = load(where, **options)
    if not all(hasattr(model, name) for name in ("encode_image", "encode_text", "logit_scale")):
        raise ValueError(f"{source} is a {type(model).__name__}, not a dual encoder of images and text; give "
                         f"CLIP or ALIGN")
    if not isinstance(model, CLIP) and not any((Path(where) / name).is_file() for name in RECIPES):
        raise FileNotFoundError(f"{source} does not say how its pictures are prepared, and "
                                f"{type(model).__name__} has no rule of "
                                f"its own; put its {RECIPES[0]} into the folder of its weights and give that "
                                f"folder")
    config: Any = model.config
    tokeniser = tokeniser_for(where)
    if len(tokeniser) > config.vocab:
        raise ValueError(f"{source} has a tokeniser of {len(tokeniser)} tokens and a model of "
                         f"{config.vocab}; the "
                         f"files do not belong together")
    return Ready(model, tokeniser, recipe_for(where, config.size))
