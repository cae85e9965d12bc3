r"""A question read by a GRU, the regions of a picture, and a gate for each region: a small answerer without
pre-training.

Papers: P. Anderson et al. (2018), *Bottom-Up and Top-Down Attention*, arXiv:1707.07998, sec. 3.3 (questions
asked of a detector's regions, the joint vector a product of question and picture).  Survey: 5.
Differs from the paper: a region counts by a gate between 0 and 1 of its own, not by a softmax over all, so
that a sum over the regions can count; the largest values are read as well. One network for three tasks, each
trained from nothing: answers of a list (VQA), one of four texts (VCR), one of the regions (referring).

What it does with the picture or the question taken away is the blind baseline of the same network.
Letters of shapes: b questions, t words, n regions, f numbers of a region, d width, a answers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.nn.positions import check_tokens


@dataclass(frozen=True)
class RegionAnswererConfig:
    vocab: int = 400            # V, words with the four special tokens
    answers: int = 28           # a
    features: int = 261         # f, numbers of a region: what is there, and its place
    embedding: int = 64         # numbers of a word
    width: int = 128            # d
    pad: int = 1                # the token that fills up
    looks: bool = True          # False: a single region of zeros is read
    reads: bool = True          # False: the question is read as zeros

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def mini(cls, vocab: int = 400, answers: int = 28) -> "RegionAnswererConfig":
        return cls(vocab, answers)


class Said(NamedTuple):
    """Logits of answers (b, a), of the text as the right choice (b), and of regions as what is meant
    (b, n)."""

    answers: Tensor
    choice: Tensor
    regions: Tensor


def gated_regions(
    joint: Float[Tensor, "b n d"], gate: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, "b e"]:
    """Sum over the regions of what each says, times its gate in 0..1, and the largest values: (b, 2 d)."""
    weighed = joint * (gate * mask)[..., None]
    return torch.cat([weighed.sum(dim=1), weighed.amax(dim=1)], dim=-1)


class RegionAnswerer(nn.Module):
    """Logits of a question about regions. Raises ``ValueError`` for tokens outside the vocabulary."""

    def __init__(self, config: RegionAnswererConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.embed = nn.Embedding(config.vocab, config.embedding, padding_idx=config.pad)
        self.read = nn.GRU(config.embedding, d, batch_first=True)
        self.see = nn.Sequential(nn.LayerNorm(config.features), nn.Linear(config.features, d), nn.ReLU(),
                                 nn.Linear(d, d))
        self.ask = nn.Linear(d, d)
        self.join = nn.Sequential(nn.LayerNorm(3 * d), nn.Linear(3 * d, d), nn.ReLU(), nn.Linear(d, d),
                                  nn.ReLU())
        self.gate = nn.Linear(d, 1)
        self.region = nn.Linear(d, 1)
        self.inner = nn.Sequential(nn.Linear(3 * d, 2 * d), nn.ReLU())
        self.answers = nn.Linear(2 * d, config.answers)
        self.choice = nn.Linear(2 * d, 1)

    def question(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """The state after the last word of each text."""
        check_tokens(tokens, self.config.vocab)
        states, _ = self.read(self.embed(tokens))
        last = (tokens != self.config.pad).sum(dim=1).clamp(min=1) - 1
        q = states[torch.arange(len(tokens), device=tokens.device), last]
        return q if self.config.reads else torch.zeros_like(q)

    def forward(
        self, tokens: Int[Tensor, "b t"], regions: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"]
    ) -> Said:
        q = self.question(tokens)
        if not self.config.looks:           # the number of regions would tell, too: one for all
            regions = torch.zeros_like(regions)
            mask = (torch.arange(mask.shape[1], device=mask.device) == 0).expand_as(mask)
        v = self.see(regions)
        asked = self.ask(q)[:, None].expand_as(v)
        joint = self.join(torch.cat([v, asked, v * asked], dim=-1))             # b n d
        pooled = gated_regions(joint, self.gate(joint)[..., 0].sigmoid(), mask)
        inner = self.inner(torch.cat([pooled, q], dim=-1))
        return Said(self.answers(inner), self.choice(inner)[:, 0], self.region(joint)[..., 0])
