"""The captioning task: images with captions become batches; a model is trained by cross-entropy, then on its
metric.

Paper: S. Rennie et al. (2017), *Self-Critical Sequence Training for Image Captioning*, arXiv:1612.00563, sec.
3 and app. E; M. Cornia et al. (2020), *Meshed-Memory Transformer for Image Captioning*, arXiv:1912.08226,
sec. 3.3, 4.2. Survey: 1.2, 1.2.1.
Differs from the papers: the log-probabilities of self-critical training come from one teacher-forced pass
over the finished captions (with the same weights), not from the decoding steps themselves, so that dropout is
drawn again.
"""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load, save
from torch import Tensor, nn

from mmlearn.data.batches import Batches
from mmlearn.data.coco import CaptionRecord, CocoCaptions
from mmlearn.data.images import Inputs, PictureFiles, TensorInputs
from mmlearn.data.pairs import short_captions
from mmlearn.data.ptb import ptb_tokenise
from mmlearn.data.scenes import parse_caption, render, sample_scene, scene_tuples
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.files import write_atomically
from mmlearn.generate import beam, greedy, sample, score
from mmlearn.image2text.captioner import CNNTransformer
from mmlearn.image2text.cells import OnCells
from mmlearn.image2text.losses import caption_cross_entropy, self_critical_loss
from mmlearn.image2text.m2 import M2Transformer
from mmlearn.image2text.regions import Detector, region_features
from mmlearn.metrics.bleu import bleu
from mmlearn.metrics.caption import caption_scores, spice
from mmlearn.metrics.cider import CiderD
from mmlearn.metrics.spice import spice_of_captions
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.transformer import Context
from mmlearn.train import History, fit, warmup_cosine

Captioner = M2Transformer | CNNTransformer | OnCells    # any model with encode, decode and a config with
                                                        # max_len
PAD = 1                 # id of <pad> in every word tokeniser
BAD_ENDINGS = frozenset({"a", "an", "the", "of", "on", "in", "with", "and", "to"})
END = "<eos>"           # the word that stands for the end of a caption in the reward


class CaptionBatch(NamedTuple):
    """Images and the captions of each: ``tokens`` has k rows an image, standing together."""

    inputs: Tensor                      # (b, p, f) features or (b, 3, s, s) pictures
    mask: Tensor | None                 # (b, p), True = a real region; None: all
    tokens: Tensor                      # (b k, t): <bos> words <eos> <pad> …
    which: Tensor                       # (b): number of each image in the data set


@dataclass
class CaptionData:
    """Images and their captions. ``scenes`` are the graphs, where the images are drawings of the scene
    world."""

    inputs: Inputs
    captions: Sequence[Sequence[str]]
    ids: Sequence[int | str]
    scenes: Sequence[Scene] | None = None

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.captions) == len(self.ids):
            raise ValueError(f"{len(self.inputs)} images, {len(self.captions)} lists of captions and "
                             f"{len(self.ids)} "
                             "ids; give one of each an image")

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, indices: Sequence[int]) -> "CaptionData":
        """The images of these numbers, in this order, with their captions; their inputs are read at once."""
        chosen = list(indices)
        return CaptionData(TensorInputs(*self.inputs.rows(chosen)), [self.captions[i] for i in chosen],
                           [self.ids[i] for i in chosen], self.scenes and [self.scenes[i] for i in chosen])

    @cached_property
    def words(self) -> list[list[list[str]]]:
        """The captions of each image as lists of words, as the metrics see them (PTB tokens, lower case)."""
        return [[ptb_tokenise(text) for text in texts] for texts in self.captions]

    @cached_property
    def cider_d(self) -> CiderD:
        """CIDEr-D against the captions of these images."""
        return CiderD(self.words)

    def vocabulary(self, min_count: int = 1) -> WordTokeniser:
        """A tokeniser of the words that occur at least ``min_count`` times in the captions."""
        return WordTokeniser.train((text for texts in self.captions for text in texts), min_count)


