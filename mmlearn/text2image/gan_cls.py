r"""GAN-CLS, GAN-INT and GAN-INT-CLS: pictures from a sentence, by a discriminator that also asks whether they
fit.

Paper: S. Reed, Z. Akata, X. Yan, L. Logeswaran, B. Schiele and H. Lee (2016), *Generative Adversarial Text to
Image Synthesis*, ICML, arXiv:1605.05396, sec. 4 (4.1 networks, 4.2 matching-aware discriminator, 4.3
interpolation, 4.4 style); sizes of github.com/reedscot/icml2016.  Survey: 2.1.2.
Differs from the paper: its algorithm 1 writes the discriminator's update as a descent on a log-likelihood,
which is to be climbed; the losses here are to be minimised, as in the code. Biases of convolutions, which the
code sets to zero before each step, are left out. The newest revision of the code adds the discriminator's
residual branch under a name that is never set, and so loses it; it is there in the one before, and here. The
paper does not give the style encoder's layers; it is a DCGAN discriminator here.

Each caption comes as an embedding $\varphi(t)$, in the paper the 1024-d mean of 4 captions (COCO: 3) of a
picture by ``CharCNNRNN``. Pictures are in [-1, 1]; letters of shapes: b pictures, z noise, e text.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text2image.adversarial import fake_loss, real_loss
from mmlearn.text2image.blocks import Bottleneck, DownBlock, halvings, init_normal, leaky, tile
from mmlearn.text2image.dcgan import DCGANConfig, DCGANDiscriminator, draw_noise, transposed
from mmlearn.text_for_vision.blockwise import single


@dataclass(frozen=True)
class GANCLSConfig:
    size: int = 64                      # pixels a side: 4 times a power of two
    noise: int = 100                    # z, numbers of noise
    text: int = 1024                    # e, size of a caption's embedding
    compressed: int = 128               # p, what is kept of it in either network
    generator_width: int = 128          # n, channels of the last map before the picture
    discriminator_width: int = 64       # n, channels of the first map
    cls_weight: float | int = 0.5       # of real pictures with wrong text; generated ones have the rest
    interp_weight: float | int = 1.0    # of captions between two captions in the generator's loss; 0: no INT
    int_layers: bool = True             # discriminator of main_cls_int.lua, see MatchingDiscriminator

    def __post_init__(self) -> None:
        widths = (4.0, 65_536.0)                            # the bottlenecks have a quarter of the channels
        check(self, cls_weight=(0.0, 1.0), interp_weight=(0.0, 1e6), generator_width=widths,
              discriminator_width=widths)
        if halvings(self.size) < 2:
            raise ValueError(f"pictures have {self.size} pixels a side; give at least 16")

    @classmethod
    def gan_int_cls(cls) -> "GANCLSConfig":
        """Birds and flowers: 18,905,472 parameters of the generator, 4,030,080 of the discriminator."""
        return cls()

    @classmethod
    def gan_cls(cls) -> "GANCLSConfig":
        """The same nets without interpolated captions."""
        return cls(interp_weight=0)

    @classmethod
    def gan_int(cls) -> "GANCLSConfig":
        """The same nets with interpolated captions, but no real pictures with wrong text."""
        return cls(cls_weight=0)

    @classmethod
    def gan(cls) -> "GANCLSConfig":
        """The paper's baseline: conditional on text as the others are, but neither CLS nor INT."""
        return cls(cls_weight=0, interp_weight=0)

    @classmethod
    def coco(cls) -> "GANCLSConfig":
        """COCO, GAN-CLS: 41,101,080 and 36,183,440 parameters."""
        return cls(generator_width=196, discriminator_width=196, interp_weight=0, int_layers=False)

    @classmethod
    def mini(cls, size: int = 32, text: int = 64) -> "GANCLSConfig":
        """A miniature of GAN-INT-CLS for the scene world."""
        return cls(size, 32, text, 32, 24, 24)


# ----------------------------------------------------------------------------------- the three kinds of pairs


def matching_discriminator_loss(
    real: Float[Tensor, " b"],
    wrong: Float[Tensor, " b"] | None,
    fake: Float[Tensor, " b"],
    weight: float | int = 0.5,
) -> Float[Tensor, ""]:
    r"""eq:gan-cls-d: $\mathcal L_D=-\mathbb E[\log s_r]-w\,\mathbb E[\log(1-s_w)]-(1-w)\,\mathbb
    E[\log(1-s_f)]$, $w=\frac12$: real picture and right text are real; real picture and wrong text, and
    generated picture and right text, are not. From logits. With $w=0$ it is the conditional GAN, and
    ``wrong`` may be None."""
    if wrong is None and weight:
        raise ValueError(f"the weight of wrong pairs is {weight} and there "
                         f"are none; give their logits")
    mismatch = weight * fake_loss(wrong) if wrong is not None else 0
    return real_loss(real) + mismatch + (1 - weight) * fake_loss(fake)


