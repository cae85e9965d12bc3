"""Diagrams: boxes, arrows with shapes on them, small pictures; vectors in the page's light, bright or dark.

A text may hold ``_x`` or ``_{xyz}`` (below), ``^x`` (above) and ``*x*`` (italic); ``literal`` keeps them.
Units are pixels on a wide page; on a narrow one a diagram shrinks until its smallest letters are 9 px high.
"""

import base64
import html
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmlearn.plot import picture

Number = float | int
Point = tuple[Number, Number]

# What a colour means in every figure: a hue for lines on white, its tint for areas, and both for a dark page.
ROLES = {
    "image": ("#0f7f7c", "#e0f3f1", "#56c7bf", "#12312f"),      # pixels, regions, encoder
    "text": ("#b35f00", "#fdf0da", "#f0ad4e", "#372812"),       # words, decoder
    "new": ("#7650c8", "#efe9fc", "#b39af0", "#2a2144"),        # memory, and what sets a system apart
    "loss": ("#c93a45", "#fdeaea", "#f2868b", "#3d1e22"),       # losses, rewards, what is wrong
    "frozen": ("#6b7686", "#eef1f5", "#9aa5b5", "#262d36"),     # not trained; cut
    "block": ("#2d6cb3", "#e6f0fb", "#77aeea", "#17293d"),      # any other computation
}
COLOURS = {role: hues[0] for role, hues in ROLES.items()}       # for \textcolor{…} in equations
_PAGE = ({"ink": "#1d2733", "soft": "#566375", "line": "#5b6878", "page": "#ffffff", "edge": "#dfe5ee"},
         {"ink": "#e6ebf2", "soft": "#a9b4c3", "line": "#94a1b2", "page": "#161b22", "edge": "#323c49"})


def _theme(dark: bool) -> str:
    hues = {f"{name}{part}": pair[i + 2 * dark] for name, pair in ROLES.items()
            for i, part in enumerate(("", "-fill"))}
    return "{" + "".join(f"--mm-{name}:{value};" for name, value in {**_PAGE[dark], **hues}.items()) + "}"


_DARK = ('html[data-theme="dark"] .mm,html[theme="dark"] .mm,[data-jp-theme-light="false"] .mm,'
         ".vscode-dark .mm")
_CSS = re.sub(r"\n *", "", Path(__file__).with_name("block.css").read_text(encoding="utf-8"))
_ROLES = "".join(f".mm .mm-{role}{{--c:var(--mm-{role});--f:var(--mm-{role}-fill)}}" for role in ROLES)
STYLE = "".join([
    ".mm", _theme(False), _DARK, _theme(True), "@media(prefers-color-scheme:dark){",
    "html:not([data-theme]):not([theme]) body:not([data-jp-theme-light]):not(.vscode-light) .mm",
    _theme(True), "}",
    _ROLES, _CSS,
])
_ALONE = (f"<style>svg{_theme(False)}svg{{font-family:system-ui,sans-serif;background:#fff}}"
          + (_ROLES + _CSS.split("/**/")[0]).replace(".mm ", "") + "</style>")
# A diagram is a picture where neither scripts nor SVG are let through (GitHub, an untrusted notebook); where
# scripts run, it becomes part of the page, and so of its light.
_INLINE = """<script>for (const i of document.querySelectorAll('img.mm-svg')) {
const t = new TextDecoder().decode(Uint8Array.from(atob(i.src.split(',')[1]), c => c.charCodeAt(0)));
i.outerHTML = t.replace(/<style>.*?<\\/style>/, '');}</script>"""


def literal(text: str) -> str:
    """A text whose ``_ ^ *`` are letters."""
    return re.sub(r"([\\_^*])", r"\\\1", text)


