"""What a captioner reads of an image: pictures, cells of a convolutional grid, or regions stored in a file.

Paper: K. Xu et al. (2015), *Show, Attend and Tell*, arXiv:1502.03044, sec. 3.1.1 (grid features); P. Anderson
et al. (2018), *Bottom-Up and Top-Down Attention*, arXiv:1707.07998, sec. 3.1 (stored regions).  Survey: 1.2,
1.2.1. Differs from the paper: grids and regions are computed when they are needed and kept in memory as far
as they fit.

Every source has the same two methods, so that training does not ask where the numbers come from:
``len(source)`` images, and ``source.rows(indices)`` -> (values, mask), the mask True where a region is real,
None where all are.
"""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmlearn.data.images import CACHE, Inputs
from mmlearn.image2text.regions import Detector, region_features
from mmlearn.nn.lite0 import Lite0Trunk

Extractor = Callable[[Tensor], tuple[Tensor, Tensor | None]]  # pictures (b, 3, s, s) -> features and mask


def grid_extractor(trunk: nn.Module) -> Extractor:
    """The cells of a convolutional trunk, frozen, as features (b, p, f)."""
    trunk.eval().requires_grad_(False)
    return lambda pictures: (trunk(pictures.to(next(trunk.parameters()).device)), None)


@torch.no_grad()
def calibrate(trunk: nn.Module, pictures: Inputs, count: int = 64) -> None:
    """Give a trunk of random weights the batch statistics of ``count`` pictures.

    Without them a deep residual network in evaluation mode doubles its activations from block to block, to
    infinity.
    """
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None                            # a plain mean over the batches
    trunk.train()
    places = range(min(count, len(pictures)))
    for start in range(0, len(places), 16):
        trunk(pictures.rows(places[start:start + 16])[0])
    trunk.eval()
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def efficientnet_lite0_features(images: Tensor) -> Tensor:
    """Cells of a network trained on ImageNet: images (b, 3, s, s) in [0, 1] -> (b, p, 320), p = 49 at 224
    pixels.

    Raises ``FileNotFoundError`` if the package with the weights is not installed.
    """
    return _lite0()(images)


@lru_cache(maxsize=1)
def _lite0() -> Lite0Trunk:
    return Lite0Trunk()


