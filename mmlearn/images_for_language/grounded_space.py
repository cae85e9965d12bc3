r"""A grounded space: sentences keep the vectors that text teaches them, and a projection of these is taught
by pictures.

Paper: P. Bordes, E. Zablocki, L. Soulier, B. Piwowarski and P. Gallinari (2019), *Incorporating Visual
Semantics into Sentence Representations within a Grounded Space*, EMNLP, arXiv:2002.02734; the text's loss is
that of R. Kiros et al. (2015), *Skip-Thought Vectors*, NeurIPS, arXiv:1506.06726.  Survey: 3.3 mentions it.
Differs from the paper: we know its objectives from its abstract and from the LMU booklet, not its sizes. So
the projection has one hidden layer, negatives are all captions of other pictures in the batch, and the only
configurations are one with skip-thought's sizes (vectors of 620, states of 2400) and a miniature.

Why a space between: a picture has many captions, each of which says another part of it. To draw them all to
the picture's own vector would make them one; here captions of a picture come near each other, and likenesses,
not vectors, are taken over from the pictures. Masks: True where a token may be read; index 0 pads.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text_for_vision.blockwise import single


@dataclass(frozen=True)
class GroundedSpaceConfig:
    vocab: int = 20_000             # v, words; 0 pads
    embedding: int = 620            # numbers of a word
    width: int = 2400               # d, state of the encoder: the vector of a sentence
    hidden: int = 1024              # of the projection
    grounded: int = 512             # numbers of the grounded space
    margin: float | int = 0.5       # gamma, of the captions of a picture
    cluster: float | int = 1.0      # alpha_C
    perceptual: float | int = 1.0   # alpha_P

    def __post_init__(self) -> None:
        check(self, margin=(0, 2), cluster=(0, 1000), perceptual=(0, 1000))

    @classmethod
    def skip_thought(cls) -> "GroundedSpaceConfig":
        """The sizes of uni-skip, with a projection to 512 numbers of ours."""
        return cls()

    @classmethod
    def mini(cls) -> "GroundedSpaceConfig":
        """A miniature for captions of scenes."""
        return cls(400, 32, 64, 64, 32)


# -------------------------------------------------------------------------------------------------- equations

def cosine_table(x: Float[Tensor, "b d"]) -> Float[Tensor, "b b"]:
    r"""eq:grounded-cosine: $s_{ij}=\frac{x_ix_j^\top}{\lVert x_i\rVert\lVert x_j\rVert}$."""
    x = F.normalize(single(x), dim=1)
    return x @ x.mT


def cluster_loss(
    g: Float[Tensor, "b d"], picture: Int[Tensor, " b"],
    margin: float | int = 0.5
) -> Float[Tensor, ""]:
    r"""eq:grounded-cluster: $L_C=\frac1{|T|}\sum_{(i,j,k)\in T}\max(0,\gamma-\cos(g_i,g_j)+\cos(g_i,g_k))$
    over the triples of a caption i, another one j of its picture, and one k of another picture; it takes
    $b^3$ numbers."""
    s, same = cosine_table(g), picture[:, None] == picture
    positive = same & ~torch.eye(len(g), dtype=torch.bool, device=g.device)
    triples = positive[:, :, None] & ~same[:, None, :]          # i j k
    hinge = (margin - s[:, :, None] + s[:, None, :]).clamp(min=0)
    return (hinge * triples).sum() / triples.sum().clamp(min=1)


def pearson(
    x: Float[Tensor, " q"], y: Float[Tensor, " q"]
) -> Float[Tensor, ""]:
    r"""eq:grounded-pearson: $\rho(x,y)=\frac{\sum_i(x_i-\bar x)(y_i-\bar y)}{\sqrt{\sum_i(x_i-\bar x)^2}
    \sqrt{\sum_i(y_i-\bar y)^2}}$, 0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    return F.normalize(x, dim=0) @ F.normalize(y, dim=0)


