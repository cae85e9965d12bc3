"""Signed distances to simple shapes: negative inside, positive outside, in the units of the coordinates.

A distance gives everything that a drawing needs: filling with smooth edges (``coverage``), outlines (a wider
distance), unions and cuts (minimum and maximum). After I. Quilez, *2D distance functions* (2020), in NumPy.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "h w"]
Number = float | int
Value = Number | np.ndarray             # a number of one shape, or a number for each pixel
_ZERO, _ONE, _HALF = (np.array(value, np.float32) for value in (0, 1, 0.5))     # arrays: quicker than numbers


def length(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Length of a vector; unlike ``np.hypot`` it runs on vector units, and our numbers are never huge."""
    square = u * u
    square += v * v
    return np.sqrt(square, out=square)


# Each shape is a function of coordinates and numbers. What can be said of the numbers alone is computed
# first, in full precision (``box_numbers`` …); what remains is done pixel by pixel, and so for many shapes in
# one go: the pixels of all of them in a row, and beside each pixel the numbers of its own shape (``batch``,
# ``edge_batch``).

def circle(x: Field, y: Field, cx: Number, cy: Number, r: Number) -> Field:
    """Distance to a circle of radius ``r`` about (cx, cy)."""
    return _circle(x, y, cx, cy, r)


def _circle(x: np.ndarray, y: np.ndarray, cx: Value, cy: Value, r: Value) -> np.ndarray:
    distance = length(x - cx, y - cy)
    distance -= r
    return distance


def ellipse(x: Field, y: Field, cx: Number, cy: Number, a: Number, b: Number) -> Field:
    """Distance to an ellipse with half axes ``a``, ``b``: first-order, exact on the edge."""
    return _ellipse(x, y, cx, cy, a, b)


def _ellipse(x: np.ndarray, y: np.ndarray, cx: Value, cy: Value, a: Value, b: Value) -> np.ndarray:
    u, v = x - cx, y - cy
    u /= a
    v /= b
    k = length(u, v)
    u /= a
    v /= b
    slope = length(u, v)
    slope += 1e-6
    distance = k - 1
    distance *= k
    distance /= slope
    return distance


def box(x: Field, y: Field, cx: Number, cy: Number, a: Number, b: Number, r: Number = 0.0) -> Field:
    """Distance to a box with half sides ``a``, ``b`` and corners rounded by ``r``."""
    return _box(x, y, *box_numbers(cx, cy, a, b, r))


def box_numbers(cx: Number, cy: Number, a: Number, b: Number, r: Number = 0.0) -> tuple[Number, ...]:
    """Centre, half sides of the box within the rounding, rounding."""
    return cx, cy, a - r, b - r, r


def _box(x: np.ndarray, y: np.ndarray, cx: Value, cy: Value, a: Value, b: Value, r: Value) -> np.ndarray:
    u, v = x - cx, y - cy
    np.abs(u, out=u)
    np.abs(v, out=v)
    u -= a
    v -= b
    inside = np.maximum(u, v)
    np.minimum(inside, _ZERO, out=inside)
    distance = length(np.maximum(u, _ZERO, out=u), np.maximum(v, _ZERO, out=v))
    distance += inside
    distance -= r
    return distance


def capsule(x: Field, y: Field, ax: Number, ay: Number, bx: Number, by: Number, r: Number,
            s: Number | None = None) -> Field:
    """Distance to a stroke from a to b of radius ``r``, at b ``s`` (a limb, a tail, a line)."""
    return _capsule(x, y, *capsule_numbers(ax, ay, bx, by, r, s))


def capsule_numbers(ax: Number, ay: Number, bx: Number, by: Number, r: Number,
                    s: Number | None = None) -> tuple[Number, ...]:
    """Start, direction, direction over its squared length, radius, and its growth on the way."""
    dx, dy = bx - ax, by - ay
    scale = 1 / max(dx * dx + dy * dy, 1e-9)
    return ax, ay, dx, dy, dx * scale, dy * scale, r, 0.0 if s is None else s - r


def _capsule(x: np.ndarray, y: np.ndarray, ax: Value, ay: Value, dx: Value, dy: Value, ex: Value, ey: Value,
             r: Value,
             growth: Value) -> np.ndarray:
    u, v = x - ax, y - ay
    t = u * ex
    t += v * ey
    _unit(t)
    u -= t * dx
    v -= t * dy
    t *= growth
    t += r
    distance = length(u, v)
    distance -= t
    return distance


def arc(x: Field, y: Field, cx: Number, cy: Number, radius: Number, start: Number, stop: Number,
        r: Number) -> Field:
    """Distance to a stroke along a circle from angle ``start`` to ``stop`` (radians, clockwise from the
    right)."""
    return _arc(x, y, *arc_numbers(cx, cy, radius, start, stop, r))


def arc_numbers(cx: Number, cy: Number, radius: Number, start: Number, stop: Number,
                r: Number) -> tuple[Number, ...]:
    """Centre, radius, direction of the middle, of an end seen from the middle, that end, radius of the
    stroke."""
    middle, half = (start + stop) / 2, (stop - start) / 2
    c, s = math.cos(half), math.sin(half)
    return cx, cy, radius, math.cos(middle), math.sin(middle), c, s, radius * c, radius * s, r


def _arc(x: np.ndarray, y: np.ndarray, cx: Value, cy: Value, radius: Value, mx: Value, my: Value, c: Value,
         s: Value,
         ex: Value, ey: Value, r: Value) -> np.ndarray:
    x, y = x - cx, y - cy
    u, v = x * mx, y * mx
    u += y * my
    v -= x * my
    np.abs(v, out=v)
    beyond = v * c > u * s
    ring = length(u, v)
    ring -= radius
    np.abs(ring, out=ring)
    u -= ex
    v -= ey
    distance = np.where(beyond, length(u, v), ring)
    distance -= r
    return distance


FIELDS: dict[str, Callable[..., np.ndarray]] = {"circle": _circle, "ellipse": _ellipse, "box": _box,
                                                "capsule": _capsule,
                                           "arc": _arc}


def batch(kind: str, x: Sequence[np.ndarray], y: Sequence[np.ndarray],
          numbers: Sequence[tuple[Number, ...]]) -> list[np.ndarray]:
    """Distances to many shapes of one kind of ``FIELDS``: the pixels (h_i, w_i) of each, and its numbers."""
    if len(x) == 1:
        return [FIELDS[kind](x[0], y[0], *numbers[0])]
    counts = [row.size for row in x]
    table = np.array(numbers, np.float32).T.repeat(counts, axis=1)
    flat = FIELDS[kind](np.concatenate(x, axis=None), np.concatenate(y, axis=None), *table)
    pieces, begin = [], 0
    for row, count in zip(x, counts):
        pieces.append(flat[begin:begin + count].reshape(row.shape))
        begin += count
    return pieces


Points = Sequence[tuple[Number, Number]]


class Edges(NamedTuple):
    """A polyline to be drawn: its corners, whether it is closed, and the radii of its stroke at both ends."""

    points: Points
    closed: bool
    r: Number
    s: Number | None = None


def path(x: Field, y: Field, points: Points, r: Number, s: Number | None = None) -> Field:
    """Distance to a stroke along a polyline; the radius goes from ``r`` to ``s``."""
    return edge_batch([x], [y], [Edges(points, False, r, s)])[0]


def polygon(x: Field, y: Field, points: Points, r: Number = 0.0) -> Field:
    """Distance to any polygon, its corners rounded outwards by ``r``."""
    return edge_batch([x], [y], [Edges(points, True, r)])[0]


def edge_batch(x: Sequence[np.ndarray], y: Sequence[np.ndarray], lines: Sequence[Edges]) -> list[np.ndarray]:
    """Distances to many paths and polygons: the pixels (h_i, w_i) of each, and its edges."""
    starts: list[tuple[Number, Number]] = []
    ends: list[tuple[Number, Number]] = []
    edges, counts = [], []
    for row, line in zip(x, lines):
        points = line.points
        starts += points if line.closed else points[:-1]
        ends += points[1:]
        if line.closed:
            ends.append(points[0])
        edges.append(len(points) - (not line.closed))
        counts += [row.size] * edges[-1]
    across = np.concatenate([row for row, n in zip(x, edges) for _ in range(n)], axis=None)
    down = np.concatenate([row for row, n in zip(y, edges) for _ in range(n)], axis=None)
    square, t, crossed = _edges(across, down, np.array(starts, np.float32).T, np.array(ends, np.float32).T,
                                counts)
    distances, begin = [], 0
    for row, line, n in zip(x, lines, edges):
        here, begin = slice(begin, begin + n * row.size), begin + n * row.size
        if line.s is None:
            distance = np.sqrt(np.minimum.reduce(square[here].reshape(n, -1)))
        else:
            along = t[here].reshape(n, -1)
            along += np.arange(n, dtype=np.float32)[:, None]
            along *= (line.s - line.r) / n
            distance = np.minimum.reduce(np.sqrt(square[here].reshape(n, -1)) - along)
        if line.closed:                                           # even-odd rule
            inside = np.bitwise_xor.reduce(crossed[here].reshape(n, -1))
            np.negative(distance, out=distance, where=inside)
        distance -= line.r
        distances.append(distance.reshape(row.shape))
    return distances


