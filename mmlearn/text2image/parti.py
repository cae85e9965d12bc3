r"""Parti: a caption is translated into the tokens of a picture, by an encoder and a decoder of up to 20
billion parameters.

Paper: J. Yu, Y. Xu, J. Y. Koh, T. Luong, G. Baid, Z. Wang, V. Vasudevan, A. Ku, Y. Yang, B. K. Ayan, B.
Hutchinson, W. Han, Z. Parekh, X. Li, H. Zhang, J. Baldridge and Y. Wu (2022), *Scaling Autoregressive Models
for Content-Rich Text-to-Image Generation*, TMLR, arXiv:2206.10789, sec. 2 and 3.  Survey: 2.3.1. Differs
from the paper: its figures are from secondary digests, not read in the paper. What they leave open is chosen
here: learned positions, GELU, biases as in Vaswani et al., and windows of 11 x 11 as in DALL-E, which the
paper follows in this. A dropped caption becomes one learned vector, which is what the decoder reads.
Pictures are ranked by any dual encoder, where the paper has CoCa. The network that enlarges to 512 and 1024
pixels is no part of this module.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn import generate
from mmlearn.nn.attention import KVCache, MultiHeadAttention
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import Context, LayerNorm32, PreNormDecoderLayer, PreNormEncoderLayer


@dataclass(frozen=True)
class PartiConfig:
    width: int = 1024           # d
    ff: int = 4096              # inner width of the feed-forward nets
    heads: int = 16
    encoder_layers: int = 12
    decoder_layers: int = 12
    vocab: int = 16_000         # tokens of a caption
    context: int = 128          # tokens of a caption, at most
    pad: int = 0                # id of the padding of captions
    codes: int = 8192           # tokens of a picture that there are
    side: int = 32              # tokens a side of a picture
    kernel: int = 11            # places a side of the window that a token of a picture sees
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")

    @classmethod
    def m350(cls) -> "PartiConfig":
        """Parti-350M: 387,069,952 parameters, 352 million of them matrices of the layers."""
        return cls()

    @classmethod
    def m750(cls) -> "PartiConfig":
        """Parti-750M: 790,190,080 parameters."""
        return cls(decoder_layers=36)

    @classmethod
    def b3(cls) -> "PartiConfig":
        """Parti-3B: 3,090,321,408 parameters."""
        return cls(2048, 8192, 32, 12, 36)

    @classmethod
    def b20(cls) -> "PartiConfig":
        """Parti-20B: 20,544,323,584 parameters."""
        return cls(4096, 16_384, 64, 16, 64)

    @classmethod
    def mini(cls, vocab: int = 400, context: int = 24, codes: int = 128, side: int = 8) -> "PartiConfig":
        """A miniature for the scene world, over the tokens of ``ViTVQGANConfig.mini``."""
        return cls(64, 256, 4, 2, 3, vocab, context, 1, codes, side, 5, 0.0)

    @property
    def places(self) -> int:
        """Tokens of a picture."""
        return self.side**2


# ------------------------------------------------------------------------------------------ equations


def window_mask(side: int, kernel: int) -> Bool[Tensor, "n n"]:
    r"""eq:parti-window: place $(r,c)$ of a picture sees $(r',c')$ if it is not behind it and
    $\max(|r-r'|,|c-c'|)\le\lfloor\kappa/2\rfloor$; all see the token of the start,
    which stands before the picture."""
    place = torch.arange(side * side)
    r, c, half = place // side, place % side, kernel // 2
    near = ((r[:, None] - r).abs() <= half) & ((c[:, None] - c).abs() <= half)
    mask = torch.ones(len(place) + 1, len(place) + 1, dtype=torch.bool)
    mask[1:, 1:] = near
    return mask.tril()


def guided_logits(
    conditional: Float[Tensor, "*n v"], unconditional: Float[Tensor, "*n v"],
    scale: float | int,
) -> Float[Tensor, "*n v"]:
    r"""eq:parti-guidance: $\ell=\ell_u+\lambda(\ell_c-\ell_u)$: guidance without a classifier for
    tokens; $p\propto p_u\,(p_c/p_u)^\lambda$."""
    return unconditional + scale * (conditional - unconditional)


def best_picture(
    pictures: Float[Tensor, "b n e"], texts: Float[Tensor, "b e"]
) -> Int[Tensor, " b"]:
    r"""eq:parti-rerank: $\arg\max_{n}u_n^\top v$ of the unit embeddings of n pictures and their
    caption: of 16 pictures the one that fits best."""
    return torch.einsum("bne,be->bn", pictures, texts).argmax(dim=1)


@lru_cache(maxsize=4)
def _mask(side: int, kernel: int, device: torch.device) -> Tensor:
    """``window_mask``, remembered."""
    return window_mask(side, kernel).to(device)


# --------------------------------------------------------------------------------------------- layers


class WindowAttention(MultiHeadAttention):
    """Causal self-attention within a window (eq:parti-window): (r, t, d) -> (r, t, d), for the start and the
    first t - 1 tokens of a picture.

    Inside a ``KVCache`` only new tokens are given, and one new token meets the keys of its window and no
    others: at most 62 of 1,024.
    """

    def __init__(self, width: int, heads: int, side: int, kernel: int) -> None:
        super().__init__(width, heads, causal=True)
        self.side, self.kernel = side, kernel

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "r t d"], mask: None = None
    ) -> Float[Tensor, "r t d"]:
        Q, K, V = self.project_all(x)
        if self.cache is not None:
            K, V = self.cache.extend(self, K, V)
        t, s = Q.shape[2], K.shape[2]
        seen = _mask(self.side, self.kernel, x.device)[s - t : s, :s]
        if t == 1:
            near = seen[0].nonzero()[:, 0]
            return self.out(self.join(self.attend(Q, K[:, :, near], V[:, :, near], None)))
        return self.out(self.join(self.attend(Q, K, V, seen[None, None])))


class PartiDecoderLayer(PreNormDecoderLayer):
    """A pre-norm decoder layer, the self-attention of which has a window."""

    def __init__(self, config: PartiConfig) -> None:
        super().__init__(config.width, config.heads, config.ff, config.dropout, nn.GELU)
        self.self_attention = WindowAttention(config.width, config.heads, config.side, config.kernel)
        self.self_norm, self.cross_norm, self.feed_forward_norm = (
            LayerNorm32(config.width) for _ in range(3)
        )


# ---------------------------------------------------------------------------------------------- model


class Parti(nn.Module):
    """Captions (b, t) of token ids -> the tokens (r, n) of pictures, one after the other.

    ``encode`` reads captions, ``decode`` gives logits (r, t, codes) of the token after each of the tokens,
    the first of which is ``start``, so that all of ``mmlearn.generate`` applies. ``forward`` gives the
    log-probabilities (b, n) of pictures' codes (b, g, g). Raises ``ValueError`` for captions longer than the
    context and ids outside the vocabularies.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(self, config: PartiConfig) -> None:
        super().__init__()
        self.config, d = config, config.width
        self.words = nn.Embedding(config.vocab, d)
        self.word_positions = nn.Parameter(torch.empty(config.context, d))
        self.nothing = nn.Parameter(torch.empty(d))
        self.codes = nn.Embedding(config.codes + 1, d)
        self.code_positions = nn.Parameter(torch.empty(config.places, d))
        for weight in (self.words.weight, self.word_positions, self.nothing, self.codes.weight,
                       self.code_positions):
            nn.init.normal_(weight, std=0.02)
        self.encoder = nn.ModuleList(
            PreNormEncoderLayer(d, config.heads, config.ff, config.dropout, nn.GELU, layer_norm=LayerNorm32)
            for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(PartiDecoderLayer(config) for _ in range(config.decoder_layers))
        self.encoder_norm, self.decoder_norm = LayerNorm32(d), LayerNorm32(d)
        self.out = nn.Linear(d, config.codes)

    @property
    def start(self) -> int:
        """The token before the first of a picture."""
        return self.config.codes

    def encode(
        self, tokens: Int[Tensor, "b t"], dropped: Bool[Tensor, " b"] | None = None
    ) -> Context:
        """What pictures are drawn after: the states of captions, or where
        ``dropped`` the one learned vector."""
        if tokens.shape[1] > self.config.context:
            raise ValueError(f"captions have {tokens.shape[1]} tokens, the model reads "
                             f"{self.config.context}; cut them")
        check_tokens(tokens, self.config.vocab)
        mask = tokens != self.config.pad
        x = self.words(tokens) + self.word_positions[: tokens.shape[1]]
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x)
        if dropped is not None:
            x = torch.where(dropped[:, None, None], self.nothing, x)
            first = torch.arange(tokens.shape[1], device=x.device) == 0
            mask = torch.where(dropped[:, None], first, mask)
        return Context(x[:, None], mask)

    def decode(
        self, tokens: Int[Tensor, "r t"], context: Context
    ) -> Float[Tensor, "r t k"]:
        start = 0 if self.cache is None else self.cache.length
        places = slice(start, start + tokens.shape[1])
        x = self.codes(tokens) + self.code_positions[places]
        for layer in self.decoder:
            x = layer(x, context.levels[:, -1], context.mask)
        return self.out(self.decoder_norm(x))

    def forward(
        self, tokens: Int[Tensor, "b t"], codes: Int[Tensor, "b g g"],
        dropped: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b n"]:
        check_tokens(codes.flatten(1), self.config.codes)
        context = self.encode(tokens, dropped)
        return generate.score(self, context, codes.flatten(1)[:, None], bos=self.start, eos=-1)[:, 0]


def parti_loss(
    model: Parti, tokens: Int[Tensor, "b t"], codes: Int[Tensor, "b g g"],
    rate: float | int = 0.1, generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""eq:parti-loss: $-\frac1n\sum_{i=1}^n\log p_\theta(y_i\mid y_{<i},c)$ in nats a token, the
    captions $c$ being dropped with probability ``rate``."""
    drawn = torch.rand(len(tokens), generator=generator)
    return -model(tokens, codes, (drawn < rate).to(tokens.device)).mean()


class GuidedParti(nn.Module):
    """Parti with guidance (eq:parti-guidance), as a decoder of its own: each token is predicted with and
    without the caption."""

    def __init__(self, model: Parti, scale: float | int = 1.2) -> None:
        super().__init__()
        self.model, self.scale, self.start = model, scale, model.start

    def encode(self, tokens: Int[Tensor, "b t"]) -> Context:
        """Captions, and beside each (as a second level) the vector of none."""
        every = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        given, none = self.model.encode(tokens), self.model.encode(tokens, every)
        return Context(torch.cat([given.levels, none.levels], dim=1), given.mask)

    def decode(
        self, tokens: Int[Tensor, "r t"], context: Context
    ) -> Float[Tensor, "r t k"]:
        given, none = context.levels.unbind(1)
        mask = torch.zeros_like(given[..., 0], dtype=torch.bool)
        mask[:, 0] = True                               # a dropped caption is one vector
        real = torch.ones_like(mask) if context.mask is None else context.mask
        both = Context(torch.cat([given, none])[:, None], torch.cat([real, mask]), context.copies)
        conditional, unconditional = self.model.decode(torch.cat([tokens, tokens]), both).chunk(2)
        return guided_logits(conditional, unconditional, self.scale)


@torch.no_grad()
def draw_codes(
    model: Parti, tokens: Int[Tensor, "b t"], candidates: int = 1, scale: float | int = 1.2,
    temperature: float = 1.0, top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b n g g"]:
    """Codes of several pictures a caption, drawn token by token with guidance."""
    guided, side = GuidedParti(model, scale), model.config.side
    codes, _ = generate.sample(guided, guided.encode(tokens), k=candidates, bos=model.start, eos=-1,
                               max_len=model.config.places, temperature=temperature, top_k=top_k,
                               generator=generator)
    return codes.unflatten(2, (side, side))


def attended_share(config: PartiConfig) -> float:
    """The share of the pairs of a causal attention that windows leave."""
    mask = window_mask(config.side, config.kernel)
    n = len(mask)
    return int(mask.sum()) / math.comb(n + 1, 2)
