"""The miniatures of the book as scripts that a page can load, from a server or from a disk.

A page that was opened from a disk may read no file, but may load scripts. A model is therefore written as
``NAME.js`` with its description and several ``NAME-SUM-0.js …`` with a piece of its weights each, so that the
page can show how much has come. ``data/checkpoints`` is the only place where weights are stored.
"""

import base64
import io
import json
import math
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from mmlearn.both_modalities.interleaved import NONSENSE
from mmlearn.checkpoints import read_description
from mmlearn.data.scenes import (
    CATEGORIES,
    HELD_OUT_CATEGORIES,
    HELD_OUT_PAIRS,
    KINDS,
    SETTINGS,
    Category,
    Scene,
    SceneObject,
    render,
)
from mmlearn.data.scenes.render import paint
from mmlearn.data.word_world import word_pictures
from mmlearn.figures.both_modalities.vilbert import NAMES
from mmlearn.figures.diagram import data_uri
from mmlearn.figures.live import (
    MODELS,
    PIECE,
    SCENES,
    THINGS,
    live,
    scene_to_pick,
    seen_scenes,
    thing_to_pick,
    weights_of,
)
from mmlearn.files import package_data

ICON = 40                                           # pixels a side of the small picture of a word
SHARP = 128                                         # pixels a side of what a scene is built from
MOST_COLOURS = 6                                    # of one thing
WANTED = ("config", "words", "settings")            # of a description: what the browser needs, or may show


def weight_scripts(name: str) -> Iterator[tuple[str, str]]:
    """The scripts of a miniature: names and texts, first its description, then the pieces of its weights."""
    path = package_data("checkpoints", f"{name}.safetensors")
    content = weights_of(name)
    pieces = [content[i : i + PIECE] for i in range(0, len(content), PIECE)]
    files = [f"{name}-{zlib.crc32(content):08x}-{i}.js" for i in range(len(pieces))]
    description = read_description(path)
    about = {key: description[key] for key in WANTED if key in description} | {"files": files}
    if name == "vilbert":
        about |= region_parts()
    if name == "flamingo":
        language = read_description(path.with_name(f"{description['language']}.safetensors"))
        things = [thing_to_pick(i) for i in range(len(THINGS))]
        about |= {"words": language["words"], "language": language["config"], "names": NONSENSE,
                  "things": pictures_of(things)}
    if name == "word-space":
        about |= word_icons(about["words"][:about["config"]["pictured"]])
    yield f"{name}.js", f"mmlearnLive.about({json.dumps(name)},{json.dumps(about, separators=(',', ':'))});\n"
    for i, (file, piece) in enumerate(zip(files, pieces)):
        yield file, f'mmlearnLive.piece({json.dumps(name)},{i},"{base64.b64encode(piece).decode()}");\n'


@cache
def region_parts() -> dict[str, Any]:
    """What the detector sees in the scenes to pick: a file of weights as text, names and corners."""
    tensors: dict[str, torch.Tensor] = {}
    names, corners = [], []
    for i, (features, boxes, mask, classes) in enumerate(zip(*seen_scenes())):
        tensors |= {f"{i}.features": features[mask].half(), f"{i}.boxes": boxes[mask]}
        names.append([NAMES[c] for c in classes[mask].argmax(dim=-1).tolist()])
        corners.append([[round(side, 3) for side in box] for box in boxes[mask][:, :4].tolist()])
    return {"regions": base64.b64encode(save(tensors)).decode(), "names": names, "boxes": corners}


