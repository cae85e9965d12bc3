"""ViLBERT on pictures with captions: their regions, batches for pre-training, what is judged, and the file of
a trained model.

Paper: J. Lu, D. Batra, D. Parikh and S. Lee (2019), *ViLBERT*, NeurIPS, arXiv:1908.02265, sec. 3.1; S. Frank,
E. Bugliarello and D. Elliott (2021), *Vision-and-Language or Vision-for-Language?*, EMNLP, arXiv:2109.04448
(one modality is asked for while the other is taken away).  Survey: 5.2.
Differs from the papers: words are asked for by kind (colours, all), and the picture is swapped as well as
taken away; a picture that is taken away leaves the row of the whole picture, of zeros.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from safetensors.torch import load, save
from torch import Tensor, nn

from mmlearn.both_modalities.vilbert import ViLBERTConfig
from mmlearn.both_modalities.vilbert_pretraining import (
    ALIGNED,
    PretrainingBatch,
    PretrainingConfig,
    ViLBERTForPreTraining,
    alignment_score,
    pretraining_batch,
    pretraining_groups,
    pretraining_step,
    region_loss,
)
from mmlearn.both_modalities.vilbert_regions import Pictures, Seen, see
from mmlearn.checkpoints import load_model, save_model
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import draw_scenes, short_captions
from mmlearn.data.scenes import COLOURS, sample_scene
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.files import package_data, write_atomically
from mmlearn.image2text.regions import Detector
from mmlearn.image2text.training import weights_number
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.train import History, fit, warmup_linear

CHECKPOINT = package_data("checkpoints") / "vilbert.safetensors"
SYSTEM = "vilbert"          # the system's name in files of saved models
LONGEST = 16                # words of a caption that is trained on, as in chapter 1
CONTEXT = 64                # most positions: a question of VCR with an answer and a reason is long
BATCH = 250                 # pairs judged at a time


# ------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class RegionTexts:
    """Pictures as a detector sees them, with the captions of each; ``scenes`` are the graphs of drawn ones,
    else empty."""

    seen: Seen
    captions: tuple[tuple[str, ...], ...]
    scenes: tuple[Scene, ...] = ()

    def __post_init__(self) -> None:
        if len(self.seen.mask) != len(self.captions):
            raise ValueError(f"{len(self.seen.mask)} pictures and {len(self.captions)} lists of captions; "
                             f"give one of each a picture")

    def __len__(self) -> int:
        return len(self.captions)

    def first(self) -> list[str]:
        """One caption of every picture, the first."""
        return [texts[0] for texts in self.captions]

    def vocabulary(self, more: Sequence[str] = ()) -> WordTokeniser:
        """A tokeniser of all words of the captions, and of ``more`` texts."""
        return WordTokeniser.train([*(text for texts in self.captions for text in texts), *more])


def kept_regions(detector: Detector, images: Pictures, max_regions: int, keep: Path | None = None) -> Seen:
    """What the detector sees in pictures; a file ``keep`` is read where it is there, else written."""
    if keep is not None and keep.exists():
        kept = load(keep.read_bytes())
        return Seen(*(kept[name] for name in Seen._fields))
    seen = Seen(*(part.cpu() for part in see(detector, images, max_regions=max_regions)))
    if keep is not None:
        parts = {name: part.contiguous() for name, part in seen._asdict().items()}
        write_atomically(keep, save(parts))
    return seen


def scene_regions(
    detector: Detector, count: int, split: str = "train", *, max_regions: int = 9, seed: int = 0,
    keep: Path | None = None,
) -> RegionTexts:
    """Scenes 0 … ``count`` - 1 of a split as the detector sees them, with their captions of at most 16 words.
    Regions are kept in the folder ``keep``, if one is given."""
    scenes = [sample_scene(seed, i, split) for i in range(count)]
    name = f"vilbert-{split}-{seed}-{count}-{max_regions}-{weights_number(detector)}.safetensors"
    path = keep and keep / name
    images = torch.empty(0, 3, 1, 1) if path and path.exists() else draw_scenes(scenes)
    seen = kept_regions(detector, images, max_regions, path)
    return RegionTexts(seen, tuple(short_captions(scene, LONGEST) for scene in scenes), tuple(scenes))


def mask_id(tokeniser: WordTokeniser) -> int:
    """The id of [MASK], one beyond the words: the model reads ``mask_id + 1`` different tokens."""
    return len(tokeniser)


class PretrainingBatches(Batches):
    """Endless shuffled batches of pictures with one caption each, hidden and paired anew each time; batch
    number n is a function of n and the seed."""

    def __init__(
        self, data: RegionTexts, tokeniser: WordTokeniser, config: PretrainingConfig, *, seed: int = 0
    ) -> None:
        super().__init__(data, config.batch, seed=seed)
        self.config, self.tokeniser = config, tokeniser
        self.tokens = tokeniser.batch([text for texts in data.captions for text in texts])
        self.counts = torch.tensor([len(texts) for texts in data.captions])
        self.begin = self.counts.cumsum(0) - self.counts

    def make(self, indices: list[int], number: int) -> PretrainingBatch:
        which = torch.tensor(indices)
        dice = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        chosen = (torch.rand(len(which), generator=dice) * self.counts[which]).long()
        words, mask = self.tokeniser, mask_id(self.tokeniser)
        tokens = self.tokens[self.begin[which] + chosen]
        tokens = tokens[:, : int((tokens != words.pad).sum(dim=1).max())]
        return pretraining_batch(
            tokens, self.data.seen.rows(which), self.config, special=(words.pad, words.bos, words.eos),
            vocab=mask + 1, mask_id=mask, pad=words.pad, generator=dice)


def pretrain(
    model: ViLBERTForPreTraining, batches: PretrainingBatches, *, steps: int, seed: int = 0, **options: Any
) -> History:
    """Train by the three losses with the rate of the recipe, which rises in a tenth of the steps and falls to
    zero; ``options`` are those of ``fit``."""
    config = batches.config
    optimizer = torch.optim.AdamW(pretraining_groups(model, config), lr=config.lr, fused=True)
    return fit(model, pretraining_step, batches, steps=steps, optimizer=optimizer, seed=seed, title="ViLBERT",
               schedule=warmup_linear(config.lr, max(1, round(config.warmup * steps)), steps), **options)


# ---------------------------------------------------------------------------------------------------- judging


class Asked(NamedTuple):
    """Texts with words hidden, the texts as they were, and which words are asked for."""

    inputs: Int[Tensor, "n t"]
    tokens: Int[Tensor, "n t"]
    hidden: Bool[Tensor, "n t"]


def hide_words(texts: Sequence[str], words: Sequence[str], tokeniser: WordTokeniser) -> Asked:
    """Texts in which every one of ``words`` is [MASK]."""
    tokens = tokeniser.batch(texts)
    ids = torch.tensor([tokeniser.index[word] for word in words if word in tokeniser.index], dtype=torch.long)
    hidden = torch.isin(tokens, ids)
    return Asked(tokens.masked_fill(hidden, mask_id(tokeniser)), tokens, hidden)


def without(seen: Seen) -> Seen:
    """The same pictures without any region."""
    return Seen(torch.zeros_like(seen.features), torch.zeros_like(seen.boxes), torch.zeros_like(seen.mask),
                torch.zeros_like(seen.classes))


def others(seen: Seen) -> Seen:
    """Each picture's regions are those of the next one."""
    return seen.rows(torch.arange(len(seen.mask)).roll(-1))


