"""Files of COCO that are wrong in one place, or in several at random, and tables of captions that are none.

``table()`` puts every value of ``VALUES`` into every field and says, by rules written here once more and
more plainly, whether the file means something then. ``scrambled(n)`` changes files anywhere; nobody knows
what those mean, but they may not end in a traceback.
"""

import copy
import json
import math
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

COUNT = int(os.environ.get("MMLEARN_BAD_INPUTS", 0))          # 0: a few
MISSING = object()
NAN, INF = float("nan"), float("inf")
H, W = 5, 6
SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]
PLAIN = {"size": [H, W], "counts": [6, 2, 3, 2, 3, 2, 12]}
PACKED = {"size": [H, W], "counts": "6230009"}


def deep(levels: int) -> list:
    nested: list = []
    for _ in range(levels):
        nested = [nested]
    return nested


VALUES: list[Any] = [
    MISSING, None, "", " ", "x", "1", "3", "7", "1.0", "a.png", "../a.png", "/etc/passwd", "a\0.png",
    "\ud800", "ä" * 300, True, False, 0, 1, 1.0, 2, 2.5, 3, 3.0, 5, 6, 7, 7.0, 12, -1, -0.0, NAN, INF, -INF,
    1e-320, 1e9, 1e308, 10**30, 10**400, [], {}, [1], [[]], [{}], {"a": 1}, deep(300), [None] * 4, ["0"] * 4,
    [0, 0, 1],
    [0, 0, 1, 1], [0.5, 0, 1.5, 2], [0, 0, 1, 1, 1], [0, 0, -1, 1], [NAN, 0, 1, 1], [0, 0, INF, 1],
    [0, 0, 1, True], {"0": 0, "1": 1, "2": 2, "3": 3}, SQUARE, [[0, 0, 1, 1]],
    [[0, 0, 1, 1], [1, 1, 4, 1, 4, 3]],
    [[1, 1, 4, 1, 4, NAN]], [[1, 1, 4, 1, 4, 1e9]], [[1, 1, 4, 1, 4, 1e308]], [[1, 1, 4, 1, 4, None]],
    [[1, 1, 4, 1, 4]], [[1, 1, 4, 1, 4, "3"]], [[1, 1, 4, 1, 4, 10**30]], [[-2, -2, 9, -2, 9, 9]], [SQUARE],
    [[0, 0, 9e5, 9e5] * 4], [PLAIN], PLAIN, PACKED, {**PLAIN, "size": [6, 5]}, {**PLAIN, "size": [5.0, 6.0]},
    {**PLAIN, "size": [5.5, 6]}, {**PLAIN, "size": [5]}, {**PLAIN, "size": None}, {**PLAIN, "size": [-5, -6]},
    {**PLAIN, "size": ["5", "6"]}, {**PLAIN, "size": [10**9, 10**9]}, {**PLAIN, "size": [5, 7]},
    {"size": [H, W]}, {"counts": [30]}, {**PLAIN, "counts": []}, {**PLAIN, "counts": [10**30]},
    {**PLAIN, "counts": [31, -1]}, {**PLAIN, "counts": [30.0]}, {**PLAIN, "counts": [29.5, 0.5]},
    {**PLAIN, "counts": [NAN]}, {**PLAIN, "counts": ["30"]}, {**PLAIN, "counts": None},
    {**PLAIN, "counts": 30},
    {**PACKED, "counts": "623000"}, {**PACKED, "counts": "623000P"}, {**PACKED, "counts": ""},
    {**PACKED, "counts": "6230009 "}, {**PACKED, "counts": "ä"}, {**PACKED, "counts": "\ud800"},
    {**PACKED, "counts": "o" * 40 + "0"}, {**PACKED, "counts": "P" * 40},
]

# ---- what a value means ------------------------------------------------------------------------------------


def number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def same_id(*known: int) -> Callable[[Any], bool]:
    return lambda value: number(value) and value in known


def caption(value: Any) -> bool:
    return isinstance(value, str) and "\ud800" not in value


def box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(number, value)) and min(value[2:]) >= 0


def nothing(value: Any) -> bool:
    return value is MISSING or value is None or value == []


def mask(value: Any) -> bool:
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        if not isinstance(size, list) or size != [H, W]:
            return False
        if isinstance(counts, list):
            return all(number(c) and c >= 0 and c == int(c) for c in counts) and sum(counts) == H * W
        return counts == PACKED["counts"]
    if not isinstance(value, list) or not value or not all(isinstance(one, list) for one in value):
        return False
    if any(len(one) % 2 or len(one) < 4 for one in value) or len(value[0]) < 6:
        return False
    flat = [v for one in value for v in one]
    return all(number(v) and abs(v) <= 1e6 for v in flat) and max(flat) < 1e5


