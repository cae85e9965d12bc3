"""Pictures of the scene world for pages and notebooks: matplotlib figures of everything that it can show.

Survey: 1.1.  Each function returns a ``matplotlib.figure.Figure``; nothing is shown or saved.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib import colormaps
from matplotlib.figure import Figure

from mmlearn.data.scenes.categories import CATEGORIES, CATEGORY
from mmlearn.data.scenes.graph import KINDS, SETTINGS, Scene
from mmlearn.data.scenes.render import Picture, render
from mmlearn.data.scenes.sample import portrait, sample_scene
from mmlearn.data.scenes.shifts import STYLES

Image = UInt8[np.ndarray, "size size 3"]


def grid(images: Sequence[Image], titles: Sequence[str] = (), columns: int = 6,
         inches: float = 1.3) -> Figure:
    """Images in rows of ``columns``, each with its title above."""
    if not images:
        raise ValueError("no images to lay out; give at least one")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * inches, rows * (inches + (0.22 if titles else 0.04))),
                    layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, axis in enumerate(axes):
        axis.set_axis_off()
        if i < len(images):
            axis.imshow(images[i], interpolation="nearest" if images[i].shape[0] < 100 else "antialiased")
            if i < len(titles):
                axis.set_title(titles[i], fontsize=8, pad=2)
    return figure


def categories(size: int = 128, columns: int = 7) -> Figure:
    """One portrait of each category, by super-category."""
    scenes = [portrait(c.name, colour=c.colours[c.id % len(c.colours)],
                       pose=c.poses[-1] if c.id % 2 else c.poses[0],
                       setting=c.settings[c.id % len(c.settings)], variant=c.id) for c in CATEGORIES]
    return grid([render(s, size).image for s in scenes], [s.objects[0].category for s in scenes], columns)


def variation(category: str, count: int = 6, size: int = 128) -> Figure:
    """Objects of one category that differ in all they can."""
    c = CATEGORY[category]
    images = [render(portrait(category, colour=c.colours[i % len(c.colours)],
                              texture=c.textures[i % len(c.textures)],
                              pose=c.poses[i % len(c.poses)], setting=c.settings[i % len(c.settings)],
                              flip=c.facing and i % 2 == 1, variant=31 * i + 5), size).image
              for i in range(count)]
    return grid(images, columns=count)


def attributes(category: str = "cat", size: int = 96) -> Figure:
    """Colours, textures and poses of one category, one attribute changed at a time."""
    c = CATEGORY[category]
    setting = c.settings[0]
    shown = [(colour, portrait(category, colour=colour, setting=setting)) for colour in c.colours]
    shown += [(texture, portrait(category, texture=texture, setting=setting)) for texture in c.textures
              if texture != "plain"]
    shown += [(pose, portrait(category, pose=pose, setting=setting)) for pose in c.poses if pose]
    if c.facing:
        shown.append(("facing left", portrait(category, setting=setting, flip=True)))
    return grid([render(scene, size).image for _, scene in shown], [title for title, _ in shown], columns=6)


def _first(count: int, split: str = "train", seed: int = 0, **wanted: str) -> list[Scene]:
    """The first scenes of a split whose fields (setting, kind) have the values wanted."""
    chosen: list[Scene] = []
    index = 0
    while len(chosen) < count:
        scene = sample_scene(seed, index, split)
        if all(getattr(scene, field) == value for field, value in wanted.items()):
            chosen.append(scene)
        index += 1
    return chosen


def settings(count: int = 1, size: int = 128) -> Figure:
    """Scenes of each of the six settings, a column each."""
    columns = {setting: _first(count, kind="non-iconic", setting=setting) for setting in SETTINGS}
    images = [render(columns[setting][i], size).image for i in range(count) for setting in SETTINGS]
    return grid(images, SETTINGS, columns=len(SETTINGS))


def kinds(count: int = 3, size: int = 128) -> Figure:
    """The three kinds of pictures that COCO tells apart, ``count`` of each."""
    images = [render(scene, size).image for kind in KINDS for scene in _first(count, kind=kind)]
    return grid(images, [kind for kind in KINDS for _ in range(count)], columns=count)


def splits(count: int = 5, size: int = 128) -> Figure:
    """Pictures of train, of the compositional and of the zero-shot split."""
    names = ("train", "compositional", "zero_shot")
    images = [render(sample_scene(0, i, split), size).image for split in names for i in range(count)]
    return grid(images, [name for name in names for _ in range(count)], columns=count)


def styles(scene: Scene, size: int = 128) -> Figure:
    """One scene in every drawing style."""
    return grid([render(scene, size, style).image for style in STYLES], STYLES, columns=5)


def overlay(picture: Picture, strength: float = 0.55) -> Image:
    """The picture with each mask in a colour of its own."""
    pixels = picture.image.astype(np.float32)
    colours = 255 * np.asarray(colormaps["tab10"](range(10)), np.float32)[:, :3]
    for i, mask in enumerate(picture.masks):
        pixels[mask] += strength * (colours[i % len(colours)] - pixels[mask])
        pixels[_edge(mask)] = 255
    return (pixels + 0.5).astype(np.uint8)


def masks(scenes: Sequence[Scene], size: int = 192) -> Figure:
    """Scenes above, the visible masks of their objects below."""
    pictures = [render(scene, size) for scene in scenes]
    return grid([p.image for p in pictures] + [overlay(p) for p in pictures], columns=len(pictures),
                inches=1.8)


def _edge(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels of a mask that have a neighbour outside it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner
