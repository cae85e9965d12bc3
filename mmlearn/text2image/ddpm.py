"""DDPM's U-Net: the network whose one task is to say which noise was added.

Paper: J. Ho, A. Jain and P. Abbeel (2020), *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239,
app. B.  Survey: 2.3.1.
Differs from the paper: nothing in the network. The learning rate's warm-up and the moving average of the
weights are ``RECIPES``; the chain itself is ``mmlearn.text2image.diffusion``.
"""

from dataclasses import dataclass

from torch import nn

from mmlearn.text2image.unet import (
    Downsample,
    ResidualBlock,
    SpatialAttention,
    UNet,
    UNetConfig,
    Upsample,
    sinusoids_ddpm,
)


@dataclass(frozen=True)
class DDPMConfig(UNetConfig):
    """Sizes of DDPM's U-Nets; see ``UNetConfig``."""

    @classmethod
    def cifar10(cls) -> "DDPMConfig":
        """CIFAR-10, 32 pixels: 35,746,307 parameters."""
        return cls(dropout=0.1)

    @classmethod
    def lsun256(cls) -> "DDPMConfig":
        """LSUN and CelebA-HQ at 256 pixels: 113,673,219 parameters, 114 million in the paper."""
        return cls(256, 128, (1, 1, 2, 2, 4, 4))

    @classmethod
    def large_bedroom256(cls) -> "DDPMConfig":
        """The larger model of LSUN's bedrooms: about 256 million parameters in the paper.

        The paper says that its filters are more; 192 in place of 128 channels make that number, and the
        released code has no script for it.
        """
        return cls(256, 192, (1, 1, 2, 2, 4, 4))

    @classmethod
    def mini(cls, size: int = 16) -> "DDPMConfig":
        """A miniature for pictures of 16 pixels: 0.7 million parameters."""
        return cls(size, 32, (1, 2), 1, (8,), groups=16)


@dataclass(frozen=True)
class Recipe:
    """How the authors train: Adam on the mean squared error of the noise, T = 1000, linear schedule."""

    batch: int = 64
    lr: float = 2e-5
    steps: int = 500_000
    warmup: int = 5000
    clip: float = 1.0                       # norm of the gradient, at most
    average: float = 0.9999                 # decay of the moving average of the weights
    flip: bool = True                       # pictures are mirrored at random


RECIPES = {"cifar10": Recipe(128, 2e-4, 800_000), "celeba_hq": Recipe(), "lsun_cat": Recipe(steps=1_800_000),
           "lsun_church": Recipe(steps=1_200_000), "lsun_bedroom": Recipe(steps=2_400_000, flip=False)}


class DDPMUNet(UNet):
    """Noisy pictures (b, 3, s, s) and timesteps (b), 0 to T - 1 -> the noise in them (b, 3, s, s).

    The embedding of the timestep is added inside residual blocks, one head attends at 16 pixels, convolutions
    halve and double (sides "SAME" as TensorFlow pads them).
    """

    waves = staticmethod(sinusoids_ddpm)
    eps = 1e-6

    def __init__(self, config: DDPMConfig) -> None:
        super().__init__(config)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if not name.endswith(("conv2", ".out", "conv_out")):        # those that start at 0 stay there
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)                                 # type: ignore[arg-type]
            elif isinstance(module, SpatialAttention):
                for block in module.in_weight.detach().chunk(3):
                    nn.init.xavier_uniform_(block)
                nn.init.zeros_(module.in_bias)

    def residual(self, into: int, out: int, sampling: str = "same") -> ResidualBlock:
        config = self.config
        return ResidualBlock(into, out, config.embedding, config.dropout, False, sampling, config.groups,
                             self.eps)

    def downsample(self, channels: int) -> Downsample:
        return Downsample(channels, after=True)

    def upsample(self, channels: int) -> Upsample:
        return Upsample(channels)
