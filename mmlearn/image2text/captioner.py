"""The generic captioner: a convolutional network sees, a Transformer writes.

Paper: O. Vinyals et al. (2015), *Show and Tell*, arXiv:1411.4555 (the task as translation), with the grid of
K. Xu et al. (2015), *Show, Attend and Tell*, arXiv:1502.03044, sec. 3.1.1, and the Transformer of A. Vaswani
et al. (2017), arXiv:1706.03762.  Survey: 1.2.
Differs from the paper: a Transformer takes the place of the LSTM; the sizes are those of the 3-layer baseline
of M. Cornia et al. (2020), arXiv:1912.08226.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.lite0 import Lite0Trunk
from mmlearn.nn.positions import TokenEmbedding, grid_sinusoids
from mmlearn.nn.transformer import Context, DecoderLayer, EncoderLayer, InputProjection
from mmlearn.nn.vision import ConvTrunk, Frozen, ResidualTrunk, TorchvisionTrunk

PAD = 1
LITE0 = "efficientnet-lite0"        # the trunk whose trained weights a package brings
Trunk = ConvTrunk | ResidualTrunk | TorchvisionTrunk | Lite0Trunk


@dataclass(frozen=True)
class CaptionerConfig:
    trunk: str = "resnet101"        # a ResNet of torchvision, "conv" for four small blocks, "residual" for a
                                    # small ResNet, "efficientnet-lite0" for one that is not trained further
    weights: str | None = None      # torchvision weights of the trunk, e.g. "IMAGENET1K_V2"; None: random
                                    # (efficientnet-lite0 has one kind of weights, "IMAGENET")
    frozen: bool = False            # the trunk is not trained (its batch statistics stay too)
    vocab: int = 10_201             # V, words with the four special tokens
    width: int = 512                # d, size of a token or cell state
    heads: int = 8                  # h, attention heads of width d / h
    layers: int = 3                 # N, layers of the encoder and of the decoder
    ff: int = 2048                  # d_ff, inner width of the feed-forward nets
    dropout: float = 0.1            # after input ReLU, attention output, feed-forward ReLU and output
    max_len: int = 54               # T, most tokens of a caption with <bos>
    grid_positions: Literal["none", "sinusoid"] = "none"    # what is added to a cell to say where it is

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")

    @classmethod
    def resnet101(cls, weights: str | None = None) -> "CaptionerConfig":
        """33,565,184 parameters of the 3-layer Transformer and 42,500,160 of the trunk."""
        return cls(weights=weights)

    @classmethod
    def resnet50(cls, weights: str | None = None) -> "CaptionerConfig":
        """33,565,184 parameters of the 3-layer Transformer and 23,508,032 of the trunk."""
        return cls(trunk="resnet50", weights=weights)

    @classmethod
    def resnet101_6(cls, weights: str | None = None) -> "CaptionerConfig":
        """The 6-layer Transformer: 55,634,432 parameters and 42,500,160 of the trunk."""
        return cls(weights=weights, layers=6)

    @classmethod
    def mini(cls, vocab: int = 200) -> "CaptionerConfig":
        """Four convolution blocks (64 pixels -> 8 x 8 cells of 64 channels), three layers of width 64."""
        return cls(trunk="conv", vocab=vocab, width=64, heads=4, layers=3, ff=128, max_len=30,
                   grid_positions="sinusoid")

    @classmethod
    def residual(cls, vocab: int = 200) -> "CaptionerConfig":
        """A small ResNet (64 pixels -> 8 x 8 cells of 128 channels), kept as it is; three layers of width
        96."""
        return cls(trunk="residual", frozen=True, vocab=vocab, width=96, heads=4, layers=3, ff=192,
                   max_len=30, grid_positions="sinusoid")

    def freeze(self) -> "CaptionerConfig":
        """The same with a trunk that is not trained."""
        return replace(self, frozen=True)


def build_trunk(name: str, weights: str | None = None) -> Trunk:
    """The convolutional network of a configuration, by name."""
    if name == "conv":
        return ConvTrunk()
    if name == LITE0:
        return Lite0Trunk(trained=weights is not None)
    return ResidualTrunk() if name == "residual" else TorchvisionTrunk(name, weights)


def make_trunk(config: CaptionerConfig) -> Trunk | Frozen:
    """The convolutional network that turns a picture into a grid, frozen if the configuration says so."""
    trunk = build_trunk(config.trunk, config.weights)
    return Frozen(trunk, trunk.out_channels) if config.frozen else trunk


class CNNTransformer(nn.Module):
    """Images in, scores of the next word out; the survey's four steps are four methods.

    1. ``features``: images (b, 3, s, s) in [0, 1] -> grid (b, p, c), p = cells of the last feature map.
    2. ``encode_grid``: grid -> ``Context``: cells are projected (eq:grid-projection), then read one another.
    3. ``states``: tokens (b k, t) and context -> states (b k, t, d): words read the words before them
       (self-attention), and the image (cross-attention).
    4. ``predict``: states -> logits (b k, t, v), whose softmax is the distribution of the next word.

    ``encode`` is steps 1 and 2, ``decode`` 3 and 4, ``forward`` all. Inside a ``KVCache`` ``decode`` takes
    new tokens only. ``record_attention`` gets "encoder.i.attention" (b, h, p, p), "decoder.i.self_attention"
    (r, h, t, t) and "decoder.i.cross_attention" (b, g, h, t, p) for r = b g.
    """

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.config = config
        d, N = config.width, config.layers
        sizes = d, config.heads, config.ff, config.dropout
        self.trunk = make_trunk(config)
        channels = self.trunk.out_channels
        self.project = InputProjection(channels, d, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(N))
        self.embed = TokenEmbedding(config.vocab, d, config.max_len, PAD)
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(N))
        self.output = nn.Linear(d, config.vocab, bias=False)
        nn.init.xavier_uniform_(self.output.weight)

    def features(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> Float[Tensor, "b p c"]:
        return self.trunk(images)

    def encode_grid(
        self,
        grid: Float[Tensor, "b p c"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Context:
        x = self.project(grid)
        if self.config.grid_positions == "sinusoid":
            x = x + grid_sinusoids(x.shape[1], x.shape[2]).to(x)
        for layer in self.encoder:
            x = layer(x, mask)
        return Context(x[:, None], mask)

    def states(
        self, tokens: Int[Tensor, "r t"], context: Context
    ) -> Float[Tensor, "r t d"]:
        x = self.embed(tokens)
        for layer in self.decoder:
            x = layer(x, context.levels[:, -1], context.mask)
        return x

    def predict(
        self, states: Float[Tensor, "r t d"]
    ) -> Float[Tensor, "r t v"]:
        return self.output(states)

    def encode(
        self,
        images: Float[Tensor, "b 3 y x"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Context:
        return self.encode_grid(self.features(images), mask)

    def decode(
        self, tokens: Int[Tensor, "r t"], context: Context
    ) -> Float[Tensor, "r t v"]:
        return self.predict(self.states(tokens, context))

    def forward(
        self,
        images: Float[Tensor, "b 3 y x"],
        tokens: Int[Tensor, "r t"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "r t v"]:
        return self.decode(tokens, self.encode(images, mask))


def next_word_probabilities(
    model: CNNTransformer, tokens: Int[Tensor, "r t"], context: Context
) -> Float[Tensor, "r v"]:
    r"""eq:output-layer: $p_\theta(y_{t+1}=w\mid y_{\le t},I)=\mathrm{softmax}(z_tW_y)_w$, the word after
    ``tokens``; step 4 in full."""
    z = model.states(tokens, context)[:, -1]
    return torch.softmax(model.predict(z[:, None])[:, 0], dim=-1)
