"""The scene world as a COCO folder: images, instances, captions, questions and referring expressions.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO*, arXiv:1405.0312, for the instance format; X. Chen et al.
(2015), arXiv:1504.00325, for captions.  Survey: 1.1.
Differs from COCO: masks are stored as compressed run lengths also where ``iscrowd`` is 0 (exact, where
polygons are not; ``pycocotools`` reads both), and annotations carry the attributes and relations of the
graph.

::

    FOLDER/images/train_000000.png …
    FOLDER/annotations/instances_train.json  captions_train.json  questions_train.json  referring_train.json
    FOLDER/annotations/recipe_train.json     what was made, written last

Memory stays the same for any number of images: each scene becomes one line of a scratch file, from which the
JSON files are put together at the end. An export that was interrupted goes on where it stopped.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.scenes.dataset import check_recipe
from mmlearn.data.scenes.language import attributes, captions
from mmlearn.data.scenes.questions import questions
from mmlearn.data.scenes.referring import referring
from mmlearn.data.scenes.render import render
from mmlearn.data.scenes.sample import sample_scene
from mmlearn.files import flush, locked, make_folder, read_json, write_atomically, writing
from mmlearn.processes import pool

FORMAT = "mmlearn scenes 1"         # changes when the same recipe would give other files
LICENCE = {"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}
FILES = ("instances", "captions", "questions", "referring")
MOST = 10**8                        # images; more is a slip of the keyboard


@dataclass(frozen=True)
class Recipe:
    """What an export is made of; the same recipe gives the same files, byte for byte."""

    count: int              # images
    size: int = 64          # pixels, both sides
    split: str = "train"
    seed: int = 0
    style: str = "normal"
    format: str = FORMAT


# ---- one scene ---------------------------------------------------------------------------------------------

def scene_record(recipe: Recipe, index: int, images: Path) -> dict[str, Any]:
    """Draw scene ``index`` into ``images`` and return its annotations; ids within the scene count from 0."""
    scene = sample_scene(recipe.seed, index, recipe.split)
    picture = render(scene, recipe.size, recipe.style)
    name = f"{recipe.split}_{index:06d}.png"
    scratch = images / f".{name}.{os.getpid()}"
    with writing(images / name):
        Image.fromarray(picture.image).save(scratch, format="png")
        os.replace(scratch, images / name)
    visible = [i for i, mask in enumerate(picture.masks) if mask.any()]    # COCO cannot hold what is not seen
    instances = []
    for i in visible:
        thing = scene.objects[i]
        runs = run_lengths.encode(np.asfortranarray(picture.masks[i], dtype=np.uint8))
        instances.append({
            "category_id": CATEGORY[thing.category].id, "iscrowd": 0,
            "area": int(run_lengths.area(runs)), "bbox": [float(v) for v in run_lengths.toBbox(runs)],
            "segmentation": {"size": [int(v) for v in runs["size"]],
                             "counts": runs["counts"].decode("ascii")},
            "attributes": list(attributes(thing)),
        })
    place = {i: number for number, i in enumerate(visible)}
    return {
        "image": {"id": index + 1, "file_name": name, "width": recipe.size, "height": recipe.size,
                  "license": 1,
                  "setting": scene.setting, "kind": scene.kind},
        "instances": instances,
        "relations": [[place[r.subject], r.predicate, place[r.object]] for r in scene.relations
                      if r.subject in place and r.object in place],
        "captions": list(captions(scene)),
        "questions": [asdict(question) for question in questions(scene)],
        "referring": [{"object": place[r.object], "expression": r.text} for r in referring(scene)
                      if r.object in place],
    }


def _records(recipe: Recipe, start: int, images: Path, workers: int) -> Iterator[dict[str, Any]]:
    """The records from ``start`` on, in order; with ``workers`` processes at most 64 scenes a worker are in
    flight."""
    if workers <= 1:
        yield from (scene_record(recipe, index, images) for index in range(start, recipe.count))
        return
    indices = iter(range(start, recipe.count))
    with pool(workers) as processes:
        while batch := list(islice(indices, 64 * workers)):
            yield from processes.map(scene_record, [recipe] * len(batch), batch, [images] * len(batch),
                                     chunksize=16)


# ---- the folder --------------------------------------------------------------------------------------------

def read_recipe(folder: Path, split: str) -> Recipe | None:
    """The recipe of a finished export of ``split`` in ``folder``, None if there is none."""
    return _recipe(folder / "annotations" / f"recipe_{split}.json")


def _recipe(path: Path) -> Recipe | None:
    if not path.exists():
        return None
    remedy = "export again with --force (force=True)"
    found = read_json(path, remedy=remedy)
    if {name: type(value) for name, value in found.items()} != {f.name: f.type for f in fields(Recipe)}:
        raise ValueError(f"{path} holds no recipe of an export; {remedy}")
    return Recipe(**found)


def export_coco(folder: str | Path, count: int, size: int = 64, split: str = "train", seed: int = 0,
                style: str = "normal", *, force: bool = False, workers: int = 1,
                progress: Callable[[int, int], None] | None = None) -> Path:
    """Write ``count`` scenes of a split as a COCO folder that ``pycocotools`` reads; returns the folder.

    Splits share a folder. A finished export of the same recipe is left as it is, an interrupted one is
    continued. ``force`` replaces an export of another recipe. ``progress(done, count)`` is called after each
    scene.
    Raises ``ValueError`` for a recipe that cannot be made or a folder that holds something else, ``OSError``
    if it cannot be written, or another process writes the same split there.
    """
    check_recipe(count, size, split, style)
    if not 1 <= count <= MOST:
        raise ValueError(f"count is {count}; an export has at least one image, and at most {MOST:,}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; take 0 or more")
    if not 1 <= workers <= 1024:
        raise ValueError(f"workers is {workers}; take 1 to 1024 processes")
    recipe, folder = Recipe(count, size, split, seed, style), Path(folder)
    _refuse_others(folder)
    scratch = folder / f".unfinished-{split}"
    lock = f".lock-{split}"
    at_rest = not (force or scratch.exists() or (folder / lock).exists())
    if at_rest and read_recipe(folder, split) == recipe:
        return folder
    with locked(folder, lock):
        _export(recipe, folder, scratch, force, workers, progress)
    return folder


def _export(recipe: Recipe, folder: Path, scratch: Path, force: bool, workers: int,
            progress: Callable[[int, int], None] | None) -> None:
    """The export, in a folder that nobody else writes into.

    Whenever the process is killed, ``scratch`` says what is under way until the recipe stands in its place.
    """
    images, annotations, split = folder / "images", folder / "annotations", recipe.split
    if not _is_ready(folder, scratch, recipe, force):
        for path in (scratch, images, annotations):
            make_folder(path)
        lines = scratch / "records.jsonl"
        if not (scratch / "recipe.json").exists():
            _clear(folder, split)
            write_atomically(scratch / "recipe.json", json.dumps(asdict(recipe)))
        done = _complete_lines(lines)
        with writing(lines), open(lines, "a", encoding="utf-8") as out:
            for number, record in enumerate(_records(recipe, done, images, workers), done + 1):
                out.write(json.dumps(record, separators=(",", ":")) + "\n")
                out.flush()
                if progress:
                    progress(number, recipe.count)
        with writing(annotations):
            for name in FILES:
                _assemble(name, recipe, lines, scratch / f"{name}.json")
            for name in FILES:
                os.replace(scratch / f"{name}.json", annotations / f"{name}_{split}.json")
            os.replace(scratch / "recipe.json", annotations / f"recipe_{split}.json")
            flush(annotations)
    with writing(scratch):
        for left in images.glob(f".{split}_[0-9]*.png.*"):                  # of processes that were killed
            left.unlink()
        if scratch.exists():
            shutil.rmtree(scratch)


def _refuse_others(folder: Path) -> None:
    """Raises ``ValueError`` for a file, or a folder that holds anything but exports."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a new folder for the export")
    ours = list(folder.glob("annotations/recipe_*.json")) + list(folder.glob(".unfinished-*"))
    if not ours and folder.exists() and not all(p.name.startswith(".lock-") for p in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no scenes made by this command; name a new or "
                         f"empty folder")


