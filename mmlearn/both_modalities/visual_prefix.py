r"""A visual prefix: cells of a picture become word vectors and stand among the words that a model reads.

Papers: M. Tsimpoukelli et al. (2021), *Multimodal Few-Shot Learning with Frozen Language Models*, NeurIPS,
arXiv:2106.13884 (a prefix for a language model that stays as it is); H. Liu et al. (2023), *Visual
Instruction Tuning* (LLaVA), NeurIPS, arXiv:2304.08485, sec. 4.1 (one matrix); H. Liu et al. (2024), *Improved
Baselines with Visual Instruction Tuning* (LLaVA-1.5), CVPR, arXiv:2310.03744, sec. 3 (two layers).  Survey:
none; it is what came after 5.3.
Differs from the papers: the parts are the miniatures at hand, chapter 4's CLIP and the language model of
scenes; the cells are those of a ResNet's last stage but one, where LLaVA takes the last layer but one of a
ViT. Which parts are trained is chosen by ``trained``; the picture encoder is frozen always, as in LLaVA
(Frozen trains it).

Letters: $X$ are the cells of a picture, p rows of f numbers; $E_y$ is the word vector of a token $y$.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.interleaved import (
    ChunkTokeniser,
    Example,
    Look,
    PageBatches,
    interleaved_objective,
)
from mmlearn.nn.attention import KVCache
from mmlearn.nn.causal_lm import CausalLM, Prompt
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.modified_resnet import ModifiedResNet
from mmlearn.nn.vision import grid_to_sequence
from mmlearn.train import History, fit, parameter_groups, warmup_cosine

PROJECTIONS = ("matrix", "two layers")


@dataclass(frozen=True)
class VisualPrefixConfig:
    features: int = 1024        # f, numbers of a cell of the picture encoder
    width: int = 4096           # d, of word vectors
    projection: str = "two layers"  # from the one to the other: a "matrix" or "two layers"
    image: int = 4              # id of the token <image>, whose place the cells take

    def __post_init__(self) -> None:
        check(self, image=(0, 10_000_000))
        if self.projection not in PROJECTIONS:
            raise FieldError("VisualPrefixConfig", "projection",
                             f"is {self.projection!r}; use one of {', '.join(PROJECTIONS)}")

    @classmethod
    def llava_7b(cls) -> "VisualPrefixConfig":
        """LLaVA: a matrix from CLIP ViT-L/14 to Vicuna-7B."""
        return cls(projection="matrix")

    @classmethod
    def llava_13b(cls) -> "VisualPrefixConfig":
        """LLaVA: a matrix from CLIP ViT-L/14 to Vicuna-13B."""
        return cls(1024, 5120, "matrix")

    @classmethod
    def llava_15_7b(cls) -> "VisualPrefixConfig":
        """LLaVA-1.5: two layers from CLIP ViT-L/14 (336 pixels a side, 576 cells) to Vicuna-7B."""
        return cls()

    @classmethod
    def llava_15_13b(cls) -> "VisualPrefixConfig":
        """LLaVA-1.5: two layers from CLIP ViT-L/14 to Vicuna-13B."""
        return cls(1024, 5120)

    @classmethod
    def mini(cls, projection: str = "two layers", width: int = 128) -> "VisualPrefixConfig":
        """A miniature, from chapter 4's CLIP (16 cells of 256 numbers) to the language model of scenes."""
        return cls(256, width, projection)


# -------------------------------------------------------------------------------------------------- equations


def one_matrix(
    X: Float[Tensor, "*b f"], W: Float[Tensor, "f d"], b: Float[Tensor, " d"]
) -> Float[Tensor, "*b d"]:
    r"""eq:prefix-matrix: $XW+b$: cells of a picture as if they were words."""
    return X @ W + b


def two_layers(
    X: Float[Tensor, "*b f"],
    W_1: Float[Tensor, "f d"], b_1: Float[Tensor, " d"],
    W_2: Float[Tensor, "d d"], b_2: Float[Tensor, " d"],
) -> Float[Tensor, "*b d"]:
    r"""eq:prefix-layers: $\mathrm{GELU}(XW_1+b_1)W_2+b_2$: LLaVA-1.5's way to words."""
    return F.gelu(X @ W_1 + b_1) @ W_2 + b_2