def area(value: Any) -> bool:
    return value is MISSING or value is None or number(value) and value >= 0


def crowd(value: Any) -> bool:
    return value is MISSING or value is None or type(value) in (int, float, bool) and value in (0, 1)


def side(length: int) -> Callable[[Any], bool]:
    return lambda value: value is MISSING or value is None or number(value) and value == length


def only(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(one) and value == one for one in allowed)


# ---- files -------------------------------------------------------------------------------------------------

IMAGES = [{"id": 7, "file_name": "a.png", "height": H, "width": W},
          {"id": 3, "file_name": "b.png", "height": H, "width": W}]
CAPTIONS = {"images": IMAGES, "annotations": [
    {"id": 1, "image_id": 3, "caption": "a cat"}, {"id": 2, "image_id": 7, "caption": "two dogs"},
    {"id": 3, "image_id": 3, "caption": "a cat again"}]}
SPOKEN = [{"image_id": 3, "caption": "a cat"}, {"image_id": 7, "caption": "dogs"}]
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]
INSTANCES = {"images": IMAGES, "categories": CATEGORIES, "annotations": [
    {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 3, 2], "area": 6, "iscrowd": 0,
     "segmentation": SQUARE},
    {"id": 2, "image_id": 3, "category_id": 3, "bbox": [1, 1, 3, 2], "area": 6, "iscrowd": 0,
     "segmentation": PLAIN}]}
FOUND = [{"image_id": 7, "category_id": 1, "score": 0.5, "bbox": [1, 1, 3, 2], "segmentation": PACKED},
         {"image_id": 3, "category_id": 3, "score": 0.25, "bbox": [0, 0, 3, 2], "segmentation": PLAIN}]
KARPATHY = {"images": [
    {"filepath": "", "filename": "a.png", "cocoid": 7, "imgid": 0, "split": "train",
     "sentences": [{"raw": "two dogs"}]},
    {"filepath": "", "filename": "b.png", "cocoid": 3, "imgid": 1, "split": "restval",
     "sentences": [{"raw": "a cat"}, {"raw": "again"}]}]}

# reader -> (annotations, results, {path of a field: what it may hold})
Rules = dict[tuple, Callable[[Any], bool]]
READERS: dict[str, tuple[Any, Any, Rules]] = {
    "captions": (CAPTIONS, None, {
        ("images", 0, "id"): same_id(7), ("images", 0, "file_name"): only("a.png"),
        ("annotations", 0, "image_id"): same_id(3, 7), ("annotations", 0, "caption"): caption}),
    "instances": (INSTANCES, None, {
        ("images", 1, "id"): same_id(3), ("images", 1, "file_name"): only("a.png", "b.png"),
        ("images", 1, "height"): side(H), ("images", 1, "width"): side(W),
        ("categories", 0, "id"): same_id(1), ("categories", 0, "name"): caption,
        ("annotations", 0, "image_id"): same_id(3, 7), ("annotations", 0, "category_id"): same_id(1, 3),
        ("annotations", 0, "bbox"): box, ("annotations", 0, "area"): area,
        ("annotations", 0, "iscrowd"): crowd,
        ("annotations", 0, "segmentation"): lambda value: nothing(value) or mask(value)}),
    "karpathy": (KARPATHY, None, {
        ("images", 0, "filename"): only("a.png"), ("images", 0, "split"): caption,
        ("images", 0, "filepath"): lambda value: value is MISSING or value is None or caption(value)
        and value not in ("../a.png", "/etc/passwd", "a\0.png"), ("images", 0, "sentences"): only(),
        ("images", 0, "cocoid"): lambda value: value is MISSING or value is None or type(value) in (str, int)
        and value != 3 or number(value) and value % 1 == 0 and value != 3,
        ("images", 0, "sentences", 0, "raw"): lambda value: caption(value) and value.strip() != ""}),
    "evaluate captions": (CAPTIONS, SPOKEN, {
        ("images", 0, "id"): same_id(7), ("annotations", 0, "image_id"): same_id(3, 7),
        ("annotations", 0, "caption"): caption, ("results", 0, "image_id"): same_id(3),
        ("results", 0, "caption"): caption}),
    "evaluate boxes": (INSTANCES, FOUND, {
        ("images", 1, "id"): same_id(3), ("categories", 0, "id"): same_id(1),
        ("annotations", 0, "image_id"): same_id(3, 7), ("annotations", 0, "category_id"): same_id(1, 3),
        ("annotations", 0, "bbox"): box, ("annotations", 0, "area"): area,
        ("annotations", 0, "segmentation"): lambda value: True,                         # nobody reads it
        ("annotations", 0, "iscrowd"): crowd, ("results", 0, "image_id"): same_id(3, 7),
        ("results", 0, "category_id"): lambda value: type(value) is int or number(value) and value % 1 == 0,
        ("results", 0, "score"): number,
        ("results", 0, "bbox"): lambda value: nothing(value) or box(value)}),
    "evaluate masks": (INSTANCES, FOUND, {
        ("images", 1, "height"): side(H), ("images", 1, "width"): side(W),
        ("annotations", 0, "segmentation"): mask, ("annotations", 0, "area"): area,
        ("results", 0, "bbox"): lambda value: nothing(value) or box(value),
        ("results", 0, "segmentation"): mask, ("results", 0, "score"): number}),
}


