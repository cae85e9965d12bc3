"""CLIP: an image tower and a text tower that meet in one space, where a caption lies close to its image.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*, ICML
2021, arXiv:2103.00020, sec. 2.4-2.5 and tables 18-20; sizes and initialisation of github.com/openai/CLIP.
Survey: 4.2.2. Differs from the paper: a caption is pooled at its first end-of-text token, found by its id
(the code takes the highest id, which is the same in its vocabulary); the context has the code's 77 positions
and its 49,408 tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmlearn.nn.attention import MultiHeadAttention, record_attention
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.modified_resnet import ModifiedResNet, ResNetConfig
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import LayerNorm32, PreNormEncoderLayer, QuickGELU
from mmlearn.nn.vit import VisionTransformer, ViTConfig, resize_positions

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


@dataclass(frozen=True)
class TextConfig:
    vocab: int = 49_408         # V, tokens
    context: int = 77           # T, most tokens of a caption, <start> and <end> included
    width: int = 512            # d_t, size of a token state
    layers: int = 12            # L
    heads: int = 8              # h, attention heads of width d_t / h
    eot: int = 49_407           # id of the end-of-text token, where the caption is read off
    eps: float = 1e-5           # of layer normalisation

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")
        if self.eot >= self.vocab:
            raise ValueError(f"eot is {self.eot}, the vocabulary goes from 0 to {self.vocab - 1}; give the "
                             "id "
                             "of its end-of-text token")


class DualEncoderConfig:
    """What the configurations of all dual encoders answer from those of their two towers, ``image`` and
    ``text``."""

    image: Any
    text: Any

    @property
    def context(self) -> int:
        """Most tokens of a text."""
        return self.text.context

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        return self.text.vocab

    @property
    def size(self) -> int:
        """Pixels a side of an image in training."""
        return self.image.size


@dataclass(frozen=True)
class CLIPConfig(DualEncoderConfig):
    embed: int = 512                                            # e, size of the joint embedding
    image: ViTConfig | ResNetConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    activation: str = "quick_gelu"                              # of both towers: "quick_gelu" or "gelu"
    temperature: float = 0.07                                   # at the start: scale e^t = 1 / temperature
    logit_bias: float | int | None = None                       # start of SigLIP's bias; None: there is none

    def __post_init__(self) -> None:
        check(self)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}; use one of {', '.join(ACTIVATIONS)}")

    @property
    def eot(self) -> int:
        """Id of the end-of-text token."""
        return self.text.eot

    @classmethod
    def rn50(cls) -> "CLIPConfig":
        """RN50: the modified ResNet-50."""
        return cls(1024, ResNetConfig())

    @classmethod
    def rn101(cls) -> "CLIPConfig":
        """RN101: the modified ResNet-101."""
        return cls(512, ResNetConfig(blocks=(3, 4, 23, 3)))

    @classmethod
    def rn50x4(cls) -> "CLIPConfig":
        """RN50x4: the compute of about four ResNet-50."""
        return cls(640, ResNetConfig(288, (4, 6, 10, 6), 80, 40), TextConfig(width=640, heads=10))

    @classmethod
    def rn50x16(cls) -> "CLIPConfig":
        """RN50x16: the compute of about sixteen ResNet-50."""
        return cls(768, ResNetConfig(384, (6, 8, 18, 8), 96, 48), TextConfig(width=768, heads=12))

    @classmethod
    def rn50x64(cls) -> "CLIPConfig":
        """RN50x64: the compute of about sixty-four ResNet-50."""
        return cls(1024, ResNetConfig(448, (3, 15, 36, 10), 128, 64), TextConfig(width=1024, heads=16))

    @classmethod
    def vit_b32(cls) -> "CLIPConfig":
        """ViT-B/32: patches of 32 pixels."""
        return cls()

    @classmethod
    def vit_b16(cls) -> "CLIPConfig":
        """ViT-B/16: patches of 16 pixels."""
        return cls(512, ViTConfig(patch=16))

    @classmethod
    def vit_l14(cls) -> "CLIPConfig":
        """ViT-L/14: the large Vision Transformer, patches of 14 pixels."""
        return cls(768, ViTConfig(224, 14, 1024, 24, 16), TextConfig(width=768, heads=12))

    @classmethod
    def vit_l14_336(cls) -> "CLIPConfig":
        """ViT-L/14@336: ``vit_l14`` trained for one more epoch at 336 pixels."""
        return replace(cls.vit_l14(), image=ViTConfig(336, 14, 1024, 24, 16))

    @classmethod
    def mini(cls, vocab: int = 400, eot: int = 3, context: int = 32,
             logit_bias: float | int | None = None) -> "CLIPConfig":
        """A miniature for the scene world (64 pixels, word tokens), with a Vision Transformer."""
        return cls(64, ViTConfig(64, 8, 96, 4, 3), TextConfig(vocab, context, 96, 3, 3, eot),
                   logit_bias=logit_bias)

    @classmethod
    def mini_resnet(cls, vocab: int = 400, eot: int = 3, context: int = 32,
                    logit_bias: float | int | None = None) -> "CLIPConfig":
        """A miniature for the scene world with the modified ResNet and the text tower of ``mini``."""
        return replace(cls.mini(vocab, eot, context, logit_bias), image=ResNetConfig(64, (1, 1, 1, 1), 16, 8))


def eot_position(tokens: Int[Tensor, "b t"], eot: int) -> Int[Tensor, " b"]:
    """Position of the first end-of-text token of each caption (0 where there is none)."""
    return (tokens == eot).int().argmax(dim=-1)


def read_at_eot(
    states: Float[Tensor, "b t d"], tokens: Int[Tensor, "b t"], eot: int
) -> Float[Tensor, "b d"]:
    r"""eq:eot-pooling: $y_i=H_{i,m_i}$, $m_i=\min\{m: T_{im}=\mathrm{EOT}\}$: the state at the first
    end-of-text token."""
    rows = torch.arange(len(tokens), device=tokens.device)
    return states[rows, eot_position(tokens, eot)]


def text_layer(config: TextConfig, activation: Callable[[], nn.Module]) -> PreNormEncoderLayer:
    """A pre-norm layer with the released code's initialisation: normal, narrower where it adds to the
    residual."""
    d, into, onto = config.width, config.width**-0.5, (2 * config.layers * config.width) ** -0.5
    attention = MultiHeadAttention(d, config.heads, causal=True)
    nn.init.normal_(attention.in_weight, std=into)
    nn.init.normal_(attention.out.weight, std=onto)
    layer = PreNormEncoderLayer(d, config.heads, 4 * d, activation=activation, attention=attention,
                                layer_norm=partial(LayerNorm32, eps=config.eps))
    for linear, std in ((layer.feed_forward.inner, into / math.sqrt(2)), (layer.feed_forward.outer, onto)):
        linear.reset_parameters()  # the biases as PyTorch starts them
        nn.init.normal_(linear.weight, std=std)
    return layer


class TextTransformer(nn.Module):
    """Captions (b, t) of token ids, t <= context -> embeddings (b, e), not normalised (eq:pre-norm,
    eq:eot-pooling).

    Token and learned position embeddings, causal pre-norm layers, a last normalisation, the state at the
    first end-of-text token, a matrix without bias. Because attention is causal, what follows that token
    changes nothing, and captions may be cut behind their last one. ``tokens`` gives all normalised states (b,
    t, d). ``record_attention`` gets the weights of layer i as "layers.i.attention" (b, h, t, t). Raises
    ``ValueError`` for captions longer than the context, ids outside the vocabulary, and captions without
    end-of-text token.
    """

    def __init__(self, config: TextConfig, embed: int,
                 activation: Callable[[], nn.Module] = QuickGELU) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.words = nn.Embedding(config.vocab, d)
        self.positions = nn.Parameter(torch.empty(config.context, d))
        self.layers = nn.ModuleList(text_layer(config, activation) for _ in range(config.layers))
        self.norm_after = LayerNorm32(d, eps=config.eps)
        self.projection = nn.Parameter(torch.empty(d, embed))
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        nn.init.normal_(self.projection, std=d**-0.5)

    def check(self, tokens: Int[Tensor, "b t"]) -> None:
        """Refuse captions that the tower would misread."""
        vocab, context, eot = self.config.vocab, self.config.context, self.config.eot
        if tokens.shape[1] > context:
            raise ValueError(f"captions have {tokens.shape[1]} tokens, the context has {context}; cut them "
                             f"and end with {eot}")
        if tokens.is_meta or torch.compiler.is_compiling():
            return
        check_tokens(tokens, vocab)
        ends = (tokens == eot).any(dim=-1)
        if not bool(ends.all()):
            raise ValueError(f"caption {int((~ends).nonzero()[0])} has no end-of-text token {eot}; "
                             "end each caption with it, after cutting")

    def embed(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """What the first layer reads."""
        self.check(tokens)
        return self.words(tokens) + self.positions[: tokens.shape[1]]

    def tokens(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.norm_after(x)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        x = self.embed(tokens)
        for layer in self.layers[:-1]:
            x = layer(x)
        end = eot_position(tokens, self.config.eot)
        x = self.layers[-1].forward_at(x, end)              # type: ignore[operator]  # all that is read of it
        return self.norm_after(x[:, 0]) @ self.projection


class CLIP(nn.Module):
    """A dual encoder: images and captions as unit vectors of one space, and a learned scale for their
    products.

    ``encode_image``: standardised pixels (b, 3, s, s) -> (b, e). ``encode_text``: token ids (b, t) -> (b, e).
    ``forward``: (u, v, scale), both sides of length 1 and scale $e^t$, t being the parameter ``logit_scale``;
    the logits are ``scale * u @ v.T``. ``logit_bias`` is a parameter or None. Raises ``ValueError`` for
    images and captions that do not fit ``config``.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        activation = ACTIVATIONS[config.activation]
        self.image: VisionTransformer | ModifiedResNet
        if isinstance(config.image, ResNetConfig):
            self.image = ModifiedResNet(config.image, config.embed)
        else:
            self.image = VisionTransformer(config.image, config.embed, activation)
        self.text = TextTransformer(config.text, config.embed, activation)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))
        self.logit_bias = (
            None if config.logit_bias is None else nn.Parameter(torch.tensor(float(config.logit_bias)))
        )

    def encode_image(
        self, images: Float[Tensor, "b 3 y x"], normalise: bool = False
    ) -> Float[Tensor, "b e"]:
        u = self.image(images)
        return F.normalize(u, dim=-1) if normalise else u

    def encode_text(
        self, tokens: Int[Tensor, "b t"], normalise: bool = False
    ) -> Float[Tensor, "b e"]:
        v = self.text(tokens)
        return F.normalize(v, dim=-1) if normalise else v

    def forward(
        self, images: Float[Tensor, "b 3 y x"], tokens: Int[Tensor, "c t"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "c e"], Float[Tensor, ""]]:
        u = self.encode_image(images, normalise=True)
        v = self.encode_text(tokens, normalise=True)
        return u, v, self.logit_scale.exp()