def word_icons(words: list[str]) -> dict[str, Any]:
    """A new picture of each word, small, on one sheet that is filled row by row, and how many a row has."""
    across = math.isqrt(len(words) - 1) + 1
    sheet = Image.new("RGB", (across * ICON, -(-len(words) // across) * ICON))
    for i, word in enumerate(words):
        picture = Image.fromarray(word_pictures(word, 1, "test")[0].permute(1, 2, 0).numpy())
        place = (i % across * ICON, i // across * ICON)
        sheet.paste(picture.resize((ICON, ICON), Image.Resampling.LANCZOS), place)
    return {"icons": data_uri(np.asarray(sheet), lossless=False), "across": across}


def pictures_of(picked: list[tuple[np.ndarray, str]]) -> list[dict[str, str]]:
    """Pictures to pick, with their descriptions."""
    return [{"picture": data_uri(image), "about": about} for image, about in picked]


def scene_script() -> str:
    """The scenes to pick, of the test split, each with a caption of the data as its description."""
    shown = pictures_of([scene_to_pick(i) for i in range(len(SCENES))])
    return f"mmlearnLive.scenes({json.dumps(shown, separators=(',', ':'))});\n"


def cut_out(category: Category, colour: str) -> tuple[str, float, float]:
    """A thing by itself, as an address, with its width and height as shares of a scene.

    It is painted on black and on white: where both agree nothing shines through, and what is left on black is
    its colour times how much of it there is.
    """
    width, height = min(category.scale * category.aspect, 0.94), category.scale
    thing = SceneObject(category.name, colour, "medium", category.textures[0], category.poses[0], False,
                        0.5, 0.5, width, height, 0)
    black, white = (np.full((3, SHARP, SHARP), value, np.float32) for value in (0, 255))
    for canvas in (black, white):
        paint(canvas, [thing])
    cover = (1 - (white - black) / 255).clip(0, 1).mean(axis=0)
    colours = (black / np.maximum(cover, 1 / 255)).clip(0, 255)
    pixels = np.concatenate([colours, 255 * cover[None]]).round().astype(np.uint8).transpose(1, 2, 0)
    rows, columns = (np.flatnonzero((cover > 0.02).any(axis=axis)) for axis in (1, 0))
    cut = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    buffer = io.BytesIO()
    Image.fromarray(cut).save(buffer, "webp", quality=88, method=4)
    address = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return address, cut.shape[1] / SHARP, cut.shape[0] / SHARP


def thing_script() -> str:
    """What a reader builds a scene from: six settings, and things in some of their colours, but none that no
    model has seen in training."""
    settings = {}
    for i, name in enumerate(SETTINGS):
        empty = Scene(0, i, "train", KINDS[1], name, (), ())
        settings[name] = data_uri(render(empty, SHARP).image, lossless=False)
    things = {}
    for category in CATEGORIES:
        if category.name not in HELD_OUT_CATEGORIES:
            colours = [c for c in category.colours if (c, category.name) not in HELD_OUT_PAIRS][:MOST_COLOURS]
            things[category.name] = {"place": category.place,
                                     "colours": {colour: cut_out(category, colour) for colour in colours}}
    return f"mmlearnLive.things({json.dumps([settings, things], separators=(',', ':'))});\n"


def write_scripts(folder: Path) -> None:
    """Write all scripts into a folder, and remove those of earlier weights."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {file: text for name in MODELS for file, text in weight_scripts(name)}
    written |= {"scenes.js": scene_script(), "things.js": thing_script()}
    for old in folder.glob("*.js"):
        if old.name not in written:
            old.unlink()
    for file, text in written.items():
        (folder / file).write_text(text, encoding="utf-8")


def write_for_site(app: Any, error: Exception | None) -> None:
    """After a build: the scripts, in ``_static/live/weights``."""
    if error is None and app.builder.format == "html":
        write_scripts(Path(app.outdir, "_static", "live", "weights"))


def add_loader(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """A page with a live model loads the script that puts a button there; other pages do not."""
    if ' data-live="' in context.get("body", ""):
        app.add_js_file("live/live.js")
        app.add_css_file("live/live.css")


def live_directive() -> type:
    """``{live} NAME`` on a page of text: what ``live(NAME)`` is in a notebook."""
    from docutils import nodes  # comes with Sphinx, which tests do without
    from docutils.parsers.rst import Directive

    class Live(Directive):
        required_arguments = 1

        def run(self) -> list[nodes.Node]:
            return [nodes.raw("", live(self.arguments[0]).html, format="html")]

    return Live


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("live", live_directive())
    app.connect("build-finished", write_for_site)
    app.connect("html-page-context", add_loader)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
