r"""DAMSM, the deep attentional multimodal similarity model: how well do the words of a caption fit a picture?

Paper: T. Xu et al. (2018), *AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative
Adversarial Networks*, CVPR 2018, arXiv:1711.10485, sec. 3.2, eq. 7-13.  Survey: omits it; it is half of
2.1.3's AttnGAN.
Differs from the paper: losses are means over the batch (there sums); with ``score="code"`` the word score
has no exponent 1/gamma_2, as in the released code, so that its logits are gamma_2 times the paper's;
gamma_1 is 4 as in the released configurations; the convolutional trunk stays in evaluation mode.

Words (c, t, d) and sentences (c, d) are those of c captions, regions (b, p, d) and image codes (b, d)
those of b pictures; row i of both is a pair. ``mask`` (c, t) is True where there is a word. Losses are in
nats per pair.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchvision.models import inception_v3

from mmlearn.nn.inception import TRUNK
from mmlearn.text2image.blocks import DownBlock, SameBlock
from mmlearn.text_for_vision.blockwise import single

Mask = Bool[Tensor, "c t"]
Number = float | int


@dataclass(frozen=True)
class DAMSMConfig:
    vocab: int = 27_297             # V, words with the end of a caption
    words: int = 300                # width of a word embedding
    embed: int = 256                # d, width of words, sentences, regions and images in the common space
    dropout: float = 0.5            # on word embeddings
    pad: int = 0                    # id that fills short captions
    trunk: str = "inception"        # image trunk: "inception" (17 x 17 regions) or "small" (8 x 8)
    trunk_width: int = 0            # channels of the small trunk's first map
    size: int = 299                 # pixels a side that the trunk sees
    gamma1: float = 4.0             # sharpness of a word's attention over regions
    gamma2: float = 5.0             # sharpness of the largest word score
    gamma3: float = 10.0            # sharpness of the choice among captions or pictures
    score: str = "code"             # word score with ("paper") or without ("code") the exponent 1 / gamma_2
    stretch: float | int = 1.0      # what sentences are multiplied by for those who read them

    def __post_init__(self) -> None:
        if self.trunk not in ("inception", "small"):
            raise ValueError(f"trunk is {self.trunk!r}; use 'inception' or 'small'")
        if self.score not in ("code", "paper"):
            raise ValueError(f"score is {self.score!r}; use 'code' or 'paper'")
        if not 0 < self.stretch < math.inf:
            raise ValueError(f"stretch is {self.stretch}; sentences are multiplied by it, so it is positive")
        if self.embed % 2:
            raise ValueError(f"embed is {self.embed}; the two directions of the LSTM share it, so it is even")
        if self.trunk == "small" and (self.trunk_width < 1 or self.size < 16 or self.size % 8):
            raise ValueError(f"the small trunk has width {self.trunk_width} and sees {self.size} "
                             "pixels; give "
                             "at least 1 channel, and 16 pixels or twice, four times …")

    @classmethod
    def cub(cls) -> "DAMSMConfig":
        """The released encoders of birds: 2,075,320 parameters of text."""
        return cls(vocab=5_450)

    @classmethod
    def coco(cls) -> "DAMSMConfig":
        """The released encoders of COCO: 8,629,420 parameters of text."""
        return cls()

    @classmethod
    def mini(cls, vocab: int = 200, size: int = 64) -> "DAMSMConfig":
        """A miniature for the scene world, with 8 x 8 regions; padding as mmlearn's word tokeniser has it."""
        return cls(vocab, words=64, embed=64, dropout=0.1, pad=1, trunk="small", trunk_width=32, size=size)


# -------------------------------------------------------------------------------------------------- equations

def word_similarity(
    words: Float[Tensor, "c t d"], regions: Float[Tensor, "b p d"]
) -> Float[Tensor, "b c t p"]:
    r"""eq:damsm-similarity: $s_{tp}=e_t^\top v_p$, of every caption with every picture."""
    return torch.einsum("ctd,bpd->bctp", words, regions)


