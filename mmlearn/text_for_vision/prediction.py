r"""Three ways to learn from the same captions: write them, predict their words, or recognise the right one.

Papers: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 2.3 and fig. 2; K. Desai and J. Johnson (2021), *VirTex*, arXiv:2006.06666 (the
captioner); A. Joulin et al. (2016), *Learning Visual Features from Large Weakly Supervised Data*,
arXiv:1511.02251, sec. 3 (the bag of words); T. Mikolov et al. (2013), arXiv:1301.3781 (a text as the mean of
its words).  Survey: 4.2, 4.2.1. Differs from the papers: the captioner writes from left to right only, as in
CLIP's figure; a bag is the set of a text's words, all counted once.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.pairs import PairBatch
from mmlearn.generate import score
from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.nn.positions import TokenEmbedding
from mmlearn.nn.transformer import Context, InputProjection, PreNormDecoderLayer, QuickGELU
from mmlearn.text_for_vision.small_encoder import ConvTower, StudyConfig, StudyEncoder

SPECIALS = 4                    # ids 0-3 are <unk> <pad> <bos> <eos>: no words
PAD = 1


# ---------------------------------------------------------------------------------------------- bags of words

def bag_of_words(
    tokens: Int[Tensor, "b t"], vocab: int, specials: int = SPECIALS
) -> Float[Tensor, "b v"]:
    r"""eq:bow: $g_w=\mathbf 1[w\in y]\,/\,|\{w':w'\in y\}|$, the words of a text as a distribution.

    Each word counts once, ids below ``specials`` not at all; a text without words is a row of zeros.
    """
    bag = torch.zeros(len(tokens), vocab, device=tokens.device)
    bag.scatter_(1, tokens, 1.0)
    bag[:, :specials] = 0
    return bag / bag.sum(dim=1, keepdim=True).clamp(min=1)


def bow_loss(
    logits: Float[Tensor, "b v"], bag: Float[Tensor, "b v"]
) -> Float[Tensor, ""]:
    r"""eq:bow-loss: $-\frac1b\sum_i\sum_w g_{iw}\log\mathrm{softmax}(A f(x_i))_w$, nats, ``logits`` being
    $A f(x_i)$."""
    return -(bag * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def bow_score(
    logits: Float[Tensor, "b v"], words: Float[Tensor, "c v"]
) -> Float[Tensor, "b c"]:
    r"""eq:bow-score: $a_c(x)=\sum_{w\in c}\log\mathrm{softmax}(A f(x))_w$; ``words`` (c, v) is 1 where a word
    is in a class."""
    return logits.log_softmax(dim=-1) @ words.T


def bow_embed(
    bag: Float[Tensor, "b v"], table: Float[Tensor, "v e"]
) -> Float[Tensor, "b e"]:
    r"""eq:cbow: $\tilde v=E^\top g=\frac1{|y|}\sum_{w\in y}E_w$, the mean of the embeddings of a text's
    words."""
    return bag @ table


def lm_score(model: "CaptionPredictor", images: Float[Tensor, "b 3 y x"],
             prompts: Int[Tensor, "c t"]) -> Float[Tensor, "b c"]:
    r"""eq:lm-score: $a_c(x)=\sum_j\log p_\theta(w^{(c)}_j\mid w^{(c)}_{<j},x)$, the log-likelihood of each
    class's prompt.

    ``prompts`` hold <bos> words <eos> and padding, which counts nothing.
    """
    context = model.encode(images)
    texts = prompts[None, :, 1:].expand(len(images), -1, -1)
    return score(model, context, texts).sum(dim=-1)


# ----------------------------------------------------------------------------------------------------- models

class WordPredictor(nn.Module):
    """Standardised pixels (b, 3, s, s) -> scores (b, v) of the words of their texts: one matrix on the image
    tower."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ConvTower(config)
        self.words = nn.Linear(config.embed, config.vocab)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b v"]:
        return self.words(self.image(images))


class CaptionPredictor(nn.Module):
    """A Transformer language model that writes the caption of an image (eq:caption-xe, eq:lm-score).

    ``encode``: standardised pixels -> all cells of the image tower's last grid, projected, as ``Context``;
    ``decode``: tokens (r, t) and context -> logits (r, t, v). Width, layers and heads are those of the
    contrastive model's text tower; each layer also reads the image.
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
    """The dual encoder with a bag of words (eq:cbow) as text tower: the contrastive arm of CLIP's figure
    2."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__(config)
        self.text = BagText(config.vocab, config.embed)         # type: ignore[assignment]


def predict_words(model: nn.Module, batch: PairBatch) -> Tensor:
    """eq:bow-loss of a batch, for ``fit``."""
    logits = model(batch.images)
    return bow_loss(logits, bag_of_words(batch.tokens, logits.shape[-1]))


def predict_caption(model: nn.Module, batch: PairBatch) -> Tensor:
    """eq:caption-xe of a batch, nats per token, for ``fit``."""
    return caption_cross_entropy(model(batch.images, batch.tokens[:, :-1]), batch.tokens[:, 1:], PAD)
