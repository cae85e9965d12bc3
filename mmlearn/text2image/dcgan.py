r"""DCGAN: the convolutional generator and discriminator that all later systems of this chapter start from.

Paper: A. Radford, L. Metz and S. Chintala (2016), *Unsupervised Representation Learning with Deep
Convolutional Generative Adversarial Networks*, ICLR, arXiv:1511.06434, sec. 3 (the rules), 4 (training) and
fig. 1.  Survey: 2.1.1.
Differs from the paper: the discriminator gives logits. The paper draws 128 channels next to the picture; the
released code of the authors' co-worker, and most others', has 64 in both nets (``code``).

Training, in the paper: Adam with a learning rate of 2e-4 and $\beta_1$ = 0.5, batches of 128, the losses
``discriminator_loss`` and ``non_saturating_loss`` of ``mmlearn.text2image.adversarial``. Run the
discriminator on real and on generated pictures apart: batch normalisation mixes what is in one batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text2image.blocks import DownBlock, halvings, init_normal

NOISES = ("normal", "uniform")


def draw_noise(
    n: int, z: int, kind: str = "normal", generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "n z"]:
    """n rows of noise: standard "normal", or "uniform" in [-1, 1]. Raises ``ValueError`` for another
    kind."""
    if kind not in NOISES:
        raise ValueError(f"noise is {kind!r}; use one of {', '.join(NOISES)}")
    if kind == "normal":
        return torch.randn(n, z, generator=generator, device=device)
    return 2 * torch.rand(n, z, generator=generator, device=device) - 1


@dataclass(frozen=True)
class DCGANConfig:
    size: int = 64                      # pixels a side: 4 times a power of two
    noise: int = 100                    # z, numbers of noise that a picture is made from
    generator_width: int = 128          # n, channels of the generator's last map before the picture
    discriminator_width: int = 128      # n, channels of the discriminator's first map
    noise_kind: str = "uniform"         # "uniform" in [-1, 1], or "normal"

    def __post_init__(self) -> None:
        check(self)
        halvings(self.size)
        if self.noise_kind not in NOISES:
            raise ValueError(f"noise_kind is {self.noise_kind!r}; use one of {', '.join(NOISES)}")

    @classmethod
    def paper(cls) -> "DCGANConfig":
        """The generator of fig. 1: 12,658,432 parameters, and 11,036,160 of a discriminator as wide."""
        return cls()

    @classmethod
    def code(cls) -> "DCGANConfig":
        """Both nets half as wide, as in the released code: 3,576,704 and 2,765,568 parameters."""
        return cls(generator_width=64, discriminator_width=64, noise_kind="normal")

    @classmethod
    def mini(cls, size: int = 32) -> "DCGANConfig":
        """A miniature for the scene world."""
        return cls(size, 64, 24, 24, "normal")


def transposed(into: int, out: int) -> nn.ConvTranspose2d:
    """A transposed convolution 4 x 4 of stride 2 without bias: twice the side."""
    return nn.ConvTranspose2d(into, out, 4, stride=2, padding=1, bias=False)


class DCGANGenerator(nn.Module):
    """Noise (b, z) -> pictures (b, 3, s, s) in [-1, 1].

    A transposed convolution makes a map of 4 x 4 from the noise, each further one doubles the side and halves
    the channels; batch norm and ReLU after all but the last, which ends in tanh.
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        ups = halvings(config.size)
        n, top = config.generator_width, config.generator_width << (ups - 1)        # 8n for 64 pixels
        self.noise = config.noise
        self.first = nn.Sequential(
            nn.ConvTranspose2d(config.noise, top, 4, bias=False), nn.BatchNorm2d(top), nn.ReLU())
        self.up = nn.Sequential(*(
            nn.Sequential(transposed(top >> i, top >> (i + 1)), nn.BatchNorm2d(top >> (i + 1)), nn.ReLU())
            for i in range(ups - 1)))
        self.image = nn.Sequential(transposed(n, 3), nn.Tanh())

    def forward(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b 3 s s"]:
        if z.shape[1] != self.noise:
            raise ValueError(f"the noise has {z.shape[1]} numbers a picture, the generator wants "
                             f"{self.noise}; draw it with draw_noise(n, {self.noise})")
        x = self.first(z[:, :, None, None])                 # b 8n 4 4
        return self.image(self.up(x))                       # b n s/2 s/2 -> b 3 s s


class DCGANDiscriminator(nn.Module):
    """Pictures (b, 3, s, s) in [-1, 1] -> logits (b): is it from the data?

    Strided convolutions down to 4 x 4, LeakyReLU after each, batch norm from the second on; then one
    convolution over the whole map. ``features`` gives the map (b, 8n, 4, 4) before it.
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        n, downs = config.discriminator_width, halvings(config.size)
        self.size = config.size
        self.down = nn.Sequential(DownBlock(3, n, "none"),
                                  *(DownBlock(n << i, n << (i + 1)) for i in range(downs - 1)))
        self.real = nn.Conv2d(n << (downs - 1), 1, 4, bias=False)

    def features(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c 4 4"]:
        if images.shape[-2:] != (self.size, self.size):
            raise ValueError(f"pictures have {images.shape[-2]} x {images.shape[-1]} pixels, the "
                             f"discriminator wants {self.size} x {self.size}; resize them")
        return self.down(images)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, " b"]:
        return self.real(self.features(images)).flatten()


class DCGAN(nn.Module):
    """``generator`` and ``discriminator``, with the paper's initialisation: weights from N(0, 0.02).

    ``forward``: noise (b, z) -> pictures (b, 3, s, s) in [-1, 1]; ``draw`` makes the noise. In evaluation
    mode batch norm uses its running statistics.
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = DCGANGenerator(config)
        self.discriminator = DCGANDiscriminator(config)
        init_normal(self)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n z"]:
        """Noise for n pictures, on the model's device; drawn on the CPU, the same on all devices."""
        drawn = draw_noise(n, self.config.noise, self.config.noise_kind, generator)
        return drawn.to(next(self.parameters()).device)

    def forward(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b 3 s s"]:
        return self.generator(z)