def over_words(s: Float[Tensor, "b c t p"], mask: Mask) -> Float[Tensor, "b c t p"]:
    r"""eq:damsm-over-words: $\bar s_{tp}=\frac{\exp s_{tp}}{\sum_{k}\exp s_{kp}}$: the words share each
    region; words beyond ``mask`` get 0."""
    return s.masked_fill(~mask[None, :, :, None], -math.inf).softmax(dim=2)


def over_regions(s: Float[Tensor, "b c t p"], gamma1: Number) -> Float[Tensor, "b c t p"]:
    r"""eq:damsm-attention: $\alpha_{tp}=\frac{\exp(\gamma_1\bar s_{tp})}{\sum_{q}\exp(\gamma_1\bar s_{tq})}$:
    each word attends to regions."""
    return (gamma1 * s).softmax(dim=3)


def region_context(
    alpha: Float[Tensor, "b c t p"], regions: Float[Tensor, "b p d"]
) -> Float[Tensor, "b c t d"]:
    r"""eq:damsm-context: $\tilde v_t=\sum_p\alpha_{tp}v_p$, the picture as word t sees it."""
    return torch.einsum("bctp,bpd->bctd", alpha, regions)


def released_score(
    cosine: Float[Tensor, "b c t"], mask: Mask, gamma2: Number
) -> Float[Tensor, "b c"]:
    r"""eq:damsm-score-code: $\log\sum_t\exp(\gamma_2\cos(\tilde v_t,e_t))$, without the factor
    $1/\gamma_2$."""
    return (gamma2 * cosine).masked_fill(~mask, -math.inf).logsumexp(dim=2)


def word_score(
    cosine: Float[Tensor, "b c t"], mask: Mask, gamma2: Number
) -> Float[Tensor, "b c"]:
    r"""eq:damsm-score: $R=\frac1{\gamma_2}\log\sum_t\exp(\gamma_2\cos(\tilde v_t,e_t))$, which is
    $\max_t\cos$ as $\gamma_2\to\infty$; the paper writes the factor as an exponent of the sum."""
    return released_score(cosine, mask, gamma2) / gamma2


def sentence_score(code: Float[Tensor, "b d"], sentence: Float[Tensor, "c d"]) -> Float[Tensor, "b c"]:
    r"""eq:damsm-sentence-score: $R=\cos(\bar v,\bar e)$, of every picture with every caption."""
    return F.normalize(code, dim=1, eps=1e-8) @ F.normalize(sentence, dim=1, eps=1e-8).mT


def posterior(R: Float[Tensor, "b c"], gamma3: Number) -> Float[Tensor, "b c"]:
    r"""eq:damsm-posterior: $P_{ij}=\frac{\exp(\gamma_3R_{ij})}{\sum_k\exp(\gamma_3R_{ik})}$, as logarithms:
    which caption j belongs to picture i ($P(D_j\mid Q_i)$ in the paper)."""
    return (gamma3 * R).log_softmax(dim=1)


