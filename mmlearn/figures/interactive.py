"""Figures that move: a player over steps, sliders over parameters, words to point at.

One block of HTML each, without kernel, network or library: it works on the page, in JupyterLab and in Colab. What is
seen first is a still picture that needs no script; nothing moves before the reader asks for it.
"""

import html
import io
import itertools
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mmlearn.figures.diagram import STYLE, Diagram, data_uri

LIMIT = 400_000                                   # bytes of one block
_numbers = itertools.count(1)                     # of this process: no two blocks of a page share a name

_STYLE = STYLE + (
    ".mm-stage{display:grid;overflow-x:auto;touch-action:pan-y}.mm-frame{grid-area:1/1;min-width:0}"
    ".mm .mm-off{visibility:hidden}.mm .mm-frame img{display:block;margin:auto!important;max-width:100%;height:auto;"
    "padding:0!important;border-radius:4px;background:#fff;filter:none!important}.mm-label{text-align:center;"
    "margin:8px 4px 0;color:var(--mm-ink)}.mm-bar{display:flex;gap:6px 10px;align-items:center;justify-content:center;"
    "flex-wrap:wrap;margin-top:10px;color:var(--mm-soft);font-size:14px}.mm-bar[hidden]{display:none}"
    ".mm-bar label{display:flex;gap:8px;align-items:center;flex:1 1 240px;max-width:420px}.mm-bar input{flex:1;"
    "min-width:80px;height:32px;margin:0;accent-color:var(--mm-block)}.mm-bar output{font-variant-numeric:tabular-nums;"
    "min-width:3.4em;color:var(--mm-ink)}.mm button{font:inherit;color:var(--mm-ink);background:none;margin:0;"
    "border:1px solid var(--mm-edge);border-radius:8px;padding:0;min-width:40px;height:36px;cursor:pointer}"
    ".mm button:hover{border-color:var(--mm-block)}.mm :focus-visible{outline:2px solid var(--mm-block);"
    "outline-offset:2px}.mm button svg{width:16px;height:16px;fill:currentColor;margin:auto}"
    ".mm-words{display:flex;flex-wrap:wrap;gap:4px;justify-content:center;margin:0 0 10px}"
    ".mm .mm-words button{padding:0 9px;min-width:32px}"
    '.mm-words button[aria-pressed="true"]{background:var(--mm-text-fill);border-color:var(--mm-text)}'
)
_SCRIPT = """(()=>{const D=__DATA__;
for(const R of document.querySelectorAll('[data-mm="__ID__"]:not([data-on])')){R.dataset.on=1;
 const all=s=>[...R.querySelectorAll(s)],S=all('.mm-stage')[0],still=S.firstElementChild,I=all('input'),
  W=all('.mm-words button'),B=Object.fromEntries(all('.mm-bar button').map(b=>[b.dataset.do,b])),
  F=D.frames.map((h,i)=>{if(i==D.start)return still;const d=document.createElement('div');
   d.className='mm-frame mm-off';d.innerHTML=h;S.append(d);return d});
 let at=D.start,timer=0;
 const show=i=>{at=Math.max(0,Math.min(F.length-1,i));let rest=at;
  F.forEach((f,j)=>{f.classList.toggle('mm-off',j!=at);f.setAttribute('aria-hidden',j!=at)});
  W.forEach((w,j)=>w.setAttribute('aria-pressed',j==at));
  for(let k=I.length-1;k>=0;k--){const n=D.axes[k].length,v=rest%n,t=D.axes[k][v];rest=(rest-v)/n;
   I[k].value=v;I[k].setAttribute('aria-valuetext',t);I[k].nextElementSibling.value=t}};
 const stop=()=>{clearInterval(timer);timer=0;if(B.play){B.play.innerHTML=D.play;B.play.setAttribute('aria-label','play')}};
 const go=i=>{stop();show(i)};
 const play=()=>{if(timer)return stop();if(at==F.length-1)show(0);B.play.innerHTML=D.pause;
  B.play.setAttribute('aria-label','pause');timer=setInterval(()=>{show(at+1);if(at==F.length-1)stop()},D.wait)};
 if(B.play){B.play.onclick=play;B.back.onclick=()=>go(at-1);B.next.onclick=()=>go(at+1)}
 for(const x of I)x.oninput=()=>go(I.reduce((i,y,k)=>i*D.axes[k].length+ +y.value,0));
 W.forEach((w,i)=>{w.onclick=w.onfocus=()=>go(i);w.onpointerenter=e=>e.pointerType=='mouse'&&go(i)});
 R.onkeydown=e=>{const to={ArrowLeft:at-1,ArrowRight:at+1,Home:0,End:F.length-1}[e.key];
  if(to===undefined||e.target.type=='range')return;e.preventDefault();e.stopPropagation();go(to);
  if(W.length)W[at].focus()};
 let x0=null;S.onpointerdown=e=>{x0=e.clientX};S.onpointerup=e=>{const d=e.clientX-x0;
  if(x0!==null&&Math.abs(d)>40&&I.length<2)go(at+(d<0?1:-1));x0=null};
 all('.mm-bar').forEach(b=>{b.hidden=false});show(at)}})();"""