@dataclass(frozen=True)
class Case:
    reader: str
    annotations: str                # the text of the file
    results: str | None
    fits: bool | None               # must it be read? None: nobody knows
    about: str


def changed(content: Any, path: tuple, value: Any) -> Any:
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        place.pop(path[-1])
    else:
        place[path[-1]] = value
    return content


def table() -> Iterator[Case]:
    """Every value in every field, in every record's place and in place of every list."""
    for reader, (annotations, results, fields) in READERS.items():
        whole: Rules = {(name, 0): only() for name in ({} if results is None else {"results": 0})}
        whole |= {(name, 0): only() for name in annotations if name != "categories" or "masks" not in reader}
        for path, fits in {**fields, **whole}.items():
            for value in VALUES:
                if value is MISSING and path in whole:
                    continue
                first, second = annotations, results
                if path[0] == "results":
                    second = changed(results, path[1:], value)
                else:
                    first = changed(annotations, path, value)
                told = "missing" if value is MISSING else repr(value)[:60]
                yield Case(reader, json.dumps(first), None if second is None else json.dumps(second),
                           fits(value), f"{reader} {path} = {told}")


def scrambled(count: int, seed: int = 0) -> Iterator[Case]:
    """Files with values put in at random places, or with bytes lost and changed."""
    rng = random.Random(seed)
    for number_ in range(count):
        reader = rng.choice(list(READERS))
        files = [json.loads(json.dumps(part)) for part in READERS[reader][:2]]
        which = 0 if files[1] is None else rng.randrange(2)
        if number_ % 3:
            for _ in range(rng.randint(1, 3)):
                files[which] = _put(files[which], rng)
        texts = [None if part is None else json.dumps(part) for part in files]
        if not number_ % 3:
            texts[which] = _hurt(str(texts[which]), rng)
        yield Case(reader, str(texts[0]), texts[1], None, f"{reader}, scrambled {number_} of seed {seed}")


def _put(content: Any, rng: random.Random) -> Any:
    keys = list(content) if isinstance(content, dict) else list(range(len(content))) if isinstance(
        content, list) else []
    if not keys or rng.random() < 0.1:
        value = rng.choice(VALUES)
        return None if value is MISSING else copy.deepcopy(value)
    key = rng.choice(keys)
    content[key] = _put(content[key], rng)
    return content


def _hurt(text: str, rng: random.Random) -> str:
    start, end = sorted(rng.randrange(len(text)) for _ in range(2))
    return rng.choice([
        text[:start], text[:start] + text[end:],
        text[:start] + chr(rng.randrange(32, 127)) + text[start + 1:], text + text, "\ufeff" + text,
        text.replace(":", "=", 1), "[" * rng.choice([50, 100_000]) + text,
        text[:start] + "9" * 5000 + text[start:], "", "null", '"x"', "\0" + text,
        text.replace("3", "NaN")])


TABLES: list[tuple[bytes, bool]] = [                        # tables of captions; which of them can be read
    (b"file,caption\na.png,x\n", True), (b"\xef\xbb\xbffile,caption\r\na.png,x\r\n", True), (b"", False),
    (b"caption,file\n\"a, b\",a.png\n\n", True), (b"file,caption", False),
    (b"file;caption\na.png;x\n", False),
    (b"file,caption\na.png,a, b\n", False), (b"file,caption\na.png,\"x\n", False), (b"\xff\xfe", False),
    ("file,caption\na.png,x\n".encode("utf-16"), False), (b"file,caption\na.png\n", False), (b"\0", False),
    (b"file,caption\n,x\n", False), (b"file,caption\n../a.png,x\n", False), (b"file,file,caption\n", False),
    (b"file,caption\na\0.png,x\n", False), (b"file,caption\n" + b"a" * 300 + b",x\n", False),
    (b"file,caption\na.png," + b"x" * 200_000 + b"\n", False), (b"file,caption\n.,x\n", False),
    (b"file,caption\nsub,x\n", False), (b"file,caption\n/etc/passwd,x\n", False),
    (b"file,caption\na.png,\xe4\n", False), (b"file,caption\rA.png,x\r", False), (b"{}", False),
]