def optimal_matching_discriminator(
    p_r: Float[Tensor, "*n"], p_w: Float[Tensor, "*n"], p_g: Float[Tensor, "*n"], weight: float | int = 0.5
) -> Float[Tensor, "*n"]:
    r"""eq:gan-cls-optimum: $D^*(x,t)=\frac{p_r}{p_r+w\,p_w+(1-w)\,p_g}$ from the densities of x given t among
    right pairs, wrong pairs and generated pictures. Even at $p_g=p_r$ it is not $\frac12$: the generator is
    pushed from pictures that fit other captions."""
    return p_r / (p_r + weight * p_w + (1 - weight) * p_g)


def interpolate(
    t1: Float[Tensor, "b e"], t2: Float[Tensor, "b e"], beta: float | int = 0.5
) -> Float[Tensor, "b e"]:
    r"""eq:gan-int-text: $\beta\varphi(t_1)+(1-\beta)\varphi(t_2)$: the embedding of a caption that nobody
    wrote, between those of two that somebody did."""
    return beta * t1 + (1 - beta) * t2


def with_interpolated(
    text: Float[Tensor, "b e"], beta: float | int = 0.5
) -> Float[Tensor, "b_and_half e"]:
    """The b captions of a batch, then the b/2 between caption i and caption i + b/2, as in the released code.
    Of an odd batch the last caption is not interpolated."""
    half = len(text) // 2
    between = interpolate(text[:half], text[half:2 * half], beta)
    return torch.cat([text, between])


def interpolated_generator_loss(
    fake: Float[Tensor, " n"], captions: int, weight: float | int = 1.0
) -> Float[Tensor, ""]:
    r"""eq:gan-int-g: $\mathcal L_G=-\frac1{n}\Big(\sum_{i\le b}\log s_{f,i}+\lambda\sum_{b<i\le n}\log
    s_{f,i}\Big)$: the first ``captions`` = b logits are of written captions, the rest of interpolated ones,
    $n=\frac32b$. The paper's $\log(1-D)$ is replaced by its non-saturating form, as in the code. Without
    interpolated ones it is eq:gan-non-saturating."""
    weights = torch.ones_like(single(fake))
    weights[captions:] = weight
    return (weights * F.softplus(-single(fake))).mean()


def wrong_partners(
    classes: Int[Tensor, " b"], generator: torch.Generator | None = None
) -> Int[Tensor, " b"]:
    """For each picture of a batch the place of one of another class, drawn with equal chances: its caption is
    a wrong one. Classes are any numbers that say which captions fit each other's pictures. Raises
    ``ValueError`` if some picture has none."""
    classes = classes.cpu()
    other: Bool[Tensor, "b b"] = classes[:, None] != classes
    if not bool(other.any(dim=1).all()):
        raise ValueError(f"all {len(classes)} pictures of the batch have class {int(classes[0])}; wrong "
                         f"pairs need a second class")
    return torch.multinomial(other.float(), 1, generator=generator)[:, 0]


# --------------------------------------------------------------------------------------------------- networks


