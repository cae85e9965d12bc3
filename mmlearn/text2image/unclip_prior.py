r"""unCLIP's priors: from a caption to the CLIP embedding of a picture that the caption could belong to.

Paper: A. Ramesh, P. Dhariwal, A. Nichol, C. Chu and M. Chen (2022), *Hierarchical Text-Conditional Image
Generation with CLIP Latents* (DALL-E 2), arXiv:2204.06125, sec. 2.2 and table 3; the sizes of the open
replica Karlo are those of ``diffusers.PriorTransformer``.  Survey: 2.3.1. Differs from the paper: what it
leaves open is chosen here. A caption that is dropped becomes zeros. The autoregressive prior's buckets
divide the range of the data evenly, in each direction; its prefix is the last state of its text encoder,
CLIP's embedding of the caption, and the token of their likeness (256 states beside 319 codes would not fit
into the stated context of 384). Sampling is by any sampler of ``samplers``, where the paper has
Analytic-DPM.

Letters: $z$ is the CLIP embedding of a picture (of length 1), $z_t$ that of its caption, $z^{(t)}$ the
picture's after t steps of noise. Both priors read CLIP's text tower: the states of all tokens and the
embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn import generate
from mmlearn.nn.attention import KVCache, MultiHeadAttention
from mmlearn.nn.configuration import FieldError, check, check_divides
from mmlearn.nn.transformer import Context, LayerNorm32, PreNormEncoderLayer
from mmlearn.text2image.diffusion import NoiseSchedule, draw, noise_from_x0, noised, per_example
from mmlearn.text2image.glide import GLIDEText, GLIDETextConfig
from mmlearn.text2image.samplers import guided, sample
from mmlearn.text2image.unet import sinusoids

PREDICTS = ("x0", "noise")


@dataclass(frozen=True)
class PriorConfig:
    embed: int = 1024           # e, size of CLIP's embeddings
    text: int = 1024            # size of a token's state in CLIP's text tower
    context: int = 256          # t, tokens of a caption
    width: int = 2048           # d
    layers: int = 24
    heads: int = 32
    scale: float | int = 17.2         # what an embedding of length 1 is multiplied by before it is noised
    predicts: str = "x0"        # what the output is: the embedding, "x0", as in the paper, or the "noise"

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")
        if self.predicts not in PREDICTS:
            raise FieldError(
                "PriorConfig", "predicts", f"is {self.predicts!r}; use one of {', '.join(PREDICTS)}"
            )

    @classmethod
    def paper(cls) -> "PriorConfig":
        """DALL-E 2's, table 3: stated as 1B, 1,225,925,632 here."""
        return cls()

    @classmethod
    def karlo(cls) -> "PriorConfig":
        """Karlo's, over CLIP ViT-L/14: 1,022,030,080 with the 1,536 numbers by which it standardises."""
        return cls(768, 768, 77, 2048, 20, 32)

    @classmethod
    def mini(cls, embed: int = 64, text: int = 96, context: int = 32, predicts: str = "x0") -> "PriorConfig":
        """A miniature over the miniature CLIP of chapter 4, whose 64 numbers the scale 4.3 makes as large as
        17.2 makes the paper's 1,024."""
        return cls(embed, text, context, 64, 2, 4, 4.3, predicts)


# ------------------------------------------------------------------------------------------ equations


def scaled_embedding(
    z: Float[Tensor, "*b e"], mean: Float[Tensor, " e"],
    std: Float[Tensor, " e"],
) -> Float[Tensor, "*b e"]:
    r"""eq:unclip-scale: $\tilde z=(z-\mu)/\sigma$; the paper has $\mu=0$, $1/\sigma=17.2$,
    Karlo the mean and the deviation of its data: numbers as large as the noise."""
    return (z - mean) / std


def prior_error(
    predicted: Float[Tensor, "b e"], z: Float[Tensor, "b e"]
) -> Float[Tensor, " b"]:
    r"""eq:unclip-loss: $\|f_\theta(z^{(t)},t,y)-z\|^2$, a mean over the numbers of an
    embedding: the network predicts the embedding, not the noise."""
    return (predicted - z).square().mean(dim=1)


def choose_better(
    drawn: Float[Tensor, "b n e"], text: Float[Tensor, "b e"]
) -> Float[Tensor, "b e"]:
    r"""eq:unclip-choose: $z=\arg\max_{z\in\{z_1,\dots,z_n\}}z^\top z_t$: of several embeddings
    that were drawn (two in the paper) the one that fits the caption best."""
    best = torch.einsum("bne,be->bn", drawn, text).argmax(dim=1)
    return drawn[torch.arange(len(drawn), device=drawn.device), best]


