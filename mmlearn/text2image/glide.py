r"""GLIDE: a diffusion model that reads. A transformer reads the caption, ADM's U-Net takes the noise away.

Paper: A. Nichol, P. Dhariwal, A. Ramesh, P. Shyam, P. Mishkin, B. McGrew, I. Sutskever and M. Chen (2021),
*GLIDE: Towards Photorealistic Image Generation and Editing with Text-Guided Diffusion Models*, ICML 2022,
arXiv:2112.10741, sec. 4 (text), 4.1 (guidance), 4.2 (inpainting); sizes of
github.com/openai/glide-text2im.  Survey: 2.3, 2.3.1.
Differs from the paper: the low resolution is enlarged bilinearly, as in the code (the paper says
bicubically). The text transformer of the full upsampler has 16 layers and 16 heads: an assumption, with which
the count is 1,541 million (the paper has 1.5 billion and gives its width alone). What the U-Net says may be
read as the velocity (T. Salimans and J. Ho, 2022, arXiv:2202.00512, app. D): the miniatures learn faster so;
GLIDE's own says the noise.

Text enters twice: the last state is projected and added to the timestep's embedding, and all states stand as
keys and values before those of the picture in every attention layer. The transformer is trained with the
U-Net, from scratch. Guidance is no part of training: captions are dropped there, and nothing else.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import FieldError, check, check_divides
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import LayerNorm32, PreNormEncoderLayer
from mmlearn.text2image.adm import ADMConfig, ADMUNet
from mmlearn.text2image.diffusion import NoiseSchedule, noise_from_velocity, per_example

SCHEDULES = {"cosine": NoiseSchedule.cosine, "linear": NoiseSchedule.linear}
PREDICTIONS = ("noise", "velocity")
LARGE = (1, 1, 2, 2, 4, 4)              # multipliers of the upsamplers to 256 pixels


@dataclass(frozen=True)
class GLIDETextConfig:
    vocab: int = 50_257         # tokens, the padding being the last
    context: int = 128          # t, tokens of a caption, padding counted
    width: int = 512            # d, size of a token's state
    layers: int = 16
    heads: int = 8

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")

    @property
    def pad(self) -> int:
        """Id of the padding."""
        return self.vocab - 1


@dataclass(frozen=True)
class GLIDEConfig:
    """A U-Net, the transformer that reads for it, and what it is given besides noise and text."""

    unet: ADMConfig = field(default_factory=lambda: ADMConfig(dropout=0.1, context=512))
    text: GLIDETextConfig = field(default_factory=GLIDETextConfig)
    low: int = 0                # side of the picture that is enlarged, in pixels; 0: there is none
    inpaint: bool = False       # is there a picture with a hole?
    schedule: str = "cosine"    # of the noise: "cosine" or "linear", over 1000 steps
    predicts: str = "noise"     # what the U-Net says: "noise", or "velocity", from which the noise follows

    def __post_init__(self) -> None:
        check(self, low=(0, 65_536))
        if self.schedule not in SCHEDULES:
            raise FieldError("GLIDEConfig", "schedule", f"is {self.schedule!r}; use one of "
                                                        f"{', '.join(SCHEDULES)}")
        if self.predicts not in PREDICTIONS:
            raise FieldError("GLIDEConfig", "predicts", f"is {self.predicts!r}; use one of "
                                                        f"{', '.join(PREDICTIONS)}")
        if self.unet.context != self.text.width:
            raise FieldError("GLIDEConfig", "unet", f"reads tokens of size {self.unet.context}, those of the "
                             f"text have {self.text.width}; make context and width the same")
        if self.unet.in_channels != self.channels:
            raise FieldError("GLIDEConfig", "unet", f"has {self.unet.in_channels} channels at its input, "
                             f"which gets {self.channels}; set in_channels to it")
        if self.low and (self.low > self.unet.size or self.unet.size % self.low):
            raise FieldError("GLIDEConfig", "low", f"is {self.low}, which does not divide the "
                             f"{self.unet.size} pixels of what is drawn")

    @classmethod
    def full(cls) -> "GLIDEConfig":
        """The paper's base model at 64 pixels: 3,554,414,086 parameters, of which 2.2 billion see and 1.2
        billion read."""
        return fitted(ADMConfig(width=512, dropout=0.1), GLIDETextConfig(width=2048, layers=24, heads=32))

    @classmethod
    def full_upsampler(cls) -> "GLIDEConfig":
        """The paper's upsampler from 64 to 256 pixels: 1,540,932,998 parameters, if its transformer has the
        16 layers that are assumed here."""
        return fitted(ADMConfig(256, 384, LARGE, 2), GLIDETextConfig(width=1024, layers=16, heads=16), 64,
                      "linear")

    @classmethod
    def filtered(cls) -> "GLIDEConfig":
        """The released base model, "GLIDE (filtered)": 385,030,726 parameters."""
        return cls()

    @classmethod
    def filtered_inpaint(cls) -> "GLIDEConfig":
        """The released base model that fills holes: 385,037,638 parameters."""
        return cls.filtered().with_hole()

    @classmethod
    def filtered_upsampler(cls) -> "GLIDEConfig":
        """The released upsampler from 64 to 256 pixels: 398,361,286 parameters."""
        return fitted(ADMConfig(256, 192, LARGE, 2, dropout=0.1), GLIDETextConfig(), 64, "linear")

    @classmethod
    def filtered_upsampler_inpaint(cls) -> "GLIDEConfig":
        """The released upsampler that fills holes: 398,368,198 parameters."""
        return cls.filtered_upsampler().with_hole()

    @classmethod
    def mini(cls, vocab: int = 800, size: int = 32, context: int = 24) -> "GLIDEConfig":
        """A miniature for the scene world, at 32 pixels: about 2.1 million parameters; it says the
        velocity."""
        unet = ADMConfig(size, 32, (1, 2, 2.5), 1, (size // 4,), groups=16, head_channels=40)
        return replace(fitted(unet, GLIDETextConfig(vocab, context, 80, 3, 4)), predicts="velocity")

    @classmethod
    def mini_upsampler(cls, vocab: int = 800, size: int = 64, context: int = 24) -> "GLIDEConfig":
        """The miniature's upsampler, from 32 to 64 pixels: about 0.3 million parameters; it says the
        velocity."""
        unet = ADMConfig(size, 16, (1, 1, 2), 1, (), groups=8, head_channels=16)
        made = fitted(unet, GLIDETextConfig(vocab, context, 32, 1, 2), size // 2, "linear")
        return replace(made, predicts="velocity")

    def with_hole(self) -> "GLIDEConfig":
        """The same with four channels more, for a picture with a hole."""
        return self if self.inpaint else replace(
            self, inpaint=True, unet=replace(self.unet, in_channels=self.unet.in_channels + 4))

    @property
    def size(self) -> int:
        """Pixels a side of what is drawn."""
        return self.unet.size

    @property
    def channels(self) -> int:
        """What the U-Net is given at every pixel: noisy colours, known colours and a mask, low resolution."""
        return 3 + 4 * self.inpaint + 3 * bool(self.low)

    @property
    def noise(self) -> NoiseSchedule:
        """The schedule of the noise, over all 1000 steps."""
        return schedule_named(self.schedule)


@cache
def schedule_named(name: str) -> NoiseSchedule:
    """The schedule of ``SCHEDULES``, made once: its tables are read at every step."""
    return SCHEDULES[name]()


def fitted(unet: ADMConfig, text: GLIDETextConfig, low: int = 0, schedule: str = "cosine") -> GLIDEConfig:
    """The configuration of these parts, the U-Net made to fit the others."""
    unet = replace(unet, context=text.width, in_channels=6 if low else 3)
    return GLIDEConfig(unet, text, low, schedule=schedule)


# -------------------------------------------------------------------------------------------------- equations


def padded_states(
    words: Float[Tensor, "b t d"], positions: Float[Tensor, "t d"],
    padding: Float[Tensor, "t d"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b t d"]:
    r"""eq:glide-padding: $h_i=m_i(E_{w_i}+P_i)+(1-m_i)U_i$: where the text has ended, word
    and position make way for a learned vector of the position."""
    return torch.where(mask[..., None], words + positions, padding)


def summarised(
    states: Float[Tensor, "b t d"], W: Float[Tensor, "d e"],
    bias: Float[Tensor, " e"],
) -> Float[Tensor, "b e"]:
    r"""eq:glide-summary: $e=z_tW+b$ of the last position's state, be it padding; it is added to
    the embedding of the timestep."""
    return states[:, -1] @ W + bias


def enlarged(
    low: Float[Tensor, "b c v u"], size: int
) -> Float[Tensor, "b c y x"]:
    r"""eq:glide-enlarged: $u_i=(1-f)\,l_{\lfloor s\rfloor}+f\,l_{\lfloor s\rfloor+1}$ with
    $s=(i+\frac12)\frac{n}{N}-\frac12$ and its fraction $f$, along both axes; what lies outside
    is the pixel at the edge."""
    return F.interpolate(low, (size, size), mode="bilinear",
                         align_corners=False)


def with_hole(
    known: Float[Tensor, "b c y x"], kept: Float[Tensor, "b 1 y x"]
) -> Float[Tensor, "b d y x"]:
    r"""eq:glide-hole: $[m\odot x;\,m]$: the known pixels, zeros in the hole, and the mask,
    1 where a pixel is known."""
    return torch.cat([known * kept, kept], dim=1)


def with_known(
    drawn: Float[Tensor, "b c y x"], known: Float[Tensor, "b c y x"],
    kept: Float[Tensor, "b 1 y x"]
) -> Float[Tensor, "b c y x"]:
    r"""eq:glide-known: $\hat x_0\leftarrow m\odot x+(1-m)\odot\hat x_0$: at every step, what is
    predicted of known pixels is replaced by what is known."""
    return known * kept + drawn * (1 - kept)


def quantised(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:glide-quantised: $\mathrm{round}(127.5(x+1))/127.5-1$: the colours that a picture of
    bytes has, as the upsampler knows them from its training."""
    return ((x + 1) * 127.5).round() / 127.5 - 1


