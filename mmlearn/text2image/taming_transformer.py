r"""The second stage of VQGAN: a Transformer that writes the codes of a picture one after the other.

Paper: P. Esser, R. Rombach and B. Ommer (2021), *Taming Transformers for High-Resolution Image Synthesis*,
CVPR, arXiv:2012.09841, sec. 3.2, 3.3 and tab. 8; the Transformer is GPT-2's (A. Radford et al., 2019) as
minGPT has it.  Survey: 2.2.
Differs from the paper: no dropout on attention weights (the released configurations have none anywhere). The
sizes of ``imagenet`` are those commonly given for the released class-conditional model; they could not be
checked against its own file, but their 1.41 billion parameters agree with the 1.4 that the authors state.

A picture's codes are read row by row. What it is conditioned on, a class, the codes of a map of labels, or
one start symbol, stands before them as a prefix of tokens that share the codes' table of vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.generate import at_least_float32, keep_nucleus, keep_top_k
from mmlearn.generate import sample as sample_tokens
from mmlearn.nn.attention import KVCache, MultiHeadAttention
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.positions import PositionTable, check_tokens
from mmlearn.nn.transformer import Context, PreNormEncoderLayer

STD = 0.02                              # of all weights at the start
NOBODY = -1                             # a token that is never chosen: texts end, pictures do not


@dataclass(frozen=True)
class TamingTransformerConfig:
    vocab: int = 1024                   # K, codes of the first stage; tokens of the prefix are among them
    positions: int = 512                # of prefix and picture together
    width: int = 1024
    layers: int = 24
    heads: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")

    @classmethod
    def semantic(cls) -> "TamingTransformerConfig":
        """Pictures from maps of labels or of depth (S-FLCKR, D-RIN), and faces from coordinates."""
        return cls()

    @classmethod
    def faces(cls) -> "TamingTransformerConfig":
        """FFHQ and CelebA-HQ without a condition, released in 2021."""
        return cls(positions=256, width=1664)

    @classmethod
    def imagenet(cls) -> "TamingTransformerConfig":
        """ImageNet by class: about 1.4 billion parameters."""
        return cls(16384, 256, 1536, 48, 24)

    @classmethod
    def mini(cls, vocab: int = 256, positions: int = 257) -> "TamingTransformerConfig":
        """For the codes of the miniature VQGAN, 16 x 16, and a class."""
        return cls(vocab, positions, 128, 4, 4)


# -------------------------------------------------------------------------------------------------- equations


def code_loss(
    logits: Float[Tensor, "b p k"], codes: Int[Tensor, "b p"]
) -> Float[Tensor, ""]:
    r"""eq:taming-loss: $-\frac1{bP}\sum_{i=1}^b\sum_{p=1}^P\log
    p_\theta(k_{ip}\mid k_{i,<p},c_i)$, nats a code; $\log K$ for a model
    that knows nothing."""
    return F.cross_entropy(at_least_float32(logits).flatten(0, 1),
                           codes.flatten())


def window_start(i: int, size: int, window: int) -> int:
    r"""eq:taming-window: $\max\big(0,\min(i-\lfloor w/2\rfloor,\,S-w)\big)$:
    the first row of a window of $w$ rows that has row $i$ in its middle,
    and yet lies within the $S$ rows of the grid; columns alike."""
    return max(0, min(i - window // 2, size - window))


def keep_most(
    codes: Int[Tensor, "b p"], vocab: int, keep: float | int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b p"]:
    r"""eq:taming-keep: each code stays with probability $p_{keep}$ and is
    otherwise drawn uniformly from all K: so the inputs of training contain
    mistakes, as those of sampling do."""
    shape = codes.shape
    stays = torch.rand(shape, generator=generator).to(codes.device) < keep
    noise = torch.randint(vocab, shape, generator=generator)
    return torch.where(stays, codes, noise.to(codes.device))


# ------------------------------------------------------------------------------------------------------ model


class Prefix(Context):
    """What stands before the codes of b pictures: ``tokens`` (b, n); nothing else is read."""

    def __init__(self, tokens: Int[Tensor, "b n"], copies: int = 1) -> None:
        super().__init__(torch.zeros(len(tokens), 0, 0, 0, device=tokens.device), None, copies)
        self.tokens = tokens

    @property
    def of_rows(self) -> Int[Tensor, "r n"]:
        """The prefix of every row."""
        return self.tokens.repeat_interleave(self.copies, dim=0)

    def repeat(self, k: int) -> "Prefix":
        return Prefix(self.tokens, self.copies * k)

    def select(self, index: Int[Tensor, " rows"]) -> "Prefix":
        return Prefix(self.tokens[index // self.copies])


class TamingTransformer(nn.Module):
    """Prefix (b, n) and codes (b, p) -> logits (b, p, K) of each code, given those before it.

    ``decode`` is what the methods of ``mmlearn.generate`` call: of its tokens the first column, which would
    be the start of a text, stands for the prefix. Raises ``ValueError`` for tokens outside the vocabulary
    and for more positions than the model has.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(self, config: TamingTransformerConfig) -> None:
        super().__init__()
        self.config, width, heads = config, config.width, config.heads
        self.tokens = nn.Embedding(config.vocab, width)
        self.positions = PositionTable(config.positions, width, "learned")
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            PreNormEncoderLayer(
                width, heads, 4 * width, config.dropout, nn.GELU,
                MultiHeadAttention(width, heads, causal=True))
            for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.vocab, bias=False)
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, 0.0, STD)
        nn.init.zeros_(self.positions.table)

    def read(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t k"]:
        """Logits of the token after each of ``tokens``; inside a ``KVCache``
        these are the new ones."""
        start = 0 if self.cache is None else self.cache.length
        if start == 0:                      # what follows are its own codes
            check_tokens(tokens, self.config.vocab)
        positions = self.positions(tokens.shape[1], start)
        x = self.dropout(self.tokens(tokens) + positions)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

    def forward(
        self, prefix: Int[Tensor, "b n"], codes: Int[Tensor, "b p"]
    ) -> Float[Tensor, "b p k"]:
        tokens = torch.cat([prefix, codes[:, :-1]], dim=1)
        return self.read(tokens)[:, prefix.shape[1] - 1:]

    def decode(
        self, tokens: Int[Tensor, "r t"], context: Context
    ) -> Float[Tensor, "r t k"]:
        if self.cache is not None and self.cache.length:
            return self.read(tokens)
        prefix = cast(Prefix, context).of_rows
        logits = self.read(torch.cat([prefix, tokens[:, 1:]], dim=1))
        return logits[:, prefix.shape[1] - 1:]


# --------------------------------------------------------------------------------------------------- sampling


@torch.no_grad()
def sample_codes(
    model: TamingTransformer, prefix: Int[Tensor, "b n"], height: int,
    width: int, *, temperature: float = 1.0, top_k: int | None = None,
    top_p: float | None = None, generator: torch.Generator | None = None,
) -> Int[Tensor, "b y x"]:
    """Draw the codes of one picture for each prefix, (b, height, width),
    that fit the model's positions; keys and values are kept."""
    with eval_mode(model):
        codes, _ = sample_tokens(
            model, Prefix(prefix), bos=0, eos=NOBODY, pad=0,
            max_len=height * width, temperature=temperature,
            top_k=top_k, top_p=top_p, generator=generator)
    return codes[:, 0].unflatten(1, (height, width))


@torch.no_grad()
def sample_sliding(
    model: TamingTransformer,
    prefix: Int[Tensor, "b n"] | Int[Tensor, "b y x"], height: int,
    width: int, *, window: int = 16, temperature: float = 1.0,
    top_k: int | None = None, top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b y x"]:
    """Draw the codes of pictures larger than the model was trained for,
    (b, height, width): each from a window of ``window`` x ``window`` around
    it (eq:taming-window), of which it sees what is already there.

    A ``prefix`` (b, height, width) is cut to the window, too. Raises
    ``ValueError`` for a grid smaller than the window.
    """
    if min(height, width) < window:
        raise ValueError(f"a grid of {height} x {width} is smaller than the "
                         f"window of {window}; use sample_codes")
    codes = prefix.new_zeros(len(prefix), height, width)
    with eval_mode(model):
        for i in range(height):
            for j in range(width):
                top = window_start(i, height, window)
                left = window_start(j, width, window)
                part = slice(top, top + window), slice(left, left + window)
                given = prefix if prefix.ndim == 2 else (
                    prefix[:, *part].flatten(1))
                seen = (i - top) * window + j - left
                past = codes[:, *part].flatten(1)[:, :seen]
                logits = model.read(torch.cat([given, past], dim=1))[:, -1]
                codes[:, i, j] = choose(logits, temperature, top_k, top_p,
                                        generator)
    return codes


def choose(logits: Float[Tensor, "b k"], temperature: float | int = 1.0, top_k: int | None = None,
           top_p: float | None = None, generator: torch.Generator | None = None) -> Int[Tensor, " b"]:
    """A code for each row, as ``mmlearn.generate.sample`` draws words."""
    logits = at_least_float32(logits) / temperature
    logits = logits if top_k is None else keep_top_k(logits, top_k)
    logits = logits if top_p is None else keep_nucleus(logits, top_p)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def code_objective(
    encode: Callable[[Tensor], Tensor], keep: float | int = 1.0
) -> Callable[[TamingTransformer, tuple[Tensor, Tensor]], Tensor]:
    """For ``fit``: eq:taming-loss on batches of prefixes (b, n) and pictures (b, 3, y, x), whose codes
    (b, h, w) ``encode`` gives; with ``keep`` below 1 the inputs contain mistakes (eq:taming-keep)."""
    def objective(model: TamingTransformer, batch: tuple[Tensor, Tensor]) -> Tensor:
        prefix, images = batch
        codes = encode(images).flatten(1)
        shown = keep_most(codes, model.config.vocab, keep) if keep < 1 else codes
        return code_loss(model(prefix, shown), codes)

    return objective
