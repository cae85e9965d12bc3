"""Signed distances to simple shapes: negative inside, positive outside, in the units of the coordinates.

A distance gives everything that a drawing needs: filling with smooth edges (``coverage``), outlines (a wider distance),
unions and cuts (minimum and maximum). After I. Quilez, *2D distance functions* (2020), in NumPy.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "h w"]
Number = float | int


def length(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Length of a vector; unlike ``np.hypot`` it runs on vector units, and our numbers are never huge."""
    square = u * u
    square += v * v
    return np.sqrt(square, out=square)


def circle(x: Field, y: Field, cx: Number, cy: Number, r: Number) -> Field:
    """Distance to a circle of radius ``r`` about (cx, cy)."""
    return length(x - cx, y - cy) - r


def ellipse(x: Field, y: Field, cx: Number, cy: Number, a: Number, b: Number) -> Field:
    """Distance to an ellipse with half axes ``a``, ``b``: first-order, exact on the edge."""
    u, v = (x - cx) / a, (y - cy) / b
    k = length(u, v)
    return k * (k - 1) / (length(u / a, v / b) + 1e-6)


def box(x: Field, y: Field, cx: Number, cy: Number, a: Number, b: Number, r: Number = 0.0) -> Field:
    """Distance to a box with half sides ``a``, ``b`` and corners rounded by ``r``."""
    u, v = np.abs(x - cx) - (a - r), np.abs(y - cy) - (b - r)
    inside = np.minimum(np.maximum(u, v), 0)
    return length(np.maximum(u, 0), np.maximum(v, 0)) + inside - np.float32(r)


def capsule(x: Field, y: Field, ax: Number, ay: Number, bx: Number, by: Number, r: Number, s: Number | None = None) -> Field:
    """Distance to a stroke from a to b of radius ``r``, at b ``s`` (a limb, a tail, a line)."""
    dx, dy = bx - ax, by - ay
    u, v = x - ax, y - ay
    scale = 1 / max(dx * dx + dy * dy, 1e-9)
    t = u * (dx * scale)
    t += v * (dy * scale)
    _unit(t)
    u -= t * dx
    v -= t * dy
    return length(u, v) - (r if s is None else r + (s - r) * t)


def path(x: Field, y: Field, points: Sequence[tuple[Number, Number]], r: Number, s: Number | None = None) -> Field:
    """Distance to a stroke along a polyline; the radius goes from ``r`` to ``s``."""
    n = len(points) - 1
    square, t, *_ = _edges(x, y, points[:-1], points[1:])
    if s is None:
        return np.sqrt(square.min(0)).reshape(x.shape) - np.float32(r)
    t += np.arange(n, dtype=np.float32)[:, None]
    t *= (s - r) / n
    return (np.sqrt(square) - t).min(0).reshape(x.shape) - np.float32(r)


def polygon(x: Field, y: Field, points: Sequence[tuple[Number, Number]], r: Number = 0.0) -> Field:
    """Distance to any polygon, its corners rounded outwards by ``r``."""
    square, _, side, below, up = _edges(x, y, points, [*points[1:], points[0]])
    distance = np.sqrt(square.min(0))
    above = below >= 0
    crossed = above != np.concatenate([above[1:], above[:1]])
    crossed &= (side < 0) == up                                   # an edge to the right, at the height of the point
    distance *= 1 - 2 * np.bitwise_xor.reduce(crossed, 0).astype(np.float32)          # even-odd rule
    return distance.reshape(x.shape) - np.float32(r)


def _edges(x: Field, y: Field, starts: Sequence[tuple[Number, Number]], ends: Sequence[tuple[Number, Number]]) -> tuple[
        np.ndarray, ...]:
    """For n edges and all pixels in a row, (n, h*w): squared distance, where along the edge (0..1) its nearest point
    is, on which side of it the pixel is (sign), and how far below its start; and (n, 1): whether it goes down."""
    a, b = np.array(starts, np.float32).T[:, :, None], np.array(ends, np.float32).T[:, :, None]
    dx, dy = b - a
    scale = 1 / np.maximum(dx * dx + dy * dy, 1e-9)
    u, v = x.ravel() - a[0], y.ravel() - a[1]
    t, side, below = u * dx, u * dy, v
    v = v * dx
    side -= v
    t += below * dy
    t *= scale
    _unit(t)
    u -= t * dx
    v = below - t * dy
    u *= u
    v *= v
    u += v
    return u, t, side, below, dy > 0


def _unit(t: np.ndarray) -> np.ndarray:
    """Clip to [0, 1] in place (two plain calls are quicker than ``np.clip`` on small arrays)."""
    np.maximum(t, 0, out=t)
    return np.minimum(t, 1, out=t)


def arc(x: Field, y: Field, cx: Number, cy: Number, radius: Number, start: Number, stop: Number, r: Number) -> Field:
    """Distance to a stroke along a circle from angle ``start`` to ``stop`` (radians, clockwise from the right)."""
    middle, half = (start + stop) / 2, (stop - start) / 2
    c, s = math.cos(middle), math.sin(middle)
    u, v = (x - cx) * c + (y - cy) * s, np.abs((y - cy) * c - (x - cx) * s)
    ex, ey = radius * math.cos(half), radius * math.sin(half)
    beyond = v * math.cos(half) > u * math.sin(half)
    return np.where(beyond, length(u - ex, v - ey), np.abs(length(u, v) - radius)) - np.float32(r)


def blend(first: Field, second: Field, k: Number) -> Field:
    """Union of two shapes whose joint is smoothed over a width ``k``."""
    h = np.maximum(k - np.abs(first - second), 0)
    return np.minimum(first, second) - h * h * (0.25 / k)


def union(*shapes: Field) -> Field:
    """Union of shapes."""
    found = shapes[0]
    for shape in shapes[1:]:
        found = np.minimum(found, shape)
    return found


def cut(shape: Field, away: Field) -> Field:
    """``shape`` without ``away``."""
    return np.maximum(shape, -away)


def both(first: Field, second: Field) -> Field:
    """What is in both shapes."""
    return np.maximum(first, second)


def coverage(distance: Field, pixel: Number) -> Field:
    """Share of a pixel, of side ``pixel``, that the shape covers: its smooth edge."""
    cover = distance * np.float32(-1 / pixel)
    cover += np.float32(0.5)
    return _unit(cover)


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