class Places(NamedTuple):
    """Texts whose every ``<image>`` has become p places; they end together, after ``lengths`` places.

    ``rows`` (b, s): where a place's vector stands in the table of t words and then m p cells; ``real`` (b,
    s): is there anything at a place; ``ends`` (b, t): the place at which a token ends.
    """

    rows: Int[Tensor, "b s"]
    real: Bool[Tensor, "b s"]
    ends: Int[Tensor, "b t"]


def places(
    is_picture: Bool[Tensor, "b t"], p: int, real: Bool[Tensor, "b t"] | None = None
) -> Places:
    """Where everything stands when each picture takes p places instead of one."""
    width = torch.where(is_picture, p, 1)
    ends = width.cumsum(dim=1) - 1
    ends = ends + (ends[:, -1].max() - ends[:, -1:])            # the longest begins at 0
    at = torch.arange(int(ends[:, -1].max()) + 1, device=ends.device).expand(len(ends), -1)
    token = torch.searchsorted(ends, at.contiguous())           # b s: which token a place belongs to
    inside = at - (ends - width + 1).gather(1, token)           # b s: the how manieth place of it
    number = is_picture.cumsum(dim=1).gather(1, token) - 1      # b s: of which picture
    cell = is_picture.shape[1] + number * p + inside
    rows = torch.where(is_picture.gather(1, token), cell, token)
    there = inside >= 0
    if real is not None:
        there = there & real.gather(1, token)
    return Places(torch.where(there, rows, 0), there, ends)


def with_prefix(
    words: Float[Tensor, "b t d"], cells: Float[Tensor, "b m p d"],
    rows: Int[Tensor, "b s"],
) -> Float[Tensor, "b s d"]:
    r"""eq:prefix-sequence: $[E_{y_1};\dots;E_{y_{\ell-1}};P_1;\dots;P_p;E_{y_{\ell+1}};\dots]$ for a picture
    $P$ at token $\ell$: its cells stand where the mark stood."""
    table = torch.cat([words, cells.flatten(1, 2)], dim=1)
    return table.gather(1, rows[..., None].expand(-1, -1, words.shape[-1]))


# ------------------------------------------------------------------------------------------------------ model


class Projection(nn.Module):
    """Cells (…, f) -> vectors among words (…, d), by eq:prefix-matrix or eq:prefix-layers: all that LLaVA
    trains at first."""

    def __init__(self, config: VisualPrefixConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.features, config.width)
        two = config.projection == "two layers"
        self.second = nn.Linear(config.width, config.width) if two else None

    def forward(self, X: Float[Tensor, "*b f"]) -> Float[Tensor, "*b d"]:
        W, b = self.first.weight.mT, self.first.bias
        if self.second is None:
            return one_matrix(X, W, b)
        return two_layers(X, W, b, self.second.weight.mT, self.second.bias)


class StageCells(nn.Module):
    """Cells of the last stage but one of CLIP's ResNet: standardised pictures (b, 3, s, s) -> (b, p, f).

    The last stage is trained to say what a picture shows as a whole; the one before it still says where.
    """

    def __init__(self, network: ModifiedResNet) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.network.stages = self.network.stages[:-1]
        self.out_channels = network.config.channels // 2

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p f"]:
        return grid_to_sequence(self.network.grid(images))


