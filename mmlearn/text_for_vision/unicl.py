r"""UniCL: a contrastive loss for pairs of which several may have the same text, and the two stages of
Florence.

Papers: J. Yang et al. (2022), *Unified Contrastive Learning in Image-Text-Label Space*, CVPR 2022,
arXiv:2204.03610, eq. 1-3 and sec. 3.3 (keys of mixed data); L. Yuan et al. (2021), *Florence: A New
Foundation Model for Computer Vision*, arXiv:2111.11432, sec. 2.2 (the loss, the hash keys, two stages).
Survey: 4.4. Differs from the papers: they add up the losses of b images and b texts, ``unicl_loss`` takes the
mean of these 2b numbers, as their code does and as CLIP's loss here; their temperature multiplies, here it is
``scale``.

A pair is a triplet: image, text, key. ``u`` (b, e) are unit embeddings of images, ``v`` (b, e) of texts,
``keys`` (b,) integers: pairs with the same key are positives of each other. Losses are in nats.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.data.pairs import PairBatch, PairBatches, PairData
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.text_for_vision.blockwise import Scale, check_pairs
from mmlearn.text_for_vision.contrastive import logits
from mmlearn.text_for_vision.zero_shot import prompts

PROMPTS = ("A photo of the {}.", "A cropped photo of {}.")       # the two that Florence's paper quotes
SHORT = 3                           # words; a description of so many is expanded (the paper gives no number)
NO_CLASS = -1                       # label of a pair whose text is a caption


# ------------------------------------------------------------------------------------------------------- keys

def text_keys(texts: Sequence[str]) -> Int[Tensor, " b"]:
    """Florence's keys: equal numbers for equal texts, counted from 0 in the order of appearance."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts], dtype=torch.long)


