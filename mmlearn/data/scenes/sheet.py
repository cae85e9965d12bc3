"""The sheet of a picture: pens only note what they draw, and the sheet paints many notes in few large array
operations.

A picture of 64 px has some fifty shapes of a few hundred pixels each, so that calls, not pixels, would take
the time. A detail is worked out only in the rows that it can reach. The pixels are bit for bit those of
painting shape after shape.
"""

from collections.abc import Callable
from functools import wraps
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np

from mmlearn.data.scenes import shapes
from mmlearn.data.scenes.shapes import Number

_FEW = 1 << 16          # numbers of one array operation: they stay in the processor's second cache
# pixels of all noted layers after which they are painted: bounds the memory of large pictures
_MANY = 1 << 18
Rows = tuple[int, int]  # first row and the row after the last


class _Frame(Protocol):
    """The coordinates that a shape is drawn in: those of a pen."""

    sheet: "Sheet"
    x: np.ndarray                       # (h, w)
    y: np.ndarray
    top: float | None                   # height of the first row; None if the pen is turned
    pixel: float                        # height of a row


class Shape:
    """The distance to a shape, worked out when it is needed; in calculations it behaves like its array (h,
    w).

    Either a drawn shape, with a ``kind`` of ``shapes.FIELDS`` (or "edges") and numbers, or, without a kind,
    what ``numbers[0]`` makes of the other ``numbers``. Its inside lies between the heights ``low`` and
    ``high``.
    """

    __slots__ = ("array", "frame", "high", "kind", "low", "numbers", "rows", "whole")
    __array_priority__ = 1000           # ``array - shape`` asks the shape

    def __init__(self, frame: Any, kind: str, numbers: tuple[Any, ...], low: Number = 0, high: Number = 0):
        self.frame, self.kind, self.numbers, self.low, self.high = frame, kind, numbers, low, high
        self.array: np.ndarray | None = None
        self.rows: Rows | None = None   # of ``array``, if these are not all
        self.whole = False              # whether more than the rows of its inside are asked for

    def value(self) -> np.ndarray:
        """The array (h, w)."""
        if self.array is None or self.rows is not None:
            self.rows, self.whole = None, True
            if self.kind:
                self.array = _measure(self.kind, [self.frame.x], [self.frame.y], [self.numbers])[0]
            else:
                function, *arguments = self.numbers
                self.array = function(*[a.value() if type(a) is Shape else a for a in arguments])
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value(), dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.value(), name)

    def __sub__(self, other: Any) -> "Shape":
        return later(np.subtract, self, other)

    def __rsub__(self, other: Any) -> "Shape":
        return later(np.subtract, other, self)

    def __add__(self, other: Any) -> "Shape":
        return later(np.add, self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> "Shape":
        return later(np.multiply, self, other)

    __rmul__ = __mul__

    def __neg__(self) -> "Shape":
        return later(np.negative, self)

    def __abs__(self) -> "Shape":
        return later(np.abs, self)

    def __lt__(self, other: Any) -> Any:
        return self.value() < other

    def __gt__(self, other: Any) -> Any:
        return self.value() > other


Distance = np.ndarray | Shape


def later(function: Callable[..., np.ndarray], *arguments: Any) -> Any:
    """The function of shapes as a shape; of arrays alone, its value."""
    frame = None
    for argument in arguments:
        if type(argument) is Shape:
            argument.whole, frame = True, argument.frame
    return function(*arguments) if frame is None else Shape(frame, "", (function, *arguments))


def _noted(function: Callable[..., np.ndarray]) -> Callable[..., Any]:
    @wraps(function)
    def noted(*arguments: Any) -> Any:
        return later(function, *arguments)
    return noted


blend, both, cut, union = _noted(shapes.blend), _noted(shapes.both), _noted(shapes.cut), _noted(shapes.union)


def _measure(kind: str, x: Any, y: Any, numbers: Any) -> list[np.ndarray]:
    return shapes.edge_batch(x, y, numbers) if kind == "edges" else shapes.batch(kind, x, y, numbers)


class Layer(NamedTuple):
    """Something painted: where (a distance, or the coverage itself), and in which colour."""

    distance: Distance
    colour: tuple[Number, Number, Number]
    scale: float                        # minus one over the side of a pixel; 0: ``distance`` is the coverage
    offset: Number = 0.0                # how much wider the shape is, for an outline
    counts: bool = False                # whether it belongs to the object's mask
    inside: Distance | None = None      # painted within this shape only
    factor: Any = 1.0                   # of the coverage: a strength, or the coverage (h, w) of a texture


class Part:
    """What is drawn of one object: the pixels it can reach, its layers so far, and how much of a pixel they
    cover."""

    def __init__(self, box: tuple[int, int, int, int], before: Callable[[np.ndarray], None] | None):
        left, top, right, bottom = self.box = box
        self.height, self.width = bottom - top, right - left
        self.before = before                            # a shadow
        self.layers: list[Layer] = []
        self.light: np.ndarray | None = None            # (h, w), what ``Pen.finish`` adds to one
        self.begun = self.done = False
        self.canvas = self.alpha = np.empty(0, np.float32)        # (h 3 w,) and (h w,)


class Sheet:
    """A canvas (3, size, size) and what is noted but not yet painted on it; ``masks`` of the objects, in
    order."""

    def __init__(self, canvas: np.ndarray, masks: np.ndarray):
        self.canvas, self.masks = canvas, masks
        self.parts: list[Part] = []                     # not wholly painted
        self.finished = self.pixels = 0

    def begin(self, part: Part) -> None:
        self.parts.append(part)

    def note(self, part: Part, layer: Layer) -> None:
        part.layers.append(layer)
        self.pixels += part.height * part.width
        if self.pixels > _MANY:
            self.flush()

    def flush(self) -> None:
        """Paint all layers that are noted, object by object."""
        self._measure_all()
        for part in self.parts:
            left, top, right, bottom = part.box
            if not part.begun:
                if part.before:
                    part.before(self.canvas)
                part.canvas = self.canvas[:, top:bottom, left:right].transpose(1, 0, 2).flatten()      # h 3 w
                part.alpha = np.zeros(part.height * part.width, np.float32)
                part.begun = True
            if part.layers:
                _paint(part)
                part.layers = []
            if part.done:
                alpha = part.alpha.reshape(part.height, part.width)
                canvas = part.canvas.reshape(part.height, 3, part.width)
                if part.light is not None:
                    part.light *= alpha
                    part.light += 1
                    canvas *= part.light[:, None]
                self.canvas[:, top:bottom, left:right] = canvas.transpose(1, 0, 2)
                mask = alpha > 0.5
                self.masks[:self.finished, top:bottom, left:right] &= ~mask
                self.masks[self.finished, top:bottom, left:right] = mask
                self.finished += 1
        self.parts = [part for part in self.parts if not part.done]
        self.pixels = 0

    def _measure_all(self) -> None:
        """Work out the drawn shapes of all layers, many at a time, each in the rows that its layers need."""
        wanted: dict[str, list[Shape]] = {kind: [] for kind in (*shapes.FIELDS, "edges")}
        for part in self.parts:
            for layer in part.layers:
                shape = layer.inside
                if type(shape) is Shape:
                    shape.whole = True
                    if shape.array is None or shape.rows is not None:
                        _want(shape, None, wanted)
                shape = layer.distance
                if type(shape) is Shape and (shape.array is None or shape.rows is not None):
                    frame = shape.frame
                    if shape.whole or frame.top is None or not shape.kind:
                        _want(shape, None, wanted)
                    else:
                        wider = layer.offset * -layer.scale + 1.5    # half a pixel of soft edge, and one more
                        first = int((shape.low - frame.top) / frame.pixel - wider)
                        last = int((shape.high - frame.top) / frame.pixel + wider) + 1
                        first, last = 0 if first < 0 else first, last if last < part.height else part.height
                        _want(shape, (first, last if last > first else first), wanted)
        for kind, noted in wanted.items():
            begin = total = 0
            for end, shape in enumerate(noted, 1):
                total += shape.frame.x.size * (len(shape.numbers[0]) if kind == "edges" else 1)
                if total > _FEW or end == len(noted):
                    _measure_some(kind, noted[begin:end])
                    begin, total = end, 0


def _want(shape: Shape, rows: Rows | None, wanted: dict[str, list[Shape]]) -> None:
    """Put a shape on the list ``wanted`` of its kind, or the drawn shapes that it is made of; the more rows
    count."""
    if not shape.kind:
        for argument in shape.numbers[1:]:
            if type(argument) is Shape and (argument.array is None or argument.rows is not None):
                _want(argument, None, wanted)
        return
    if shape.array is not _AWAITED:
        shape.array, shape.rows = _AWAITED, rows
        wanted[shape.kind].append(shape)
    elif shape.rows is not None:
        known = shape.rows
        shape.rows = None if rows is None else (min(rows[0], known[0]), max(rows[1], known[1]))


_AWAITED = np.empty((0, 0), np.float32)


def _measure_some(kind: str, noted: list[Shape]) -> None:
    across, down = [], []
    for shape in noted:
        x, y = shape.frame.x, shape.frame.y
        if shape.rows is not None:
            first, last = shape.rows
            x, y = x[first:last], y[first:last]
        across.append(x)
        down.append(y)
    for shape, array in zip(noted, _measure(kind, across, down, [shape.numbers for shape in noted])):
        shape.array = array


def _paint(part: Part) -> None:
    """Paint the layers of a part, back to front; its ``alpha`` becomes the largest coverage that counts."""
    layers, width, canvas, alpha = part.layers, part.width, part.canvas, part.alpha
    fields, spans, colours, offsets, scales = [], [], [], [], []
    limits: dict[tuple[int, float], int] = {}                     # a shape that limits others -> its number
    limiting: list[tuple[Distance, float]] = []
    for shape, colour, scale, offset, _, inside, _ in layers:
        if type(shape) is not Shape:
            field, span = shape, (0, part.height)
        else:
            span = shape.rows or (0, part.height)
            field = shape.array if shape.array is not None else shape.value()
        fields.append(field)
        spans.append(span)
        colours.append(colour)
        offsets.append(offset)
        scales.append(scale)
        if inside is not None and (id(inside), scale) not in limits:
            limits[id(inside), scale] = len(layers) + len(limiting)
            limiting.append((inside, scale))
    for shape, scale in limiting:
        fields.append(shape.value() if type(shape) is Shape else shape)
        offsets.append(0.0)
        scales.append(scale)
    counts = [field.size for field in fields]
    flat = np.concatenate(fields, axis=None, dtype=np.float32)
    flat -= np.array(offsets, np.float32).repeat(counts)
    flat *= np.array(scales, np.float32).repeat(counts)
    shapes.to_coverage(flat)
    ends = list(accumulate(counts, initial=0))
    for k, ((_, _, scale, _, counting, inside, factor), (first, last)) in enumerate(zip(layers, spans)):
        if not counting and inside is None and scale and type(factor) is float and factor == 1:
            continue
        cover = flat[ends[k]:ends[k + 1]]
        if scale == 0:
            cover[:] = fields[k].reshape(-1)
        if counting:
            covered = alpha[first * width:last * width]
            np.maximum(covered, cover, out=covered)
        elif inside is not None:
            begin = ends[limits[id(inside), scale]]
            cover *= flat[begin + first * width:begin + last * width]
        if type(factor) is np.ndarray:
            cover *= factor[first:last].reshape(-1)
        elif factor != 1:
            cover *= factor
    heights = [last - first for first, last in spans]
    shares = flat[:ends[len(layers)]].reshape(-1, width).repeat(3, axis=0).reshape(-1)                 # h 3 w
    changes = np.array(colours, np.float32).repeat(heights, axis=0).repeat(width)
    begin, stride = 0, 3 * width
    for first, last in spans:
        painted, end = canvas[stride * first:stride * last], begin + stride * (last - first)
        change = changes[begin:end]
        np.subtract(change, painted, change)
        np.multiply(change, shares[begin:end], change)
        np.add(painted, change, painted)
        begin = end
