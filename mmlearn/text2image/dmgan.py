r"""DM-GAN: a dynamic memory of the caption, written for this picture, read by every place of it.

Paper: M. Zhu et al. (2019), *DM-GAN: Dynamic Memory Generative Adversarial Networks for Text-to-Image
Synthesis*, CVPR 2019, arXiv:1904.01310, sec. 3.1-3.3, eq. 1-9; sizes of github.com/MinfengZhu/DM-GAN.
Survey: 2.1.3, which calls it "Deformable Modules"; there is no deformable operator in paper or code.
Differs from the paper: as in the code, the mean over places is cut off from the gradient, ReLU follows the
four projections of the memory, and the answer of the memory enters the residual blocks twice, so that they
keep AttnGAN's width; the mask is in the right order (see ``attngan.released_mask_order``).

First stage, losses, discriminators' heads and DAMSM are AttnGAN's. Places (b, p, r) are the rows of a map,
words (b, t, w), memory slots (b, t, m) with m = 2 r.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmlearn.text2image.attngan import (
    AttnGAN,
    AttnGANConfig,
    AttnGANGenerator,
    WordBranch,
    read_words,
    word_weights,
)
from mmlearn.text2image.blocks import Gates


@dataclass(frozen=True)
class DMGANConfig(AttnGANConfig):
    width: int = 64                 # r, channels of the generator's maps
    critic: int = 32
    norm: str = "spectral"
    writing_gate: bool = True       # False: a slot is its word, m_i = M_w(w_i)
    response_gate: bool = True      # False: [r; o] goes on, as in AttnGAN

    @classmethod
    def cub(cls) -> "DMGANConfig":
        """Birds: a generator of 21,449,042 parameters, 46.7 M with its three discriminators."""
        return cls()

    @classmethod
    def coco(cls) -> "DMGANConfig":
        """COCO: a generator of 22,335,314 parameters, 47.6 M with its three discriminators."""
        return cls(residual=3, damsm_weight=50.0)

    @classmethod
    def mini(cls, text: int = 64, size: int = 64, branches: int = 3) -> "DMGANConfig":
        """A miniature for the scene world; ``size`` is that of the last picture."""
        return cls(text, condition=32, noise=32, width=32, critic=16, residual=1, size=size >> (branches - 1),
                   branches=branches)


# -------------------------------------------------------------------------------------------------- equations

def writing_gate(
    words: Float[Tensor, "b t w"], mean: Float[Tensor, "b r"],
    A: Float[Tensor, "1 w"], B: Float[Tensor, "1 r"],
) -> Float[Tensor, "b t 1"]:
    r"""eq:dmgan-writing-gate: $g^w_i=\sigma\big(A\,w_i+B\,\frac1N\sum_jr_j\big)$, one number a word: does
    this word matter for this picture?"""
    return torch.sigmoid(words @ A.mT + (mean @ B.mT)[:, None])


def write_memory(
    words: Float[Tensor, "b t m"], mean: Float[Tensor, "b m"], gate: Float[Tensor, "b t 1"]
) -> Float[Tensor, "b t m"]:
    r"""eq:dmgan-writing: $m_i=M_w(w_i)\,g^w_i+M_r\big(\frac1N\sum_jr_j\big)(1-g^w_i)$, from both
    projections."""
    return words * gate + mean[:, None] * (1 - gate)


def address_keys(
    places: Float[Tensor, "b p r"], keys: Float[Tensor, "b t r"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b p t"]:
    r"""eq:dmgan-addressing: $\alpha_{ij}=\frac{\exp(M_K(m_i)^\top r_j)}{\sum_l\exp(M_K(m_l)^\top
    r_j)}$, of place j among slots i: AttnGAN's eq:attngan-weights with keys of the memory."""
    return word_weights(places, keys, mask)


