r"""DALL-E 1: one Transformer reads the words of a text and writes the tokens of a picture after them.

Paper: A. Ramesh et al. (2021), *Zero-Shot Text-to-Image Generation*, arXiv:2102.12092, sec. 2.2 to 2.6, app.
B.  Survey: 2.2, 2.2.1.
Differs from the paper: what it leaves open is chosen. The activation is GELU, weights start as GPT-2's, the
unembedding has no bias. Places of text have logits of words alone and places of the picture of codes alone;
padding is read and never predicted, so the loss of the text is a mean over words. Gradients are not scaled
block by block, which 16 bits need.

Training, in the paper: AdamW (0.9, 0.96), eps 1e-8, weight decay 4.5e-2, the gradient's norm at most 4, a
learning rate of 4.5e-4 after 5,000 updates of warm-up, halved five times; batches of 1,024, 430,000 updates,
an average of the weights with decay 0.99, taken every 25 updates; 10 % BPE dropout.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.generate import at_least_float32, draw_token
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import PreNormEncoderLayer
from mmlearn.text2image.sparse_attention import PairCache, SparseAttention, layer_kinds

# -------------------------------------------------------------------------------------------------- equations

def embed_text(
    tokens: Int[Tensor, "b t"], real: Bool[Tensor, "b t"],
    E: Float[Tensor, "v d"], P: Float[Tensor, "t d"],
    position: Float[Tensor, "t d"],
) -> Float[Tensor, "b t d"]:
    r"""eq:dalle-text: $E_{y_t}+\pi_t$ for a word, $P_t+\pi_t$ for a place after the last one: padding has a
    vector of its own at each place."""
    words = F.embedding(tokens.where(real, 0), E)
    return torch.where(real[..., None], words, P) + position


def embed_image(
    tokens: Int[Tensor, "b n"], E: Float[Tensor, "k d"],
    R: Float[Tensor, "w d"], C: Float[Tensor, "w d"], first: int = 0,
) -> Float[Tensor, "b n d"]:
    r"""eq:dalle-image: $E_{z_p}+R_{\lfloor p/W\rfloor}+C_{p\bmod W}$: a code, its row and its column; the
    places are ``first`` and those after it."""
    place = torch.arange(first, first + tokens.shape[1], device=tokens.device)
    return F.embedding(tokens, E) + R[place // len(R)] + C[place % len(R)]


def dalle_loss(
    text: Float[Tensor, " m"], image: Float[Tensor, "b n"]
) -> Float[Tensor, ""]:
    r"""eq:dalle-loss: $\tfrac18\,\overline{-\log p(y_t\mid y_{<t})}+
    \tfrac78\,\overline{-\log p(z_p\mid y,z_{<p})}$, each a mean over the tokens of its kind in the batch."""
    return text.mean() / 8 + 7 * image.mean() / 8


# ------------------------------------------------------------------------------------------------------ model

@dataclass(frozen=True)
class DALLEConfig:
    width: int = 3968               # d
    layers: int = 64                # N
    heads: int = 62                 # h, of 64 numbers each
    text_vocab: int = 16_384        # v, tokens of texts
    text_len: int = 256             # places of text; a shorter text is padded
    image_vocab: int = 8_192        # k, codes of the first stage
    side: int = 32                  # W, codes a side of a picture
    kernel: int = 11                # a side of the window of the last layer
    pad: int = 0                    # the token that fills a batch of texts; no text contains it
    attention: str = "sparse"       # or "full": every layer sees all that came before

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")
        if self.attention not in ("sparse", "full"):
            raise ValueError(f"attention is {self.attention!r}; use sparse or full")
        if self.kernel % 2 == 0 or self.kernel // 2 >= self.side:
            raise ValueError(f"kernel is {self.kernel}, a window around a place of {self.side} columns; "
                             f"choose an odd number below {2 * self.side}")

    @classmethod
    def paper(cls) -> "DALLEConfig":
        """The model of the paper, "12 billion": 12,092,178,432 in the matrices of its layers."""
        return cls()

    @classmethod
    def width_1920(cls) -> "DALLEConfig":
        """The smaller of the two that the paper compares with, "2.8 billion"."""
        return cls(1920, heads=30)

    @classmethod
    def width_2688(cls) -> "DALLEConfig":
        """The other one, "5.6 billion"."""
        return cls(2688, heads=42)

    @classmethod
    def mini(cls, vocab: int = 200, image_vocab: int = 128, side: int = 8, text_len: int = 24,
             width: int = 128) -> "DALLEConfig":
        """For sentences of the scene world, padded with token 1, and pictures of 8 x 8 codes."""
        return cls(width, 4, 4, vocab, text_len, image_vocab, side, 5, pad=1)

    @property
    def codes(self) -> int:
        """Tokens of a picture: 1,024."""
        return self.side**2

    @property
    def kinds(self) -> tuple[str, ...]:
        """The attention of each layer."""
        return layer_kinds(self.layers) if self.attention == "sparse" else ("full",) * self.layers


class DALLELogits(NamedTuple):
    """Scores of words (b, t, v) and of codes (b, n, k), each before its token is seen."""

    text: Tensor
    image: Tensor


class DALLE(nn.Module):
    """Texts (b, t) and pictures (b, n) as tokens -> scores of every token, given those before it.

    The sequence is a start token, ``config.text_len`` places of text and the picture's tokens row by row; the
    last of them is only ever predicted. Layers are those of a pre-norm Transformer with the attention of
    ``config.kinds``. Raises ``ValueError`` for longer texts and for tokens outside the vocabularies.
    """

    def __init__(self, config: DALLEConfig) -> None:
        super().__init__()
        self.config, d = config, config.width
        self.words, self.codes = nn.Embedding(config.text_vocab, d), nn.Embedding(config.image_vocab, d)
        self.start = nn.Parameter(torch.empty(d))
        self.padding = nn.Parameter(torch.empty(config.text_len, d))
        self.positions = nn.Parameter(torch.empty(config.text_len, d))
        self.rows = nn.Parameter(torch.empty(config.side, d))
        self.columns = nn.Parameter(torch.empty(config.side, d))
        self.blocks = nn.ModuleList(
            PreNormEncoderLayer(d, config.heads, 4 * d, activation=nn.GELU, attention=SparseAttention(
                d, config.heads, kind, 1 + config.text_len, config.side, config.kernel))
            for kind in config.kinds)
        self.norm = nn.LayerNorm(d)
        self.to_words = nn.Linear(d, config.text_vocab, bias=False)
        self.to_codes = nn.Linear(d, config.image_vocab, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """GPT-2's beginning: N(0, 0.02), what enters the sum of 2 N sub-layers divided by the root of 2 N."""
        for name, p in self.named_parameters():
            if "norm" not in name and not name.endswith("bias"):
                last = name.endswith(("attention.out.weight", "feed_forward.outer.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * self.config.layers if last else 1))

    def use_blocks(self, blockwise: bool = True) -> "DALLE":
        """Compute attention block by block, the faster way for long sequences, or under masks."""
        for layer in self.modules():
            if isinstance(layer, SparseAttention):
                layer.blockwise = blockwise
        return self

    # ---------------------------------------------------------------------------------- from tokens to states

    def padded(self, text: Int[Tensor, "b t"]) -> Int[Tensor, "b s"]:
        """Texts filled up to ``config.text_len`` places."""
        short = self.config.text_len - text.shape[1]
        if short < 0:
            raise ValueError(f"a text has {text.shape[1]} tokens, the model reads {self.config.text_len}; "
                             "cut it")
        return F.pad(text, (0, short), value=self.config.pad)

    def prefix(self, text: Int[Tensor, "b t"]) -> Float[Tensor, "b s d"]:
        """The start token and the text, as vectors; ``text`` is padded here if it is short."""
        text = self.padded(text)
        real = text != self.config.pad
        check_tokens(text.where(real, 0), self.config.text_vocab)
        x = embed_text(text, real, self.words.weight, self.padding, self.positions)
        return torch.cat([self.start.expand(len(text), 1, -1), x], dim=1)

    def picture(self, image: Int[Tensor, "b n"], first: int = 0) -> Float[Tensor, "b n d"]:
        """Tokens of a picture as vectors, those of the places ``first`` and after it."""
        return embed_image(image, self.codes.weight, self.rows, self.columns, first)

    def states(self, x: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """Through all layers and the last normalisation."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def read(
        self, text: Int[Tensor, "b t"], image: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b n d"]]:
        """The states before each token of the text and before each of the picture."""
        if image.shape[1] > self.config.codes or not image.shape[1]:
            raise ValueError(f"a picture has {image.shape[1]} tokens, expected 1 to {self.config.codes}; "
                             f"give those of {self.config.side} x {self.config.side} places, row by row")
        check_tokens(image, self.config.image_vocab)
        x = torch.cat([self.prefix(text), self.picture(image[:, :-1])], dim=1)
        z = self.states(x)
        return z[:, :self.config.text_len], z[:, self.config.text_len:]

    def forward(self, text: Int[Tensor, "b t"], image: Int[Tensor, "b n"]) -> DALLELogits:
        before_text, before_image = self.read(text, image)
        return DALLELogits(self.to_words(before_text), self.to_codes(before_image))

    def loss(
        self, text: Int[Tensor, "b t"], image: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """eq:dalle-loss, in nats, and its two means, "text" and "image" per token of each kind."""
        before_text, before_image = self.read(text, image)
        text = self.padded(text)
        real = text != self.config.pad
        words = at_least_float32(self.to_words(before_text[real]))   # real words
        codes = at_least_float32(self.to_codes(before_image))
        text_nll = F.cross_entropy(words, text[real], reduction="none")
        image_nll = F.cross_entropy(codes.mT, image, reduction="none")
        scalars = {"text": text_nll.detach().mean(),
                   "image": image_nll.detach().mean()}
        return dalle_loss(text_nll, image_nll), scalars

    # ----------------------------------------------------------------------------------------------- sampling

    @torch.no_grad()
    def sample(
        self, text: Int[Tensor, "b t"], samples: int = 1, *, prime: Int[Tensor, "b m"] | None = None,
        temperature: float | int = 1.0, top_k: int | None = None, top_p: float | int | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "b samples n"]:
        """Draw ``samples`` pictures a text, token by token, as (b, samples, n).

        Text and ``prime``, the first tokens of the picture where they are given, are read once for all
        samples; after that each step reads one token and meets only the keys that it attends to. Logits are
        divided by ``temperature`` and cut to ``top_k`` and ``top_p`` (see ``generate.draw_token``); the paper
        uses neither. ``generator`` is on the model's device.
        """
        if samples < 1 or (prime is not None and prime.shape[1] > self.config.codes):
            raise ValueError(f"{samples} samples, a beginning of {0 if prime is None else prime.shape[1]} "
                             f"tokens; ask for at least 1, after at most {self.config.codes} tokens")
        n, known = self.config.codes, text.new_zeros(len(text), 0) if prime is None else prime
        check_tokens(known, self.config.image_vocab)
        tokens = [*known.repeat_interleave(samples, dim=0).T]
        with eval_mode(self), PairCache(self, self.config.text_len + n) as cache:
            x = torch.cat([self.prefix(text), self.picture(known[:, :n - 1])], dim=1)
            z = self.states(x)[:, -1:].repeat_interleave(samples, dim=0)
            cache.repeat(samples)
            while len(tokens) < n:
                logits = at_least_float32(self.to_codes(z[:, -1]))
                tokens.append(draw_token(logits, temperature, top_k, top_p, generator))
                if len(tokens) < n:
                    z = self.states(self.picture(tokens[-1][:, None], len(tokens) - 1))
        return torch.stack(tokens, dim=1).unflatten(0, (-1, samples))
