r"""StackGAN: a sketch first, then a picture of four times the side; and its second version, three branches
at once.

Papers: H. Zhang et al. (2017), *StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative
Adversarial Networks*, ICCV 2017, arXiv:1612.03242, sec. 3; H. Zhang et al. (2018), *StackGAN++*, TPAMI 41(8),
arXiv:1710.10916, sec. 3-4; sizes of github.com/hanzhanggit/StackGAN, StackGAN-Pytorch and StackGAN-v2.
Survey: 2.1.3. Differs from the papers: generators maximise log D of their pictures (the papers' formula:
minimise log(1 - D)), as all the released codes do; KL is the mean over dimensions times 2, as in the codes
(the textbook sum is ``blocks.kl_to_standard_normal``); discriminators return logits.

Texts enter as one vector (b, e): 1024 numbers of the char-CNN-RNN in the papers. Pictures are in [-1, 1].
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.text2image.adversarial import fake_loss, real_loss
from mmlearn.text2image.blocks import (
    Bottleneck,
    ConditioningAugmentation,
    ConvBlock,
    FirstStage,
    Generated,
    ImageHead,
    JointDiscriminator,
    ReLUResidualBlock,
    ResidualBlock,
    UpBlock,
    conv3,
    halvings,
    init_normal,
    init_orthogonal,
    leaky,
    mean_kl,
    tile,
)
from mmlearn.text_for_vision.blockwise import single

Number = float | int


@dataclass(frozen=True)
class StackGANConfig:
    text: int = 1024                # e, numbers of a caption's vector
    condition: int = 128            # c, numbers of the drawn condition, and of the text in the discriminators
    noise: int = 100                # z
    width: int = 128                # g, channels of the generators' maps
    critic: int = 64                # d, channels of the discriminators' first map
    residual: int = 4               # residual blocks of the second stage
    size: int = 64                  # pixels a side of a sketch; the picture has four times as many
    code: str = "tensorflow"        # whose layout: "tensorflow" (the papers' models) or "pytorch" (COCO's)
    kl_weight: float = 2.0          # of the mean KL in the generators' losses

    def __post_init__(self) -> None:
        if self.code not in ("tensorflow", "pytorch"):
            raise ValueError(f"code is {self.code!r}; use 'tensorflow' or 'pytorch'")
        if halvings(self.size) < 2 or self.width % 4 or self.critic % 2:
            raise ValueError(f"a sketch of {self.size} pixels and widths {self.width} and {self.critic} "
                             "do not "
                             "fit; give at least 16 pixels, a generator of 4 n and a critic of 2 n channels")

    @classmethod
    def paper(cls) -> "StackGANConfig":
        """Birds and flowers, 256 pixels: 93,187,616 parameters in four networks."""
        return cls()

    @classmethod
    def coco(cls) -> "StackGANConfig":
        """COCO, of the PyTorch code: 229,448,275 parameters in four networks."""
        return cls(width=192, critic=96, residual=2, code="pytorch")

    @classmethod
    def mini(cls, text: int = 64) -> "StackGANConfig":
        """A miniature for the scene world: 16 pixels, then 64."""
        return cls(text, condition=32, noise=32, width=32, critic=16, residual=1, size=16, code="pytorch")


@dataclass(frozen=True)
class StackGANv2Config:
    text: int = 1024                # e, numbers of a caption's vector
    condition: int = 128            # c, numbers of the drawn condition
    noise: int = 100                # z
    width: int = 64                 # g, channels of the first branch's map; half as many in each further one
    critic: int = 64                # d, channels of the discriminators' first map
    residual: int = 2               # residual blocks of a branch
    size: int = 64                  # pixels a side of the first branch's picture; each further doubles
    branches: int = 3
    kl_weight: float = 2.0          # of the mean KL in the generator's loss

    def __post_init__(self) -> None:
        halvings(self.size)
        if self.branches < 1 or self.width % 2 ** (self.branches - 1):
            raise ValueError(f"{self.width} channels cannot be halved in each of {self.branches} "
                             "branches; give "
                             "a width with enough factors 2")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels a side of the branches' pictures."""
        return tuple(self.size << i for i in range(self.branches))

    @classmethod
    def paper(cls) -> "StackGANv2Config":
        """64, 128 and 256 pixels: a generator of 21,239,696 parameters."""
        return cls()

    @classmethod
    def mini(cls, text: int = 64) -> "StackGANv2Config":
        """A miniature for the scene world: 16, 32 and 64 pixels."""
        return cls(text, condition=32, noise=32, width=32, critic=16, residual=1, size=16)


# -------------------------------------------------------------------------------------------------- equations

