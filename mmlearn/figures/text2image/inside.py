"""Figures of section 2.1.3, inside its systems: which places read a word, where a memory answers, what a
penalty does, a mask in the wrong order.

Papers: T. Xu et al. (2018), *AttnGAN*, arXiv:1711.10485 (the first); M. Zhu et al. (2019), *DM-GAN*,
arXiv:1904.01310 (the second); M. Tao et al. (2022), *DF-GAN*, arXiv:2008.05865 (the third).  Survey: 2.1.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from mmlearn.figures.diagram import Diagram, Number
from mmlearn.figures.interactive import Block, hover
from mmlearn.plot import PALETTE, picture
from mmlearn.text2image.attngan import released_mask_order
from mmlearn.text2image.blocks import Gates
from mmlearn.text2image.dfgan import discriminator_hinge, joint_penalty
from mmlearn.text2image.gan import mlp

# ------------------------------------------------------------------------------------- words and places


def words_on_places(image: Any, words: Sequence[str], attention: Sequence[Any], size: int = 240) -> Block:
    """Hover figure of AttnGAN: the drawn picture of each word, once a branch, bright where places read that
    word.

    ``image`` (3, s, s) in [-1, 1]; ``attention`` one (p, t) a branch, as ``Generated.attention`` has it of
    one picture, t at least the number of words. All words of a branch share one scale: its largest share is
    full brightness. Raises ``ValueError`` if the numbers do not fit.
    """
    tables = _tables(words, attention)
    panels = [_panel(image, [table[:, i] for table in tables], [table.max() for table in tables], size)
              for i in range(len(words))]
    labels = [f"“{word}”: {_shares([table[:, i] for table in tables])}" for i, word in enumerate(words)]
    return hover(words, panels, "Which places of the picture read each word, branch by branch",
                 labels=labels, width=_wide(tables, size))


def memory_on_places(image: Any, words: Sequence[str], attention: Sequence[Any], gates: Sequence[Gates],
                     size: int = 240) -> Block:
    """Hover figure of DM-GAN: where the slot of each word is addressed, how far its writing gate is open, and
    as a last panel where the response gate takes the answer over.

    ``attention`` one (p, t) a branch, ``gates`` their ``Gates`` of the same picture: writing (t, 1), response
    (p, 1); otherwise as ``words_on_places``.
    """
    tables = _tables(words, attention)
    if len(gates) != len(tables):
        raise ValueError(f"gates of {len(gates)} branches for {len(tables)} branches; give one each")
    writing = [_array(gate.writing).reshape(-1) for gate in gates]
    response = [_array(gate.response).reshape(-1) for gate in gates]
    panels = [_panel(image, [table[:, i] for table in tables], [table.max() for table in tables], size)
              for i in range(len(words))]
    panels.append(_panel(image, response, [1.0] * len(tables), size))
    labels = [f"“{word}”: writing gate {_each(w[i] for w in writing)}; "
              f"{_shares([table[:, i] for table in tables])}" for i, word in enumerate(words)]
    labels.append(f"response gate: {_each(r.mean() for r in response)} of the answer taken over, on average")
    return hover([*words, "→ response"], panels, "Which places address each memory slot, and both gates",
                 labels=labels, width=_wide(tables, size))


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, dtype=float)


def _tables(words: Sequence[str], attention: Sequence[Any]) -> list[np.ndarray]:
    """Weights (p, t) of each branch, cut to the words."""
    tables = [_array(table) for table in attention]
    if not tables:
        raise ValueError("there are no branches that read words; give one table (p, t) each")
    for table in tables:
        side = round(len(table) ** 0.5)
        if table.ndim != 2 or side * side != len(table) or table.shape[1] < len(words):
            raise ValueError(f"weights have the shape {table.shape}; give (p, t), p places of a square map "
                             f"and at least {len(words)} words")
    return [table[:, :len(words)] for table in tables]


def _panel(image: Any, maps: Sequence[np.ndarray], most: Sequence[Number], size: int) -> np.ndarray:
    """The picture once a branch, side by side, bright where a map over its places is near ``most``."""
    sharp = _grown(picture((torch.as_tensor(_array(image)) + 1) / 2), size)
    grey = sharp.mean(axis=-1, keepdims=True)
    parts = []
    for map, largest in zip(maps, most):
        side = round(len(map) ** 0.5)
        light = _grown(map.reshape(side, side, 1) / max(float(largest), 1e-12), size)
        parts += [(0.25 + 0.75 * light) * (light * sharp + (1 - light) * (sharp + grey) / 2),
                  np.ones((size, 6, 3))]
    return np.concatenate(parts[:-1], axis=1)


def _grown(values: np.ndarray, size: int) -> np.ndarray:
    """A picture or a map (s, s, c) with values in [0, 1], ``size`` pixels a side."""
    planes = torch.from_numpy(np.ascontiguousarray(values, dtype=float)).permute(2, 0, 1)[None]
    return F.interpolate(planes, (size, size), mode="bilinear")[0].clamp(0, 1).permute(1, 2, 0).numpy()


def _wide(tables: Sequence[np.ndarray], size: int) -> int:
    return len(tables) * size + 6 * (len(tables) - 1)


def _each(values: Any) -> str:
    return " and ".join(f"{float(value):.2f}" for value in values)


def _shares(maps: Sequence[np.ndarray]) -> str:
    """Mean and largest share of a word, branch by branch."""
    means, most = ([f"{100 * f(map):.0f} %" for map in maps] for f in (np.mean, np.max))
    return f"on average {' and '.join(means)} of what a place reads, at most {' and '.join(most)}"


# ------------------------------------------------------------------------------ the penalty of DF-GAN

KINDS = ("real, matching", "real, mismatched", "fake, matching", "fake, mismatched")
NOWHERE = ""


@dataclass(frozen=True)
class ToyCritic:
    """A critic of pairs (x, e) of numbers, trained by ``train_toy_critic``; ``at`` says where its slope was
    penalised, "" nowhere."""

    net: nn.Module
    at: str

    def score(self, pairs: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """The score a(x, e) of each pair."""
        with torch.no_grad():
            return self.net(pairs)[:, 0]

    def slope(self, pairs: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Its gradient in x and e."""
        at = pairs.clone().requires_grad_()
        return torch.autograd.grad(self.net(at).sum(), at)[0]


