"""A captioner on disk: one folder that holds the model, its words, and its way of looking at images.

Survey: 1.2, 1.2.1.  The folder has ``config.json``, ``tokeniser.json``, ``model.safetensors`` and, where the model
reads grid cells or regions, ``trunk.safetensors`` or ``detector.safetensors``: nothing else is needed to caption an
image, and nothing in it is a pickle.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from mmlearn.checkpoints import portable
from mmlearn.data.images import Inputs
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.files import write_atomically
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
from mmlearn.image2text.features import ExtractedInputs, calibrate, grid_extractor, region_extractor
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.image2text.regions import CHECKPOINT, Detector, load_detector, save_detector
from mmlearn.nn.vision import TorchvisionTrunk

CHECKPOINTS = CHECKPOINT.parent
Captioner = M2Transformer | CNNTransformer
SYSTEMS: dict[str, tuple[type, type]] = {"m2": (M2Config, M2Transformer), "captioner": (CaptionerConfig, CNNTransformer)}


@dataclass
class Sight:
    """How pictures become what a captioner reads: as they are, grid cells of a CNN, regions of a detector, or a file.

    ``module`` is the trunk or detector that does it; "stored" features come from elsewhere, so that such a model
    cannot look at an image by itself.
    """

    kind: Literal["pictures", "grid", "regions", "stored"]
    size: int                           # pixels, side that images are squeezed to
    trunk: str = ""                     # torchvision's name of the CNN, for "grid"
    max_regions: int = 10               # for "regions"
    module: nn.Module | None = None

    def inputs(self, pictures: Inputs) -> Inputs:
        """What the captioner reads of ``pictures``. Raises ``ValueError`` if it cannot look by itself."""
        if self.kind == "pictures":
            return pictures
        if self.kind == "grid" and self.module is not None:
            return ExtractedInputs(pictures, grid_extractor(self.module))
        if self.kind == "regions" and isinstance(self.module, Detector):
            return ExtractedInputs(pictures, region_extractor(self.module, self.max_regions))
        raise ValueError("this model was trained on features from a file and has no eyes of its own; "
                         "train with --features grid or regions to caption images")

    @classmethod
    def grid(cls, trunk: str = "resnet101", weights: str | None = None, size: int = 224, seed: int = 0,
             pictures: Inputs | None = None) -> "Sight":
        """Cells of a torchvision CNN: with ``weights`` by name (downloaded), or random ones drawn from ``seed``.

        Random weights take their batch statistics from ``pictures``; without any, they stay as they are.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = TorchvisionTrunk(trunk, weights)
        if weights is None and pictures is not None:
            calibrate(module, pictures)
        # Rounded to the half precision in which they are saved, so that training and captioning see the same cells.
        module.load_state_dict({k: v.half().to(v.dtype) if v.is_floating_point() else v
                                for k, v in module.state_dict().items()})
        return cls("grid", size, trunk, module=module.eval())

    @classmethod
    def regions(cls, detector: Detector, max_regions: int = 10) -> "Sight":
        """Regions of a detector, at the picture size that it was trained for."""
        return cls("regions", detector.config.size, max_regions=max_regions, module=detector)


@dataclass
class SavedCaptioner:
    """What ``load_captioner`` gives back; ``about`` is what was noted at saving (phase, steps, recipe)."""

    system: str
    model: Captioner
    tokeniser: WordTokeniser
    sight: Sight
    about: dict[str, Any]


def write_weights(path: Path, model: nn.Module, half: bool = False) -> None:
    """A model's weights as .safetensors, in one step; ``half`` rounds them to 16 bits."""
    state = {k: v.half() if half and v.is_floating_point() else v for k, v in model.state_dict().items()}
    write_atomically(path, save(portable(state)))


