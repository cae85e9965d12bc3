r"""A language model that is asked for vokens: beside the hidden words it tells the picture of every token.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775, sec. 2; head, means and
ablations of github.com/airsplay/vokenization (MIT).  Survey: 3.5.1.
Differs from the paper: nothing. Where it writes sums, the released code has means, each over its own
positions, and so has this. For later tasks head and vokens are dropped, and BERT alone stays (``.bert``).

Letters: $\tilde w$ is a sentence with hidden words, $h_i$ BERT's state of token $i$, $v_i$ its voken,
$\mathcal V$ the positions that are asked for theirs, $\lambda$ the weight of the hidden words.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.images_for_language.bert import IGNORED, MLMHead, mlm_loss
from mmlearn.nn.bert import BERT, BERTConfig, initialise
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.transformer import GELU

Asked = Literal["all", "mask", "nonmask"]
Ablation = Literal["random", "shuffle", "reverse", "token"]


@dataclass(frozen=True)
class VokenLMConfig:
    text: BERTConfig = field(default_factory=lambda: BERTConfig(pooler=False))
    vokens: int = 50_000        # pictures to choose from
    weight: float | int = 1.0   # lambda, of the hidden words beside the vokens
    asked: Asked = "all"        # tokens that are asked for their voken: all, the hidden ones, the others

    def __post_init__(self) -> None:
        check(self, weight=(0, 1e6))
        if self.text.pooler:
            raise FieldError("VokenLMConfig", "text", "has a pooler, which nothing here reads; give "
                             "BERTConfig(pooler=False)")

    @classmethod
    def base(cls) -> "VokenLMConfig":
        """12 layers of 768, pre-trained on Wikipedia: 148,556,426 parameters, 39,042,128 of them the head."""
        return cls()

    @classmethod
    def small(cls) -> "VokenLMConfig":
        """6 layers of 512, pre-trained on Wiki103: 61,013,642 parameters, 25,913,680 of them the head."""
        return cls(replace(BERTConfig.small(), pooler=False))

    @classmethod
    def mini(cls, vocab: int = 400, pad: int = 1, context: int = 32, vokens: int = 300) -> "VokenLMConfig":
        """A miniature for the scene world."""
        return cls(BERTConfig.mini(vocab, pad, context), vokens)


# ------------------------------------------------------------------------------------------ equations


def voken_logits(
    z: Float[Tensor, "*n d"], W: Float[Tensor, "k d"], b: Float[Tensor, " k"]
) -> Float[Tensor, "*n k"]:
    r"""eq:voken-logits: $p_\theta(v\mid\tilde w,i)=\mathrm{softmax}_v(z_iW^\top+b)$, by its
    logits; $z_i$ leaves the head's inner layer."""
    return F.linear(z, W, b)


def voken_loss(
    logits: Float[Tensor, "*n k"], vokens: Int[Tensor, "*n"]
) -> Float[Tensor, ""]:
    r"""eq:voken-loss: $L_{voken}=-\frac1{|\mathcal V|}\sum_{i\in\mathcal V}\log
    p_\theta(v_i\mid\tilde w,i)$, in nats per token.

    Vokens of -100 are not asked; without any other the loss is 0.
    """
    total = F.cross_entropy(logits.flatten(0, -2), vokens.flatten(),
                            ignore_index=IGNORED, reduction="sum")
    return total / (vokens != IGNORED).sum().clamp(min=1)


def visually_supervised(
    voken: Float[Tensor, ""], word: Float[Tensor, ""], weight: float | int = 1.0
) -> Float[Tensor, ""]:
    r"""eq:voken-total: $L=L_{voken}+\lambda L_{MLM}$; there is no prediction of the next
    sentence."""
    return voken + weight * word


# ------------------------------------------------------------------------------------------------- vokens


def asked_vokens(
    vokens: Int[Tensor, "b t"], labels: Int[Tensor, "b t"], asked: Asked = "all"
) -> Int[Tensor, "b t"]:
    """Vokens with -100 where none is asked: nowhere besides, at the words that
    are not hidden ("mask"), at those that are ("nonmask").

    ``labels`` are those of the hidden words, -100 at all others.
    """
    hidden = labels != IGNORED
    dropped = {"all": torch.zeros_like(hidden), "mask": ~hidden, "nonmask": hidden}
    return vokens.masked_fill(dropped[asked], IGNORED)


def ablated(
    vokens: Int[Tensor, "b t"], tokens: Int[Tensor, "b t"], kind: Ablation,
    count: int, generator: torch.Generator | None = None,
) -> Int[Tensor, "b t"]:
    """The released code's controls: other vokens at the places that have one.

    "random": any of ``count`` pictures; "shuffle": those of the row in another
    order; "reverse": in the opposite order; "token": the token's own id, which
    needs a head of as many vokens as there are words. Rows are the blocks of a
    text, so that a shuffled voken is still one of its neighbourhood's; give all
    of a corpus as one row to take that away, too.
    """
    has, out = vokens != IGNORED, vokens.clone()
    if kind == "token":
        out[has] = tokens[has]
    elif kind == "random":
        out[has] = torch.randint(count, (int(has.sum()),), generator=generator).to(out)
    else:
        for row, of, there in zip(out, vokens, has):
            given = of[there]
            order = torch.randperm(len(given), generator=generator).to(given.device)
            row[there] = given.flip(0) if kind == "reverse" else given[order]
    return out


# -------------------------------------------------------------------------------------------------- model


class VokenHead(nn.Module):
    r"""eq:voken-head: $z=\mathrm{LN}(\mathrm{GELU}(hW_h+b_h))$, then
    eq:voken-logits: (…, d) -> logits (…, k).

    A head of its own: it shares nothing with that of the hidden words.
    """

    def __init__(self, config: VokenLMConfig) -> None:
        super().__init__()
        d = config.text.width
        self.dense = nn.Linear(d, d)
        self.activation = GELU()
        self.norm = nn.LayerNorm(d, eps=config.text.eps)
        self.decoder = nn.Linear(d, config.vokens)
        initialise(self)

    def forward(self, states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        z = self.norm(self.activation(self.dense(states)))
        return voken_logits(z, self.decoder.weight, self.decoder.bias)


class VokenLM(nn.Module):
    """BERT with two heads: tokens (b, t) -> states (b, t, d), of which ``words``
    makes logits of words and ``vokens`` logits of pictures.

    ``mask`` (b, t) says which tokens are real (default: all but the padding).
    """

    def __init__(self, config: VokenLMConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BERT(config.text)
        self.words = MLMHead(config.text, self.bert.embed.words)
        self.vokens = VokenHead(config)

    def forward(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t d"]:
        return self.bert(tokens, mask)


def voken_lm_losses(
    model: VokenLM, inputs: Int[Tensor, "b t"], labels: Int[Tensor, "b t"],
    vokens: Int[Tensor, "b t"],
) -> dict[str, Float[Tensor, ""]]:
    """"loss", the whole (eq:voken-total), and its parts "voken" (eq:voken-loss)
    and "word" (eq:bert-mlm).

    ``inputs`` are tokens with hidden ones, ``labels`` and ``vokens`` hold -100
    where nothing is asked; only what is asked is scored. Without any voken
    this is plain masked language modelling.
    """
    states = model(inputs)
    vokens = asked_vokens(vokens, labels, model.config.asked)
    has, hidden = vokens != IGNORED, labels != IGNORED
    word = mlm_loss(model.words(states[hidden]), labels[hidden])
    voken = voken_loss(model.vokens(states[has]), vokens[has])
    total = visually_supervised(voken, word, model.config.weight)
    return {"loss": total, "voken": voken, "word": word}
