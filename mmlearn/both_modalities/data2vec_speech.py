r"""data2vec for speech: a waveform becomes frames by convolutions, spans of frames are masked, and a
Transformer whose positions are convolutions, too, says what a teacher made of them.

Papers: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555, sec. 3.1 to 3.3, 4.2 and table 5; A.
Baevski et al. (2020), *wav2vec 2.0*, NeurIPS, arXiv:2006.11477, sec. 2 and 3.1 (feature encoder, spans);
github.com/facebookresearch/fairseq, examples/data2vec (sizes, positions, targets).  Survey: 5.1.

Base and large are post-norm: the released configuration of base says layer_norm_first = False, and
``transformers``, whose converter compares with the authors' model, has post-norm layers alone (large's
config.json says do_stable_layer_norm, which its class does not read; we could not see the authors' own
settings of large). Positions are five grouped convolutions without weight norm; wav2vec 2.0 has a single one
with it.
Differs from the released code: no dropout on the attention weights; padding is set to zero before each of the
five convolutions of positions, not the first alone, so that an utterance in a padded batch has the states
that it has alone; rows of a batch keep their own numbers of masked frames, where the released code unmasks
some until all have as many; a span may begin at the last place where it fits. Targets are those of
``mmlearn.both_modalities.data2vec`` with ``Data2VecConfig.speech``: instance norm over all frames of a row,
as released, whose batches are cut to their shortest utterance and have no padding.

Waveforms (b, s) are at 16,000 samples a second, each of mean 0 and variance 1 (``normalised_waveform``).
Letters of shapes: s samples, t frames, c channels of the convolutions, d width, q, n, k of a kernel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.data2vec import MaskedInputs, TargetBlock
from mmlearn.data.batches import Batches
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.transformer import GELU

MASKED = 0.065          # p, share of frames at which a masked span begins
SPAN = 10               # M, frames of a span


@dataclass(frozen=True)
class Data2VecSpeechConfig:
    channels: int = 512                                         # c, of every convolution of the waveform
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)           # their lengths
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)            # and strides
    width: int = 768                                            # d
    layers: int = 12
    heads: int = 12
    ff: int = 3072                                              # inner width of the feed-forward networks
    position_layers: int = 5                                    # convolutions of positions
    position_kernel: int = 19                                   # frames of each
    groups: int = 16                                            # of their channels
    masked: float = MASKED                                      # p, share of frames that begin a span
    span: int = SPAN                                            # M, frames of a span
    eps: float = 1e-5                                           # of layer normalisation
    dropout: float = 0.1
    layerdrop: float = 0.05                                     # chance that training skips a layer
    rate: int = 16_000                                          # samples a second

    def __post_init__(self) -> None:
        check(self, kernels=(1, 255), strides=(1, 255), position_layers=(1, 100), position_kernel=(1, 255),
              masked=(0, 1), span=(1, 1000), layerdrop=(0, 1), layers=(1, 1000))
        check_divides(self, "heads", "width")
        check_divides(self, "groups", "width")
        if not self.kernels or len(self.kernels) != len(self.strides):
            raise ValueError(f"there are {len(self.kernels)} kernels and {len(self.strides)} strides; give "
                             "one of each for every convolution")

    @classmethod
    def base(cls) -> "Data2VecSpeechConfig":
        """93,164,288 parameters: LibriSpeech, 960 hours."""
        return cls()

    @classmethod
    def large(cls) -> "Data2VecSpeechConfig":
        """313,276,416 parameters: Libri-light, 60,000 hours."""
        return cls(width=1024, layers=24, heads=16, ff=4096)

    @classmethod
    def mini(cls) -> "Data2VecSpeechConfig":
        """A miniature for ``mmlearn.data.voices``: a frame of 10 ms, 48 of them in half a second."""
        return cls(32, (10, 8, 4, 4), (5, 4, 2, 2), 64, 4, 4, 256, 2, 9, 4, dropout=0.0, layerdrop=0.0,
                   rate=8000)

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return receptive_field(self.kernels, self.strides)[1]

    @property
    def field(self) -> int:
        """Samples that a frame is made of."""
        return receptive_field(self.kernels, self.strides)[0]

    def frames(self, samples: int) -> int:
        """Frames of a waveform. Raises ``ValueError`` if it is too short for one."""
        if samples < self.field:
            raise ValueError(f"a waveform has {samples} samples and a frame {self.field}; give longer ones")
        return frame_count(samples, self.kernels, self.strides)


# -------------------------------------------------------------------------------------------------- equations

def normalised_waveform(
    x: Float[Tensor, "b s"], real: Bool[Tensor, "b s"] | None = None,
    eps: float = 1e-7
) -> Float[Tensor, "b s"]:
    r"""eq:speech-waveform: $x_i\leftarrow(x_i-\mu)/\sqrt{\sigma^2+\epsilon}$ over the samples of an
    utterance: how loud it is as a whole, no model sees. Padding becomes 0."""
    keep = torch.ones_like(x) if real is None else real.to(x.dtype)
    n = keep.sum(dim=1, keepdim=True)
    x = (x - (x * keep).sum(dim=1, keepdim=True) / n) * keep
    return x / (x.square().sum(dim=1, keepdim=True) / n + eps).sqrt()


def frame_count(
    samples: int, kernels: Sequence[int], strides: Sequence[int]
) -> int:
    r"""eq:speech-frames: $n_i=\lfloor(n_{i-1}-\kappa_i)/s_i\rfloor+1$: what convolution $i$ leaves of
    $n_{i-1}$ places, $n_0$ being the samples: 49 frames of a second."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def receptive_field(
    kernels: Sequence[int], strides: Sequence[int]
) -> tuple[int, int]:
    r"""eq:speech-field: $r=1+\sum_i(\kappa_i-1)\prod_{j<i}s_j$ samples make a frame, and the next begins
    $\prod_is_i$ samples later: 400 and 320, that is 25 ms and 20 ms, 50 frames a second."""
    field, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field, step