@torch.no_grad()
def clamp_logit_scale_(model: nn.Module, most: float | int = 100.0) -> None:
    r"""eq:scale-clamp: $t\leftarrow\min(t,\log 100)$, in place, to be called after each optimiser step (sec.
    2.5)."""
    model.get_parameter("logit_scale").clamp_(max=math.log(most))


def at_size(model: CLIP, size: int) -> CLIP:
    """The same weights for images of ``size`` pixels a side: a new model whose position embeddings are
    resized.

    Raises ``ValueError`` if the size is no multiple of the patch or of the stride.
    """
    config = replace(model.config, image=replace(model.config.image, size=size))
    state = model.state_dict()
    name = "image.pool.positions" if isinstance(config.image, ResNetConfig) else "image.positions"
    state[name] = resize_positions(state[name], config.image.grid)
    resized = CLIP(config).to(state[name])
    resized.load_state_dict(state)
    return resized.train(model.training)


# ----------------------------------------------------------------------------------------------- as published

@dataclass(frozen=True)
class Published:
    """What is published about one of the nine models; parameter counts stand in the catalogue."""

    build: Callable[[], CLIPConfig]
    gflops: float  # of one image and one caption, a multiply-add being 2; OpenCLIP's model_profile.csv
    lr: float                   # peak learning rate, tables 19 and 20 of the paper
    imagenet: float             # zero-shot top-1 in %, released weights as measured by OpenCLIP