class CaptionBatches(Batches):
    """Endless shuffled batches of ``images`` images with ``captions`` of their captions each, a function of
    their number.

    Captions longer than ``max_len`` tokens are cut.
    """

    def __init__(self, data: CaptionData, tokeniser: WordTokeniser, images: int = 16, captions: int = 4, *,
                 seed: int = 0, max_len: int | None = None):
        if not len(data):
            raise ValueError("the data set has no image; give at least one with a caption")
        super().__init__(data, min(images, len(data)), seed=seed)
        self.captions, self.pad = captions, tokeniser.pad
        self.tokens = tokeniser.batch([text for group in data.captions for text in group], max_len)
        self.counts = torch.tensor([len(group) for group in data.captions])
        self.first = self.counts.cumsum(0) - self.counts

    def make(self, indices: list[int], number: int) -> CaptionBatch:
        which = torch.tensor(indices)
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        rank = torch.rand(len(which), int(self.counts.max()), generator=draw)
        rank[torch.arange(rank.shape[1])[None] >= self.counts[which][:, None]] = 2.0      # no such caption
        chosen = rank.argsort(1)[:, :self.captions] % self.counts[which][:, None]
        tokens = self.tokens[(self.first[which][:, None] + chosen).flatten()]
        tokens = tokens[:, : int((tokens != self.pad).sum(1).max())]
        values, mask = self.data.inputs.rows(indices)
        return CaptionBatch(values, mask, tokens, which)


# ------------------------------------------------------------------------------------------------------- data

def pictures_of(scenes: Sequence[Scene], size: int = 64,
                keep: Path | None = None) -> UInt8[Tensor, "n 3 s s"]:
    """Scenes drawn, as bytes; a file ``keep`` (.npy) is read where it is there, else written."""
    if keep is not None and keep.exists():
        return torch.from_numpy(np.load(keep))
    pictures = np.stack([render(scene, size).image.transpose(2, 0, 1) for scene in scenes])
    if keep is not None:
        buffer = io.BytesIO()
        np.save(buffer, pictures)
        write_atomically(keep, buffer.getvalue())
    return torch.from_numpy(pictures)


def kept_regions(detector: Detector, pictures: Tensor, most: int, keep: Path | None) -> tuple[Tensor, Tensor]:
    """Region features and mask of pictures; a file ``keep`` is read where it is there, else written."""
    if keep is not None and keep.exists():
        kept = load(keep.read_bytes())
        return kept["features"], kept["mask"]
    regions = region_features(detector, pictures, max_regions=most)
    if keep is not None:
        write_atomically(keep, save({"features": regions.features, "mask": regions.mask}))
    return regions.features, regions.mask


def weights_number(model: nn.Module) -> str:
    """A short name of a model's weights, so that what one has computed is not taken for another's."""
    number = 0
    for value in model.state_dict().values():
        number = zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes(), number)
    return f"{number:08x}"


def scene_data(count: int, split: str = "train", *, detector: Detector | None = None, size: int = 64,
               seed: int = 0, max_regions: int = 10, longest: int = 16,
               keep: Path | None = None) -> CaptionData:
    """Scenes ``0 … count-1`` of a split with their captions: as regions where a detector is given, else
    pictures.

    Drawn pictures and regions are kept in the folder ``keep``.
    Of a scene's five captions those of at most ``longest`` words are kept (five of six): a batch is as long
    as its longest caption, so that the few long ones would double the time of training.
    """
    scenes = [sample_scene(seed, i, split) for i in range(count)]
    pictures = pictures_of(scenes, size, keep and keep / f"{split}-{seed}-{count}-{size}.npy")
    if detector is None:
        inputs = TensorInputs(pictures)
    else:
        of = weights_number(detector)
        inputs = TensorInputs(
            *kept_regions(
                detector,
                pictures,
                max_regions,
                keep and keep / f"{split}-{seed}-{count}-{size}-{of}.safetensors",
            )
        )
    return CaptionData(inputs, [short_captions(scene, longest) for scene in scenes], range(count), scenes)