def read_weights(path: Path, model: nn.Module) -> None:
    """Fill a model, every name and shape matched. Raises ``ValueError`` naming the file if it does not fit."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; the checkpoint folder is not complete, train or copy it again")
    try:
        weights = load(path.read_bytes())
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); copy it again") from error
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model of config.json: {' '.join(str(error).split())[:300]}") from error


def save_captioner(folder: Path | str, model: Captioner, tokeniser: WordTokeniser, sight: Sight,
                   about: Mapping[str, Any], *, weights_only: bool = False) -> None:
    """Write a captioner as a folder that can be moved anywhere; ``weights_only`` if words and sight are there already."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    system = next(name for name, (_, kind) in SYSTEMS.items() if isinstance(model, kind))
    if not weights_only:
        tokeniser.save(folder / "tokeniser.json")
        if sight.kind == "grid" and sight.module is not None:
            write_weights(folder / "trunk.safetensors", sight.module, half=True)
        elif isinstance(sight.module, Detector):
            save_detector(sight.module, folder / "detector.safetensors", {})
    write_weights(folder / "model.safetensors", model)
    seeing = {f.name: getattr(sight, f.name) for f in fields(sight) if f.name != "module"}
    content = {"system": system, "config": asdict(model.config), "sight": seeing, "about": dict(about)}
    write_atomically(folder / "config.json", json.dumps(content, indent=1) + "\n")


def save_miniature(path: Path, saved: SavedCaptioner, detector: str = "detector") -> None:
    """Write a captioner that comes with the book: weights in half precision, all the rest in the .json beside them.

    A detector is not written again: ``detector`` names the one in the same folder.
    """
    seeing = {f.name: getattr(saved.sight, f.name) for f in fields(saved.sight) if f.name != "module"}
    content = {**saved.about, "system": saved.system, "config": asdict(saved.model.config), "sight": seeing,
               "detector": detector if saved.sight.kind == "regions" else None,
               "splitter": saved.tokeniser.splitter, "words": saved.tokeniser.words}
    write_weights(path, saved.model, half=True)
    write_atomically(path.with_suffix(".json"), json.dumps(content, indent=1) + "\n")


def load_miniature(path: Path, detector: Detector | None = None) -> SavedCaptioner:
    """Read what ``save_miniature`` wrote; the model is in evaluation mode, ``about`` is its recipe and metrics.

    It looks through ``detector``, or through the one in the same folder.
    """
    about = path.with_suffix(".json")
    if not path.exists() or not about.exists():
        there = sorted(p.stem for p in path.parent.glob("*.json") if "words" in json.loads(p.read_text(encoding="utf-8")))
        raise FileNotFoundError(f"no captioner at {path} with a .json beside it; there are {', '.join(there) or 'none'}")
    try:
        content = json.loads(about.read_text(encoding="utf-8"))
        config_kind, kind = SYSTEMS[content["system"]]
        model = kind(config_kind(**content["config"]))
        sight = Sight(**content["sight"])
        tokeniser = WordTokeniser(content["words"], content["splitter"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{about} does not describe a captioner ({error})") from error
    read_weights(path, model)
    if content["detector"]:
        sight.module = detector or load_detector(path.with_name(f"{content['detector']}.safetensors"))
    return SavedCaptioner(content["system"], model.eval(), tokeniser, sight, content)


def load_captioner(folder: Path | str) -> SavedCaptioner:
    """Read what ``save_captioner`` wrote, or by name a captioner that comes with the book; in evaluation mode.

    Those of the book are "captioner-grid" (reads pictures) and "m2-regions" (reads what the detector finds).
    Raises ``FileNotFoundError`` or ``ValueError`` naming the file that is missing or does not fit.
    """
    if isinstance(folder, str) and (CHECKPOINTS / f"{folder}.safetensors").exists():
        return load_miniature(CHECKPOINTS / f"{folder}.safetensors")
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} holds no captioner (no config.json); give the --out folder of `mmlearn train`")
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config_kind, kind = SYSTEMS[content["system"]]
        config = config_kind(**content["config"])
        sight = Sight(**content["sight"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not a captioner's configuration ({error})") from error
    if isinstance(config, CaptionerConfig) and config.weights:      # they are in the file, do not download them again
        config = CaptionerConfig(**{**content["config"], "weights": None})
    model = kind(config)
    read_weights(folder / "model.safetensors", model)
    if sight.kind == "grid":
        sight.module = TorchvisionTrunk(sight.trunk)
        read_weights(folder / "trunk.safetensors", sight.module)
        sight.module.eval()
    elif sight.kind == "regions":
        sight.module = load_detector(folder / "detector.safetensors")
    return SavedCaptioner(content["system"], model.eval(), WordTokeniser.load(folder / "tokeniser.json"), sight,
                          content["about"])


def look_at(saved: SavedCaptioner, pictures: Inputs, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the captioner reads of some pictures, on its device."""
    device = next(saved.model.parameters()).device
    values, mask = saved.sight.inputs(pictures).rows(indices)
    return values.to(device), None if mask is None else mask.to(device)
