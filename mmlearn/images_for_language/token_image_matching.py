r"""Token-image matching: which picture does a word of this sentence speak of?

Paper: H. Tan and M. Bansal (2020), *Vokenization: Improving Language Understanding with Contextualized,
Visual-Grounded Supervision*, EMNLP, arXiv:2010.06775, sec. 3; sizes and loss of
github.com/airsplay/vokenization (MIT).  Survey: 3.5.1, which names the system and links to a blog.
Differs from the paper: nothing. Where the released code and the paper are silent on one another, this is what
the code does: the image of a sentence of the other half of the batch is the wrong one, [CLS] and [SEP] are
tokens like others. Only the dropout of the frozen BERT is off throughout; there it is off until the first
validation and on afterwards.

Letters: $w_i$ is a token of the sentence $s$, $x$ a picture, $x'$ another one, $M$ the margin, $u$ the row
that leaves a small network and $f(w_i;s)$, $g(x)$ such rows on the unit sphere.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.vision import Frozen, ResidualTrunk, TorchvisionTrunk


@dataclass(frozen=True)
class MatcherConfig:
    text: BERTConfig = field(default_factory=BERTConfig.base)
    states: int = 4             # of how many of BERT's last layers a token's row is made, side by side
    trunk: str | tuple[int, ...] = "resnext101_32x8d"   # a ResNet of torchvision, or channels of a small one
    hidden: int = 256           # inner width of both small networks
    embed: int = 64             # e, numbers of an embedding
    dropout: float = 0.3        # in both small networks
    margin: float | int = 0.5   # M

    def __post_init__(self) -> None:
        check(self, margin=(1e-6, 2.0))
        if self.states > self.text.layers:
            raise FieldError("MatcherConfig", "states", f"is {self.states}, BERT has {self.text.layers} "
                             "layers; take as many or fewer")

    @classmethod
    def paper(cls) -> "MatcherConfig":
        """BERT base and ResNeXt-101-32x8d, both frozen; 1,344,128 parameters are trained: 803,136 for words,
        540,992 for pictures."""
        return cls()

    @classmethod
    def mini(cls, vocab: int = 400, pad: int = 1, context: int = 32) -> "MatcherConfig":
        """A miniature for the scene world, whose trunk is that of the classifier of scenes."""
        return cls(BERTConfig.mini(vocab, pad, context), 2, (32, 64, 128, 128), 64, 32, 0.1)


# ------------------------------------------------------------------------------------------ equations


def on_sphere(u: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
    r"""eq:voken-sphere: $f(w_i;s)=u/\|u\|$, $u$ the row that leaves the small network of
    words; $g(x)$ likewise."""
    return u / u.norm(dim=-1, keepdim=True)


def relevance(
    f: Float[Tensor, "b t e"], g: Float[Tensor, "b e"]
) -> Float[Tensor, "b t"]:
    r"""eq:voken-relevance: $r(w_i,x;s)=f(w_i;s)^\top g(x)$, a cosine: every token of a
    sentence with the picture beside it."""
    return torch.einsum("bte,be->bt", f, g)


def hinge(
    r: Float[Tensor, "*b"], r_wrong: Float[Tensor, "*b"], margin: float | int
) -> Float[Tensor, "*b"]:
    r"""eq:voken-hinge: $\ell_i=\max\big(0,\;M-r(w_i,x;s)+r(w_i,x';s)\big)$: the right picture
    is to win by the margin $M$."""
    return (margin - r + r_wrong).clamp(min=0)


def paired_hinge(
    f: Float[Tensor, "b t e"], g: Float[Tensor, "b e"],
    mask: Bool[Tensor, "b t"], margin: float | int = 0.5,
) -> Float[Tensor, ""]:
    r"""eq:voken-paired: $L=\frac1n\sum_{s}\sum_{i}\ell_i$, $x'$ being the picture at the same
    place of the other half of the batch.

    A mean over the n tokens that ``mask`` says are real. Raises ``ValueError``
    for an odd batch.
    """
    if len(f) % 2:
        raise ValueError(f"the batch has {len(f)} sentences; each half has "
                         "the wrong pictures of the other: give an even "
                         "number")
    wrong = g.roll(len(g) // 2, dims=0)                 # exchanges the halves
    loss = hinge(relevance(f, g), relevance(f, wrong), margin)
    return (loss * mask).sum() / mask.sum()


def undecided_hinge(
    delta: Float[Tensor, "*b"], margin: float | int
) -> Float[Tensor, "*b"]:
    r"""eq:voken-jensen: $\tfrac12\max(0,M-\delta)+\tfrac12\max(0,M+\delta)
    =\max\big(M,\tfrac12(M+|\delta|)\big)\ge M$.

    What a token costs on average that prefers one of two pictures by $\delta$
    although either is as often the right one: at least $M$, by Jensen's
    inequality, and while $|\delta|\le M$ exactly $M$, so that nothing pulls.
    """
    return torch.clamp((margin + delta.abs()) / 2, min=margin)


# ----------------------------------------------------------------------------------------- the matcher


def last_states(
    bert: BERT, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], count: int
) -> Float[Tensor, "b t f"]:
    """The states of the last ``count`` layers side by side, the lowest of
    them first."""
    return torch.cat(list(deque(bert.by_layer(tokens, mask), count)), dim=-1)


def small_network(
    into: int, hidden: int, out: int, dropout: float
) -> nn.Sequential:
    """Two layers: the second makes an embedding."""
    return nn.Sequential(nn.Linear(into, hidden), nn.ReLU(),
                         nn.Dropout(dropout), nn.Linear(hidden, out))


class TokenImageMatcher(nn.Module):
    """Token ids (b, t) and pictures (b, 3, y, x) in [0, 1] -> embeddings of
    the tokens (b, t, e) and of the pictures (b, e), all of length 1.

    BERT and the CNN are frozen; two small networks learn. As the backbones'
    rows never change, ``text_features`` and ``image_features`` may be computed
    once and given to ``embed_words`` and ``embed_images``. ``mask`` (b, t) says
    which tokens are real (default: all but the padding).
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BERT(config.text).requires_grad_(False)
        trunk = (TorchvisionTrunk(config.trunk)
                 if isinstance(config.trunk, str)
                 else ResidualTrunk(config.trunk))
        self.trunk = Frozen(trunk, trunk.out_channels)
        sizes = (config.hidden, config.embed, config.dropout)
        self.words = small_network(config.states * config.text.width, *sizes)
        self.pictures = small_network(trunk.out_channels, *sizes)

    def train(self, mode: bool = True) -> "TokenImageMatcher":
        super().train(mode)
        self.bert.eval()
        return self

    @torch.no_grad()
    def text_features(
        self, tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t f"]:
        """BERT's rows of the tokens: its last layers side by side."""
        mask = tokens != self.config.text.pad if mask is None else mask
        return last_states(self.bert, tokens, mask, self.config.states)

    def image_features(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> Float[Tensor, "b f"]:
        """The CNN's rows of the pictures: the mean over its cells."""
        return self.trunk(images).mean(dim=1)

    def embed_words(
        self, features: Float[Tensor, "*b f"]
    ) -> Float[Tensor, "*b e"]:
        """Rows of tokens to the sphere (eq:voken-sphere)."""
        return on_sphere(self.words(features))

    def embed_images(
        self, features: Float[Tensor, "*b f"]
    ) -> Float[Tensor, "*b e"]:
        """Rows of pictures to the sphere (eq:voken-sphere)."""
        return on_sphere(self.pictures(features))

    def forward(
        self, tokens: Int[Tensor, "b t"], images: Float[Tensor, "n 3 y x"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "n e"]]:
        return (self.embed_words(self.text_features(tokens, mask)),
                self.embed_images(self.image_features(images)))


def matching_loss(
    model: TokenImageMatcher, words: Float[Tensor, "b t f"],
    pictures: Float[Tensor, "b c"], mask: Bool[Tensor, "b t"],
) -> Float[Tensor, ""]:
    """The loss of a batch of rows of the backbones (eq:voken-paired)."""
    f, g = model.embed_words(words), model.embed_images(pictures)
    return paired_hinge(f, g, mask, model.config.margin)


# -------------------------------------------------------------------------------------------- judging it


@torch.no_grad()
def token_ranks(
    f: Float[Tensor, "n e"], owner: Int[Tensor, " n"], keys: Float[Tensor, "k e"], chunk: int = 1024
) -> Int[Tensor, " n"]:
    """The place, from 1, of each token's own picture among all pictures ``keys``; ties count against it.

    ``owner`` is the number of that picture. Raises ``ValueError`` for a number that no picture has.
    """
    if len(owner) and not (0 <= int(owner.min()) and int(owner.max()) < len(keys)):
        raise ValueError(f"owner goes from {int(owner.min())} to {int(owner.max())}, there are {len(keys)} "
                         "pictures; give the number of each token's picture")
    ranks = torch.empty(len(f), dtype=torch.long, device=f.device)
    for start in range(0, len(f), chunk):
        scores, mine = f[start:start + chunk] @ keys.mT, owner[start:start + chunk, None]
        ranks[start:start + chunk] = (scores >= scores.gather(1, mine)).sum(dim=1)
    return ranks


def diversity(vokens: Sequence[int], types: Sequence[int]) -> dict[int, int]:
    """How many different vokens each type of token received: context at work where it is more than one."""
    found: dict[int, set[int]] = {}
    for kind, voken in zip(types, vokens, strict=True):
        found.setdefault(int(kind), set()).add(int(voken))
    return {kind: len(seen) for kind, seen in found.items()}
