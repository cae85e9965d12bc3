r"""AttnGAN: every place of the growing picture reads the words that it needs.

Paper: T. Xu et al. (2018), *AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative
Adversarial Networks*, CVPR 2018, arXiv:1711.10485, sec. 3.1, eq. 1-6; sizes of github.com/taoxugit/AttnGAN.
Survey: 2.1.3. Differs from the paper: the code's losses are the default (no factor 1/2, and real pictures
with a wrong text as a third kind of pair); the mask of padded words is in the order of the scores (the
released code tiles it in another, ``released_mask_order``).

Words (b, t, e) and sentences (b, e) come from DAMSM's text encoder, ``mask`` (b, t) is True where there is
a word. Maps are (b, g, s, s); as places, row by row, they are (b, p, g). Pictures are in [-1, 1].
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.text2image.adversarial import fake_loss, real_loss
from mmlearn.text2image.blocks import (
    ConditioningAugmentation,
    FirstStage,
    Gates,
    Generated,
    ImageHead,
    JointDiscriminator,
    ResidualBlock,
    UpBlock,
    halvings,
    init_orthogonal,
    mean_kl,
)
from mmlearn.text2image.damsm import DAMSM

Number = float | int


@dataclass(frozen=True)
class AttnGANConfig:
    text: int = 256                 # e, width of DAMSM's words and sentences
    condition: int = 100            # c, numbers of the drawn condition
    noise: int = 100                # z
    width: int = 32                 # g, channels of the generator's maps
    critic: int = 64                # d, channels of the discriminators' first map
    residual: int = 2               # R, residual blocks of a branch
    size: int = 64                  # pixels a side of the first picture, twice as many in each further one
    branches: int = 3
    norm: str = "batch"             # of the discriminators' convolutions: "batch" or "spectral"
    damsm_weight: float = 5.0       # lambda, of DAMSM's losses in the generator's

    def __post_init__(self) -> None:
        halvings(self.size)
        if self.branches < 1:
            raise ValueError(f"branches is {self.branches}; a generator has at least 1")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels a side of the branches' pictures."""
        return tuple(self.size << i for i in range(self.branches))

    @classmethod
    def cub(cls) -> "AttnGANConfig":
        """Birds: a generator of 7,084,592 parameters, 104.7 M with its three discriminators."""
        return cls()

    @classmethod
    def coco(cls) -> "AttnGANConfig":
        """COCO: a generator of 13,811,456 parameters, 230.7 M with its three discriminators."""
        return cls(width=48, critic=96, residual=3, damsm_weight=50.0)

    @classmethod
    def mini(cls, text: int = 64, size: int = 64, branches: int = 3) -> "AttnGANConfig":
        """A miniature for the scene world; ``size`` is that of the last picture."""
        return cls(text, condition=32, noise=32, width=32, critic=16, residual=1, size=size >> (branches - 1),
                   branches=branches)


# -------------------------------------------------------------------------------------------------- equations

def word_weights(
    h: Float[Tensor, "b p g"], words: Float[Tensor, "b t g"],
    mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b p t"]:
    r"""eq:attngan-weights: $\beta_{jt}=\frac{\exp(h_j^\top e'_t)}{\sum_k\exp(h_j^\top e'_k)}$, how much of
    word t place j reads; words beyond ``mask`` get 0."""
    return (h @ words.mT).masked_fill(~mask[:, None], -math.inf).softmax(dim=2)


def read_words(
    beta: Float[Tensor, "b p t"], words: Float[Tensor, "b t g"]
) -> Float[Tensor, "b p g"]:
    r"""eq:attngan-read: $c_j=\sum_t\beta_{jt}\,e'_t$, with $e'=Ue$ the words in the picture's space."""
    return beta @ words


def released_mask_order(
    mask: Bool[Tensor, "b t"], places: int
) -> Bool[Tensor, "b p t"]:
    """The order of the released code, wrong, kept to show why: row r of the (b p) rows of scores gets the
    mask of caption r mod b, where it is a row of caption r // p."""
    return mask.repeat(places, 1).view(len(mask), places, -1)


def discriminator_loss(
    real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor], wrong: Float[Tensor, " c"]
) -> Float[Tensor, ""]:
    r"""eq:attngan-discriminator: $\mathcal L_{D_i}=\frac12\big(\mathrm{real}(x)+\mathrm{real}(x,\bar
    e)\big)+\frac13\big(\mathrm{fake}(\hat x)+\mathrm{fake}(\hat x,\bar e)+\mathrm{fake}(x,\bar e_w)\big)$
    with the cross-entropies $-\mathbb E\log D_i$ and $-\mathbb E\log(1-D_i)$: the released code's. Pairs of
    logits are (without text, with); ``wrong`` are those of real pictures with another's text."""
    return ((real_loss(real[0]) + real_loss(real[1])) / 2
            + (fake_loss(fake[0]) + fake_loss(fake[1]) + fake_loss(wrong)) / 3)


