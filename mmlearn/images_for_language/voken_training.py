r"""How Vokenization is trained: the matcher on pictures and captions, the language model on text with vokens.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775, sec. 4; settings of
the scripts in github.com/airsplay/vokenization (MIT), which differ from the defaults of its programs.
Survey: 3.5.1.  Differs from the paper: the released optimiser decays the gain of the voken head's
normalisation, whose name its list of exceptions does not match; here no gain is decayed.

Published: the matcher on COCO, captions of 20 tokens, batches of 256, Adam at 1e-3, 20 epochs, gradients cut
at 5, pictures cropped at random and mirrored. The language model on blocks of 126 tokens and two special
ones, batches of 256, AdamW at 2e-4 with decay 0.01, 5,000 steps of warm-up of 200,000, then a straight line
down to 0 (Wiki103: 10,000 of 40 epochs), gradients cut at 1.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchvision.transforms import v2

from mmlearn.checkpoints import load_model, save_model
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import PairBatches, PairData
from mmlearn.data.tokenisers import Tokeniser, WordTokeniser
from mmlearn.files import package_data
from mmlearn.images_for_language.bert import IGNORED, Chooser, choose_independently, mask_tokens
from mmlearn.images_for_language.bert_training import bert_schedule
from mmlearn.images_for_language.token_image_matching import (
    MatcherConfig,
    TokenImageMatcher,
    matching_loss,
)
from mmlearn.images_for_language.voken_lm import VokenLM, voken_lm_losses
from mmlearn.images_for_language.vokenizer import Vokenizer, image_keys
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.train import History, fit, parameter_groups

BLOCK = 126                             # tokens of a block without its two special ones
Augment = Callable[[Tensor], Tensor]


def fractions(images: Tensor) -> Tensor:
    """Bytes of pictures as numbers in [0, 1]."""
    return images.float() / 255


def cropped_and_mirrored(size: int = 224) -> Augment:
    """The published augmentation of a batch of pictures: one random square of them, mirrored or not."""
    return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])


# -------------------------------------------------------------------------------------------- the matcher


class PictureBatch(NamedTuple):
    """Captions (b, t) and the rows of their pictures (b, f)."""

    tokens: Tensor
    features: Tensor


@torch.no_grad()
def features_of(
    model: TokenImageMatcher, images: Tensor, batch: int = 64
) -> Float[Tensor, "n f"]:
    """The frozen CNN's rows of pictures of bytes: computed once, as they never change."""
    with eval_mode(model) as device:
        return torch.cat([model.image_features(fractions(part).to(device)).cpu()
                          for part in images.split(batch)])


class FeatureBatches(PairBatches):
    """Batches of captions and of the rows of their pictures, which are computed when this is made."""

    def __init__(self, model: TokenImageMatcher, data: PairData, tokeniser: Tokeniser, batch: int = 256, *,
                 seed: int = 0, max_len: int | None = 20) -> None:
        super().__init__(data, tokeniser, batch - batch % 2, seed=seed, max_len=max_len, scale=fractions)
        self.size -= self.size % 2                          # halves of a batch are each other's negatives
        self.features = features_of(model, data.images[:])

    def make(self, indices: list[int], number: int) -> Any:
        which = torch.tensor(indices)
        drawn = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        draw = torch.rand(len(which), generator=drawn)
        tokens = self.tokens[self.start[which] + (draw * self.counts[which]).long()]
        return PictureBatch(tokens[:, : int((tokens != self.pad).sum(1).max())], self.features[which])


class AugmentedBatches(PairBatches):
    """Batches of captions and pictures that are changed at random each time, a function of their number."""

    def __init__(self, data: PairData, tokeniser: Tokeniser, batch: int = 256, *, seed: int = 0,
                 max_len: int | None = 20, augment: Augment | None = None) -> None:
        super().__init__(data, tokeniser, batch - batch % 2, seed=seed, max_len=max_len, scale=fractions)
        self.size -= self.size % 2
        self.augment = augment or cropped_and_mirrored()

    def make(self, indices: list[int], number: int) -> Any:
        pairs = super().make(indices, number)
        with seeded(self.seed * 1_000_003 + number):
            images = torch.cat([self.augment(one[None]) for one in pairs.images])
        return pairs._replace(images=images)


def matcher_step(model: TokenImageMatcher, batch: Any) -> Tensor:
    """The loss of a batch of ``FeatureBatches`` or ``AugmentedBatches``."""
    pictures = batch.features if isinstance(batch, PictureBatch) else model.image_features(batch.images)
    words = model.text_features(batch.tokens)
    return matching_loss(model, words, pictures, batch.tokens != model.config.text.pad)


def train_matcher(
    model: TokenImageMatcher, batches: Batches, *, steps: int, lr: float | int = 1e-3,
    clip: float | int = 5.0, seed: int = 0, **options: Any
) -> History:
    """Train the two small networks of a matcher; ``options`` are those of ``fit``."""
    return fit(model, matcher_step, batches, steps=steps, lr=lr, clip=clip, seed=seed, title="matching",
               optimizer=partial(torch.optim.Adam, lr=lr), **options)


MATCHER = "token-image-matcher"          # the system's name in files of saved models


