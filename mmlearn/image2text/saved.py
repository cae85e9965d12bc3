"""A captioner on disk: the model, its words, and its feature extractor.

Survey: 1.2, 1.2.1.  A folder has ``config.json``, ``model.safetensors`` and, where the model reads grid cells
or regions, ``trunk.safetensors`` or ``detector.safetensors``; a captioner of the book is a pair of files.
Nothing else is needed to caption an image, and nothing in it is a pickle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from mmlearn.catalog import kinds
from mmlearn.checkpoints import fill, load_model, load_weights, pair_of, save_model, save_weights
from mmlearn.data.images import Inputs
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.files import package_data
from mmlearn.image2text.captioner import CNNTransformer, build_trunk
from mmlearn.image2text.features import ExtractedInputs, calibrate, grid_extractor, region_extractor
from mmlearn.image2text.m2 import M2Transformer
from mmlearn.image2text.regions import Detector, load_detector, save_detector
from mmlearn.nn.modes import seeded

CHECKPOINTS = package_data("checkpoints")
Captioner = M2Transformer | CNNTransformer
SYSTEMS = kinds("m2", "captioner")
FORMER = "sight"            # what the feature extractor was called in descriptions, which are still read


@dataclass
class FeatureExtractor:
    """How pictures become what a captioner reads: as they are, grid cells of a CNN, regions of a detector, or
    a file.

    ``module`` is the trunk or detector that does it; "stored" features come from elsewhere, so that such a
    model cannot look at an image by itself.
    """

    kind: Literal["pictures", "grid", "regions", "stored"]
    size: int                           # pixels, side that images are squeezed to
    trunk: str = ""                     # name of the CNN, for "grid"
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
             pictures: Inputs | None = None,
             tensors: Mapping[str, torch.Tensor] | None = None) -> "FeatureExtractor":
        """Cells of a CNN (``build_trunk``): with ``weights`` by name, with those of ``tensors``, or with
        random ones drawn from ``seed``.

        Random weights take their batch statistics from ``pictures``; without any, they stay as they are.
        """
        with seeded(seed):
            module = build_trunk(trunk, weights)
        if tensors is not None:
            fill(module, tensors, "the file of weights")
        elif weights is None and pictures is not None:
            calibrate(module, pictures)
        # Rounded to the half precision in which they are saved, so that training and captioning see the same
        # cells.
        module.load_state_dict({k: v.half().to(v.dtype) if v.is_floating_point() else v
                                for k, v in module.state_dict().items()})
        return cls("grid", size, trunk, module=module.eval())

    @classmethod
    def regions(cls, detector: Detector, max_regions: int = 10) -> "FeatureExtractor":
        """Regions of a detector, at the picture size that it was trained for."""
        return cls("regions", detector.config.size, max_regions=max_regions, module=detector)


@dataclass
class SavedCaptioner:
    """What ``load_captioner`` gives back; ``about`` is what was noted at saving (phase, steps, recipe)."""

    system: str
    model: Captioner
    tokeniser: WordTokeniser
    feature_extractor: FeatureExtractor
    about: dict[str, Any]


def save_captioner(path: Path | str, model: Captioner, tokeniser: WordTokeniser,
                   feature_extractor: FeatureExtractor, about: Mapping[str, Any], *,
                   weights_only: bool = False, half: bool = False, detector: str | None = None) -> None:
    """Write a captioner as a folder that can be moved anywhere, or as a pair of files ``NAME.safetensors``
    and ``.json``.

    What it looks through is written beside it, except with ``weights_only`` (it is there already), and a
    detector of the same folder that ``detector`` names. ``half`` stores 16 bits a number.
    """
    weights, _ = pair_of(path)
    system = next(name for name, (_, kind) in SYSTEMS.items() if isinstance(model, kind))
    module = feature_extractor.module
    if not weights_only and feature_extractor.kind == "grid" and module is not None:
        save_weights(module, weights.parent / "trunk.safetensors", half=True)
    elif not weights_only and detector is None and isinstance(module, Detector):
        save_detector(module, weights.parent / "detector.safetensors", {})
    config = asdict(model.config)
    if config.get("weights"):                       # they are in the file: not to be downloaded again
        config["weights"] = None
    described = {f.name: getattr(feature_extractor, f.name) for f in fields(feature_extractor)
                 if f.name != "module"}
    words = {"splitter": tokeniser.splitter, "words": tokeniser.words}
    save_model(path, model, system, {"config": config, "feature_extractor": described, "detector": detector,
                                     **words, "about": dict(about)}, half=half)


def load_captioner(path: Path | str, detector: Detector | None = None) -> SavedCaptioner:
    """Read what ``save_captioner`` wrote, or by name a captioner that comes with the book; in evaluation
    mode.

    Those of the book are "captioner-grid" (reads pictures) and "m2-regions" (reads what the detector finds).
    Regions come from ``detector``, or from the one beside it. Raises ``FileNotFoundError`` or ``ValueError``
    naming the file that is missing or does not fit.
    """
    committed = CHECKPOINTS / f"{path}.safetensors"
    path = committed if isinstance(path, str) and committed.exists() else Path(path)
    remedy = "give the --out folder of `mmlearn train`, or the name of a captioner that comes with the book"
    model, content = load_model(path, SYSTEMS, remedy)
    weights, description = pair_of(path)
    try:
        extractor = FeatureExtractor(**(content.get("feature_extractor") or content[FORMER]))
        tokeniser = WordTokeniser(content["words"], content["splitter"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{description} does not describe a captioner ({type(error).__name__}: {error}); "
                         f"{remedy}") from error
    if extractor.kind == "grid":
        extractor.module = build_trunk(extractor.trunk)
        load_weights(extractor.module, weights.parent / "trunk.safetensors")
        extractor.module.eval()
    elif extractor.kind == "regions":
        extractor.module = detector or load_detector(
            weights.parent / f"{content['detector'] or 'detector'}.safetensors"
        )
    return SavedCaptioner(content["system"], cast(Captioner, model), tokeniser, extractor,
                          content.get("about", content))


def look_at(saved: SavedCaptioner, pictures: Inputs,
            indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the captioner reads of some pictures, on its device."""
    device = next(saved.model.parameters()).device
    values, mask = saved.feature_extractor.inputs(pictures).rows(indices)
    return values.to(device), None if mask is None else mask.to(device)
