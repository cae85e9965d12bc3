r"""Three ways to learn from the same captions: write them, predict their words, or recognise the right one.

Papers: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 2.3 and fig. 2; K. Desai and J. Johnson (2021), *VirTex*, arXiv:2006.06666 (the captioner);
A. Joulin et al. (2016), *Learning Visual Features from Large Weakly Supervised Data*, arXiv:1511.02251, sec. 3 (the
bag of words); T. Mikolov et al. (2013), arXiv:1301.3781 (a text as the mean of its words).  Survey: 4.2, 4.2.1.
Differs from the papers: the captioner writes from left to right only, as in CLIP's figure; a bag is the set of a text's
words, all counted once.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.tokenisers import Tokeniser
from mmlearn.generate import score
from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.nn.positions import TokenEmbedding
from mmlearn.nn.transformer import Context, InputProjection, PreNormDecoderLayer, QuickGELU
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.studies import ConvTower, StudyConfig, StudyEncoder
from mmlearn.text_for_vision.task import (
    ClassPictures,
    PairBatch,
    PairBatches,
    PairData,
    contrastive_objective,
    parameter_groups,
    pixels,
    zero_shot_accuracy,
)
from mmlearn.text_for_vision.zero_shot import prompts, top_k_accuracy
from mmlearn.train import History, fit, warmup_cosine

SPECIALS = 4                    # ids 0-3 are <unk> <pad> <bos> <eos>: no words
PAD = 1


# ------------------------------------------------------------------------------------------------------ bags of words

def bag_of_words(tokens: Int[Tensor, "b t"], vocab: int, specials: int = SPECIALS) -> Float[Tensor, "b v"]:
    r"""eq:bow: $g_w=\mathbf 1[w\in y]\,/\,|\{w':w'\in y\}|$, the words of a text as a distribution.

    Each word counts once, ids below ``specials`` not at all; a text without words is a row of zeros.
    """
    bag = torch.zeros(len(tokens), vocab, device=tokens.device).scatter_(1, tokens, 1.0)
    bag[:, :specials] = 0
    return bag / bag.sum(dim=1, keepdim=True).clamp(min=1)


def bow_loss(logits: Float[Tensor, "b v"], bag: Float[Tensor, "b v"]) -> Float[Tensor, ""]:
    r"""eq:bow-loss: $-\frac1b\sum_i\sum_w g_{iw}\log\mathrm{softmax}(A f(x_i))_w$, nats, ``logits`` being $A f(x_i)$."""
    return -(bag * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def bow_score(logits: Float[Tensor, "b v"], words: Float[Tensor, "c v"]) -> Float[Tensor, "b c"]:
    r"""eq:bow-score: $s_c(x)=\sum_{w\in c}\log\mathrm{softmax}(A f(x))_w$; ``words`` (c, v) is 1 where a word is in a class."""
    return logits.log_softmax(dim=-1) @ words.T


def bow_embed(bag: Float[Tensor, "b v"], table: Float[Tensor, "v e"]) -> Float[Tensor, "b e"]:
    r"""eq:cbow: $\tilde v=E^\top g=\frac1{|y|}\sum_{w\in y}E_w$, the mean of the embeddings of a text's words."""
    return bag @ table


def lm_score(model: "CaptionPredictor", images: Float[Tensor, "b 3 y x"], prompts: Int[Tensor, "c t"]) -> Float[Tensor, "b c"]:
    r"""eq:lm-score: $s_c(x)=\sum_m\log p_\theta(w^{(c)}_m\mid w^{(c)}_{<m},x)$, the log-likelihood of each class's prompt.

    ``prompts`` hold <bos> words <eos> and padding, which counts nothing.
    """
    context = model.encode(images)
    return score(model, context, prompts[None, :, 1:].expand(len(images), -1, -1)).sum(dim=-1)


# -------------------------------------------------------------------------------------------------------------- models

class WordPredictor(nn.Module):
    """Standardised pixels (b, 3, s, s) -> scores (b, v) of the words of their texts: one matrix on the image tower."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ConvTower(config)
        self.words = nn.Linear(config.embed, config.vocab)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b v"]:
        return self.words(self.image(images))


class CaptionPredictor(nn.Module):
    """A Transformer language model that writes the caption of an image (eq:caption-xe, eq:lm-score).

    ``encode``: standardised pixels -> all cells of the image tower's last grid, projected, as ``Context``; ``decode``:
    tokens (r, t) and context -> logits (r, t, v). Width, layers and heads are those of the contrastive model's text
    tower; each layer also reads the image.
    """

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        text = config.text
        self.image = ConvTower(config)
        del self.image.projection                                       # it reads the grid, not its summary
        self.project = InputProjection(config.channels[-1], text.width)
        self.embed = TokenEmbedding(text.vocab, text.width, text.context, PAD)
        self.layers = nn.ModuleList(
            PreNormDecoderLayer(text.width, text.heads, 4 * text.width, activation=QuickGELU)
            for _ in range(text.layers))
        self.norm_after = nn.LayerNorm(text.width)
        self.output = nn.Linear(text.width, text.vocab)

    def encode(self, images: Float[Tensor, "b 3 y x"]) -> Context:
        return Context(self.project(self.image.trunk(images))[:, None])

    def decode(self, tokens: Int[Tensor, "r t"], context: Context) -> Float[Tensor, "r t v"]:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, context.levels[:, -1])
        return self.output(self.norm_after(x))

    def forward(self, images: Float[Tensor, "b 3 y x"], tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        return self.decode(tokens, self.encode(images))


class BagText(nn.Module):
    """Token ids (b, t) -> embeddings (b, e), not normalised: the mean of the words' vectors (eq:cbow)."""

    def __init__(self, vocab: int, embed: int) -> None:
        super().__init__()
        self.words = nn.Parameter(embed**-0.5 * torch.randn(vocab, embed))

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        return bow_embed(bag_of_words(tokens, len(self.words)), self.words)