def _is_ready(folder: Path, scratch: Path, recipe: Recipe, force: bool) -> bool:
    """True if nothing is to be done; makes room under ``force``; refuses scenes of another recipe."""
    if force:
        make_folder(scratch)                                # from here on an export is under way
        with writing(scratch):
            (scratch / "recipe.json").unlink(missing_ok=True)
        return False
    finished, begun = read_recipe(folder, recipe.split), _recipe(scratch / "recipe.json")
    if finished and finished != recipe:
        raise ValueError(f"{folder} already holds {_words(finished)}, not {_words(recipe)}; name another "
                         f"folder, or "
                         "replace them with --force (force=True)")
    if begun and begun != recipe:
        raise ValueError(f"{folder} holds an unfinished export of {_words(begun)}, not {_words(recipe)}; "
                         f"finish it "
                         "with the same numbers, or replace it with --force (force=True)")
    return finished == recipe


def _clear(folder: Path, split: str) -> None:
    """Remove what an export that is replaced, or was never begun, has left of a split."""
    with writing(folder):
        (folder / f".unfinished-{split}" / "records.jsonl").unlink(missing_ok=True)
        for name in ("recipe", *FILES):
            (folder / "annotations" / f"{name}_{split}.json").unlink(missing_ok=True)
        for path in folder.glob(f"images/{split}_[0-9]*.png"):
            path.unlink()