PUBLISHED = {
    "RN50": Published(CLIPConfig.rn50, 18.2, 5e-4, 59.82),
    "RN101": Published(CLIPConfig.rn101, 25.5, 5e-4, 62.28),
    "RN50x4": Published(CLIPConfig.rn50x4, 51.8, 5e-4, 66.27),
    "RN50x16": Published(CLIPConfig.rn50x16, 162.7, 4e-4, 70.72),
    "RN50x64": Published(CLIPConfig.rn50x64, 552.7, 3.6e-4, 73.91),
    "ViT-B/32": Published(CLIPConfig.vit_b32, 14.8, 5e-4, 63.32),
    "ViT-B/16": Published(CLIPConfig.vit_b16, 41.1, 5e-4, 68.34),
    "ViT-L/14": Published(CLIPConfig.vit_l14, 175.3, 4e-4, 75.54),
    "ViT-L/14@336": Published(CLIPConfig.vit_l14_336, 395.2, 2e-5, 76.56),
}


def count_gflops(config: CLIPConfig) -> tuple[float, float]:
    """GFLOPs of one image and of one caption that fills the context, a multiply-add being 2; nothing is
    computed.

    All positions of all layers are counted, as is usual, although the last layer needs only one
    (``forward_at``).
    """
    counts = []
    with torch.device("meta"):
        model = CLIP(config).eval()
        images, tokens = torch.empty(1, 3, config.size,
                                     config.size), torch.empty(1, config.context, dtype=torch.long)
        for encode in (lambda: model.encode_image(images), lambda: model.encode_text(tokens)):
            with FlopCounterMode(display=False) as counter, record_attention(model):
                encode()
            counts.append(counter.get_total_flops() / 1e9)
    return counts[0], counts[1]