def _edges(x: np.ndarray, y: np.ndarray, starts: np.ndarray, ends: np.ndarray,
           counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For edges (2, n) and the ``counts`` pixels of each, all in a row: squared distance, where along the
    edge (0..1) the nearest point is, and whether a ray from the pixel to the right crosses the edge."""
    dx, dy = ends - starts
    scale = 1 / np.maximum(dx * dx + dy * dy, 1e-9)
    table = np.array((*starts, ends[1], dx, dy, scale, dy > 0), np.float32).repeat(counts, axis=1)
    ax, ay, by, dx, dy, scale, up = table
    u, v = x - ax, y - ay
    side, t = u * dy, u * dx
    side -= v * dx
    t += v * dy
    t *= scale
    _unit(t)
    crossed = (y >= ay) != (y >= by)                              # at the height of the point,
    crossed &= (side < _ZERO) == (up > _ZERO)                     # and to its right
    u -= t * dx
    v -= t * dy
    u *= u
    v *= v
    u += v
    return u, t, crossed


def _unit(t: np.ndarray) -> np.ndarray:
    """Clip to [0, 1] in place (two plain calls are quicker than ``np.clip`` on small arrays)."""
    np.maximum(t, _ZERO, out=t)
    return np.minimum(t, _ONE, out=t)


def blend(first: Field, second: Field, k: Number) -> Field:
    """Union of two shapes whose joint is smoothed over a width ``k``."""
    h = first - second
    np.abs(h, out=h)
    np.subtract(k, h, out=h)
    np.maximum(h, _ZERO, out=h)
    h *= h
    h *= 0.25 / k
    return np.subtract(np.minimum(first, second), h, out=h)


def union(*shapes: Field) -> Field:
    """Union of shapes."""
    nearest = shapes[0]
    for shape in shapes[1:]:
        nearest = np.minimum(nearest, shape)
    return nearest


def cut(shape: Field, away: Field) -> Field:
    """``shape`` without ``away``."""
    return np.maximum(shape, -away)


def both(first: Field, second: Field) -> Field:
    """What is in both shapes."""
    return np.maximum(first, second)


def coverage(distance: Field, pixel: Number) -> Field:
    """Share of a pixel, of side ``pixel``, that the shape covers: its smooth edge."""
    return to_coverage(distance * np.float32(-1 / pixel))


def to_coverage(depth: np.ndarray) -> np.ndarray:
    """The same from the depth within the shape, in pixels; in place."""
    depth += _HALF
    return _unit(depth)


def stripes(t: Field, period: Number, pixel: Number, share: Number = 0.45) -> Field:
    """Coverage of stripes across ``t``: 1 on a share of each period."""
    wave = np.abs(t * (1 / period) - np.round(t * (1 / period)))         # 0 in the middle of a stripe, to 0.5
    return coverage((wave - share / 2) * period, pixel)


def spots(x: Field, y: Field, period: Number, pixel: Number, r: Number = 0.27) -> Field:
    """Coverage of dots on a staggered grid; ``r`` in periods."""
    row = np.round(y * (1 / period))
    u = x * (1 / period) + 0.5 * (row % 2)
    return coverage((length(u - np.round(u), y * (1 / period) - row) - r) * period, pixel)


def checks(x: Field, y: Field, period: Number, pixel: Number) -> Field:
    """Coverage of one colour of a chessboard whose fields have half a period's side."""
    a, b = stripes(x, period, pixel, 0.5), stripes(y, period, pixel, 0.5)
    return a + b - 2 * a * b