_ICONS = {name: f'<svg viewBox="0 0 16 16" aria-hidden="true"><path d="{d}"/></svg>' for name, d in {
    "play": "M4 2l10 6-10 6z", "pause": "M3 2h4v12H3zM9 2h4v12H9z", "back": "M11 2v12L4 8z", "next": "M5 2v12l7-6z"}.items()}


class Block:
    """A moving figure: its HTML, and ``alt`` where only text is shown."""

    def __init__(self, html_text: str, alt: str) -> None:
        self.html, self.alt = html_text, alt

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"moving figure: {self.alt}"


def player(frames: Sequence[Any], labels: Sequence[str], alt: str, *, start: int = 0, seconds: float = 0.9,
           width: int = 640) -> Block:
    """Frames over steps: play, step back and forth, slide; ``labels`` (one a frame) stand below each.

    A frame is a ``Diagram``, a matplotlib figure (closed here), a picture (array, tensor), or SVG text; pictures are
    shown ``width`` pixels wide. ``start`` is the frame seen first (-1: the last), ``seconds`` a step's time. Raises
    ``ValueError`` without ``alt``, for another number of labels, and above 400 kB.
    """
    buttons = "".join(f'<button type="button" data-do="{name}" aria-label="{label}">{_ICONS[name]}</button>'
                      for name, label in (("back", "step back"), ("play", "play"), ("next", "step")))
    steps = [f"{i + 1} / {len(frames)}" for i in range(len(frames))]
    return _block(frames, labels, alt, start, width, bar=buttons, axes={"": steps}, wait=seconds)


def slider(values: Mapping[str, Sequence[Any]], frames: Sequence[Any], alt: str, *, labels: Sequence[str] | None = None,
           start: int = 0, width: int = 640) -> Block:
    """Frames over one or two parameters, ``{name: its values}``; with two the second runs fastest.

    Otherwise as ``player``.
    """
    axes = {name: [str(value) for value in each] for name, each in values.items()}
    return _block(frames, labels or [""] * len(frames), alt, start, width, axes=axes)


def hover(words: Sequence[str], panels: Sequence[Any], alt: str, *, labels: Sequence[str] | None = None,
          start: int = 0, width: int = 640) -> Block:
    """A row of words over one panel each: the panel of the word that is pointed at, tapped or focused is seen.

    Otherwise as ``player``.
    """
    return _block(panels, labels or [""] * len(panels), alt, start, width, words=words)


def _block(frames: Sequence[Any], labels: Sequence[str], alt: str, start: int, width: int, *, bar: str = "",
           axes: Mapping[str, Sequence[str]] | None = None, words: Sequence[str] = (), wait: float = 1.0) -> Block:
    axes = axes or {}
    wanted = len(words) or math.prod(len(values) for values in axes.values())
    if not alt.strip():
        raise ValueError("a moving figure needs alt: say what it shows to somebody who cannot see it")
    if not len(frames) == len(labels) == wanted or not frames:
        raise ValueError(f"{len(frames)} frames and {len(labels)} labels for {wanted} places; give one each")
    start %= len(frames)
    names = labels if any(labels) else words or [", ".join(v) for v in itertools.product(*axes.values())]
    parts = [_frame(frame, f"{alt}: {name}", width) for frame, name in zip(frames, names)]
    parts = [part + (f'<div class="mm-label">{html.escape(label)}</div>' if label else "")
             for part, label in zip(parts, labels)]
    still, parts[start] = parts[start], ""
    data = {"frames": parts, "axes": list(axes.values()), "start": start, "wait": round(1000 * wait), **_ICONS}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/").replace("<!", "<\\u0021")
    name = f"mm-{zlib.crc32((still + text).encode()):08x}-{next(_numbers)}"
    row = "".join(f'<button type="button" aria-pressed="{str(i == start).lower()}">{html.escape(word)}</button>'
                  for i, word in enumerate(words))
    for axis, values in axes.items():
        bar += (f'<label>{html.escape(axis)}<input type="range" min="0" max="{len(values) - 1}" step="1" '
                f'aria-label="{html.escape(axis or "step")}"><output></output></label>')
    block = (f'<style>{_STYLE}</style><div class="mm" id="{name}" data-mm="{name}" role="group" '
             f'aria-label="{html.escape(alt)}" data-lm-suppress-shortcuts="true">'
             + (f'<div class="mm-words">{row}</div>' if row else "")
             + f'<div class="mm-stage"><div class="mm-frame">{still}</div></div>'
             + (f'<div class="mm-bar" hidden>{bar}</div>' if bar else "")
             + f"</div><script>{_SCRIPT.replace('__ID__', name).replace('__DATA__', text)}</script>")
    if len(block.encode()) > LIMIT:
        raise ValueError(f"the figure is {len(block.encode()) / 1000:.0f} kB, at most {LIMIT // 1000} kB are allowed; "
                         "give fewer frames, or smaller ones")
    return Block(block, alt)


def _frame(frame: Any, alt: str, width: int) -> str:
    """HTML of one frame."""
    if isinstance(frame, Diagram):
        return frame.svg
    if isinstance(frame, str):
        return frame
    if isinstance(frame, Figure):
        buffer = io.BytesIO()
        frame.savefig(buffer, format="png")
        plt.close(frame)
        address = data_uri(np.asarray(Image.open(buffer).convert("RGB")))
    else:
        address = data_uri(frame, lossless=False)
    return f'<img src="{address}" alt="{html.escape(alt)}" width="{width}">'