class BagEncoder(StudyEncoder):
    """The dual encoder with a bag of words (eq:cbow) as text tower: the contrastive arm of CLIP's figure 2."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__(config)
        self.text = BagText(config.vocab, config.embed)         # type: ignore[assignment]


# ---------------------------------------------------------------------------------------------------------------- arms

ARMS: dict[str, type[nn.Module]] = {
    "captioner": CaptionPredictor, "words predicted": WordPredictor, "words contrasted": BagEncoder,
    "Transformer contrasted": StudyEncoder}
RATES = {"Transformer contrasted": 2e-3}        # learning rates: the best of 1, 2 and 4 thousandths for each arm;
RATE = 4e-3                                     # the three arms of CLIP's figure agree on one


def build_arm(name: str, config: StudyConfig, seed: int = 0) -> nn.Module:
    """A model of one arm; the convolutions of all arms start from the same weights, a function of ``seed``."""
    if name not in ARMS:
        raise ValueError(f"arm {name!r} is unknown; use one of {', '.join(ARMS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARMS[name](config)
        torch.manual_seed(seed)
        model.image.trunk.load_state_dict(ConvTower(config).trunk.state_dict())             # type: ignore[union-attr, operator, arg-type]
    return model


def predict_words(model: nn.Module, batch: PairBatch) -> Tensor:
    """eq:bow-loss of a batch, for ``fit``."""
    logits = model(batch.images)
    return bow_loss(logits, bag_of_words(batch.tokens, logits.shape[-1]))


def predict_caption(model: nn.Module, batch: PairBatch) -> Tensor:
    """eq:caption-xe of a batch, nats per token, for ``fit``."""
    return caption_cross_entropy(model(batch.images, batch.tokens[:, :-1]), batch.tokens[:, 1:], PAD)


OBJECTIVES: dict[str, Callable[..., Any]] = {"captioner": predict_caption, "words predicted": predict_words}


def train_arm(name: str, model: nn.Module, data: PairData, tokeniser: Tokeniser, *, steps: int, batch: int = 128,
              lr: float | int | None = None, warmup: int = 30, weight_decay: float | int = 0.2, seed: int = 0,
              **options: Any) -> History:
    """Train one arm: the same images in the same order, the same captions, optimiser and schedule for all of them.

    The learning rate is by default the arm's own, of ``RATES`` (else ``RATE``).
    """
    lr = RATES.get(name, RATE) if lr is None else lr
    batches = PairBatches(data, tokeniser, batch, seed=seed, max_len=model.config.context)  # type: ignore[union-attr, arg-type]
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
    return fit(model, OBJECTIVES.get(name, contrastive_objective(clip_loss)), batches, steps=steps, optimizer=optimizer,
               schedule=warmup_cosine(lr, min(warmup, steps // 4), steps), seed=seed, **options)


@torch.no_grad()
def arm_accuracy(model: nn.Module, tokeniser: Tokeniser, pictures: ClassPictures,
                 templates: tuple[str, ...] = ("A picture of {a}.",), batch: int = 100) -> float:
    """Zero-shot top-1 accuracy of any arm: by eq:lm-score, eq:bow-score, or the closest class sentence.

    The captioner scores the first of ``templates``, the word predictor the bare names, the others the mean of all.
    """
    if isinstance(model, StudyEncoder):
        return zero_shot_accuracy(model, tokeniser, pictures, templates)
    training, device = model.training, next(model.parameters()).device
    model.eval()
    if isinstance(model, CaptionPredictor):
        sentences = tokeniser.batch([prompts(name, templates)[0] for name in pictures.classes], model.config.context)
        scores = [lm_score(model, pixels(part.to(device)), sentences.to(device)) for part in pictures.images.split(batch)]
    else:
        words = (bag_of_words(tokeniser.batch(pictures.classes), len(tokeniser)) > 0).float().to(device)
        scores = [bow_score(model(pixels(part.to(device))), words) for part in pictures.images.split(batch)]
    model.train(training)
    return top_k_accuracy(torch.cat(scores).cpu(), pictures.labels)