class VisualPrefix(nn.Module):
    """Texts (b, t) with pictures at their ``<image>`` -> logits (b, t, v) of the token after each.

    ``vision`` makes cells (b, p, f) of pictures and is frozen; ``language`` is frozen unless ``trained`` is
    true. A picture's cells are projected (``Projection``) and take the place of its mark; the logits of the
    mark are those of its last cell. ``decode`` goes on from a ``Prompt``, so that ``few_shot`` and
    ``mmlearn.generate`` apply. Raises ``ValueError`` for a language model of another width, or with learned
    positions, which would have to be dealt anew.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(
        self, config: VisualPrefixConfig, language: CausalLM, vision: nn.Module | None = None,
        trained: bool = False,
    ) -> None:
        super().__init__()
        if language.config.width != config.width:
            raise ValueError(f"the language model is {language.config.width} wide, the prefix "
                             f"{config.width}; make both for one width")
        if language.positions is not None:
            raise ValueError("the language model has learned positions, and a prefix moves the words behind "
                             "it; take one with rotary or relative positions")
        self.config = config
        self.projection = Projection(config)
        self.language, self.vision = language, vision
        self.frozen = [part for part in (None if trained else language, vision) if part is not None]
        for part in self.frozen:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "VisualPrefix":
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def see(
        self, pictures: Float[Tensor, "b m 3 y x"] | None = None,
        features: Float[Tensor, "b m p f"] | None = None,
    ) -> Float[Tensor, "b m p d"]:
        """The vectors that stand for m pictures a text, from pixels or from cells of the picture encoder.

        Raises ``ValueError`` for both or neither, and for pixels without an encoder.
        """
        if pictures is not None and features is None:
            if self.vision is None:
                raise ValueError("this model has no picture encoder; give features, or make it with vision")
            with torch.no_grad():
                features = self.vision(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        elif features is None or pictures is not None:
            raise ValueError("give either pictures or features of them")
        return self.projection(features)

    def marks(
        self, tokens: Int[Tensor, "b t"], cells: Float[Tensor, "b m p d"]
    ) -> Bool[Tensor, "b t"]:
        """Where pictures stand; without pictures a mark is a word like others. Raises ``ValueError`` for
        more marks than pictures."""
        if not cells.shape[1]:
            return torch.zeros_like(tokens, dtype=torch.bool)
        is_picture = tokens == self.config.image
        most = int(is_picture.sum(dim=1).max())
        if most > cells.shape[1]:
            raise ValueError(f"a text shows {most} pictures, and {cells.shape[1]} are given; give as many "
                             "as <image> stands in the longest text")
        return is_picture

    def read(
        self, tokens: Int[Tensor, "b t"], cells: Float[Tensor, "b m p d"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Logits of texts whose pictures have become cells among words; ``mask`` says which tokens are
        real."""
        lm, words = self.language, self.language.words(tokens)
        where = places(self.marks(tokens, cells), cells.shape[2], mask)
        x = with_prefix(words, cells.reshape(len(cells), *cells.shape[1:3], words.shape[-1]), where.rows)
        real = None if bool(where.real.all()) else where.real
        for layer in lm.layers:
            x = layer(x, real)
        z = x.gather(1, where.ends[..., None].expand(-1, -1, x.shape[-1]))
        return lm.logits(lm.norm(z))

    def forward(
        self, tokens: Int[Tensor, "b t"], pictures: Float[Tensor, "b m 3 y x"] | None = None,
        features: Float[Tensor, "b m p f"] | None = None, media: Int[Tensor, "b t"] | None = None,
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """``media`` is taken and not needed: a token sees all that stands before it."""
        return self.read(tokens, self.see(pictures, features), mask)

    def decode(self, tokens: Int[Tensor, "rows t"], context: Any) -> Float[Tensor, "rows t v"]:
        """Logits after each of ``tokens``, which follow a ``Prompt`` of texts and pictures (``see``)."""
        if not isinstance(context, Prompt) or context.tokens is None:
            raise ValueError(f"a visual prefix goes on from a Prompt, not a {type(context).__name__}; make "
                             "one with few_shot.prompts")
        past = 0 if self.cache is None else self.cache.length
        if past == 0:
            given, mask = context.given(tokens)
            return self.read(given, context.rows_of(context.levels), mask)[:, -tokens.shape[1]:]
        before = places(self.marks(context.tokens, context.levels), context.levels.shape[2], context.real)
        real = None
        if not bool(before.real.all()):                        # of all places so far, those of cells included
            new = past + tokens.shape[1] - before.real.shape[1]
            real = F.pad(context.rows_of(before.real), (0, new), value=True)
        x = self.language.words(tokens)
        for layer in self.language.layers:
            x = layer(x, real)
        return self.language.logits(self.language.norm(x))


# --------------------------------------------------------------------------------------------------- training


def train_prefix(
    model: VisualPrefix, examples: Sequence[Example], tokeniser: ChunkTokeniser, look: Look, *, steps: int,
    batch: int = 32, lr: float | int = 2e-3, warmup: int = 30, weight_decay: float | int = 0.01,
    seed: int = 0, **options: Any,
) -> History:
    """Train what is not frozen to answer examples of one picture each: eq:lm-loss over the words of answers,
    AdamW, a warm-up, a cosine to a tenth, gradients of norm 1 at most. Further ``options`` go to ``fit``."""
    batches = PageBatches(examples, tokeniser, look, batch, most=1, answers_only=True, seed=seed)
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, fused=True)
    options = {"optimizer": optimizer, "clip": 1.0,
               "schedule": warmup_cosine(lr, min(warmup, steps // 4), steps, lr / 10), **options}
    return fit(model, interleaved_objective, batches, steps=steps, seed=seed, **options)