def read_values(alpha: Float[Tensor, "b p t"], values: Float[Tensor, "b t r"]) -> Float[Tensor, "b p r"]:
    r"""eq:dmgan-reading: $o_j=\sum_i\alpha_{ij}\,M_V(m_i)$."""
    return read_words(alpha, values)


def response_gate(
    places: Float[Tensor, "b p r"], read: Float[Tensor, "b p r"],
    W: Float[Tensor, "1 two_r"], b: Float[Tensor, "1"],
) -> Float[Tensor, "b p 1"]:
    r"""eq:dmgan-response-gate: $g^r_j=\sigma(W[r_j;o_j]+b)$, one number a place: how much it takes over."""
    return torch.sigmoid(torch.cat([places, read], dim=2) @ W.mT + b)


def respond(
    places: Float[Tensor, "b p r"], read: Float[Tensor, "b p r"], gate: Float[Tensor, "b p 1"]
) -> Float[Tensor, "b p r"]:
    r"""eq:dmgan-response: $r_j^{new}=o_j\,g^r_j+r_j(1-g^r_j)$."""
    return read * gate + places * (1 - gate)


# ------------------------------------------------------------------------------------------------------ model

class MemoryBranch(WordBranch):
    """A map that reads a memory of the words instead of the words (eq:dmgan-writing-gate to
    eq:dmgan-response)."""

    def __init__(self, config: DMGANConfig) -> None:
        super().__init__(config)
        w, r = config.text, config.width
        del self.project
        self.gated = config.writing_gate, config.response_gate
        self.from_words = nn.Linear(w, 2 * r)                                        # M_w
        self.key, self.value = nn.Linear(2 * r, r), nn.Linear(2 * r, r)              # M_K, M_V
        if config.writing_gate:
            self.A, self.B = nn.Linear(w, 1, bias=False), nn.Linear(r, 1, bias=False)
            self.from_places = nn.Linear(r, 2 * r)                                   # M_r
        if config.response_gate:
            self.response = nn.Linear(2 * r, 1)                                      # W, b

    def write(
        self, h: Float[Tensor, "b p r"], words: Float[Tensor, "b t w"]
    ) -> tuple[Float[Tensor, "b t m"], Float[Tensor, "b t 1"]]:
        """The memory and its gate; without a writing gate all words are written as they are."""
        slots = self.from_words(words).relu()
        if not self.gated[0]:
            return slots, torch.ones_like(slots[..., :1])
        mean = h.mean(dim=1).detach()
        gate = writing_gate(words, mean, self.A.weight, self.B.weight)
        return write_memory(slots, self.from_places(mean).relu(), gate), gate

    def read(
        self, h: Float[Tensor, "b p r"], words: Float[Tensor, "b t w"],
        mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b p two_r"], Float[Tensor, "b p t"], Gates]:
        """Each place after the memory has answered, the weights of the slots, and both gates."""
        memory, writing = self.write(h, words)
        alpha = address_keys(h, self.key(memory).relu(), mask)
        o = read_values(alpha, self.value(memory).relu())
        if not self.gated[1]:
            open_ = torch.ones_like(o[..., :1])
            return torch.cat([h, o], dim=2), alpha, Gates(writing, open_)
        response = response_gate(h, o, self.response.weight, self.response.bias)
        new = respond(h, o, response)
        return torch.cat([new, new], dim=2), alpha, Gates(writing, response)


class DMGANGenerator(AttnGANGenerator):
    """AttnGAN's generator with a memory in every further branch; ``gates`` of the result are the memory's."""

    def branch(self, config: AttnGANConfig) -> nn.Module:
        return MemoryBranch(config)                                                  # type: ignore[arg-type]


class DMGAN(AttnGAN):
    """DM-GAN: the generator with memories, discriminators with spectral normalisation; losses and calls as in
    ``AttnGAN``."""

    def __init__(self, config: DMGANConfig) -> None:
        super().__init__(config)

    def make_generator(self, config: AttnGANConfig) -> AttnGANGenerator:
        return DMGANGenerator(config)