def conv_block(
    x: Float[Tensor, "b q n"], W: Float[Tensor, "c q k"], stride: int,
    scale: Float[Tensor, " c"], shift: Float[Tensor, " c"]
) -> Float[Tensor, "b c m"]:
    r"""eq:speech-block: $\mathrm{GELU}(\mathrm{LN}(x*W))$, without a bias, the norm over the channels of each
    place."""
    y = F.conv1d(x, W, stride=stride).mT                     # b c m -> b m c
    return F.gelu(F.layer_norm(y, scale.shape, scale, shift)).mT


def position_block(
    x: Float[Tensor, "b t d"], W: Float[Tensor, "d q k"],
    bias: Float[Tensor, " d"], groups: int,
    real: Bool[Tensor, "b t"] | None = None
) -> Float[Tensor, "b t d"]:
    r"""eq:speech-position: $P(x)=\mathrm{GELU}(\mathrm{LN}(x*W+b))$, where the norm has no parameters;
    $x+P_5(\dots P_1(x))$ knows where a frame stands among its neighbours."""
    k, t = W.shape[-1], x.shape[1]
    y = F.conv1d(x.mT, W, bias, padding=k // 2, groups=groups)
    y = y[..., :t].mT                           # an even kernel gives one more
    y = F.gelu(F.layer_norm(y, y.shape[-1:]))
    return y if real is None else y.masked_fill(~real[..., None], 0.0)


def masked_share(p: float | int, span: int) -> float:
    r"""eq:speech-share: $1-(1-p)^M$: how likely a frame is in one of the spans, if every frame begins one
    with probability $p$: 0.489 for $p=0.065$ and $M=10$."""
    return 1 - (1 - p) ** span


def span_starts(
    places: Int[Tensor, "b 1"], count: Int[Tensor, "b 1"],
    scores: Float[Tensor, "b n"]
) -> Bool[Tensor, "b n"]:
    r"""eq:speech-starts: $\lfloor pT+u\rfloor$ of the places where a span fits, each as likely, none twice:
    those of the lowest ``scores``, which are drawn uniformly."""
    where = torch.arange(scores.shape[1], device=scores.device)
    ranks = scores.masked_fill(where >= places, 2.0).argsort(1).argsort(1)
    return ranks < count


def with_mask(
    x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"],
    vector: Float[Tensor, " d"]
) -> Float[Tensor, "b t d"]:
    r"""eq:speech-mask: $x_t\leftarrow m$ for the masked frames $t\in M$: one learned vector, before the
    positions are added."""
    return torch.where(mask[..., None], vector, x)


# --------------------------------------------------------------------------------------------------- masks

def span_mask(
    b: int, t: int, masked: float | int = MASKED, span: int = SPAN, generator: torch.Generator | None = None,
    real: Bool[Tensor, "b t"] | None = None,
) -> Bool[Tensor, "b t"]:
    """Frames to be masked (True), in spans that may overlap: eq:speech-starts, at least one span a row.

    ``real`` says which frames exist, the first of each row. Raises ``ValueError`` for a row shorter than a
    span.
    """
    frames = torch.full((b,), t) if real is None else real.sum(dim=1).cpu()
    if int(frames.min()) < span:
        raise ValueError(f"an utterance has {int(frames.min())} frames, a span {span}; give longer ones or "
                         "a shorter span")
    places = (frames - span + 1)[:, None]
    u = torch.rand(b, 1, generator=generator)
    count = (masked * frames[:, None] + u).floor().long().clamp(min=1).minimum(places)
    starts = span_starts(places, count, torch.rand(b, t - span + 1, generator=generator))
    begun = F.pad(starts.float(), (span - 1, span - 1)).unfold(1, span, 1)     # at each frame the last M
    return begun.amax(dim=-1) > 0


def real_frames(real: Bool[Tensor, "b s"], config: Data2VecSpeechConfig) -> Bool[Tensor, "b t"]:
    """Which frames are made of real samples alone, ``real`` being the first samples of each row.

    Raises ``ValueError`` for rows with gaps, and for those too short for a frame.
    """
    if bool((real[:, 1:] & ~real[:, :-1]).any()):
        raise ValueError("a row of real has samples after padding; put the padding at the end")
    counts = torch.tensor([config.frames(int(n)) for n in real.sum(dim=1)], device=real.device)
    return torch.arange(config.frames(real.shape[1]), device=real.device) < counts[:, None]


# ---------------------------------------------------------------------------------------------------- blocks

class FeatureEncoder(nn.Module):
    """Convolutions of the waveform, eq:speech-block one after the other: (b, s) -> (b, t, c)."""

    def __init__(self, config: Data2VecSpeechConfig) -> None:
        super().__init__()
        c = config.channels
        into = [1] + [c] * (len(config.kernels) - 1)
        self.convs = nn.ModuleList(
            nn.Conv1d(*sizes, bias=False) for sizes in
            zip(into, [c] * len(into), config.kernels, config.strides))
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in config.kernels)

    def forward(
        self, waveforms: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b t c"]:
        conv: Any
        norm: Any
        x = waveforms[:, None]                              # b s -> b 1 s
        for conv, norm in zip(self.convs, self.norms):
            x = conv_block(x, conv.weight, conv.stride[0],
                           norm.weight, norm.bias)
        return x.mT


class Positions(nn.Module):
    """Convolutions of frames, eq:speech-position one after the other: (b, t, d) -> (b, t, d)."""

    def __init__(self, config: Data2VecSpeechConfig) -> None:
        super().__init__()
        d, k = config.width, config.position_kernel
        self.convs = nn.ModuleList(
            nn.Conv1d(d, d, k, padding=k // 2, groups=config.groups)
            for _ in range(config.position_layers))

    def forward(
        self, x: Float[Tensor, "b t d"],
        real: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t d"]:
        conv: Any
        for conv in self.convs:
            x = position_block(x, conv.weight, conv.bias, conv.groups, real)
        return x


class Data2VecSpeech(nn.Module):
    """Waveforms (b, s) -> states (b, t, d) of the last layer, a frame each 20 ms.

    ``mask`` (b, t) is True where the frame is replaced by the learned vector (eq:speech-mask); ``real``
    (b, s) says which samples exist, all of them where it is left out. ``layers`` gives a^l of every layer,
    first to last, which targets are made of: the output of its second linear map before dropout and residual.
    The parts ``shared`` a teacher has in common with its student; of the others it keeps moving averages.
    Raises ``ValueError`` for waveforms too short for a frame and masks of another length.
    """

    shared = ("features", "norm", "project", "mask_vector", "positions")

    def __init__(self, config: Data2VecSpeechConfig) -> None:
        super().__init__()
        self.config = c = config
        self.features = FeatureEncoder(c)
        self.norm = nn.LayerNorm(c.channels, eps=c.eps)
        self.project = nn.Linear(c.channels, c.width)
        self.mask_vector = nn.Parameter(torch.empty(c.width))
        self.positions = Positions(c)
        self.first_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(speech_block(c) for _ in range(c.layers))
        initialise(self)

    def frames(self, samples: int) -> int:
        """Frames of a waveform of ``samples`` samples."""
        return self.config.frames(samples)

    def embed(self, waveforms: Float[Tensor, "b s"]) -> Float[Tensor, "b t d"]:
        """Frames before masking: convolutions, layer norm, a linear map."""
        self.frames(waveforms.shape[1])
        return self.project(self.norm(self.features(waveforms)))

    def run(
        self, x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "r n"] | None = None,
        real: Bool[Tensor, "b t"] | None = None, skip: bool = False
    ) -> Iterator[tuple[Float[Tensor, "b t d"], Float[Tensor, "b t d"]]]:
        """State and a^l, layer by layer, from frames; ``skip`` leaves some out in training."""
        if mask is not None:
            if mask.shape != x.shape[:2]:
                raise ValueError(f"the mask is {tuple(mask.shape)} and the frames {tuple(x.shape[:2])}; "
                                 "make it with span_mask(b, model.frames(s))")
            x = with_mask(x, mask, self.mask_vector)
        if real is not None:
            x = x.masked_fill(~real[..., None], 0.0)
        x = self.dropout(self.first_norm(x + self.positions(x, real)))
        block: Any
        for block in self.blocks:
            a = x
            if not (skip and self.training and float(torch.rand(())) < self.config.layerdrop):
                found = block.tensors(x, real)
                x, a = found.end, found.ffn
            yield x, a

    def forward(
        self, waveforms: Float[Tensor, "b s"],
        mask: Bool[Tensor, "r n"] | None = None,
        real: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b t d"]:
        frames = None if real is None else real_frames(real, self.config)
        *_, (states, _) = self.run(self.embed(waveforms), mask, frames, True)
        return states

    def layers(
        self, waveforms: Float[Tensor, "b s"],
        real: Bool[Tensor, "b s"] | None = None
    ) -> tuple[Float[Tensor, "b t d"], ...]:
        """a^l of every layer, from whole inputs; none is left out."""
        frames = None if real is None else real_frames(real, self.config)
        return tuple(a for _, a in self.run(self.embed(waveforms), None, frames))


def speech_block(config: Data2VecSpeechConfig) -> TargetBlock:
    """A layer with GELU; dropout follows the two sub-layers, not the activation between them."""
    layer = TargetBlock(config.width, config.heads, config.ff, config.dropout, activation=GELU,
                        layer_norm=partial(nn.LayerNorm, eps=config.eps))
    layer.feed_forward.dropout.p = 0.0
    return layer


def initialise(model: Data2VecSpeech) -> None:
    """As the released code: matrices of the layers normal with width 0.02, convolutions of the waveform by He
    et al., the vector of masked frames uniform; biases of layers and positions 0."""
    conv: Any
    nn.init.uniform_(model.mask_vector)
    for conv in model.features.convs:
        nn.init.kaiming_normal_(conv.weight)
    for conv in model.positions.convs:
        nn.init.zeros_(conv.bias)
    for name, parameter in model.blocks.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


# --------------------------------------------------------------------------------------------------- batches

class HiddenSpeech(Batches):
    """Batches of ``MaskedInputs`` from waveforms (n, s) or from a data set whose items begin with one, such
    as ``mmlearn.data.voices.SpokenWords``: each normalised (eq:speech-waveform), spans hidden anew each time.

    What is hidden follows from (seed, number of the batch).
    """

    def __init__(self, waveforms: Any, size: int, config: Data2VecSpeechConfig, *, seed: int = 0,
                 **options: Any) -> None:
        super().__init__(waveforms, size, seed=seed, **options)
        self.config = config

    def make(self, indices: list[int], number: int) -> MaskedInputs:
        """The batch ``number`` of these waveforms."""
        many = getattr(self.data, "__getitems__", None)
        items = many(indices) if many else [self.data[i] for i in indices]
        waves = torch.stack([item if isinstance(item, Tensor) else item[0] for item in items])
        draws = np.random.default_rng((self.seed, number, indices[0]))
        generator = torch.Generator().manual_seed(int(draws.integers(2**62)))
        mask = span_mask(len(waves), self.config.frames(waves.shape[1]), self.config.masked, self.config.span,
                         generator)
        return MaskedInputs(normalised_waveform(waves), mask)
