"""Drawing styles: distribution shifts that change the pixels of a picture and leave its masks alone.

Survey: 2.2 and 3 (robustness to distribution shift).  The shifts stand for the sketches, renditions and
corruptions of the ImageNet variants (D. Hendrycks et al. (2021), *The Many Faces of Robustness*).
"""

import numpy as np
from jaxtyping import Bool, UInt8

from mmlearn.data.scenes.graph import Scene

STYLES = ("normal", "sketch", "inverted", "flat", "night", "pixelated", "cluttered", "blurred", "grey",
          "noisy")
_GREY = np.array((0.299, 0.587, 0.114), np.float32)

Image = UInt8[np.ndarray, "size size 3"]
Masks = Bool[np.ndarray, "n size size"]


def restyle(image: Image, masks: Masks, style: str, scene: Scene) -> Image:
    """The picture in another style. "normal" and "flat" are drawn as such (``render``), and pass
    unchanged."""
    if style in ("normal", "flat"):
        return image
    if style == "inverted":
        return 255 - image
    if style == "cluttered":
        return clutter(image, masks, scene)
    pixels = image.astype(np.float32)
    if style == "sketch":
        pixels = sketch(pixels)
    elif style == "night":
        pixels = darken(pixels)
    elif style == "pixelated":
        return pixelate(image)
    elif style == "blurred":
        pixels = blur(pixels, image.shape[0] / 40)
    elif style == "noisy":
        pixels = pixels + 28 * _noise(scene, image.shape[0])[:, :, None]
    else:
        pixels = np.repeat(pixels @ _GREY[:, None], 3, axis=2)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def blur(pixels: np.ndarray, sigma: float | int) -> np.ndarray:
    """Gaussian blur along the first two axes, edges repeated."""
    reach = max(1, round(2.5 * sigma))
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        pad = [(0, 0)] * pixels.ndim
        pad[axis] = (reach, reach)
        padded, length = np.pad(pixels, pad, mode="edge"), pixels.shape[axis]
        pixels = sum(w * np.take(padded, range(i, i + length), axis) for i, w in enumerate(weights))
    return pixels.astype(np.float32)


def sketch(pixels: np.ndarray) -> np.ndarray:
    """A pencil drawing: dark where a pixel is darker than its neighbourhood (dodge by the blurred
    picture)."""
    grey = pixels @ _GREY
    size = grey.shape[0]
    ratio = (grey + 8) / (blur(grey, max(1.0, size / 50)) + 8)
    rows, columns = np.pad(grey, ((1, 0), (0, 0)), mode="edge"), np.pad(grey, ((0, 0), (1, 0)), mode="edge")
    edge = np.hypot(np.diff(rows, axis=0), np.diff(columns, axis=1)) * (size / 64) ** 0.5
    line = np.clip(1.35 * ratio - 0.32, 0, 1) * np.clip(1.1 - edge / 110, 0.25, 1)
    paper, pencil = np.array((250, 246, 236), np.float32), np.array((52, 50, 62), np.float32)
    return pencil + np.clip(line, 0, 1)[:, :, None] * (paper - pencil)


def darken(pixels: np.ndarray) -> np.ndarray:
    """The same place by moonlight: dark, bluish, little colour."""
    grey = (pixels @ _GREY)[:, :, None]
    dim = (0.45 * pixels + 0.55 * grey) * np.array((0.34, 0.42, 0.62), np.float32)
    return dim + np.array((6, 8, 22), np.float32)


def pixelate(image: Image) -> Image:
    """Blocks, about 21 to a side, that keep their average colour."""
    size = image.shape[0]
    step = max(2, round(size / 21))
    edges = np.arange(0, size, step)
    pixels = np.add.reduceat(np.add.reduceat(image.astype(np.float32), edges, 0), edges, 1)
    counts = np.diff(np.append(edges, size)).astype(np.float32)
    pixels /= counts[:, None, None] * counts[None, :, None]
    which = np.arange(size) // step
    return (pixels + 0.5).astype(np.uint8)[which][:, which]


def clutter(image: Image, masks: Masks, scene: Scene) -> Image:
    """Meaningless coloured shapes over the background; no object is covered."""
    size = image.shape[0]
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    pixels = image.astype(np.float32)
    for i in range(26):
        bits = _bits(scene, i, 8)
        cx, cy, r = bits[0], bits[1], 0.025 + 0.05 * bits[2]
        angle, stretch = 3.1416 * bits[3], 0.4 + 0.6 * bits[4]
        u = (columns - cx) * np.cos(angle) + (rows - cy) * np.sin(angle)
        v = ((rows - cy) * np.cos(angle) - (columns - cx) * np.sin(angle)) / stretch
        shape = np.maximum(np.abs(u), np.abs(v)) - r if i % 3 == 0 else (
            np.hypot(u, v) - r if i % 3 == 1 else np.maximum(np.abs(u) + 0.6 * v, -v) - 0.8 * r)
        cover = np.clip(0.5 - shape * size, 0, 1)[:, :, None]
        pixels += cover * (255 * np.array(bits[5:8], np.float32) - pixels)
    free = np.logical_not(np.any(masks, axis=0))[:, :, None]
    return np.where(free, np.clip(pixels + 0.5, 0, 255).astype(np.uint8), image)


def _bits(scene: Scene, slot: int, count: int) -> list[float]:
    """``count`` numbers in [0, 1) that belong to the scene and the slot."""
    state = np.random.Philox(key=abs(scene.seed) % (1 << 62),
                             counter=[scene.index, slot, len(scene.split), 0])
    return ((state.random_raw(count) >> np.uint64(40)) / (1 << 24)).tolist()


def _noise(scene: Scene, size: int) -> np.ndarray:
    """Noise of variance about one: the sum of four uniform bytes, so the same everywhere."""
    state = np.random.Philox(key=abs(scene.seed) % (1 << 62), counter=[scene.index, 0, len(scene.split), 1])
    quarters = state.random_raw(size * size // 2 + 1).view(np.uint8)[: size * size * 4].reshape(size, size, 4)
    return ((quarters.sum(-1) - 510.0) / 147.0).astype(np.float32)
