"""COCO's files, checked: annotations (captions, instances), results, and the Karpathy split.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO*, arXiv:1405.0312; X. Chen et al. (2015), arXiv:1504.00325.
Survey: 1.1.  Every reader of such a file begins here. A field is checked by whoever needs it and comes back
as what it means: an id written as 7.0 is the id 7, no ``iscrowd`` is 0. What cannot be mended is refused in
one sentence that names file, record and field.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from mmlearn.files import read_json

Id = int | str
Record = dict[str, Any]
LARGEST = 1e6           # pixels that a coordinate may lie from the corner
OUTLINE = 2e6           # pixels that the outline of one polygon may be long; its memory follows from it
PIXELS = 2**31          # of one picture, as many as run lengths can count


class Unfit(ValueError):
    """What a field should hold instead of what it holds."""


# ---- the fields --------------------------------------------------------------------------------------------

def number(value: Any) -> int | float:
    """A finite number."""
    if type(value) is not float and type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise Unfit("give a number")
        value = float(value)                                                # of NumPy
    if not -1e300 < value < 1e300:                                          # NaN is not less than anything
        raise Unfit("give a finite number")
    return value


def whole(value: Any) -> int:
    """A whole number, also one written as 7.0."""
    if type(value) is int:
        return value
    if (value := number(value)) != int(value):
        raise Unfit("give a whole number")
    return int(value)


def identity(value: Any) -> Id:
    """An id: a whole number, or a text."""
    if type(value) is int or type(value) is str:
        return value
    try:
        return whole(value)
    except Unfit:
        raise Unfit("give a whole number or a text") from None


def text(value: Any) -> str:
    """A text that can be written as UTF-8."""
    if type(value) is not str:
        raise Unfit("give a text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Unfit("give a text without halves of characters")
    return value


def file_name(value: Any) -> str:
    """The name of a file: a text that is not empty."""
    if not text(value).strip() or "\0" in value:
        raise Unfit("give the name of a file")
    return value


def positive(value: Any) -> int:
    """A number of pixels, 1 or more."""
    if (value := whole(value)) < 1:
        raise Unfit("give 1 or more")
    return value


def pixels(value: Any) -> int | float:
    """An area: 0 or more."""
    if (value := number(value)) < 0:
        raise Unfit("give 0 or more")
    return value


def flag(value: Any) -> int:
    """0 or 1; without a word, 0."""
    if value is None or value == 0:
        return 0
    if value != 1:
        raise Unfit("give 0 or 1")
    return 1


def box(value: Any) -> list[float | int]:
    """Left, top, width and height in pixels."""
    try:
        x, y, w, h = value.tolist() if hasattr(value, "tolist") else value
        x, y, w, h = number(x), number(y), number(w), number(h)
    except Unfit:
        raise Unfit("give four finite numbers: left, top, width, height") from None
    except (TypeError, ValueError):
        raise Unfit("give [left, top, width, height]") from None
    if w < 0 or h < 0:
        raise Unfit("give a width and a height of 0 or more")
    return [x, y, w, h]


def segmentation(value: Any) -> Any:
    """Polygons (checked number by number) or run lengths (their form; what they cover is seen when they are
    read)."""
    if isinstance(value, Mapping):
        return _runs(value)
    if not isinstance(value, list | tuple) or not value:
        raise Unfit("give polygons, or run lengths {'size': [height, width], 'counts': …}")
    return [_polygon(one, 4 if place else 6) for place, one in enumerate(value)]     # as pycocotools does


def _runs(value: Mapping[str, Any]) -> Record:
    try:
        height, width = (positive(side) for side in value["size"])
    except (KeyError, TypeError, ValueError):
        raise Unfit("give its 'size' as [height, width], two whole numbers") from None
    if height * width >= PIXELS:
        raise Unfit(f"give a 'size' of less than {PIXELS} pixels")
    counts: Any = value.get("counts")
    if hasattr(counts, "tolist"):
        counts = counts.tolist()
    if isinstance(counts, list | tuple):
        if not {int}.issuperset(map(type, counts)):
            try:
                counts = [whole(count) for count in counts]
            except Unfit:
                counts = [-1]
        if counts and min(counts) < 0:
            raise Unfit("give 'counts' that are whole numbers, 0 or more")
    elif not isinstance(counts, str | bytes):
        raise Unfit("give 'counts', a list of numbers or a text")
    return {**value, "size": [height, width], "counts": counts}


_NUMBERS = {int, float}


def _polygon(points: Any, least: int) -> Sequence[float | int]:
    if hasattr(points, "tolist"):
        points = points.tolist()
    if not isinstance(points, list | tuple) or len(points) % 2 or len(points) < least:
        raise Unfit("give each polygon as [x1, y1, x2, y2, x3, y3, …]")
    if not _NUMBERS.issuperset(map(type, points)):
        points = [number(point) for point in points]
    low, high = min(points), max(points)
    if not (-LARGEST <= low and high <= LARGEST) or math.isnan(sum(points)):
        raise Unfit(f"give coordinates that are numbers from {-LARGEST:,.0f} to {LARGEST:,.0f}")
    if len(points) * (high - low) > 2 * OUTLINE and _outline(points) > OUTLINE:
        raise Unfit(f"give polygons whose outline is at most {OUTLINE:,.0f} pixels long")
    return points


def _outline(points: Sequence[float | int]) -> float | int:
    """Steps from pixel to pixel along a closed polygon."""
    return sum(max(abs(points[i] - points[i - 2]), abs(points[i + 1] - points[i - 1]))
               for i in range(0, len(points), 2))


def optional(read: Callable[[Any], Any], default: Any = None) -> Callable[[Any], Any]:
    """A field that may be null or missing."""
    return lambda value: default if value is None else read(value)


# ---- records -----------------------------------------------------------------------------------------------

def checked(rows: Iterable[Any], where: str, fields: Mapping[str, Callable[[Any], Any]],
            hint: str = "") -> list[Record]:
    """Copies of records with each of ``fields`` read; ``where`` begins the sentence that refuses one."""
    records, readers = [], list(fields.items())
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}, record {place}: {shown(row)} is no object; give one with "
                             f"{', '.join(fields)}")
        record, name = dict(row), ""
        try:
            for name, read in readers:
                record[name] = read(row.get(name))
        except Unfit as wanted:
            begin = f"{where}, {named(place, row)}"
            if name not in row:
                keys = ", ".join(str(key)[:40] for key in list(row)[:12]) or "nothing"
                raise ValueError(f"{begin}: it has no {name!r}, only {keys}; {hint or wanted}") from None
            raise ValueError(f"{begin}: {name!r} is {shown(row[name])}; {wanted}") from None
        records.append(record)
    return records


def named(place: int, row: Mapping[str, Any]) -> str:
    """For instance "record 3 (id 17)"."""
    return f"record {place}" + (f" (id {shown(row['id'])})" if "id" in row else "")


def read_lists(path: str | Path, *keys: str, maybe: Sequence[str] = ()) -> Record:
    """A JSON object that has a list under each of ``keys``, and under those of ``maybe`` a list or nothing;
    one sentence otherwise."""
    content = read_json(path, dict, "give an annotation file such as captions_val2017.json")
    asked = [*keys, *(key for key in maybe if content.get(key) is not None)]
    missing = [key for key in asked if not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(f"{path} has no list {missing[0]!r}; it has {shown(sorted(content))}: is it the "
                         f"right annotation file?")
    return content


def read_results(path: str | Path) -> list[Any]:
    """The records of a results file, unchecked."""
    return read_json(path, list, "a COCO results file is a list of records, one a caption or detection")


def image_records(content: Mapping[str, Any], source: str | Path, **fields: Callable[[Any], Any]
                  ) -> dict[Id, Record]:
    """The images of a file by their ids, which must be unique."""
    return _by_id(content["images"], f"{source}, images", fields)


def category_records(content: Mapping[str, Any], source: str | Path) -> dict[Id, Record]:
    """The categories of a file by their ids, in the order of the ids."""
    found = _by_id(content["categories"], f"{source}, categories", {"name": text})
    if len({type(key) for key in found}) > 1:
        raise ValueError(f"{source}, categories: some ids are numbers, some are texts; write all alike")
    return dict(sorted(found.items()))


def _by_id(rows: Sequence[Any], where: str, fields: Mapping[str, Callable[[Any], Any]]) -> dict[Id, Record]:
    records = checked(rows, where, {"id": identity, **fields})
    found = {record["id"]: record for record in records}
    if len(found) < len(records):
        seen: set[Id] = set()
        for record in records:
            if record["id"] in seen:
                raise ValueError(f"{where}: id {shown(record['id'])} occurs twice; ids must be unique")
            seen.add(record["id"])
    return found


def check_known(records: Iterable[Record], where: str, field: str, known: Mapping[Id, Any],
                owner: str) -> None:
    """Raise ``ValueError`` for a record whose ``field`` is not among the ids of ``owner``."""
    for place, record in enumerate(records):
        if (key := record[field]) not in known:
            other = next((k for k in known if type(k) is not type(key)), None)
            if other is not None and str(key) in map(str, known):
                raise ValueError(f"{where}, {named(place, record)}: {field!r} is {_kind(key)}, {shown(key)}, "
                                 f"and the ids of {owner} are {_kind(other)}s; write both alike")
            raise ValueError(f"{where}, {named(place, record)}: {field!r} is {shown(key)}, which is not "
                             f"among the {len(known)} of {owner}; do the two belong together?")


def _kind(key: Id) -> str:
    return "text" if isinstance(key, str) else "number"


def caption_records(content: Mapping[str, Any], source: str | Path, images: Mapping[Id, Any]) -> list[Record]:
    """The annotations of a captions file, each of an image of ``images``."""
    where = f"{source}, annotations"
    records = checked(content["annotations"], where, {"image_id": identity, "caption": text},
                      "take the captions file, not the instances file")
    check_known(records, where, "image_id", images, "'images'")
    return records


def instance_records(rows: Iterable[Any], where: str, **shapes: Callable[[Any], Any]) -> list[Record]:
    """The annotations of an instances file; ``shapes`` says how "bbox" and "segmentation" are read, if they
    are."""
    fields = {"image_id": identity, "category_id": identity, **shapes, "area": optional(pixels),
              "iscrowd": flag}
    return checked(rows, where, fields, "take the instances file, not the captions file")


def given(value: Any) -> bool:
    """Whether a field holds anything: not null, and no empty list."""
    return value is not None and not (isinstance(value, list) and not value)


def box_or_none(value: Any) -> list[float | int] | None:
    """A box, or None for an empty one."""
    return box(value) if given(value) else None


def mask_or_none(value: Any) -> Any:
    """A segmentation, or None for an empty one."""
    return segmentation(value) if given(value) else None


def karpathy_records(content: Mapping[str, Any], source: str | Path) -> list[Record]:
    """The images of a Karpathy file with "id" and "captions"."""
    hint = "a Karpathy file's images have 'filename', 'split' and 'sentences'"
    where = f"{source}, images"
    records = checked(content["images"], where, {
        "filename": file_name, "split": text, "sentences": _sentences, "filepath": optional(text, ""),
        "cocoid": optional(identity), "imgid": optional(identity)}, hint)
    seen: set[Id] = set()
    for place, record in enumerate(records):
        key = record["id"] = record["imgid"] if record["cocoid"] is None else record["cocoid"]
        if key is None or key in seen:
            raise ValueError(f"{where}, record {place}: " + (
                "it has neither 'cocoid' nor 'imgid'; give one" if key is None else
                f"id {shown(key)} occurs twice; ids must be unique"))
        seen.add(key)
    return records


def _sentences(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise Unfit("give a list of objects with 'raw'")
    try:
        return tuple(text(one.get("raw")).strip() for one in value)
    except Unfit:
        raise Unfit("give a text as 'raw' of each") from None