def toy_pairs(kind: str, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
    """Pairs (x, e) of one of ``KINDS``. A text e is -1 or 1; its real pictures lie around x = e with a
    deviation of 0.1; a young generator draws x between -2.2 and 2.2, whatever the text says."""
    e = 2.0 * torch.randint(0, 2, (n, 1), generator=generator) - 1
    if kind.startswith("real"):
        x = e + 0.1 * torch.randn(n, 1, generator=generator)
    else:
        x = 4.4 * torch.rand(n, 1, generator=generator) - 2.2
    return torch.cat([x, -e if kind.endswith("mismatched") else e], dim=1)


def train_toy_critic(at: str = KINDS[0], steps: int = 800, batch: int = 128, seed: int = 0) -> ToyCritic:
    """A critic of two layers against a generator that does not move: eq:dfgan-hinge, and eq:dfgan-magp at the
    pairs of one of ``KINDS``, or none (``at=""``). Raises ``ValueError`` for another kind."""
    if at not in (*KINDS, NOWHERE):
        raise ValueError(f"at is {at!r}; use one of {', '.join(KINDS)}, or \"\"")
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = mlp(2, 64, 2, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.0, 0.9))
    for _ in range(steps):
        pairs = {kind: toy_pairs(kind, batch, draws).requires_grad_(kind == at) for kind in KINDS}
        real, mismatched, fake, _ = scores = [net(pairs[kind])[:, 0] for kind in KINDS]
        loss = discriminator_hinge(real, fake, mismatched)
        if at:
            score = scores[KINDS.index(at)].sum()
            slope, = torch.autograd.grad(score, pairs[at], create_graph=True)
            by_x, by_e = slope.split(1, dim=1)
            loss = loss + joint_penalty(F.pad(by_x, (0, 2))[:, :, None, None], by_e)   # "pixels" 3 x 1 x 1
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ToyCritic(net, at)