def region_extractor(detector: Detector, max_regions: int = 10) -> Extractor:
    """What a detector sees, as features (b, p, f) and their mask."""
    def extract(pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        regions = region_features(detector, pictures, max_regions=max_regions)
        return regions.features, regions.mask

    return extract


class ExtractedInputs:
    """Features of another source's pictures, computed when asked for and kept in half precision while memory
    allows.

    ``batch`` pictures are computed at a time on a GPU, one elsewhere: the last digits of a convolution change
    with the number of pictures, and a run that is resumed asks for other pictures together than one that was
    not stopped.
    """

    def __init__(self, pictures: Inputs, extract: Extractor, batch: int = 32):
        self.pictures, self.extract, self.batch = pictures, extract, batch if torch.cuda.is_available() else 1
        self._kept: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._used = 0

    def __len__(self) -> int:
        return len(self.pictures)

    @torch.no_grad()
    def rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        indices = [int(i) for i in indices]
        new = sorted({i for i in indices if i not in self._kept})
        fresh: dict[int, tuple[Tensor, Tensor | None]] = {}
        for start in range(0, len(new), self.batch):
            chunk = new[start:start + self.batch]
            values, mask = self.extract(self.pictures.rows(chunk)[0])
            for place, i in enumerate(chunk):  # clones, not views that would keep the whole chunk alive
                fresh[i] = (
                    values[place].half().cpu().clone(),
                    None if mask is None else mask[place].cpu().clone(),
                )
        for i, (values, mask) in fresh.items():
            if self._used + values.nbytes <= CACHE:
                self._kept[i] = values, mask
                self._used += values.nbytes
        rows = [fresh[i] if i in fresh else self._kept[i] for i in indices]
        masks = [mask for _, mask in rows if mask is not None]
        return torch.stack([values for values, _ in rows]).float(), torch.stack(masks) if masks else None


class StoredFeatures:
    """Regions computed elsewhere, in one file with a two-dimensional array ``<image id>_features`` an image.

    Reads .safetensors, .npz, and .hdf5 (the layout of M2's ``coco_detections.hdf5``; needs the package h5py).
    Gives the first ``max_regions`` rows, padded with zeros. Raises ``ValueError`` naming file and array if an
    id is missing, or an array has another width than the first or holds what is not a finite number.
    """

    def __init__(self, path: Path | str, ids: Sequence[int | str], max_regions: int = 50):
        self.path, self.ids, self.max_regions = Path(path), tuple(ids), max_regions
        if not self.path.exists():
            raise FileNotFoundError(f"there is no feature file {self.path}; check --features")
        self._file = self._open()
        present = set(self._file.keys())
        missing = [i for i in self.ids if f"{i}_features" not in present]
        if missing:
            raise ValueError(f"{self.path} has no array '{missing[0]}_features' ({len(missing)} of "
                             f"{len(self.ids)} "
                             "images are missing); extract the features of every annotated image")
        if not self.ids:
            raise ValueError(f"no image is asked for of {self.path}; give at least one")
        self.width = 0
        self.width = int(self._one(0).shape[1])
        if self.path.suffix != ".npz":                  # whose arrays have to be read to be measured
            for i in range(len(self.ids)):
                self._check(i, self._shape(i))

    def _open(self) -> Any:
        if self.path.suffix == ".safetensors":
            try:
                return safe_open(self.path, "np")
            except SafetensorError as error:
                raise ValueError(f"{self.path} is not a whole safetensors file ({error})") from error
        if self.path.suffix == ".npz":
            try:
                return np.load(self.path, allow_pickle=False)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{self.path} is not a whole .npz file ({error})") from error
        if self.path.suffix in (".hdf5", ".h5"):
            try:
                import h5py
            except ImportError:
                raise ValueError(f"{self.path} is an HDF5 file; install h5py to read it, or convert it to "
                                 ".safetensors") from None
            try:
                return h5py.File(self.path, "r")
            except OSError as error:
                raise ValueError(f"{self.path} is not a whole HDF5 file ({error})") from error
        raise ValueError(f"{self.path} has the ending {self.path.suffix!r}; known are .safetensors, .npz and "
                         f".hdf5")

    def _key(self, i: int) -> str:
        return f"{self.ids[i]}_features"

    def _shape(self, i: int) -> tuple[int, ...]:
        """Shape of an array that is not read for it."""
        if self.path.suffix == ".safetensors":
            return tuple(self._file.get_slice(self._key(i)).get_shape())
        return tuple(getattr(self._file[self._key(i)], "shape", ()))

    def _check(self, i: int, shape: tuple[int, ...]) -> None:
        if len(shape) != 2 or 0 in shape or (self.width and shape[1] != self.width):
            wanted = f"(regions, {self.width})" if self.width else "(regions, features)"
            raise ValueError(f"{self._key(i)} in {self.path} has shape {shape}; expected {wanted}, as in the "
                             f"other arrays")

    def _one(self, i: int) -> np.ndarray:
        key = self._key(i)
        try:
            array = (self._file.get_tensor(key) if self.path.suffix == ".safetensors"
                     else np.asarray(self._file[key]))
        except (SafetensorError, OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile,
                zlib.error) as error:
            raise ValueError(f"{key} in {self.path} cannot be read ({error}); extract the features "
                             f"again") from error
        self._check(i, array.shape)
        array = array[: self.max_regions]
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ValueError(f"{key} in {self.path} holds what is no finite number; extract the features "
                             f"again")
        return array

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        values = torch.zeros(len(indices), self.max_regions, self.width)
        mask = torch.zeros(len(indices), self.max_regions, dtype=torch.bool)
        for row, i in enumerate(indices):
            regions = torch.from_numpy(np.array(self._one(int(i)), dtype=np.float32))
            values[row, : len(regions)] = regions
            mask[row, : len(regions)] = True
        return values, mask