def matching_loss(
    real: Float[Tensor, " b"], wrong: Float[Tensor, " b"], fake: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:stackgan-discriminator: $\mathcal L_D=-\mathbb E\log\sigma(a_r)-\frac12\mathbb
    E\log(1-\sigma(a_w))-\frac12\mathbb E\log(1-\sigma(a_f))$: logits of real pictures with their text, of
    real pictures with a wrong text, of drawn pictures."""
    return real_loss(real) + (fake_loss(wrong) + fake_loss(fake)) / 2


def stage_loss(
    fake: Float[Tensor, " b"], mu: Float[Tensor, "b c"], log_var: Float[Tensor, "b c"],
    kl_weight: Number = 2.0
) -> Float[Tensor, ""]:
    r"""eq:stackgan-generator: $\mathcal L_G=-\mathbb E\log\sigma(a_f)+\lambda\,\mathrm{KL}$, the KL being
    the mean of eq:ca-kl-mean."""
    return real_loss(fake) + kl_weight * mean_kl(mu, log_var)


def joint_matching_loss(
    real: tuple[Tensor, Tensor], wrong: tuple[Tensor, Tensor],
    fake: tuple[Tensor, Tensor]
) -> Float[Tensor, ""]:
    r"""eq:stackgan2-discriminator: $\mathcal L_{D_i}=-\mathbb E\log D_i(x)-\mathbb E\log(1-D_i(\hat
    x))-\mathbb E\log D_i(x,c)-\mathbb E\log(1-D_i(\hat x,c))$, and for pictures with a wrong text
    $-\mathbb E\log D_i(x_w)-\mathbb E\log(1-D_i(x_w,c))$: real, but not fitting. Each pair of logits is
    (without text, with)."""
    alone = real_loss(real[0]) + real_loss(wrong[0]) + fake_loss(fake[0])
    joint = real_loss(real[1]) + fake_loss(wrong[1]) + fake_loss(fake[1])
    return alone + joint


def branch_loss(fake: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
    r"""eq:stackgan2-generator: $\mathcal L_{G_i}=-\mathbb E\log D_i(\hat x_i)-\mathbb E\log D_i(\hat
    x_i,c)$, from logits (without text, with)."""
    return real_loss(fake[0]) + real_loss(fake[1])


def colour_statistics(
    image: Float[Tensor, "b 3 s s"],
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b 3 3"]]:
    r"""eq:colour-statistics: $\mu=\frac1N\sum_kx_k$, $\Sigma=\frac1N\sum_k(x_k-\mu)(x_k-\mu)^\top$, over
    the N pixels of a picture."""
    pixels = single(image).flatten(2)                               # b 3 n
    mu = pixels.mean(dim=2)
    rest = pixels - mu[:, :, None]
    return mu, rest @ rest.mT / pixels.shape[2]


def colour_consistency(
    larger: Float[Tensor, "b 3 s s"], smaller: Float[Tensor, "b 3 r r"],
    mean_weight: Number = 1.0, covariance_weight: Number = 5.0,
) -> Float[Tensor, ""]:
    r"""eq:colour-consistency: $\frac1b\sum_j\lambda_1\|\mu_{i}^j-\mu_{i-1}^j\|^2+\lambda_2\|\Sigma_i^j
    -\Sigma_{i-1}^j\|_F^2$: branches of one generator use the same colours. The paper adds it where there
    is no text."""
    mu, Sigma = colour_statistics(larger)
    mu_before, Sigma_before = colour_statistics(smaller)
    means = (mu - mu_before).square().sum(dim=1)
    covariances = (Sigma - Sigma_before).square().sum(dim=(1, 2))
    return (mean_weight * means + covariance_weight * covariances).mean()


# ------------------------------------------------------------------------------------------------ version one

class SketchGenerator(nn.Module):
    """Stage I: noise (b, z) and a text (b, e) to a sketch (b, 3, s, s), with mu and log_var (b, c) of the
    condition.

    The TensorFlow code has residual blocks at 4 x 4 and 8 x 8 and goes to colours in its last up block; the
    PyTorch code has neither.
    """

    def __init__(self, config: StackGANConfig) -> None:
        super().__init__()
        tensorflow, g, n = config.code == "tensorflow", config.width, halvings(config.size)
        self.top = g << (n - 1)                                          # 8 g for 64 pixels
        self.condition = ConditioningAugmentation(config.text, config.condition,
                                                  "leaky_relu" if tensorflow else "relu")
        self.fc = nn.Linear(config.condition + config.noise, self.top * 16, bias=tensorflow)
        self.norm = nn.BatchNorm1d(self.top * 16)
        widths = [self.top >> i for i in range(n)]                       # of the maps from 4 x 4 on
        ups: list[nn.Module]
        if tensorflow:
            ups = [Bottleneck(widths[0], widths[0] // 4), nn.ReLU(),
                   UpBlock(widths[0], widths[1], nn.Identity),
                   Bottleneck(widths[1], widths[1] // 4), nn.ReLU()]
            ups += [UpBlock(i, o, nn.ReLU) for i, o in zip(widths[1:], widths[2:])]
            ups += [nn.Upsample(scale_factor=2.0, mode="nearest"), ImageHead(g)]
        else:
            ups = [nn.ReLU(), *(UpBlock(i, i // 2, nn.ReLU) for i in widths), ImageHead(g // 2)]
        self.up = nn.Sequential(*ups)

    def forward(
        self, noise: Float[Tensor, "b z"], text: Float[Tensor, "b e"],
        generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        condition, mu, log_var = self.condition(text, generator)
        x = self.norm(self.fc(torch.cat([condition, noise], dim=1)))
        return self.up(x.unflatten(1, (self.top, 4, 4))), mu, log_var


class PictureGenerator(nn.Module):
    """Stage II: a sketch (b, 3, s, s) and the text again to a picture (b, 3, 4s, 4s), with mu and log_var.

    No noise of its own; a conditioning augmentation of its own.
    """

    def __init__(self, config: StackGANConfig) -> None:
        super().__init__()
        g, c = config.width, config.condition
        self.condition = ConditioningAugmentation(config.text, c,
                                                  "leaky_relu" if config.code == "tensorflow" else "relu")
        self.down = nn.Sequential(conv3(3, g), nn.ReLU(), *(
            layer for i in (g, 2 * g)
            for layer in (nn.Conv2d(i, 2 * i, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * i), nn.ReLU())))
        self.join = ConvBlock(4 * g + c, 4 * g, nn.ReLU)
        self.residual = nn.Sequential(*(ReLUResidualBlock(4 * g) for _ in range(config.residual)))
        self.up = nn.Sequential(*(UpBlock(4 * g >> i, 2 * g >> i, nn.ReLU) for i in range(4)),
                                ImageHead(g // 4))

    def forward(
        self, sketch: Float[Tensor, "b 3 s s"], text: Float[Tensor, "b e"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b 3 four_s four_s"], Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        condition, mu, log_var = self.condition(text, generator)
        x = self.down(sketch)
        x = self.join(torch.cat([x, tile(condition, x)], dim=1))
        return self.up(self.residual(x)), mu, log_var


class MatchingDiscriminator(nn.Module):
    """Does this picture fit this text? Of the TensorFlow code: pictures (b, 3, s, s), texts (b, e), logits
    (b).

    Down blocks to 4 x 4 (from 256 pixels on, 1 x 1 convolutions back to 8 d channels), a residual block,
    and the text, shortened to ``condition`` numbers, at every place. Up to 64 pixels no activation follows
    the last normalisation but one.
    """

    def __init__(self, size: int, width: int, text: int, condition: int) -> None:
        super().__init__()
        n, d = halvings(size), width
        body: list[nn.Module] = [nn.Conv2d(3, d, 4, 2, 1, bias=False), leaky()]
        for i in range(n - 1):
            body += [nn.Conv2d(d << i, d << (i + 1), 4, 2, 1, bias=False), nn.BatchNorm2d(d << (i + 1))]
            if i < n - 3 or (n > 4 and i < n - 1):
                body.append(leaky())
        for i in range(n - 1, 3, -1):
            body += [nn.Conv2d(d << i, d << (i - 1), 1, bias=False), nn.BatchNorm2d(d << (i - 1))]
            if i > 4:
                body.append(leaky())
        top = d << min(n - 1, 3)
        self.body = nn.Sequential(*body, Bottleneck(top, top // 4, leaky), leaky())
        self.words = nn.Sequential(nn.Linear(text, condition), leaky())
        self.join = nn.Sequential(nn.Conv2d(top + condition, top, 1, bias=False), nn.BatchNorm2d(top),
                                  leaky())
        self.fits = nn.Conv2d(top, 1, 4, bias=False)

    def forward(self, image: Float[Tensor, "b 3 s s"], text: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
        x = self.body(image)
        return self.fits(self.join(torch.cat([x, tile(self.words(text), x)], dim=1))).flatten()


class StackGAN(nn.Module):
    """Both stages with their discriminators: the second is trained after the first, whose sketches it gets as
    they are.

    ``forward``: noise (b, z), text (b, e); returns ``Generated`` with the sketch (b, 3, s, s), cut off
    from the gradient, and the picture (b, 3, 4s, 4s); mu and log_var are the second stage's. ``critic1``
    and ``critic2`` judge them: in the TensorFlow code by the text, in the PyTorch code by mu, and
    ``critic2`` there asks for realism alone too.
    """

    def __init__(self, config: StackGANConfig) -> None:
        super().__init__()
        self.config = config
        d, size = config.critic, config.size
        self.stage1, self.stage2 = SketchGenerator(config), PictureGenerator(config)
        self.critic1: MatchingDiscriminator | JointDiscriminator
        self.critic2: MatchingDiscriminator | JointDiscriminator
        if config.code == "tensorflow":
            self.critic1 = MatchingDiscriminator(size, d, config.text, config.condition)
            self.critic2 = MatchingDiscriminator(4 * size, d, config.text, config.condition)
        else:
            self.critic1 = JointDiscriminator(size, d, config.condition, unconditional=False)
            self.critic2 = JointDiscriminator(4 * size, d, config.condition)
        init_normal(self)

    def forward(
        self, noise: Float[Tensor, "b z"], text: Float[Tensor, "b e"],
        generator: torch.Generator | None = None
    ) -> Generated:
        with torch.no_grad():
            sketch, _, _ = self.stage1(noise, text, generator)
        picture, mu, log_var = self.stage2(sketch, text, generator)
        return Generated((sketch, picture), mu, log_var)


# ------------------------------------------------------------------------------------------------ version two

class TextBranch(nn.Module):
    """A further branch: the map (b, g, s, s) and the condition (b, c) at every place to (b, g/2, 2s, 2s)."""

    def __init__(self, width: int, condition: int, residual: int) -> None:
        super().__init__()
        self.join = ConvBlock(condition + width, width)
        self.residual = nn.Sequential(*(ResidualBlock(width) for _ in range(residual)))
        self.up = UpBlock(width, width // 2)

    def forward(
        self, map: Float[Tensor, "b g s s"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b half_g two_s two_s"]:
        return self.up(self.residual(self.join(torch.cat([tile(condition, map), map], dim=1))))


class StackGANv2Generator(nn.Module):
    """Noise (b, z) and a text (b, e) to ``Generated`` pictures of all sizes, drawn from maps that grow
    from each other."""

    def __init__(self, config: StackGANv2Config) -> None:
        super().__init__()
        g, c = config.width, config.condition
        self.condition = ConditioningAugmentation(config.text, c)
        self.first = FirstStage(config.noise, c, g, config.size)
        self.further = nn.ModuleList(TextBranch(g >> i, c, config.residual)
                                     for i in range(config.branches - 1))
        self.heads = nn.ModuleList(ImageHead(g >> i) for i in range(config.branches))

    def forward(
        self, noise: Float[Tensor, "b z"], text: Float[Tensor, "b e"],
        generator: torch.Generator | None = None
    ) -> Generated:
        condition, mu, log_var = self.condition(text, generator)
        maps = [self.first(condition, noise)]
        for branch in self.further:
            maps.append(branch(maps[-1], condition))
        return Generated(tuple(head(map) for head, map in zip(self.heads, maps)), mu, log_var)




class StackGANv2(nn.Module):
    """A generator of several branches, trained at once, and a discriminator for each.

    ``forward`` is the generator's. The discriminators judge by mu (detached in their own step);
    ``discriminator_losses`` and ``generator_loss`` put the equations together.
    """

    def __init__(self, config: StackGANv2Config) -> None:
        super().__init__()
        self.config = config
        self.generator = StackGANv2Generator(config)
        self.critics = nn.ModuleList(JointDiscriminator(size, config.critic, config.condition)
                                     for size in config.sizes)
        init_orthogonal(self)

    def forward(
        self, noise: Float[Tensor, "b z"], text: Float[Tensor, "b e"],
        generator: torch.Generator | None = None
    ) -> Generated:
        return self.generator(noise, text, generator)

    def discriminator_losses(
        self, real: tuple[Tensor, ...], wrong: tuple[Tensor, ...], drawn: Generated
    ) -> list[Tensor]:
        """eq:stackgan2-discriminator of every branch: ``real`` and ``wrong`` (real pictures of other
        texts) in the branches' sizes. Real, wrong and drawn pictures pass the discriminator apart."""
        mu = drawn.mu.detach()
        return [joint_matching_loss(critic(r, mu), critic(w, mu), critic(f.detach(), mu))
                for critic, r, w, f in zip(self.critics, real, wrong, drawn.images)]

    def generator_loss(self, drawn: Generated) -> Tensor:
        """The sum of eq:stackgan2-generator over branches, and the weighted mean KL."""
        branches = [branch_loss(critic(image, drawn.mu)) for critic, image in zip(self.critics, drawn.images)]
        return torch.stack(branches).sum() + self.config.kl_weight * mean_kl(drawn.mu, drawn.log_var)