def penalty_surface(critics: Mapping[str, ToyCritic], seed: int = 1) -> Figure:
    """The scores of critics over all pairs (x, e), with the pairs of each kind, and below along the line of
    one text, e = 1."""
    draws = torch.Generator().manual_seed(seed)
    pairs = {kind: toy_pairs(kind, 24, draws) for kind in KINDS[:3]}
    x, e = torch.linspace(-2.4, 2.4, 121), torch.linspace(-1.5, 1.5, 76)
    places = torch.stack(torch.meshgrid(x, e, indexing="xy"), dim=2)
    figure, axes = plt.subplots(2, len(critics), figsize=(4.0 * len(critics), 5.6), squeeze=False,
                                layout="constrained", height_ratios=(3, 2))
    for i, (name, critic) in enumerate(critics.items()):
        above, below = axes[0, i], axes[1, i]
        height = critic.score(places.flatten(0, 1)).view(len(e), len(x))
        shown = above.contourf(x, e, height, levels=np.linspace(-2, 2, 17), cmap="PuOr", extend="both")
        for (kind, points), mark in zip(pairs.items(), "oxv"):
            color = "black" if kind.startswith("real") else "white"
            above.scatter(*points.T, marker=mark, s=26, c=color, linewidths=1.2, label=kind,
                          edgecolors=None if mark == "x" else "black")
        above.set(title=name, xlabel="picture x", yticks=(-1, 1), ylabel="text e" if i == 0 else "")
        above.grid(False)
        line = critic.score(torch.stack([x, torch.ones_like(x)], dim=1))
        below.plot(x, line, color=PALETTE[0])
        below.axvline(1, color="black", linewidth=1, linestyle=":")
        below.set(xlabel="picture x, for the text e = 1", ylabel="score" if i == 0 else "")
    figure.colorbar(shown, ax=axes[0, -1], label="score a(x, e)", ticks=(-2, -1, 0, 1, 2))
    marks, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(marks, names, loc="outside lower center", ncols=3, facecolor="#cccccc", frameon=True)
    return figure


def slopes_by_kind(critic: ToyCritic, n: int = 1000, seed: int = 2) -> dict[str, float]:
    """The mean norm of the critic's gradient at pairs of each kind."""
    draws = torch.Generator().manual_seed(seed)
    return {kind: float(critic.slope(toy_pairs(kind, n, draws)).norm(dim=1).mean()) for kind in KINDS}


# -------------------------------------------------------------------------------- a mask in the wrong order

def mask_order(lengths: Sequence[int] = (5, 4, 3, 2), places: int = 3) -> Diagram:
    """Rows of scores (b p, t) under the mask that belongs to them, and under that of the released AttnGAN:
    words in orange, padding in grey, what is masked wrongly in red."""
    b, t = len(lengths), max(lengths)
    mask = torch.arange(t) < torch.tensor(lengths)[:, None]
    right = mask[:, None].expand(b, places, t).flatten(0, 1)
    tiled = released_mask_order(mask, places).flatten(0, 1)
    wrong = (right != tiled).any(dim=1)
    rows, cell = b * places, 17
    height = rows * cell + 112
    drawn = Diagram(460, height, (
        f"Masks of {rows} rows of attention scores, {places} places for each of {b} captions of "
        f"{', '.join(map(str, lengths))} words. Left, the right order: {places} equal rows for each caption. "
        f"Right, the released order repeats the captions: row r gets the mask of caption r mod {b}. "
        f"{int(wrong.sum())} of {rows} rows are wrong."))
    for x, name, table in ((150, "right", right), (368, "released code", tiled)):
        drawn.text(x, 18, name, 15, weight=600)
        drawn.text(x, 38, f"words 1 to {t}", 13, "soft")
        for i in range(rows):
            y = 62 + (i + 0.5) * cell
            for j in range(t):
                bad = bool(table[i, j] != right[i, j])
                role = "loss" if bad else "text" if bool(table[i, j]) else "frozen"
                place = x + (j - (t - 1) / 2) * (cell + 4), y
                drawn.rect(*place, cell + 3, cell - 1, role, radius=2)
                if bad:
                    drawn.text(*place, "✓" if bool(table[i, j]) else "×", 13, "loss", weight=600)
            if x > 200 and bool(wrong[i]):
                drawn.text(x + t * (cell + 4) / 2 + 8, y, "×", 15, "loss", "start", 600)
    for i in range(b):
        y = 62 + (i + 0.5) * places * cell
        drawn.text(90, y, f"caption {i + 1}", 13, "text", "end", 600)
        if i:
            drawn.line([(24, 62 + i * places * cell), (436, 62 + i * places * cell)], "frozen", dashed=True)
    drawn.text(230, height - 34, f"red: masked wrongly; {int(wrong.sum())} of {rows} rows", 13, "loss")
    drawn.text(230, height - 14, "✓ padding that is read, × a word that is hidden", 13, "loss")
    return drawn