@torch.no_grad()
def scores_of(
    model: nn.Module, tokens: Int[Tensor, "n t"], seen: Seen, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of words (n, t, v), of classes (n, r, c) and of pairs (n, 2), in evaluation mode."""
    parts = []
    with eval_mode(model) as device:
        for i in range(0, len(tokens), BATCH):
            here, text = seen.rows(torch.arange(i, min(i + BATCH, len(tokens)))), tokens[i : i + BATCH]
            out = model(text.to(device), None, (text != pad).to(device),
                        *(part.to(device) for part in here[:3]))
            parts.append([part.cpu() for part in out])
    words, regions, pairs = (torch.cat(column) for column in zip(*parts))
    return words, regions, pairs


def words_right(model: nn.Module, asked: Asked, seen: Seen, pad: int) -> float:
    """Share of the hidden words that have the largest logit."""
    words, _, _ = scores_of(model, asked.inputs, seen, pad)
    return float((words.argmax(dim=-1) == asked.tokens)[asked.hidden].double().mean())


def pairs_right(model: nn.Module, tokens: Int[Tensor, "n t"], seen: Seen, pad: int) -> float:
    """Share of pairs that are told right: each picture with its own text, and with that of the next one."""
    own = alignment_score(scores_of(model, tokens, seen, pad)[2]) > 0.5
    other = alignment_score(scores_of(model, tokens, others(seen), pad)[2]) > 0.5
    return float((own.double().mean() + (~other).double().mean()) / 2)


def hide_each_region(
    model: nn.Module, tokens: Int[Tensor, "n t"], seen: Seen, pad: int
) -> dict[str, float]:
    """The first region of every picture that has one, hidden: its divergence from the detector's classes in
    nats, and how often the most probable class is the same."""
    rows = seen.mask[:, 0].nonzero()[:, 0]
    tokens, seen = tokens[rows], seen.rows(rows)
    features = seen.features.clone()
    features[:, 0] = 0.0
    _, logits, _ = scores_of(model, tokens, seen._replace(features=features), pad)
    p = seen.classes[:, 0]
    same = logits[:, 0].argmax(dim=-1) == p.argmax(dim=-1)
    return {"region divergence": float(region_loss(logits[:, 0], p)),
            "region class": float(same.double().mean())}


def judged(model: nn.Module, data: RegionTexts, tokeniser: WordTokeniser) -> dict[str, float]:
    """Pairs told apart; hidden colour words with the own picture, another one and none, and the share of the
    most frequent colour; a hidden region with its own text, another one and none."""
    texts, seen, pad = data.first(), data.seen, tokeniser.pad
    tokens = tokeniser.batch(texts)
    asked = hide_words(texts, COLOURS, tokeniser)
    told = asked.tokens[asked.hidden]
    nothing = torch.full_like(tokens[:, :2], tokeniser.bos)
    nothing[:, 1] = tokeniser.eos
    found = {
        "pairs": pairs_right(model, tokens, seen, pad),
        "colours": words_right(model, asked, seen, pad),
        "colours, other picture": words_right(model, asked, others(seen), pad),
        "colours, no picture": words_right(model, asked, without(seen), pad),
        "colours, most frequent": float((told == told.mode().values).double().mean()),
    }
    for name, text in (("", tokens), (", other text", tokens.roll(-1, dims=0)), (", no text", nothing)):
        found |= {key + name: value for key, value in hide_each_region(model, text, seen, pad).items()}
    return found


# ----------------------------------------------------------------------------------------------- trained ones


class TrainedViLBERT(NamedTuple):
    """A model in evaluation mode, its words, and what was noted at saving."""

    model: ViLBERTForPreTraining
    tokeniser: WordTokeniser
    about: dict[str, Any]


def mini_model(tokeniser: WordTokeniser, data: RegionTexts, seed: int = 0,
               config: ViLBERTConfig | None = None) -> ViLBERTForPreTraining:
    """The miniature for these words and regions, its first weights a function of ``seed``."""
    features, classes = data.seen.features.shape[-1], data.seen.classes.shape[-1]
    with seeded(seed):
        return ViLBERTForPreTraining(config or ViLBERTConfig.mini(
            mask_id(tokeniser) + 1, tokeniser.pad, CONTEXT, features, classes))


def fresh(model: ViLBERTForPreTraining, seed: int = 0) -> ViLBERTForPreTraining:
    """A model of the same sizes that has learned nothing."""
    with seeded(seed):
        return ViLBERTForPreTraining(model.config)


def save_vilbert(
    path: str | Path, model: ViLBERTForPreTraining, tokeniser: WordTokeniser, about: Mapping[str, Any]
) -> None:
    """Write a trained model in 16 bits a number, with its words; ``about`` (settings, metrics) stands beside
    them."""
    words = {"words": tokeniser.words, "splitter": tokeniser.splitter}
    save_model(path, model, SYSTEM, {**words, **about}, half=True)


def load_vilbert(path: str | Path = CHECKPOINT) -> TrainedViLBERT:
    """A trained model with its words; by default the one that comes with the book.

    Raises ``FileNotFoundError`` if it is not there, ``ValueError`` if it is something else.
    """
    model, about = load_model(path, {SYSTEM: (ViLBERTConfig, ViLBERTForPreTraining)})
    return TrainedViLBERT(model, WordTokeniser.of(about, path), about)  # type: ignore[arg-type]


def matches(model: nn.Module, tokens: Int[Tensor, "n t"], seen: Seen, pad: int) -> Tensor:
    """For each pair whether the model takes text and picture for one another's (label ``ALIGNED``)."""
    return scores_of(model, tokens, seen, pad)[2].argmax(dim=-1) == ALIGNED