def mixed_keys(labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """UniCL's keys for mixed data: a class keeps its number, each caption (-1) gets one of its own above all
    classes.

    Raises ``ValueError`` for labels below -1.
    """
    if bool((labels < NO_CLASS).any()):
        raise ValueError(f"the smallest label is {int(labels.min())}; give class numbers from 0, and -1 for "
                         f"a caption")
    caption = labels == NO_CLASS
    above = labels.max() + 1 if len(labels) else 0
    return torch.where(caption, above + caption.cumsum(0) - 1, labels)


def same_key(keys: Int[Tensor, " b"]) -> Bool[Tensor, "b b"]:
    r"""eq:unicl-positives: $M_{ij}=\mathbf 1[y_i=y_j]$: which texts belong to which images."""
    return keys[:, None] == keys


def check_keys(keys: Tensor, b: int) -> None:
    """Refuse keys that are not one a pair."""
    if keys.shape != (b,):
        raise ValueError(f"keys have shape {tuple(keys.shape)}; give one integer for each of the {b} pairs, "
                         f"equal for positives")


# --------------------------------------------------------------------------------------------------- the loss

def unicl_images(
    l: Float[Tensor, "b b"], keys: Int[Tensor, " b"]
) -> Float[Tensor, " b"]:
    r"""eq:unicl-images: $L^{u}_i=-\frac1{|P(i)|}\sum_{k\in P(i)}\log p_{ik}$, each image's loss among b
    texts, $P(i)=\{k:y_k=y_i\}$."""
    M = same_key(keys)
    return -l.log_softmax(dim=1).masked_fill(~M, 0).sum(dim=1) / M.sum(dim=1)


def unicl_texts(
    l: Float[Tensor, "b b"], keys: Int[Tensor, " b"]
) -> Float[Tensor, " b"]:
    r"""eq:unicl-texts: $L^{v}_j=-\frac1{|P(j)|}\sum_{k\in P(j)}\log q_{kj}$, each text's loss among b
    images."""
    return unicl_images(l.mT, keys)


def unicl_matrix(
    l: Float[Tensor, "b b"], keys: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:unicl-matrix: $-\langle T,\log P\rangle-\langle T,\log Q\rangle$ with $T=D^{-1}M$,
    $D=\mathrm{diag}(M\mathbf1)$: the papers' sum over images and texts."""
    T = targets(keys, l.dtype)
    return -(T * l.log_softmax(dim=1)).sum() - (T * l.log_softmax(dim=0)).sum()


def targets(
    keys: Int[Tensor, " b"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "b b"]:
    r"""eq:unicl-targets: $T_{ij}=M_{ij}/|P(i)|$; rows and columns sum to 1, and $T$ is symmetric, because
    $|P|$ is the same for all pairs of a key."""
    M = same_key(keys).to(dtype)
    return M / M.sum(dim=1, keepdim=True)


def unicl_loss(
    u: Float[Tensor, "b e"],
    v: Float[Tensor, "c d"],
    scale: Scale,
    keys: Int[Tensor, "..."],
) -> Float[Tensor, ""]:
    r"""eq:unicl-loss: $\mathcal L=\frac1{2b}\big[\sum_iL^u_i+\sum_jL^v_j\big]$, the mean over b images and b
    texts.

    With all keys different it is CLIP's loss. Raises ``ValueError`` if u and v are not b pairs, or keys not b
    integers.
    """
    check_pairs(u, v)
    check_keys(keys, len(u))
    l = logits(u, v, scale)
    return (unicl_images(l, keys).mean() + unicl_texts(l, keys).mean()) / 2


def unicl_gradient(
    l: Float[Tensor, "b b"], keys: Int[Tensor, " b"]
) -> Float[Tensor, "b b"]:
    r"""eq:unicl-gradient: $\partial\mathcal L/\partial\ell=\frac1{2b}(P+Q-2T)$: CLIP's, with the targets in
    place of I."""
    return (
        l.softmax(dim=1) + l.softmax(dim=0) - 2 * targets(keys, l.dtype)
    ) / (2 * len(l))


def unicl_floor(keys: Int[Tensor, " b"]) -> float:
    r"""eq:unicl-floor: $\mathcal L\ge\frac1b\sum_i\log|P(i)|$: the entropy of the targets, which no
    embeddings can go below."""
    return float(same_key(keys).sum(dim=1).double().log().mean())


def classifier_images(
    l: Float[Tensor, "b c"], labels: Int[Tensor, " b"]
) -> Float[Tensor, " b"]:
    r"""eq:unicl-classifier: $L^u_i=\log n_{y_i}-\log\frac{n_{y_i}e^{\ell_{iy_i}}}{\sum_cn_ce^{\ell_{ic}}}$:
    what eq:unicl-images becomes if the texts are the names of c classes, $n_c$ of them in the batch; ``l``
    are the logits of images and classes."""
    log_count = torch.bincount(labels, minlength=l.shape[1]).to(l).log()
    rows = torch.arange(len(l), device=l.device)
    return log_count[labels] - (l + log_count).log_softmax(dim=1)[rows, labels]


# ------------------------------------------------------------------------------------------------- two stages

def is_short(description: str, longest: int = SHORT) -> bool:
    """A label or search query rather than a sentence: at most ``longest`` words."""
    return len(description.split()) <= longest


def expand(
    description: str,
    generator: torch.Generator | None = None,
    templates: Sequence[str] = PROMPTS,
    longest: int = SHORT,
) -> str:
    """Stage 1: a short description in a template drawn at random, a longer one as it is."""
    if not is_short(description, longest):
        return description
    drawn = int(torch.randint(len(templates), (), generator=generator))
    return prompts(description, templates[drawn : drawn + 1])[0]


def first_stage(data: PairData, templates: Sequence[str] = PROMPTS, longest: int = SHORT) -> PairData:
    """Each short description in all templates, others as often: drawing a caption of an image is then
    ``expand``."""
    texts = tuple(tuple(text for caption in captions for text in (
        prompts(caption, templates) if is_short(caption, longest) else [caption] * len(templates)))
                  for captions in data.captions)
    return replace(data, captions=texts)


def second_stage(data: PairData, longest: int = SHORT) -> PairData:
    """The pairs whose descriptions need no template. Raises ``ValueError`` if there are none."""
    long = [tuple(text for text in captions if not is_short(text, longest)) for captions in data.captions]
    kept = [i for i, texts in enumerate(long) if texts]
    if not kept:
        raise ValueError(f"no description has more than {longest} words; the second stage needs some that "
                         f"are no labels")
    return replace(data.rows(kept), captions=tuple(long[i] for i in kept))


class TwoStage:
    """Florence's batches for ``fit``: all data with expanded descriptions for ``switch`` steps, then without
    any template.

    A function of the step, with rows ``which`` of the data of the stage. At the paper's scale ``switch`` is
    1,000,000, and 180,000 steps follow. Raises ``ValueError`` if ``switch`` is negative.
    """

    def __init__(self, data: PairData, tokeniser: Tokeniser, switch: int, batch: int = 128, *, seed: int = 0,
                 templates: Sequence[str] = PROMPTS, longest: int = SHORT,
                 max_len: int | None = None) -> None:
        if switch < 0:
            raise ValueError(f"switch is {switch}; it is the number of steps of the first stage, 0 or more")
        self.switch = switch
        self.stages = tuple(PairBatches(part, tokeniser, batch, seed=seed, max_len=max_len)
                            for part in (first_stage(data, templates, longest), second_stage(data, longest)))

    def __call__(self, step: int) -> PairBatch:
        return self.stages[0](step) if step < self.switch else self.stages[1](step - self.switch)