def coco_data(images: Path | str, annotations: Path | str, size: int = 224, *,
              skip_incomplete: bool = False) -> CaptionData:
    """The images of a COCO folder as pictures squeezed to ``size`` pixels, with their captions."""
    return file_data(CocoCaptions(images, annotations, skip_incomplete=skip_incomplete).records, size)


def file_data(records: Sequence[CaptionRecord], size: int = 224) -> CaptionData:
    """Pictures in files with their captions, squeezed to ``size`` pixels."""
    return CaptionData(PictureFiles([r.path for r in records], size), [r.captions for r in records],
                       [r.image_id for r in records])


# ------------------------------------------------------------------------------------------------- evaluation

@torch.no_grad()
def describe(model: Captioner, data: CaptionData, tokeniser: WordTokeniser, *, beam_size: int = 1,
             max_len: int = 20, batch: int = 100) -> list[str]:
    """One caption an image, by beam search (``beam_size`` 1 is greedy), in evaluation mode."""
    said: list[str] = []
    with eval_mode(model) as device:
        for start in range(0, len(data), batch):
            inputs, mask = data.inputs.rows(range(start, min(start + batch, len(data))))
            context = encode(model, inputs.to(device), None if mask is None else mask.to(device))
            tokens, _ = beam(model, context, k=beam_size, bos=tokeniser.bos, eos=tokeniser.eos,
                             pad=tokeniser.pad, max_len=max_len)
            said += [tokeniser.decode(row) for row in tokens[:, 0]]
    return said


def encode(model: Captioner, inputs: Tensor, mask: Tensor | None) -> Context:
    """The model's context of images; a model that reads pictures has no mask."""
    return model.encode(inputs) if mask is None else model.encode(inputs, mask)


def bad_endings(said: Sequence[str]) -> float:
    """Fraction of captions that stop at a word no sentence ends in ("a cat on a"), or say nothing."""
    return sum(not text or text.split()[-1] in BAD_ENDINGS for text in said) / len(said)


def score_captions(said: Sequence[str], data: CaptionData, *, full: bool = True) -> dict[str, float]:
    """The metrics of captions, one an image: those of ``evaluate_captions``, and the fraction of bad endings.

    Of scenes also "SPICE-world" (against the facts of the five captions) and "true facts", the fraction of
    what is said that the scene's graph confirms. With ``full=False`` only Bleu_4 and CIDEr-D: enough for a
    learning curve.
    """
    words = [text.split() for text in said]
    if not full:
        scores = {"Bleu_4": float(bleu(words, data.words).corpus[3]),
                  "CIDEr-D": data.cider_d.score(words).corpus}
        return {**scores, "bad endings": bad_endings(said)}
    scores = caption_scores(words, data.words).corpus
    if data.scenes is not None:
        scores["SPICE-world"] = spice_of_captions(said, data.captions, parse_caption).corpus
        stated = [parse_caption(text) for text in said]
        scores["true facts"] = float(
            spice(stated, [scene_tuples(scene) for scene in data.scenes]).precision.mean()
        )
    return {**scores, "bad endings": bad_endings(said)}


def evaluate_captioner(model: Captioner, data: CaptionData, tokeniser: WordTokeniser, *, beam: int = 1,
                       max_len: int = 20, full: bool = True) -> dict[str, float]:
    """Caption every image of ``data`` and score it; ``beam`` 1 is greedy."""
    return score_captions(describe(model, data, tokeniser, beam_size=beam, max_len=max_len), data, full=full)


def score_writers(data: CaptionData) -> dict[str, float]:
    """How well the captions of ``data`` do themselves: each is said, and scored against the others of its
    image.

    The mean over the first caption of every image, the second, and so on; what a caption as good as those
    that the data holds can be expected to score. An image with one caption has no others and is left out.
    """
    rows = [i for i, texts in enumerate(data.captions) if len(texts) > 1]
    most = max((len(data.captions[i]) for i in rows), default=0)
    if not most:
        raise ValueError("no image has two captions; one of them is needed to score the other")
    totals: dict[str, float] = {}
    for turn in range(most):
        chosen = [turn % len(data.captions[i]) for i in rows]
        said = [" ".join(data.words[i][j]) for i, j in zip(rows, chosen)]
        others = [[t for n, t in enumerate(data.captions[i]) if n != j] for i, j in zip(rows, chosen)]
        scenes = None if data.scenes is None else [data.scenes[i] for i in rows]
        against = CaptionData(TensorInputs(torch.zeros(len(rows), 1)), others, rows, scenes)
        for name, value in score_captions(said, against).items():
            totals[name] = totals.get(name, 0.0) + value / most
    return totals