def paper_discriminator_loss(
    real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]
) -> Float[Tensor, ""]:
    r"""eq:attngan-discriminator-paper: $\mathcal L_{D_i}=\frac12\big(\mathrm{real}(x)+\mathrm{fake}(\hat
    x)\big)+\frac12\big(\mathrm{real}(x,\bar e)+\mathrm{fake}(\hat x,\bar e)\big)$: the paper's, without
    wrong pairs."""
    return (real_loss(real[0]) + fake_loss(fake[0]) + real_loss(real[1]) + fake_loss(fake[1])) / 2


def branch_loss(fake: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
    r"""eq:attngan-branch: $\mathcal L_{G_i}=-\mathbb E\log D_i(\hat x_i)-\mathbb E\log D_i(\hat x_i,\bar
    e)$; the paper's has $\frac12$ before each."""
    return real_loss(fake[0]) + real_loss(fake[1])


class GeneratorLoss(NamedTuple):
    """The parts of a generator's loss: all branches, the mean KL, DAMSM's four losses times lambda."""

    branches: Tensor
    kl: Tensor
    damsm: Tensor

    def total(self) -> Tensor:
        r"""eq:attngan-generator: $\mathcal L=\sum_i\mathcal L_{G_i}+\mathcal L_{CA}+\lambda\,\mathcal
        L_{DAMSM}$."""
        return self.branches + self.kl + self.damsm


# ------------------------------------------------------------------------------------------------------ model

class WordBranch(nn.Module):
    """A map (b, g, s, s) that reads words (b, t, e) to a map (b, g, 2s, 2s); the weights (b, p, t) too."""

    def __init__(self, config: AttnGANConfig) -> None:
        super().__init__()
        g = config.width
        self.project = nn.Linear(config.text, g, bias=False)
        self.residual = nn.Sequential(*(ResidualBlock(2 * g) for _ in range(config.residual)))
        self.up = UpBlock(2 * g, g)

    def read(
        self, h: Float[Tensor, "b p g"], words: Float[Tensor, "b t e"],
        mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b p two_g"], Float[Tensor, "b p t"], Gates | None]:
        """Each place with what it has read: [h; c], the weights, and no gates."""
        e = self.project(words)
        beta = word_weights(h, e, mask)
        return torch.cat([h, read_words(beta, e)], dim=2), beta, None

    def forward(
        self, map: Float[Tensor, "b g s s"], words: Float[Tensor, "b t e"],
        mask: Bool[Tensor, "b t"]
    ) -> tuple[
        Float[Tensor, "b g two_s two_s"], Float[Tensor, "b p t"], Gates | None
    ]:
        h = map.flatten(2).mT                                # b g s s -> b (s s) g
        x, beta, gates = self.read(h, words, mask)
        x = x.mT.unflatten(2, map.shape[2:])                 # -> b 2g s s
        return self.up(self.residual(x)), beta, gates


class AttnGANGenerator(nn.Module):
    """Noise (b, z), sentences (b, e) and words (b, t, e) to ``Generated`` pictures (b, 3, s, s), s = 64,
    128, 256.

    Raises ``ValueError`` for a caption without words.
    """

    def __init__(self, config: AttnGANConfig) -> None:
        super().__init__()
        g = config.width
        self.condition = ConditioningAugmentation(config.text, config.condition)
        self.first = FirstStage(config.noise, config.condition, g, config.size)
        self.further = nn.ModuleList(self.branch(config) for _ in range(config.branches - 1))
        self.heads = nn.ModuleList(ImageHead(g) for _ in range(config.branches))

    def branch(self, config: AttnGANConfig) -> nn.Module:
        """A further branch."""
        return WordBranch(config)

    def forward(
        self, noise: Float[Tensor, "b z"], sentence: Float[Tensor, "b e"], words: Float[Tensor, "b t e"],
        mask: Bool[Tensor, "b t"], generator: torch.Generator | None = None,
    ) -> Generated:
        if not mask.any(dim=1).all():
            raise ValueError(f"caption {int(mask.any(dim=1).int().argmin())} has no words; give every "
                             "picture at least one")
        condition, mu, log_var = self.condition(sentence, generator)
        map = self.first(condition, noise)
        images, attention, gates = [self.heads[0](map)], [], []
        for branch, head in zip(self.further, self.heads[1:]):
            map, beta, opened = branch(map, words, mask)
            images.append(head(map))
            attention.append(beta)
            if opened is not None:
                gates.append(opened)
        return Generated(tuple(images), mu, log_var, tuple(attention), tuple(gates))


class AttnGAN(nn.Module):
    """A generator of several branches, trained at once, and a discriminator for each, which judges by the
    sentence.

    ``forward`` is the generator's. ``discriminator_losses`` and ``generator_loss`` put the equations
    together; the DAMSM that they use is trained before and frozen.
    """

    def __init__(self, config: AttnGANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = self.make_generator(config)
        self.critics = nn.ModuleList(JointDiscriminator(size, config.critic, config.text, config.norm)
                                     for size in config.sizes)
        init_orthogonal(self)

    def make_generator(self, config: AttnGANConfig) -> AttnGANGenerator:
        """The generator of this system."""
        return AttnGANGenerator(config)

    def forward(
        self, noise: Float[Tensor, "b z"], sentence: Float[Tensor, "b e"], words: Float[Tensor, "b t e"],
        mask: Bool[Tensor, "b t"], generator: torch.Generator | None = None,
    ) -> Generated:
        return self.generator(noise, sentence, words, mask, generator)

    def discriminator_losses(
        self, real: tuple[Tensor, ...], drawn: Generated, sentence: Float[Tensor, "b e"]
    ) -> list[Tensor]:
        """eq:attngan-discriminator of every branch: ``real`` pictures in the branches' sizes, at least two.

        Real and drawn pictures pass the discriminator apart; the wrong text of a picture is the next one's.
        """
        losses = []
        for module, x, x_hat in zip(self.critics, real, drawn.images):
            critic = cast(JointDiscriminator, module)
            features = critic.features(x)
            truth = critic.unconditional(features), critic.conditional(features, sentence)
            wrong = critic.conditional(features[:-1], sentence[1:])
            losses.append(discriminator_loss(truth, critic(x_hat.detach(), sentence), wrong))
        return losses

    def generator_loss(
        self, drawn: Generated, sentence: Float[Tensor, "b e"], words: Float[Tensor, "b t e"],
        mask: Bool[Tensor, "b t"], damsm: DAMSM, classes: Int[Tensor, " b"] | None = None,
    ) -> GeneratorLoss:
        """The parts of eq:attngan-generator; DAMSM sees the largest pictures only."""
        branches = [branch_loss(critic(x, sentence)) for critic, x in zip(self.critics, drawn.images)]
        regions, code = damsm.image(drawn.images[-1])
        match = damsm.losses(regions, code, words, sentence, mask, classes).total()
        return GeneratorLoss(torch.stack(branches).sum(), mean_kl(drawn.mu, drawn.log_var),
                             self.config.damsm_weight * match)