class TextToImageGenerator(nn.Module):
    """Noise (b, z) and captions (b, e) -> pictures (b, 3, s, s) in [-1, 1].

    The caption is compressed by a linear layer with LeakyReLU and stands behind the noise; then DCGAN's
    generator, with a ``Bottleneck`` in its maps of 4 x 4 and 8 x 8, between batch norm and ReLU.
    """

    def __init__(self, config: GANCLSConfig) -> None:
        super().__init__()
        ups, n = halvings(config.size), config.generator_width
        top = n << (ups - 1)                                                    # 8n for 64 pixels
        self.noise, self.text = config.noise, config.text
        self.compress = nn.Sequential(nn.Linear(config.text, config.compressed), leaky())
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(config.noise + config.compressed, top, 4, bias=False), nn.BatchNorm2d(top),
            Bottleneck(top, top // 4), nn.ReLU()]
        for i in range(1, ups):
            c = top >> i
            layers += [transposed(2 * c, c), nn.BatchNorm2d(c), *([Bottleneck(c, c // 4)] if i == 1 else []),
                       nn.ReLU()]
        self.layers = nn.Sequential(*layers, transposed(n, 3), nn.Tanh())

    def check(self, z: Float[Tensor, "b z"], text: Float[Tensor, "b e"]) -> None:
        """Refuse noise and captions of other sizes."""
        if (z.shape[1], text.shape[1]) != (self.noise, self.text):
            raise ValueError(f"noise has {z.shape[1]} numbers and text {text.shape[1]}, the generator wants "
                             f"{self.noise} and {self.text}; use the encoder it was made for")

    def forward(
        self, z: Float[Tensor, "b z"], text: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b 3 s s"]:
        self.check(z, text)
        code = torch.cat([z, self.compress(text)], dim=1)       # b z+p
        return self.layers(code[:, :, None, None])              # b 3 s s


class MatchingDiscriminator(nn.Module):
    """Pictures (b, 3, s, s) and captions (b, e) -> logits (b): a real picture that the caption fits?

    Convolutions down to 4 x 4 and a ``Bottleneck``, then the compressed caption at each of the 16 places, a
    convolution 1 x 1 and one over the whole map. ``int_layers``, as in main_cls_int.lua: no activation behind
    the map of 8 x 8, and batch norm in the caption's compression. Of a batch in training mode a picture's
    logit depends on the others' (batch norm), so give it real, wrong and generated pairs apart.
    """

    def __init__(self, config: GANCLSConfig) -> None:
        super().__init__()
        downs, n, p = halvings(config.size), config.discriminator_width, config.compressed
        top = n << (downs - 1)                                                  # 8n for 64 pixels
        self.size, self.text = config.size, config.text
        layers = list(DownBlock(3, n, "none"))
        silent = 2 if config.int_layers else 1                      # last convolutions without an activation
        for i in range(downs - 1):
            convolution, norm, activation = DownBlock(n << i, n << (i + 1))
            layers += [convolution, norm] if i >= downs - 1 - silent else [convolution, norm, activation]
        self.look = nn.Sequential(*layers, Bottleneck(top, top // 4, leaky), leaky())
        norms = [nn.BatchNorm1d(p)] if config.int_layers else []
        self.compress = nn.Sequential(nn.Linear(config.text, p), *norms, leaky())
        self.match = nn.Sequential(nn.Conv2d(top + p, top, 1, bias=False), nn.BatchNorm2d(top), leaky(),
                                   nn.Conv2d(top, 1, 4, bias=False))

    def check(self, images: Float[Tensor, "b 3 y x"], text: Float[Tensor, "b e"]) -> None:
        """Refuse pictures and captions of other sizes."""
        if images.shape[-2:] != (self.size, self.size) or text.shape[1] != self.text:
            raise ValueError(f"pictures have {images.shape[-2]} x {images.shape[-1]} pixels and text "
                             f"{text.shape[1]} numbers, the discriminator wants {self.size} x {self.size} "
                             f"and {self.text}; resize the pictures, or use the encoder it was made for")

    def forward(
        self, images: Float[Tensor, "b 3 y x"], text: Float[Tensor, "b e"]
    ) -> Float[Tensor, " b"]:
        self.check(images, text)
        seen = self.look(images)                                # b 8n 4 4
        said = tile(self.compress(text), seen)                  # b p 4 4
        return self.match(torch.cat([seen, said], dim=1)).flatten()


def init_reed(model: nn.Module) -> nn.Module:
    """The released code's start: convolutions from N(0, 0.02), batch norm's scales from N(1, 0.02); linear
    layers as Torch starts them, uniform within $1/\\sqrt{in}$."""
    init_normal(model)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)
    return model


class GANCLS(nn.Module):
    """``generator`` and ``discriminator`` of GAN-CLS, and what each minimises on a batch.

    ``forward``: noise (b, z) and captions (b, e) -> pictures (b, 3, s, s) in [-1, 1]. The two losses want an
    optimiser each; the generator's leaves gradients in the discriminator too, so set them to zero before its
    step.
    """

    def __init__(self, config: GANCLSConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = TextToImageGenerator(config)
        self.discriminator = MatchingDiscriminator(config)
        init_reed(self)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n z"]:
        """Noise for n pictures, on the model's device; drawn on the CPU, the same on all devices."""
        return draw_noise(n, self.config.noise, generator=generator).to(next(self.parameters()).device)

    def forward(self, z: Float[Tensor, "b z"], text: Float[Tensor, "b e"]) -> Float[Tensor, "b 3 s s"]:
        return self.generator(z, text)

    def discriminator_loss(
        self, images: Float[Tensor, "b 3 y x"], text: Float[Tensor, "b e"], z: Float[Tensor, "b z"],
        wrong: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """eq:gan-cls-d on a batch of pictures with their captions. ``wrong`` (see ``wrong_partners``): the
        place in the batch of a picture that caption i does not fit; unused if ``cls_weight`` is 0. No
        gradient reaches the generator."""
        weight = self.config.cls_weight
        with torch.no_grad():
            drawn = self.generator(z, text)
        real = self.discriminator(images, text)
        mismatched = None
        if weight:
            if wrong is None:
                raise ValueError(f"cls_weight is {weight}; give the wrong pictures, by "
                                 f"wrong_partners(classes)")
            mismatched = self.discriminator(images[wrong.to(images.device)], text)
        return matching_discriminator_loss(real, mismatched, self.discriminator(drawn, text), weight)

    def generator_loss(
        self, text: Float[Tensor, "b e"], z: Float[Tensor, "n z"], beta: float | int = 0.5
    ) -> Float[Tensor, ""]:
        """eq:gan-int-g on the captions of a batch; with ``interp_weight`` also on those between them, so that
        noise for b + b/2 pictures is wanted (``draws`` says how much)."""
        if len(z) != self.draws(len(text)):
            raise ValueError(f"there is noise for {len(z)} pictures, {self.draws(len(text))} are drawn; see "
                             f"draws()")
        weight = self.config.interp_weight
        captions = with_interpolated(text, beta) if weight else text
        logits = self.discriminator(self.generator(z, captions), captions)
        return interpolated_generator_loss(logits, len(text), weight)

    def draws(self, b: int) -> int:
        """Pictures that the generator's loss draws for b captions."""
        return b + b // 2 if self.config.interp_weight else b


# ------------------------------------------------------------------------------------------------------ style


class StyleEncoder(nn.Module):
    """Pictures (b, 3, s, s) in [-1, 1] -> the noise (b, z) that would draw them: all that the caption does
    not say. DCGAN's discriminator with z outputs in place of one."""

    def __init__(self, config: GANCLSConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = DCGANDiscriminator(
            DCGANConfig(size=config.size, discriminator_width=config.discriminator_width))
        self.trunk.real = nn.Conv2d(self.trunk.real.in_channels, config.noise, 4)
        init_normal(self)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b z"]:
        return self.trunk.real(self.trunk.features(images)).flatten(1)


def style_loss(z: Float[Tensor, "b z"], recovered: Float[Tensor, "b z"]) -> Float[Tensor, ""]:
    r"""eq:gan-style: $\mathcal L_{\mathrm{style}}=\mathbb E_{t,z}\lVert z-S(G(z,\varphi(t)))\rVert_2^2$, a
    sum over the numbers of the noise; $d_z$ for an encoder that always says 0, if the noise is standard
    normal."""
    return (single(z) - single(recovered)).square().sum(dim=1).mean()


def style_objective(
    encoder: nn.Module, generator: nn.Module, text: Float[Tensor, "b e"], z: Float[Tensor, "b z"]
) -> Float[Tensor, ""]:
    """eq:gan-style of a batch of captions; the generator is trained already and gets no gradient."""
    with torch.no_grad():
        drawn = generator(z, text)
    return style_loss(z, encoder(drawn))


def transfer_style(
    encoder: nn.Module, generator: nn.Module, images: Float[Tensor, "b 3 y x"], text: Float[Tensor, "b e"]
) -> Float[Tensor, "b 3 y x"]:
    r"""eq:gan-style-transfer: $\hat x=G(S(x),\varphi(t))$: the content of caption t in the pose and setting
    of picture x."""
    return generator(encoder(images), text)


# ----------------------------------------------------------------------------------------------- as published


@dataclass(frozen=True)
class Recipe:
    """How the released code trains: Adam with $\\beta_1$ = 0.5, pictures resized to 76 pixels, cut to 64 at
    random and flipped."""

    captions: int               # whose embeddings are averaged
    batch: int
    epochs: int
    lr: float                   # of both networks
    halve_every: int            # epochs


RECIPES = {
    "gan_int_cls": Recipe(captions=4, batch=64, epochs=600, lr=2e-4, halve_every=100),
    "coco": Recipe(captions=3, batch=64, epochs=200, lr=2e-4, halve_every=40),
}