def rich(text: str, size: Number) -> str:
    """SVG of one line of text: sub- and superscripts as shifted small spans, ``*x*`` in italics."""
    out, shift, slanted = [], 0.0, False
    for token in re.findall(r"\\.|[_^]\{[^}]*\}|[_^].|\*|[^\\_^*]+|.", text):
        if token == "*":
            slanted = not slanted
            continue
        move = {"_": 0.26, "^": -0.36}.get(token[0], 0.0) * size
        inner = re.sub(r"^[_^]\{?|\}$", "", token) if move else token.removeprefix("\\")
        marks = f' dy="{move - shift:.3g}"' if move != shift else ""
        marks += f' font-size="{0.74 * size:.3g}"' if move else ""
        marks += ' font-style="italic"' if slanted else ""
        out.append(f"<tspan{marks}>{html.escape(inner)}</tspan>" if marks else html.escape(inner))
        shift = move
    return "".join(out)


def text_width(text: str, size: Number) -> Number:
    """About how wide a line is, in pixels."""
    letters = re.sub(r"[\\_^*{}]", "", text)
    return size * sum(0.3 if c in "iljtfrI.,:;'|! ()" else 0.84 if c in "mwMW" else 0.56 for c in letters)


def in_lines(widths: Sequence[Number], wide: Number, gap: Number = 6) -> list[tuple[Number, int]]:
    """The centre and the line of boxes that are set side by side in lines of ``wide`` pixels."""
    found: list[tuple[Number, int]] = []
    left, line = 0.0, 0
    for w in widths:
        if found and left + w > wide:
            left, line = 0.0, line + 1
        found.append((left + w / 2, line))
        left += w + gap
    return found