@torch.no_grad()
def caption_loss(model: Captioner, data: CaptionData, tokeniser: WordTokeniser, batch: int = 100) -> float:
    """Mean cross-entropy of all captions of ``data`` in nats a token, in evaluation mode."""
    total, terms, most = 0.0, 0.0, longest(model)
    with eval_mode(model) as device:
        for start in range(0, len(data), batch):
            values, mask = data.inputs.rows(range(start, min(start + batch, len(data))))
            texts = data.captions[start:start + batch]
            for turn in range(max(map(len, texts))):        # the first captions of these images, the second …
                chosen = [i for i, group in enumerate(texts) if turn < len(group)]
                tokens = tokeniser.batch([texts[i][turn] for i in chosen], most).to(device)
                loss, scalars = cross_entropy_loss(model, CaptionBatch(
                    values[chosen].to(device), None if mask is None else mask[chosen].to(device), tokens,
                    torch.tensor(chosen)))
                total += float(loss) * scalars["weight"]
                terms += scalars["weight"]
    return total / terms


# ---------------------------------------------------------------------------------------------- cross-entropy

def cross_entropy_loss(model: Captioner, batch: CaptionBatch) -> tuple[Tensor, dict[str, float]]:
    """eq:caption-xe of a batch, nats per token: the model reads each caption and is asked for its next word.

    The number of tokens goes along as "weight", so that several batches or processes average over tokens.
    """
    tokens = batch.tokens
    images = (
        (batch.inputs, tokens[:, :-1]) if batch.mask is None else (batch.inputs, tokens[:, :-1], batch.mask)
    )
    targets = tokens[:, 1:]
    return caption_cross_entropy(model(*images), targets, PAD), {"weight": float((targets != PAD).sum())}