def perceptual_loss(
    g: Float[Tensor, "b d"], v: Float[Tensor, "b f"]
) -> Float[Tensor, ""]:
    r"""eq:grounded-perceptual: $L_P=-\rho\big(\cos(g_i,g_j),\cos(v_i,v_j)\big)$ over the pairs $i<j$ of a
    batch: what is alike to the eye is to be alike in the grounded space; scale and origin are left
    to the text."""
    i, j = torch.triu_indices(len(g), len(g), 1, device=g.device)
    return -pearson(cosine_table(g)[i, j], cosine_table(v)[i, j])


def grounded_loss(
    text: Float[Tensor, ""], cluster: Float[Tensor, ""],
    perceptual: Float[Tensor, ""], config: GroundedSpaceConfig
) -> Float[Tensor, ""]:
    r"""eq:grounded-loss: $L=L_T+\alpha_CL_C+\alpha_PL_P$."""
    return text + config.cluster * cluster + config.perceptual * perceptual


def neighbour_loss(
    logits: Float[Tensor, "b t v"], words: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    r"""eq:grounded-text: $-\frac1T\sum_t\log p(w_t\mid w_{<t},h)$ of a neighbouring sentence, whose decoder
    knows the state h of this one: the mean over its tokens."""
    return F.cross_entropy(single(logits)[mask], words[mask])


# ------------------------------------------------------------------------------------------------------ model

class SentenceDecoder(nn.Module):
    """A recurrent network that writes a neighbouring sentence from the vector of this one."""

    def __init__(self, embedding: int, width: int, vocab: int) -> None:
        super().__init__()
        self.recurrence = nn.GRU(embedding + width, width, batch_first=True)
        self.words = nn.Linear(width, vocab)

    def forward(
        self, x: Float[Tensor, "b t e"], h: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b t v"]:
        """Logits of each token from those before it: the first is read of ``h`` alone."""
        before = F.pad(x[:, :-1], (0, 0, 1, 0))
        known = h[:, None].expand(-1, x.shape[1], -1)
        return self.words(self.recurrence(torch.cat([before, known], dim=2))[0])


class GroundedSpace(nn.Module):
    """Encoder of sentences, decoders of their neighbours, and the projection into the grounded space.

    ``forward``: tokens (b, t) and mask (b, t) -> vectors (b, d) of sentences; ``ground`` projects them to
    (b, grounded); ``text_loss`` and ``picture_losses`` are the parts of eq:grounded-loss. Padding follows the
    text.
    """

    def __init__(self, config: GroundedSpaceConfig) -> None:
        super().__init__()
        self.config = c = config
        self.embedding = nn.Embedding(c.vocab, c.embedding)
        self.encoder = nn.GRU(c.embedding, c.width, batch_first=True)
        self.previous = SentenceDecoder(c.embedding, c.width, c.vocab)
        self.next = SentenceDecoder(c.embedding, c.width, c.vocab)
        self.projection = nn.Sequential(nn.Linear(c.width, c.hidden), nn.ReLU(),
                                        nn.Linear(c.hidden, c.grounded))

    def forward(
        self, words: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b d"]:
        """The state after the last token. Raises ``ValueError`` for a sentence without one."""
        lengths = mask.sum(dim=1)
        if not bool((lengths > 0).all()):
            raise ValueError("a sentence has no token that may be read; leave it out")
        states = self.encoder(self.embedding(words))[0]
        return states[torch.arange(len(words)), lengths - 1]

    def ground(self, t: Float[Tensor, "b d"]) -> Float[Tensor, "b g"]:
        """g = MLP(t)."""
        return self.projection(t)

    def text_loss(
        self, words: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"],
        previous: Int[Tensor, "b p"], previous_mask: Bool[Tensor, "b p"],
        following: Int[Tensor, "b n"], following_mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, ""]:
        """eq:grounded-text of the sentence before and of that after, added: L_T."""
        h = self(words, mask)
        losses = [neighbour_loss(decoder(self.embedding(near), h), near, seen)
                  for decoder, near, seen in ((self.previous, previous, previous_mask),
                                              (self.next, following, following_mask))]
        return losses[0] + losses[1]

    def picture_losses(
        self, words: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"],
        picture: Int[Tensor, " b"], v: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """L_C and L_P of captions, the numbers of their pictures and these pictures' features."""
        g = self.ground(self(words, mask))
        return cluster_loss(g, picture, self.config.margin), perceptual_loss(g, v)