def projected(
    z: Float[Tensor, "b e"], mean: Float[Tensor, " e"], U: Float[Tensor, "e k"]
) -> Float[Tensor, "b k"]:
    r"""eq:unclip-pca: $a=(z-\bar z)U$, with the directions of largest variance as columns of
    $U$: 319 of 1,024 numbers hold nearly all of an embedding."""
    return (z - mean) @ U


def bucket(
    a: Float[Tensor, "*b k"], low: Float[Tensor, "*#c"],
    high: Float[Tensor, "*#c"], n: int = 1024,
) -> Int[Tensor, "*b k"]:
    r"""eq:unclip-bucket: $\kappa=\lfloor n\,(a-l)/(u-l)\rfloor$, cut to $0,\dots,n-1$: a number
    as one of $n$ tokens."""
    return ((a - low) / (high - low) * n).floor().clamp(0, n - 1).long()


def unbucket(
    code: Int[Tensor, "*b k"], low: Float[Tensor, "*#c"],
    high: Float[Tensor, "*#c"], n: int = 1024,
) -> Float[Tensor, "*b k"]:
    r"""eq:unclip-unbucket: $\hat a=l+(\kappa+\tfrac12)(u-l)/n$, the middle of the bucket."""
    return low + (code + 0.5) * (high - low) / n


# ----------------------------------------------------------------------------------- the diffusion prior


class Text(NamedTuple):
    """What a prior reads of captions: states (b, t, s) of CLIP's text tower, which of them are real (b, t),
    and CLIP's embeddings (b, e) of the captions."""

    states: Tensor
    mask: Tensor
    embedding: Tensor

    def empty(self) -> "Text":
        """The text of dropped captions: zeros."""
        return Text(*(torch.zeros_like(part) for part in self))

    def repeat(self, n: int) -> "Text":
        """Each caption n times, the copies standing together."""
        return Text(*(part.repeat_interleave(n, dim=0) for part in self))


def drop_text(text: Text, rate: float | int = 0.1, generator: torch.Generator | None = None) -> Text:
    """Captions of which a share ``rate`` is dropped, for guidance without a classifier."""
    kept = (torch.rand(len(text.mask), generator=generator) >= rate).to(text.mask.device)
    return Text(text.states * kept[:, None, None], text.mask & kept[:, None],
                text.embedding * kept[:, None])