def matching_losses(
    R: Float[Tensor, "b c"], gamma3: Number, classes: Int[Tensor, " b"] | None = None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""eq:damsm-matching: $\mathcal L_1=-\frac1b\sum_i\log
    \frac{\exp(\gamma_3R_{ii})}{\sum_k\exp(\gamma_3R_{ik})}$, $\mathcal L_2=-\frac1b\sum_i\log
    \frac{\exp(\gamma_3R_{ii})}{\sum_k\exp(\gamma_3R_{ki})}$.

    Another picture of the same class, if ``classes`` are given, is no wrong answer: it is left out of the
    sums.
    """
    if R.shape[0] != R.shape[1]:
        raise ValueError(f"there are {R.shape[0]} pictures and {R.shape[1]} captions; row i of both is pair "
                         "i, so give as many of each")
    if classes is not None:
        alike = (classes[:, None] == classes) & ~torch.eye(len(R), dtype=torch.bool, device=R.device)
        R = R.masked_fill(alike, -math.inf)
    return -posterior(R, gamma3).diagonal().mean(), -posterior(R.mT, gamma3).diagonal().mean()


class DAMSMLosses(NamedTuple):
    """The four losses, in nats per pair: caption of a picture and picture of a caption, by words and by
    sentences."""

    words_1: Tensor
    words_2: Tensor
    sentence_1: Tensor
    sentence_2: Tensor

    def total(self) -> Tensor:
        r"""eq:damsm-loss: $\mathcal L_{DAMSM}=\mathcal L^w_1+\mathcal L^w_2+\mathcal L^s_1+\mathcal
        L^s_2$."""
        return self.words_1 + self.words_2 + self.sentence_1 + self.sentence_2


# ------------------------------------------------------------------------------------------------- the scores

def region_attention(
    words: Float[Tensor, "c t d"], regions: Float[Tensor, "b p d"],
    mask: Mask, gamma1: Number
) -> Float[Tensor, "b c t p"]:
    """Where each word of each caption looks in each picture: eq:damsm-similarity to eq:damsm-attention."""
    s = word_similarity(words, regions)
    return over_regions(over_words(s, mask), gamma1)


def word_scores(
    words: Float[Tensor, "c t d"], regions: Float[Tensor, "b p d"],
    mask: Mask, config: DAMSMConfig
) -> Float[Tensor, "b c"]:
    """R of every picture with every caption by words, all pairs at once."""
    alpha = region_attention(words, regions, mask, config.gamma1)
    context = region_context(alpha, regions)
    cosine = F.cosine_similarity(context, words[None], dim=3)
    score = word_score if config.score == "paper" else released_score
    return score(cosine, mask, config.gamma2)


# --------------------------------------------------------------------------------------------------- encoders

class TextEncoder(nn.Module):
    """A bidirectional LSTM: its states are the words, its two last states are the sentence.

    Input tokens (b, t) and ``mask`` (b, t), True = a word (without it: everything but ``pad``); padding
    may only follow a caption. Output words (b, t, d), zero at padding, and sentences (b, d). Raises
    ``ValueError`` for a caption without words.
    """

    def __init__(self, config: DAMSMConfig) -> None:
        super().__init__()
        self.config, self.pad = config, config.pad
        self.words = nn.Embedding(config.vocab, config.words)
        self.dropout = nn.Dropout(config.dropout)
        self.rnn = nn.LSTM(config.words, config.embed // 2, batch_first=True, bidirectional=True)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)

    def mask(self, tokens: Int[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """True where a token is a word."""
        return tokens != self.pad

    def forward(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d"]]:
        mask = self.mask(tokens) if mask is None else mask
        lengths = mask.sum(dim=1).cpu()
        if len(lengths) and lengths.min() < 1:
            raise ValueError(f"caption {int(lengths.argmin())} has no words; give every picture at least one")
        if not torch.equal(mask.cpu(), torch.arange(mask.shape[1]) < lengths[:, None]):
            raise ValueError("a mask has words after padding; padding may only follow a caption")
        packed = pack_padded_sequence(self.dropout(self.words(tokens)), lengths, batch_first=True,
                                      enforce_sorted=False)
        states, (last, _) = self.rnn(packed)
        words, _ = pad_packed_sequence(states, batch_first=True, total_length=tokens.shape[1])
        return words, self.config.stretch * torch.cat([last[0], last[1]], dim=1)


class InceptionTrunk(nn.Module):
    """Inception-v3 (torchvision's) up to its pooling, frozen: regions (b, 768, 17, 17) and a vector (b,
    2048).

    Pictures of any size in [-1, 1] are resized to 299 (corners aligned, as PyTorch did when the weights were
    made). Names are torchvision's, without ``fc`` and ``AuxLogits``.
    """

    region_width, width = 768, 2048

    def __init__(self, size: int = 299) -> None:
        super().__init__()
        self.size = size
        whole = inception_v3(weights=None, init_weights=False, aux_logits=False)
        for name in TRUNK:
            self.add_module(name, getattr(whole, name))
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "InceptionTrunk":
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c s s"], Float[Tensor, "b f"]]:
        x = F.interpolate(image, (self.size, self.size), mode="bilinear", align_corners=True)
        regions = x
        for name in TRUNK:
            x = getattr(self, name)(x)
            if name == "Mixed_6e":
                regions = x
        return regions, x.mean(dim=(2, 3))


class SmallTrunk(nn.Module):
    """A trunk for miniatures: blocks that halve the side down to a grid of 8 x 8 regions, then 4 x 4, then
    the mean."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        halves = int(math.log2(size / 8))
        if 8 * 2**halves != size:
            raise ValueError(f"pictures have {size} pixels a side; give 16 or twice, four times …")
        self.size = size
        widths = [3, *(width * 2 ** min(i, 2) for i in range(halves))]
        self.region_width, self.width = widths[-1], 2 * widths[-1]
        self.grid = nn.Sequential(*(DownBlock(i, o) for i, o in zip(widths, widths[1:])),
                                  SameBlock(widths[-1], widths[-1]))
        self.rest = DownBlock(self.region_width, self.width)

    def forward(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c s s"], Float[Tensor, "b f"]]:
        if image.shape[-1] != self.size:
            image = F.interpolate(image, (self.size, self.size), mode="bilinear", align_corners=True)
        regions = self.grid(image)
        return regions, self.rest(regions).mean(dim=(2, 3))


class ImageEncoder(nn.Module):
    """Pictures (b, 3, s, s) in [-1, 1] to regions (b, p, d), row by row of the grid, and image codes (b,
    d)."""

    def __init__(self, config: DAMSMConfig) -> None:
        super().__init__()
        self.trunk: InceptionTrunk | SmallTrunk
        if config.trunk == "inception":
            self.trunk = InceptionTrunk(config.size)
        else:
            self.trunk = SmallTrunk(config.size, config.trunk_width)
        self.regions = nn.Conv2d(self.trunk.region_width, config.embed, 1, bias=False)
        self.code = nn.Linear(self.trunk.width, config.embed)
        nn.init.uniform_(self.regions.weight, -0.1, 0.1)
        nn.init.uniform_(self.code.weight, -0.1, 0.1)

    def forward(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b d"]]:
        regions, code = self.trunk(image)
        return self.regions(regions).flatten(2).mT, self.code(code)                 # b d h w -> b (h w) d


class DAMSM(nn.Module):
    """Text encoder and image encoder in one space, and the four losses that bring pairs together
    (eq:damsm-loss).

    ``forward``: pictures (b, 3, s, s) in [-1, 1], tokens (b, t), optionally ``mask`` (b, t) and
    ``classes`` (b); returns ``DAMSMLosses``. A model that knows nothing has losses of log b each. ``text``
    and ``image`` are the encoders; ``losses`` takes what they return, so that a generator can be trained
    with both frozen.
    """

    def __init__(self, config: DAMSMConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextEncoder(config)
        self.image = ImageEncoder(config)

    def losses(
        self,
        regions: Float[Tensor, "b p d"],
        code: Float[Tensor, "b d"],
        words: Float[Tensor, "c t d"],
        sentence: Float[Tensor, "c d"],
        mask: Mask,
        classes: Int[Tensor, " b"] | None = None,
    ) -> DAMSMLosses:
        """The four losses of pairs, in 32 bits whatever autocast says."""
        with torch.autocast(regions.device.type, enabled=False):
            R_words = word_scores(single(words), single(regions), mask, self.config)
            R_sentence = sentence_score(single(code), single(sentence))
            gamma3 = self.config.gamma3
            return DAMSMLosses(*matching_losses(R_words, gamma3, classes),
                               *matching_losses(R_sentence, gamma3, classes))

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None = None,
        classes: Int[Tensor, " b"] | None = None,
    ) -> DAMSMLosses:
        mask = self.text.mask(tokens) if mask is None else mask
        regions, code = self.image(image)
        words, sentence = self.text(tokens, mask)
        return self.losses(regions, code, words, sentence, mask, classes)