def _words(recipe: Recipe) -> str:
    return (f"{recipe.count} images of split {recipe.split} at {recipe.size} px (seed {recipe.seed}, style "
            f"{recipe.style})")


def _complete_lines(path: Path) -> int:
    """The number of scenes already recorded; a line that was cut off is removed."""
    if not path.exists():
        return 0
    count = end = 0
    with open(path, "rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            count, end = count + 1, end + len(line)
    os.truncate(path, end)
    return count


# ---- the JSON files ----------------------------------------------------------------------------------------

def _items(name: str, lines: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """``(array, item)`` for one JSON file; ids count from 1, the id 0 would mean "unmatched" to
    ``COCOeval``."""
    first = 1                                               # annotation id of the first instance of the scene
    number = 0
    with open(lines, encoding="utf-8") as records:
        for line in records:
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{lines} holds a line that is no record ({error}); export again with "
                                 f"--force (force=True)") from None
            image = record["image"]
            if name == "instances":
                relations = [[first + a, predicate, first + b] for a, predicate, b in record["relations"]]
                yield "images", {**image, "relations": relations}
                for i, instance in enumerate(record["instances"]):
                    yield "annotations", {"id": first + i, "image_id": image["id"], **instance}
            else:
                yield "images", image
                for item in record[name]:
                    number += 1
                    yield "annotations", {"id": number, "image_id": image["id"],
                                          **_item(name, item, record, first)}
            first += len(record["instances"])


def _item(name: str, item: Any, record: dict[str, Any], first: int) -> dict[str, Any]:
    if name == "captions":
        return {"caption": item}
    if name == "questions":
        return {"kind": item["kind"], "question": item["text"], "answer": item["answer"],
                "rationale": item["rationale"]}
    instance = record["instances"][item["object"]]
    return {"expression": item["expression"], "annotation_id": first + item["object"],
            "category_id": instance["category_id"], "bbox": instance["bbox"]}


def _assemble(name: str, recipe: Recipe, lines: Path, target: Path) -> None:
    """Put one JSON file together from the scratch file, one item at a time."""
    info = {"description": "Scenes of mmlearn, drawn and described by rule", "version": FORMAT, "year": 2026,
            "contributor": "The mmlearn authors", "recipe": asdict(recipe)}
    head: dict[str, Any] = {"info": info, "licenses": [LICENCE]}
    if name in ("instances", "referring"):
        head["categories"] = [{"id": c.id, "name": c.name, "supercategory": c.supercategory}
                              for c in CATEGORY.values()]
    with open(target, "w", encoding="utf-8") as out:
        out.write(json.dumps(head)[:-1])
        for array in ("images", "annotations"):
            out.write(f',\n"{array}": [')
            separator = "\n"
            for kind, item in _items(name, lines):
                if kind == array:
                    out.write(separator + json.dumps(item, separators=(",", ":")))
                    separator = ",\n"
            out.write("\n]")
        out.write("}\n")