def train_cross_entropy(model: Captioner, data: CaptionData, tokeniser: WordTokeniser, *, steps: int,
                        images: int = 16, captions: int = 4, lr: float = 2e-3, warmup: int = 100,
                        max_len: int | None = None, seed: int = 0, **options: Any) -> History:
    """Phase 1: Adam(.9, .98), ``warmup`` linear steps to ``lr``, then half a cosine down to a twentieth of
    it.

    A batch holds ``images * captions`` captions. ``options`` go to ``fit``; the paper's schedule is
    ``schedule=noam(width, 10_000)``.
    """
    batches = CaptionBatches(data, tokeniser, images, captions, seed=seed, max_len=max_len or longest(model))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-9)
    options.setdefault("schedule", warmup_cosine(lr, min(warmup, steps // 4), steps, lr / 20))
    return fit(model, cross_entropy_loss, batches, steps=steps, optimizer=optimizer, seed=seed, **options)


def longest(model: Captioner) -> int:
    """Most tokens that a caption may have for this model, <bos> and <eos> counted."""
    return model.config.max_len + 1        # <eos> is predicted, never read


# ---------------------------------------------------------------------------------------------- self-critical

class CaptionReward:
    """CIDEr-D of captions as token ids: ``reward(tokens (b, k, t), index (b))`` -> (b, k), between 0 and 10.

    With ``eos_in_reward`` the end is a word like any other, in captions and references (Rennie et al.,
    appendix E): a caption that stops half-way then loses the n-grams that close a sentence. M2's code leaves
    it out. ``documents`` "image" counts in how many images an n-gram occurs, "caption" (M2's code) in how
    many captions.
    """

    def __init__(self, data: CaptionData, tokeniser: WordTokeniser, *, eos_in_reward: bool = True,
                 documents: Literal["image", "caption"] = "image"):
        end = [END] if eos_in_reward else []
        self.metric = CiderD([[[*words, *end] for words in group] for group in data.words],
                             documents=documents)
        self.words = tokeniser.words
        self.eos, self.pad, self.end = tokeniser.eos, tokeniser.pad, end

    def __call__(self, tokens: Int[Tensor, "b k t"], index: Int[Tensor, " b"]) -> Float[Tensor, "b k"]:
        said = []
        for row in tokens.flatten(0, 1).tolist():
            stop = row.index(self.eos) if self.eos in row else None
            words = [self.words[i] for i in row[:stop] if i != self.pad]
            said.append(words if stop is None else words + self.end)
        of = index.repeat_interleave(tokens.shape[1]).cpu().numpy()
        return torch.as_tensor(self.metric(said, of),
                               dtype=torch.float32).unflatten(0, tokens.shape[:2]).to(tokens.device)


Estimator = Literal["beam", "sample", "greedy"]


def self_critical_step(
    reward: CaptionReward,
    *,
    estimator: Estimator = "beam",
    k: int = 5,
    max_len: int = 20,
    reduction: Literal["sum", "mean"] = "mean",
) -> Callable[..., tuple[Tensor, dict[str, float]]]:
    """A loss for ``fit``: caption the images, compare each caption's reward with a baseline, follow the
    gradient.

    ``estimator`` "beam" is M2's (eq:scst-m2: the k hypotheses of a beam search, their mean as baseline),
    "sample" draws k captions and leaves each out of its own baseline (eq:scst-loo), "greedy" draws k captions
    and compares with the greedy one (eq:scst-greedy). Dropout stays on, except for the greedy critic, as the
    critic is what the model says at test time. ``reduction`` "mean" divides by the length of the longest
    caption, as M2's code does.
    """
    def loss(model: Captioner, batch: CaptionBatch) -> tuple[Tensor, dict[str, float]]:
        context = encode(model, batch.inputs, batch.mask)
        baseline: Any = "mean"
        if estimator == "beam":
            tokens, _ = beam(model, context, k=k, max_len=max_len)
        else:
            tokens, _ = sample(model, context, k=k, max_len=max_len)
            baseline = "leave-one-out"
        rewards = reward(tokens, batch.which)
        scalars = {"reward": rewards.mean().item()}
        if estimator == "greedy":
            with torch.no_grad(), eval_mode(model):
                best, _ = greedy(model, encode(model, batch.inputs, batch.mask), max_len=max_len)
            baseline = reward(best[:, None], batch.which)[:, 0]
            scalars["baseline"] = baseline.mean().item()
        log_probs = score(model, context, tokens)
        return self_critical_loss(log_probs, rewards, baseline, reduction=reduction), scalars

    return loss


def train_self_critical(model: Captioner, data: CaptionData, tokeniser: WordTokeniser, *, steps: int,
                        images: int = 32, lr: float = 2e-4, estimator: Estimator = "beam", k: int = 5,
                        max_len: int = 20, eos_in_reward: bool = True,
                        documents: Literal["image", "caption"] = "image", reward: CaptionReward | None = None,
                        seed: int = 0, **options: Any) -> History:
    """Phase 2: self-critical training on CIDEr-D with a fresh Adam at a constant ``lr``; ``options`` go to
    ``fit``.

    The loss value means nothing here; the history's ``reward`` is the mean CIDEr-D of the captions of each
    batch. With the paper's 10 images a step, a miniature's gradient is mostly noise: 32 make it climb. The
    paper's numbers: ``images=10, k=5, lr=5e-6, max_len=20, eos_in_reward=False, documents="caption"``.
    """
    if reward is None:
        reward = CaptionReward(data, tokeniser, eos_in_reward=eos_in_reward, documents=documents)
    batches = CaptionBatches(data, tokeniser, images, 1, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loss = self_critical_step(reward, estimator=estimator, k=k, max_len=max_len)
    return fit(model, loss, batches, steps=steps, optimizer=optimizer, seed=seed, **options)