class DiffusionPrior(nn.Module):
    """Noised embeddings (b, e), timesteps (b) and what is read of a caption -> embeddings (b, e), all of them
    scaled (eq:unclip-scale).

    A causal transformer over the caption's states, its embedding, the timestep, the noised embedding and a
    learned query, in this order; the prediction is read off at the query. ``states`` (b, t, s), ``mask`` (b,
    t) and ``embedding`` (b, e) are those of ``Text``. Raises ``ValueError`` for another number of tokens.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        d, e = config.width, config.embed
        self.states_in = nn.Linear(config.text, d)
        self.embedding_in, self.noisy_in = nn.Linear(e, d), nn.Linear(e, d)
        self.time1, self.time2 = nn.Linear(d, d), nn.Linear(d, d)
        self.query = nn.Parameter(torch.zeros(d))
        self.positions = nn.Parameter(torch.empty(config.context + 4, d))
        nn.init.normal_(self.positions, std=0.01)
        self.layers = nn.ModuleList(causal_layer(d, config.heads) for _ in range(config.layers))
        self.norm_after = LayerNorm32(d)
        self.out = nn.Linear(d, e)
        self.register_buffer("mean", torch.zeros(e))
        self.register_buffer("std", torch.full((e,), 1 / config.scale))

    def scaled(self, z: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
        """Embeddings as the chain has them (eq:unclip-scale)."""
        return scaled_embedding(z, self.mean, self.std)

    def unscaled(self, z: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
        """Embeddings as CLIP has them."""
        return z * self.std + self.mean

    def forward(
        self, z: Float[Tensor, "b e"], t: Int[Tensor, " b"],
        states: Float[Tensor, "b t s"], mask: Bool[Tensor, "b t"],
        embedding: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b e"]:
        if states.shape[1] != self.config.context:
            raise ValueError(f"captions have {states.shape[1]} states, the prior "
                             f"reads {self.config.context}; pad them, and say "
                             f"so in the mask")
        waves = sinusoids(t, self.config.width).to(z)
        time = self.time2(F.silu(self.time1(waves)))
        rest = [self.embedding_in(embedding), time, self.noisy_in(z),
                self.query.expand(len(z), -1)]
        x = torch.cat([self.states_in(states), torch.stack(rest, dim=1)], dim=1)
        x = x + self.positions
        mask = F.pad(mask, (0, len(rest)), value=True)
        for layer in self.layers:
            x = layer(x, mask)
        return self.out(self.norm_after(x)[:, -1])


def causal_layer(width: int, heads: int) -> PreNormEncoderLayer:
    """A pre-norm layer that sees what stands before."""
    attention = MultiHeadAttention(width, heads, causal=True)
    return PreNormEncoderLayer(width, heads, 4 * width, activation=nn.GELU, attention=attention,
                               layer_norm=LayerNorm32)


def prior_loss(
    model: DiffusionPrior, z: Float[Tensor, "b e"], text: Text,
    schedule: NoiseSchedule, generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """The loss of a batch of embeddings (of length 1) and captions
    (eq:unclip-loss), of the noise where the model predicts that."""
    z = model.scaled(z)
    i = torch.randint(len(schedule), (len(z),), generator=generator)
    noise = draw(z.shape, generator).to(z)
    noisy = noised(z, noise, per_example(schedule.alpha_bars, i, z))
    predicted = model(noisy, schedule.timesteps[i].to(z.device), *text)
    target = z if model.config.predicts == "x0" else noise
    return prior_error(predicted, target).mean()


def as_denoiser(model: DiffusionPrior, schedule: NoiseSchedule) -> Callable[..., Tensor]:
    """The prior as samplers want it: a callable that says the noise. ``schedule`` is the whole chain."""
    if model.config.predicts == "noise":
        return model

    def denoise(x: Tensor, t: Tensor, **text: Tensor) -> Tensor:
        return noise_from_x0(x, model(x, t, **text), per_example(schedule.alpha_bars, t, x))

    return denoise


@torch.no_grad()
def draw_embeddings(
    model: DiffusionPrior, text: Text, schedule: NoiseSchedule, steps: int = 64,
    scale: float | int = 1.0, candidates: int = 2, method: str = "ddpm",
    bound: float | int = 5.0, generator: torch.Generator | None = None,
) -> Float[Tensor, "b e"]:
    """CLIP embeddings (b, e) of pictures for the captions: of several that
    were drawn the one that fits best (eq:unclip-choose).

    ``scale`` is that of guidance; guiding the embedding and guiding the noise are the
    same, one being a linear function of the other. Estimates are cut to
    numbers from -``bound`` to ``bound``, which is Karlo's habit.
    """
    many = text.repeat(candidates)
    denoise = guided(as_denoiser(model, schedule), many._asdict(),
                     many.empty()._asdict(), float(scale))
    drawn = sample(denoise, schedule.respaced(steps), (len(many.mask), model.config.embed),
                   method, denoised_fn=lambda z: z.clamp(-bound, bound),
                   generator=generator, device=text.embedding.device)
    return choose_better(model.unscaled(drawn).unflatten(0, (-1, candidates)), text.embedding)


# ----------------------------------------------------------------------------- the autoregressive prior


@dataclass(frozen=True)
class ARPriorConfig:
    embed: int = 1024           # e, size of CLIP's embeddings
    components: int = 319       # principal directions, a token each
    buckets: int = 1024         # kinds of tokens of a direction, and of the likeness of caption and picture
    width: int = 1664           # d
    layers: int = 24
    heads: int = 26
    context: int = 384          # positions, as stated; prefix and codes need not fill them
    text: GLIDETextConfig = field(default_factory=lambda: GLIDETextConfig(50_257, 256, 2048, 24, 32))

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")
        if self.components + 3 > self.context or self.components > self.embed:
            raise FieldError("ARPriorConfig", "components", f"is {self.components} for embeddings of "
                             f"{self.embed} and a context of {self.context}, three of which are the prefix; "
                             "choose fewer")

    @classmethod
    def paper(cls) -> "ARPriorConfig":
        """DALL-E 2's, table 3: stated as 1B; the stated sizes make 2,121,410,688, text encoder included."""
        return cls()

    @classmethod
    def mini(cls, embed: int = 64, vocab: int = 400, context: int = 32) -> "ARPriorConfig":
        """A miniature over the miniature CLIP of chapter 4."""
        return cls(embed, 16, 32, 64, 2, 4, 24, GLIDETextConfig(vocab, context, 64, 2, 4))