def drop_captions(
    tokens: Int[Tensor, "b t"], pad: int, rate: float | int,
    generator: torch.Generator | None = None
) -> Int[Tensor, "b t"]:
    r"""eq:glide-drop: $w\leftarrow\varnothing$ with probability $p$: a share of the captions
    becomes the empty text, which is padding and nothing else (not zeros)."""
    dropped = torch.rand(len(tokens), generator=generator) < rate
    return tokens.masked_fill(dropped.to(tokens.device)[:, None], pad)


# ------------------------------------------------------------------------------------------------------ model


class Reading(NamedTuple):
    """What the U-Net learns of captions: ``summary`` (b, 4 w), which joins the timestep's embedding, and
    ``states`` (b, t, d), which attention reads."""

    summary: Tensor
    states: Tensor


class GLIDEText(nn.Module):
    """Captions (b, t) of token ids, padded to the context -> what the U-Net reads of them (eq:glide-padding,
    eq:pre-norm, eq:glide-summary).

    Attention runs both ways, and padding is attended to as words are: it says how much room the text left.
    Raises ``ValueError`` for captions of another length than the context and ids outside the vocabulary.
    """

    def __init__(self, config: GLIDETextConfig, summary: int) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.words = nn.Embedding(config.vocab, d)
        self.positions = nn.Parameter(torch.empty(config.context, d))
        self.padding = nn.Parameter(torch.empty(config.context, d))
        self.layers = nn.ModuleList(
            PreNormEncoderLayer(d, config.heads, 4 * d, activation=nn.GELU, layer_norm=LayerNorm32)
            for _ in range(config.layers))
        self.norm = LayerNorm32(d)
        self.summary = nn.Linear(d, summary)
        for weight, std in ((self.words.weight, 0.02), (self.positions, 0.01), (self.padding, 0.01)):
            nn.init.normal_(weight, std=std)

    def forward(self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None) -> Reading:
        context = self.config.context
        if tokens.shape[1] != context:
            raise ValueError(f"captions have {tokens.shape[1]} tokens, the model reads {context}; pad them "
                             f"with {self.config.pad} or cut them, as its tokeniser does")
        check_tokens(tokens, self.config.vocab)
        mask = tokens != self.config.pad if mask is None else mask
        x = padded_states(self.words(tokens), self.positions, self.padding, mask)
        for layer in self.layers:
            x = layer(x)
        states = self.norm(x)
        return Reading(summarised(states, self.summary.weight.mT, self.summary.bias), states)


