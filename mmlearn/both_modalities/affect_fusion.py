r"""Fusion: a feeling from a picture, a sentence and a voice, each read by a small network of its own.

Papers: S. Poria et al. (2017), *A Review of Affective Computing: From Unimodal Analysis to Multimodal
Fusion*, Information Fusion 37 (fusion of decisions, of features); A. Zadeh et al. (2017), *Tensor Fusion
Network for Multimodal Sentiment Analysis*, EMNLP, arXiv:1707.07250, sec. 4.2 (the outer product of three rows
with a 1).
Survey: 5 (affective computing).
Differs from the papers: the readers are three small networks that are trained along. A modality that is not
given enters as zeros, so that every subset is one configuration of the same model.

A sum of decisions has no place for what follows from two cues together: where each modality alone says
nothing, it does not do better than chance, however long it is trained. The outer product has one.
Letters of shapes: b examples, s pixels a side, t words, w samples of a wave, d width of a row, c classes.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.affect import FEELINGS, MODALITIES, AffectData
from mmlearn.data.batches import Batches
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.metrics.affect import affect_scores
from mmlearn.nn.configuration import check
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.vision import ConvTrunk
from mmlearn.train import History, fit

PAD = 1
JUDGED = 256                # examples read at a time where nothing is learned


@dataclass(frozen=True)
class AffectConfig:
    vocab: int = 100                    # V, words with the four special tokens
    classes: int = len(FEELINGS)        # c
    width: int = 12                     # d, numbers of a modality's row
    channels: tuple[int, ...] = (8, 16, 32, 32)     # of the network that sees
    filters: int = 32                   # channels of the network that hears
    modalities: tuple[str, ...] = MODALITIES        # those that are read
    fusion: Literal["decisions", "features", "product"] = "product"
    hidden: int = 64                    # inner width where features are joined

    def __post_init__(self) -> None:
        check(self)
        unknown = [name for name in self.modalities if name not in MODALITIES]
        if unknown or not self.modalities:
            raise ValueError(f"modalities are {self.modalities}; take one or more of {MODALITIES}")

    @classmethod
    def mini(cls, vocab: int = 100) -> "AffectConfig":
        """All three modalities, joined by their outer product."""
        return cls(vocab)


class AffectBatch(NamedTuple):
    """``pictures`` (b, 3, s, s) in [0, 1], ``tokens`` (b, t), ``waves`` (b, w) and ``feelings`` (b)."""

    pictures: Tensor
    tokens: Tensor
    waves: Tensor
    feelings: Tensor


# -------------------------------------------------------------------------------------------------- equations

def sum_of_decisions(
    rows: Float[Tensor, "b m d"], W: Float[Tensor, "m d c"],
    b: Float[Tensor, " c"]
) -> Float[Tensor, "b c"]:
    r"""eq:affect-decisions: $\ell=\sum_mz_mW_m+b$: each modality votes by itself."""
    return torch.einsum("bmd,mdc->bc", rows, W) + b


def outer_product(rows: Float[Tensor, "b 3 d"]) -> Float[Tensor, "b n"]:
    r"""eq:affect-product: $[z_1;1]\otimes[z_2;1]\otimes[z_3;1]$, all products of one number of each modality;
    the ones keep the rows themselves and the products of two."""
    one = torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)
    product = torch.einsum("bi,bj,bk->bijk", *one.unbind(dim=1))
    return product.flatten(1)


# ------------------------------------------------------------------------------------------------------ model

class Listener(nn.Module):
    """A wave (b, w) -> (b, d): five convolutions of stride 4 or 2, loudness by a mean over time."""

    def __init__(self, filters: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for kernel, stride in ((16, 4), (8, 4), (8, 4), (4, 2), (4, 2)):
            layers += [nn.Conv1d(before, filters, kernel, stride, padding=kernel // 2), nn.ReLU()]
            before = filters
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(filters, width)

    def forward(self, waves: Float[Tensor, "b w"]) -> Float[Tensor, "b d"]:
        return self.out(self.layers(waves[:, None]).mean(dim=2))


class AffectFusion(nn.Module):
    """Logits (b, c) of feelings from pictures (b, 3, s, s), tokens (b, t) and waves (b, w).

    Words are a bag, read by the mean of their embeddings; the picture is a grid of cells of which the largest
    values count. Raises ``ValueError`` for tokens outside the vocabulary.
    """

    def __init__(self, config: AffectConfig) -> None:
        super().__init__()
        self.config = config
        d, c = config.width, config.classes
        self.trunk = ConvTrunk(config.channels)
        self.see = nn.Linear(self.trunk.out_channels, d)
        self.embed = nn.Embedding(config.vocab, d, padding_idx=PAD)
        self.listen = Listener(config.filters, d)
        if config.fusion == "decisions":
            self.votes = nn.Parameter(torch.randn(len(MODALITIES), d, c) * d**-0.5)
            self.bias = nn.Parameter(torch.zeros(c))
        elif config.fusion == "product":
            self.classify = nn.Sequential(nn.Linear((d + 1) ** 3, c))
        else:
            self.classify = nn.Sequential(nn.Linear(len(MODALITIES) * d, config.hidden), nn.ReLU(),
                                          nn.Linear(config.hidden, config.hidden), nn.ReLU(),
                                          nn.Linear(config.hidden, c))

    def rows(
        self, pictures: Float[Tensor, "b 3 s s"], tokens: Int[Tensor, "b t"], waves: Float[Tensor, "b w"]
    ) -> Float[Tensor, "b 3 d"]:
        """A row for each modality; zeros for those that are not read."""
        check_tokens(tokens, self.config.vocab)
        zeros = self.embed.weight.new_zeros(len(tokens), self.config.width)
        z = dict.fromkeys(MODALITIES, zeros)
        if "picture" in self.config.modalities:
            z["picture"] = self.see(self.trunk(pictures).amax(dim=1))
        if "text" in self.config.modalities:
            real = (tokens != PAD)[..., None].to(zeros.dtype)
            z["text"] = (self.embed(tokens) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        if "voice" in self.config.modalities:
            z["voice"] = self.listen(waves)
        return torch.stack([z[name] for name in MODALITIES], dim=1)

    def forward(
        self, pictures: Float[Tensor, "b 3 s s"], tokens: Int[Tensor, "b t"], waves: Float[Tensor, "b w"]
    ) -> Float[Tensor, "b c"]:
        z = self.rows(pictures, tokens, waves)
        if self.config.fusion == "decisions":
            return sum_of_decisions(z, self.votes, self.bias)
        return self.classify(outer_product(z) if self.config.fusion == "product" else z.flatten(1))


# --------------------------------------------------------------------------------------- training, evaluation

class AffectBatches(Batches):
    """Shuffled batches of examples, a function of their number. Raises ``ValueError`` without waves."""

    def __init__(self, data: AffectData, tokeniser: Tokeniser, size: int = 64, *, seed: int = 0) -> None:
        if data.waves is None:
            raise ValueError("the examples have no waves; make them with a synthesiser, speak=…")
        super().__init__(data, min(size, len(data)), seed=seed)
        self.tokens = tokeniser.batch(data.texts)

    def make(self, indices: list[int], number: int) -> AffectBatch:
        rows = self.data.rows(indices)
        return AffectBatch(rows.pictures.float() / 255, self.tokens[indices], rows.waves, rows.feelings)


def feeling_loss(model: AffectFusion, batch: AffectBatch) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Cross-entropy in nats; log c for a model that has learnt nothing."""
    logits = model(batch.pictures, batch.tokens, batch.waves)
    right = (logits.argmax(dim=-1) == batch.feelings).float().mean()
    return F.cross_entropy(logits, batch.feelings), {"accuracy": float(right)}


def train_affect(model: AffectFusion, data: AffectData, tokeniser: Tokeniser, *, steps: int = 400,
                 batch: int = 64, lr: float | int = 3e-3, seed: int = 0, **options: Any) -> History:
    """Train on ``data``; ``options`` go to ``fit``."""
    return fit(model, feeling_loss, AffectBatches(data, tokeniser, batch, seed=seed), steps=steps, lr=lr,
               seed=seed, **options)


@torch.no_grad()
def evaluate_affect(model: AffectFusion, data: AffectData, tokeniser: Tokeniser) -> dict[str, float]:
    """Accuracy and weighted F1, in evaluation mode."""
    batches, answers = AffectBatches(data, tokeniser, len(data)), []
    with eval_mode(model) as device:
        for rows in torch.arange(len(data)).split(JUDGED):
            batch = batches.make(rows.tolist(), 0)
            answers.append(model(*(x.to(device) for x in batch[:3])).argmax(dim=-1).cpu())
    return affect_scores(torch.cat(answers), data.feelings, model.config.classes)