class EmbeddingCodec(nn.Module):
    """Embeddings (b, e) <-> tokens (b, k), one a principal direction, the widest first (eq:unclip-pca,
    eq:unclip-bucket). ``fit`` learns it from embeddings."""

    mean: Tensor
    axes: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, config: ARPriorConfig) -> None:
        super().__init__()
        self.config = config
        k = config.components
        for name, value in (("mean", torch.zeros(config.embed)), ("axes", torch.eye(config.embed)[:, :k]),
                            ("low", -torch.ones(k)), ("high", torch.ones(k))):
            self.register_buffer(name, value)

    def fit(self, z: Float[Tensor, "n e"]) -> "EmbeddingCodec":
        """Directions and ranges of these embeddings. Raises ``ValueError`` for fewer embeddings than
        directions."""
        if len(z) <= self.config.components:
            raise ValueError(f"{len(z)} embeddings have no {self.config.components} principal directions; "
                             "give more")
        centred = (z - z.mean(dim=0)).double()
        values, vectors = torch.linalg.eigh(centred.mT @ centred)
        axes = vectors.flip(1)[:, : self.config.components]
        axes = axes * axes.sum(dim=0).sign()                            # a sign of its own is arbitrary
        a = centred @ axes
        for name, value in (("mean", z.mean(dim=0)), ("axes", axes), ("low", a.amin(0)), ("high", a.amax(0))):
            getattr(self, name).copy_(value)
        return self

    def encode(self, z: Float[Tensor, "b e"]) -> Int[Tensor, "b k"]:
        return bucket(projected(z, self.mean, self.axes), self.low, self.high, self.config.buckets)

    def decode(self, codes: Int[Tensor, "b k"]) -> Float[Tensor, "b e"]:
        return unbucket(codes, self.low, self.high, self.config.buckets) @ self.axes.mT + self.mean


class ARPrior(nn.Module):
    """Captions and their CLIP embeddings -> the codes of an embedding, one after the other.

    ``prefix`` makes what the codes are read after: caption, its embedding, and how alike caption and picture
    are to be. ``decode`` gives logits (r, t, buckets) of the code after each of the tokens, of which the
    first is ``start``; the methods of ``mmlearn.generate`` draw with it.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(self, config: ARPriorConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.codec = EmbeddingCodec(config)
        self.text = GLIDEText(config.text, d)
        self.embedding_in = nn.Linear(config.embed, d)
        self.likeness = nn.Embedding(config.buckets, d)
        self.codes = nn.Embedding(config.buckets + 1, d)
        self.positions = nn.Parameter(torch.empty(config.context, d))
        for weight, std in ((self.likeness.weight, 0.02), (self.codes.weight, 0.02), (self.positions, 0.01)):
            nn.init.normal_(weight, std=std)
        self.layers = nn.ModuleList(causal_layer(d, config.heads) for _ in range(config.layers))
        self.norm_after = LayerNorm32(d)
        self.out = nn.Linear(d, config.buckets)

    @property
    def start(self) -> int:
        """The token before the first code."""
        return self.config.buckets

    def prefix(
        self, tokens: Int[Tensor, "b t"], embedding: Float[Tensor, "b e"],
        likeness: Float[Tensor, " b"],
    ) -> Context:
        """What codes are read after. ``likeness`` is $z^T z_t$, from -1 to 1:
        that of the pair in training, a high one to draw."""
        one = likeness.new_ones(1)
        alike = bucket(likeness[:, None], -one, one, self.config.buckets)
        parts = [self.text(tokens).summary, self.embedding_in(embedding),
                 self.likeness(alike[:, 0])]
        return Context(torch.stack(parts, dim=1)[:, None])         # b 1 3 d

    def decode(
        self, tokens: Int[Tensor, "r t"], context: Context
    ) -> Float[Tensor, "r t k"]:
        x, start = self.codes(tokens), 0 if self.cache is None else self.cache.length
        if start == 0:
            prefix = context.levels[:, 0].repeat_interleave(context.copies, dim=0)
            x = torch.cat([prefix, x], dim=1)
        x = x + self.positions[start : start + x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm_after(x[:, -tokens.shape[1]:]))

    def forward(
        self, z: Float[Tensor, "b e"], tokens: Int[Tensor, "b t"],
        embedding: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b k"]:
        """Log-probabilities of the codes of pictures' embeddings, given
        captions (eq:caption-chain)."""
        context = self.prefix(tokens, embedding, (z * embedding).sum(dim=1))
        codes = self.codec.encode(z)[:, None]
        return generate.score(self, context, codes, bos=self.start, eos=-1)[:, 0]


@torch.no_grad()
def draw_codes(
    model: ARPrior, tokens: Int[Tensor, "b t"], embedding: Float[Tensor, "b e"],
    likeness: float | int, candidates: int = 2, generator: torch.Generator | None = None,
) -> Float[Tensor, "b e"]:
    """Embeddings (b, e) drawn code by code; of several the one that fits the
    caption best."""
    wanted = torch.full((len(tokens),), likeness, device=embedding.device)
    context = model.prefix(tokens, embedding, wanted)
    codes, _ = generate.sample(model, context, k=candidates, bos=model.start, eos=-1,
                               max_len=model.config.components, generator=generator)
    drawn = model.codec.decode(codes.flatten(0, 1)).unflatten(0, (-1, candidates))
    return choose_better(F.normalize(drawn, dim=-1), embedding)