def save_matcher(
    path: str | Path, model: TokenImageMatcher, tokeniser: WordTokeniser, about: Mapping[str, Any]
) -> None:
    """Write a matcher with its words; ``about`` (metrics, settings) stands beside them."""
    words = {"words": tokeniser.words, "splitter": tokeniser.splitter}
    save_model(path, model, MATCHER, {**words, **about}, half=True)


def load_vokenizer(
    images: UInt8[Tensor, "n 3 y x"], path: str | Path | None = None
) -> tuple[Vokenizer, WordTokeniser]:
    """A saved matcher (by default the miniature that comes with the book) as a vokenizer whose vokens are
    numbers of ``images``, and its words.

    Raises ``FileNotFoundError`` or ``ValueError`` for files that are missing or hold something else.
    """
    path = path or package_data("checkpoints") / "vokenizer.safetensors"
    kinds = {MATCHER: (MatcherConfig, TokenImageMatcher)}
    model, about = load_model(path, kinds, "train it with `python -m mmlearn.experiments vokenizer`")
    matcher, tokeniser = cast(TokenImageMatcher, model), WordTokeniser.of(about, path)
    limit = matcher.config.text.context - 2
    keys = image_keys(matcher, images)
    return Vokenizer(matcher, keys, tokeniser.bos, tokeniser.eos, limit), tokeniser


# ---------------------------------------------------------------------------------------- the language model


class MaskedBatch(NamedTuple):
    """Tokens with hidden ones, the hidden ones, and vokens, (b, t) each; -100 where nothing is asked."""

    inputs: Tensor
    labels: Tensor
    vokens: Tensor


class MaskedBatches(Batches):
    """Batches of rows of tokens with their vokens (none: -100), words being hidden anew each time, a function
    of the batch's number.

    ``special`` are ids that are never hidden, ``vocab`` counts the words, ``mask_id`` stands for a hidden
    one. As in the released code each word is chosen for itself with probability ``rate``.
    """

    def __init__(self, tokens: Int[Tensor, "n t"], vokens: Int[Tensor, "n s"] | None, batch: int, *,
                 special: Collection[int], vocab: int, mask_id: int, pad: int, rate: float = 0.15,
                 choose: Chooser = choose_independently, seed: int = 0) -> None:
        if vokens is not None and vokens.shape != tokens.shape:
            raise ValueError(f"tokens are {tuple(tokens.shape)}, vokens {tuple(vokens.shape)}; give one "
                             "voken a token, -100 where there is none")
        super().__init__(tokens, min(batch, len(tokens)), seed=seed)
        self.tokens = tokens
        self.vokens = torch.full_like(tokens, IGNORED) if vokens is None else vokens
        self.special, self.vocab, self.mask_id = special, vocab, mask_id
        self.pad, self.rate, self.choose = pad, rate, choose

    def make(self, indices: list[int], number: int) -> MaskedBatch:
        tokens = self.tokens[indices]
        longest = max(1, int((tokens != self.pad).sum(dim=1).max()))
        tokens = tokens[:, :longest]
        draws = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        inputs, labels = mask_tokens(tokens, self.special, self.vocab, self.mask_id, draws, self.rate,
                                     self.choose, self.pad)
        return MaskedBatch(inputs, labels, self.vokens[indices][:, :longest])


def text_blocks(
    texts: Sequence[Sequence[int]], vokens: Sequence[Sequence[int]], bos: int, eos: int, length: int = BLOCK
) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n t"]]:
    """A corpus in blocks of ``length`` tokens between ``bos`` and ``eos``, which have no voken; what does not
    fill a block at the end is dropped.

    Raises ``ValueError`` if a text has not as many vokens as tokens, or all make no block.
    """
    for i, (ids, given) in enumerate(zip(texts, vokens, strict=True)):
        if len(ids) != len(given):
            raise ValueError(f"text {i} has {len(ids)} tokens and {len(given)} vokens; give one each")

    def stream(rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([one for row in rows for one in row], dtype=torch.long)

    tokens, labels = stream(texts), stream(vokens)
    count = len(tokens) // length
    if not count:
        raise ValueError(f"{len(tokens)} tokens make no block of {length}; give more, or shorter blocks")

    def framed(flat: Tensor, first: int, last: int) -> Tensor:
        rows = flat[: count * length].view(count, length)
        return torch.cat([rows.new_full((count, 1), first), rows, rows.new_full((count, 1), last)], dim=1)

    return framed(tokens, bos, eos), framed(labels, IGNORED, IGNORED)


def lm_step(model: VokenLM, batch: MaskedBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its parts."""
    parts = voken_lm_losses(model, *batch)
    return parts.pop("loss"), parts


def train_voken_lm(
    model: VokenLM, batches: MaskedBatches, *, steps: int, lr: float | int = 2e-4, warmup: int = 5000,
    decay: float | int = 0.01, clip: float | int = 1.0, seed: int = 0, **options: Any
) -> History:
    """Train a language model on hidden words, and on vokens where the batches have some; ``options`` are
    those of ``fit``."""
    optimizer = torch.optim.AdamW(parameter_groups(model, decay), lr=lr, eps=1e-6, fused=True)
    return fit(model, lm_step, batches, steps=steps, optimizer=optimizer, clip=clip,
               schedule=bert_schedule(lr, warmup, steps), seed=seed, title="language model", **options)