def data_uri(pixels: Any, lossless: bool = True) -> str:
    """A picture (array or tensor, as ``plot.picture`` takes them) as a WebP inside a ``data:`` address."""
    image = Image.fromarray((picture(pixels) * 255).round().astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "webp", lossless=lossless, quality=80 if lossless else 86, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pair(letter: str, point: np.ndarray) -> str:
    return f"{letter}{point[0]:.5g} {point[1]:.5g}"


@dataclass(frozen=True)
class Box:
    """Something drawn, by its centre and size; arrows start and end at its sides."""

    x: Number
    y: Number
    w: Number
    h: Number

    def at(self, side: str, share: Number = 0.5) -> Point:
        """A point of a side ("l", "r", "t" or "b"), ``share`` of the way along it."""
        if side in "lr":
            return self.x + (self.w if side == "r" else -self.w) / 2, self.y + (share - 0.5) * self.h
        return self.x + (share - 0.5) * self.w, self.y + (self.h if side == "b" else -self.h) / 2


class Diagram:
    """A drawing ``width`` by ``height``; ``alt`` says what it shows, ``narrow`` replaces it on a phone.

    Places are centres, y grows downwards, ``role`` is a key of ``ROLES``. ``ValueError`` without ``alt``.
    """

    def __init__(self, width: Number, height: Number, alt: str, narrow: "Diagram | None" = None) -> None:
        if not alt.strip():
            raise ValueError("a diagram needs alt: say what it shows to somebody who cannot see it")
        self.width, self.height, self.alt, self.narrow = width, height, alt, narrow
        self.parts: list[str] = []
        self.smallest: Number = 13                                      # px, the smallest text so far

    def add(self, svg: str) -> None:
        """Append SVG as it is."""
        self.parts.append(svg)

    def text(self, x: Number, y: Number, text: str, size: Number = 14, role: str = "", anchor: str = "middle",
             weight: int = 400, halo: bool = False) -> None:
        """One line of text around (x, y); ``role`` "soft" is a quiet grey."""
        self.smallest = min(self.smallest, size)
        names = " ".join([f"mm-{role}"] * bool(role) + ["mm-c"] * (role in ROLES) + ["mm-halo"] * halo)
        marks = (f' class="{names}"' if names else "") + (f' font-weight="{weight}"' if weight != 400 else "")
        marks += f' text-anchor="{anchor}"' if anchor != "start" else ""
        self.add(f'<text x="{x:.4g}" y="{y + 0.35 * size:.4g}" font-size="{size:g}"{marks}>'
                 f"{rich(text, size)}</text>")

    def rect(self, x: Number, y: Number, w: Number, h: Number, role: str = "", radius: Number = 8,
             marks: str = "") -> Box:
        """A rounded rectangle around (x, y)."""
        self.add(f'<rect class="mm-b{" mm-" + role if role else ""}" x="{x - w / 2:.4g}" y="{y - h / 2:.4g}" '
                 f'width="{w:.4g}" height="{max(h, 0):.4g}" rx="{radius:g}"{marks}/>')
        return Box(x, y, w, h)

    def bar(self, left: Number, y: Number, w: Number, h: Number, role: str = "block",
            marks: str = "") -> None:
        """A full bar to the right of ``left``, around the height y."""
        self.add(f'<rect class="mm-h mm-{role}" x="{left:.4g}" y="{y - h / 2:.4g}" width="{max(w, 0.5):.4g}" '
                 f'height="{h:.4g}" rx="2"{marks}/>')

    def box(self, x: Number, y: Number, text: str, role: str = "block", w: Number = 0, h: Number = 0) -> Box:
        """A box with a first line in bold and quiet lines below it."""
        first, *rest = text.split("\n")
        w = w or max(text_width(first, 15), *(text_width(line, 13) for line in rest), 20) + 24
        box = self.rect(x, y, w, h or 26 + 17 * len(rest) + 8, role)
        top = y - 8.5 * len(rest)
        self.text(x, top, first, weight=600)
        for i, line in enumerate(rest, start=1):
            self.text(x, top + 17 * i, line, size=13, role="soft")
        return box

    def node(self, x: Number, y: Number, sign: str, role: str = "", size: Number = 24) -> Box:
        """A circle with a sign: +, ×, σ."""
        self.rect(x, y, size, size, role, radius=size / 2)
        self.text(x, y, sign, size=15, weight=600)
        return Box(x, y, size, size)

    def group(self, x: Number, y: Number, w: Number, h: Number, label: str = "", role: str = "",
              dashed: bool = True) -> Box:
        """A frame around parts, with its name in the lower left corner; draw it before them."""
        marks = f' style="fill:none;stroke-width:1.3{";stroke-dasharray:5 4" if dashed else ""}"'
        box = self.rect(x, y, w, h, role, radius=12, marks=marks)
        if label:
            self.text(x - w / 2 + 10, y + h / 2 - 14, label, 13, role or "soft", "start", 600)
        return box

    def matrix(self, x: Number, y: Number, rows: Sequence[str], columns: int | Sequence[str],
               cell: Number = 13, label: str = "") -> Box:
        """A grid of cells, coloured by the role of each row, or of each column if ``columns`` names roles."""
        roles = [[row] * columns if isinstance(columns, int) else list(columns) for row in rows]
        w, h = cell * len(roles[0]), cell * len(rows)
        for (i, j), role in np.ndenumerate(roles):
            place = x - w / 2 + (j + 0.5) * cell, y - h / 2 + (i + 0.5) * cell
            self.rect(*place, cell, cell, str(role), radius=2)
        if label:
            self.text(x, y - h / 2 - 12, label, 13, weight=600, halo=True)
        return Box(x, y, w, h)

    def image(self, x: Number, y: Number, pixels: Any, w: Number, h: Number = 0) -> Box:
        """A small picture."""
        h = h or w * picture(pixels).shape[0] / picture(pixels).shape[1]
        self.add(f'<image x="{x - w / 2:g}" y="{y - h / 2:g}" width="{w:g}" height="{h:g}" '
                 f'preserveAspectRatio="none" href="{data_uri(pixels, lossless=False)}"/>')
        return self.rect(x, y, w, h, radius=3, marks=' style="fill:none;stroke-width:1"')

    def arrow(self, start: Box | Point, end: Box | Point, label: str = "", role: str = "", sides: str = "",
              via: Sequence[Point] = (), bend: Number = 0.5, side: int = 1, dashed: bool = False,
              head: bool = True) -> None:
        """An arrow between ``sides`` of boxes, e.g. "rl", with corners if not level, or through ``via``.

        ``label`` stands right of its longest part or above it, on the other side with ``side=-1``.
        """
        a, b = (p if isinstance(p, Box) else Box(*p, 0, 0) for p in (start, end))
        across = abs(b.x - a.x) - (a.w + b.w) / 2 >= abs(b.y - a.y) - (a.h + b.h) / 2
        sides = sides or (("rl" if b.x > a.x else "lr") if across else ("bt" if b.y > a.y else "tb"))
        out, into = sides[0], sides[1]
        p, q = a.at(out), b.at(into)
        points = [p, *via, q]
        if not via and abs(p[0] - q[0]) > 1 and abs(p[1] - q[1]) > 1:
            if (out in "lr") != (into in "lr"):
                points[1:1] = [(q[0], p[1]) if out in "lr" else (p[0], q[1])]
            elif out in "lr":
                points[1:1] = [(middle := p[0] + bend * (q[0] - p[0]), p[1]), (middle, q[1])]
            else:
                points[1:1] = [(p[0], middle := p[1] + bend * (q[1] - p[1])), (q[0], middle)]
        self.line(points, role, dashed, head)
        if label:
            (x0, y0), (x1, y1) = max(zip(points, points[1:]), key=lambda ends: math.dist(*ends))
            level = abs(x1 - x0) >= abs(y1 - y0)
            x, y = (x0 + x1) / 2 + (0 if level else 7 * side), (y0 + y1) / 2 - (10 * side if level else 0)
            anchor = "middle" if level else "start" if side > 0 else "end"
            self.text(x, y, label, 13, role or "soft", anchor, halo=True)

    def line(self, points: Sequence[Point], role: str = "", dashed: bool = False, head: bool = False) -> None:
        """A line through points with rounded corners, on request with an arrow's head at its end."""
        name, pts = f" mm-{role}" if role else "", [np.array(p, dtype=float) for p in points]
        along = (pts[-1] - pts[-2]) / max(math.dist(pts[-1], pts[-2]), 1e-9)
        tip, normal = pts[-1], np.array([-along[1], along[0]])
        if head:
            pts[-1] = tip - 7 * along
        path = [_pair("M", pts[0])]
        for before, at, after in zip(pts, pts[1:], pts[2:]):
            far, near = max(math.dist(before, at), 1e-9), max(math.dist(after, at), 1e-9)
            r = min(8.0, far / 2, near / 2)
            path += [_pair("L", at + (before - at) * r / far), _pair("Q", at)]
            path.append(_pair(" ", at + (after - at) * r / near))
        path.append(_pair("L", pts[-1]))
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        self.add(f'<path class="mm-l{name}" d="{"".join(path)}"{dashes}/>')
        if head:
            left, right = tip - 9 * along + 4.5 * normal, tip - 9 * along - 4.5 * normal
            corners = _pair("M", tip) + _pair("L", left) + _pair("L", right)
            self.add(f'<path class="mm-h{name}" d="{corners}Z"/>')

    @property
    def svg(self) -> str:
        """The drawing alone, for a frame of a moving figure."""
        return self._svg("".join(self.parts))

    def _svg(self, inner: str) -> str:
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
                f'role="img" aria-label="{html.escape(self.alt)}" {self._size}>{inner}</svg>')

    @property
    def _size(self) -> str:
        least, most = self.width * 9 / self.smallest, self.width * 1.1
        return f'style="width:100%;min-width:{least:.0f}px;max-width:{most:.0f}px"'

    def still(self, under: "Diagram | None" = None) -> str:
        """HTML of the drawing as a picture, on request over another one."""
        svg = self._svg(_ALONE + "".join([*(under.parts if under else ()), *self.parts]))
        return (f'<img class="mm-svg" alt="{html.escape(self.alt)}" {self._size} '
                f'src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">')

    def _repr_html_(self) -> str:
        wide = f'<div class="mm{" mm-wide" if self.narrow else ""}">{self.still()}</div>'
        narrow = f'<div class="mm mm-narrow" hidden>{self.narrow.still()}</div>' if self.narrow else ""
        return f"<style>{STYLE}</style>{wide}{narrow}{_INLINE}"

    def __repr__(self) -> str:
        return f"diagram: {self.alt}"