class GLIDE(nn.Module):
    """Noisy pictures (b, 3, s, s), timesteps (b) and captions (b, t) -> the noise, and after it what the
    variance is made of (b, 6, s, s).

    ``mask`` (b, t) says where text stands (by default where ``tokens`` are no padding). An upsampler is given
    ``low`` (b, 3, n, n); a model that fills holes ``known`` (b, 3, s, s) and ``kept`` (b, 1, s, s), 1 where a
    pixel is known, and without them draws everything. All pictures are in [-1, 1]. ``read`` and ``predict``
    are the two halves of ``forward``: captions are read once, however many steps follow. Raises
    ``ValueError`` for conditions that the model has no use for, or lacks.
    """

    def __init__(self, config: GLIDEConfig) -> None:
        super().__init__()
        self.config = config
        self.text = GLIDEText(config.text, config.unet.embedding)
        self.unet = ADMUNet(config.unet)

    def read(self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None) -> Reading:
        """What the U-Net learns of captions; those shorter than the context are padded."""
        short = self.config.text.context - tokens.shape[1]
        if short > 0:
            tokens = F.pad(tokens, (0, short), value=self.config.text.pad)
            mask = None if mask is None else F.pad(mask, (0, short), value=False)
        return self.text(tokens, mask)

    def empty(self, count: int = 1) -> Reading:
        """What it learns of ``count`` empty texts, from which guidance leads away."""
        pad = torch.full((1, self.config.text.context), self.config.text.pad,
                         device=self.text.positions.device)
        summary, states = self.text(pad)
        return Reading(summary.expand(count, -1), states.expand(count, -1, -1))

    def inputs(
        self, x: Float[Tensor, "b 3 y x"], known: Float[Tensor, "b 3 y x"] | None = None,
        kept: Float[Tensor, "b 1 y x"] | None = None, low: Float[Tensor, "b 3 v u"] | None = None
    ) -> Float[Tensor, "b i y x"]:
        """All that stands at each pixel: noise, what is known of it, low resolution."""
        config, parts = self.config, [x]
        if (low is None) == bool(config.low) or (low is not None and low.shape[-1] != config.low):
            seen = "no picture" if low is None else f"one of {low.shape[-1]} pixels"
            raise ValueError(f"{seen} is to be enlarged, the model wants "
                             f"{f'one of {config.low}' if config.low else 'none'}; give low accordingly")
        if (known is None) != (kept is None) or (known is not None and not config.inpaint):
            raise ValueError("a picture with a hole is known and kept together, for a model with "
                             "inpaint=True; make one with widened_for_inpainting")
        if config.inpaint:
            nothing = torch.zeros_like(x)
            parts.append(with_hole(nothing if known is None else known,
                                   nothing[:, :1] if kept is None else kept))
        if low is not None:
            parts.append(enlarged(low, config.size))
        return torch.cat(parts, dim=1)

    def predict(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"],
        summary: Float[Tensor, "b e"], states: Float[Tensor, "b t d"],
        known: Float[Tensor, "b 3 y x"] | None = None,
        kept: Float[Tensor, "b 1 y x"] | None = None,
        low: Float[Tensor, "b 3 v u"] | None = None
    ) -> Float[Tensor, "b o y x"]:
        """The noise, for captions that have been read."""
        seen = self.inputs(x, known, kept, low)
        said = self.unet(seen, t, embedding=summary, context=states).to(x.dtype)
        if self.config.predicts == "noise":
            return said
        v, variance = said.split([3, said.shape[1] - 3], dim=1)
        noise = noise_from_velocity(x, v, per_example(self.config.noise.alpha_bars, t, x))
        return torch.cat([noise, variance], dim=1)

    def forward(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"], tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None = None, known: Float[Tensor, "b 3 y x"] | None = None,
        kept: Float[Tensor, "b 1 y x"] | None = None, low: Float[Tensor, "b 3 v u"] | None = None
    ) -> Float[Tensor, "b o y x"]:
        return self.predict(x, t, *self.read(tokens, mask), known=known, kept=kept, low=low)

    def widened_for_inpainting(self) -> "GLIDE":
        """A copy that is also given a picture with a hole. The weights of the four new channels are 0: until
        it is trained further, it draws what it drew (sec. 4.2)."""
        wide = GLIDE(self.config.with_hole()).to(self.text.positions)
        state = self.state_dict()
        if not self.config.inpaint:
            weight = state["unet.conv_in.weight"]
            nothing = weight.new_zeros(len(weight), 4, *weight.shape[2:])
            state["unet.conv_in.weight"] = torch.cat([weight[:, :3], nothing, weight[:, 3:]], dim=1)
        wide.load_state_dict(state)
        return wide.train(self.training)
