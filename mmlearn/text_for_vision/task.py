"""Contrastive learning on the scene world: pairs become batches, a dual encoder is trained on them and judged.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 2.5 (optimiser, schedule, clipped scale), sec. 3.1 (zero-shot), app. A and F.  Survey: 4.2.
Differs from the paper: drawn scenes of 64 pixels with five captions each, of which one is drawn anew every time the
image is seen; words as tokens; no random crop, because captions say left and right; miniatures see thousands of pairs,
not billions, so that the learning rate is higher and the warm-up shorter.
"""

import json
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count as numbers_from
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mmlearn.checkpoints import portable
from mmlearn.data.scenes import (
    CATEGORIES,
    CATEGORY,
    HELD_OUT_CATEGORIES,
    SPLITS,
    STYLES,
    render,
    sample_scene,
)
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import HYPERNYMS
from mmlearn.data.tokenisers import Tokeniser, WordTokeniser
from mmlearn.files import write_atomically
from mmlearn.image2text.task import short_captions
from mmlearn.metrics.retrieval import retrieval as retrieval_metrics
from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.nn.vit import ViTConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig, clamp_logit_scale_
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.preprocess import standardise
from mmlearn.text_for_vision.zero_shot import SCENE, top_k_accuracy, zero_shot_weights
from mmlearn.train import History, fit, warmup_cosine

SIZE = 64                                                   # pixels a side of a scene, unless said otherwise
CHECKPOINTS = Path(__file__).parents[2] / "data" / "checkpoints"
FILES = {"vit": "clip-mini.safetensors", "resnet": "clip-mini-resnet.safetensors"}
PAD = 1                                                     # id of <pad> in every word tokeniser

TEMPLATES = SCENE                                           # sentences that the scene world's captions might hold


# --------------------------------------------------------------------------------------------------------------- data

@dataclass(frozen=True)
class PairData:
    """Images and the captions of each; ``scenes`` are the graphs they were drawn from.

    ``dataclasses.replace(data, captions=…)`` is the same images with other texts.
    """

    images: UInt8[Tensor, "n 3 s s"]
    captions: tuple[tuple[str, ...], ...]
    scenes: tuple[Scene, ...]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.captions) == len(self.scenes):
            raise ValueError(f"{len(self.images)} images, {len(self.captions)} lists of captions and {len(self.scenes)} "
                             "scenes; give one of each an image")
        empty = next((i for i, texts in enumerate(self.captions) if not texts), None)
        if empty is not None:
            raise ValueError(f"image {empty} has no caption; a pair needs one, leave the image out")

    def __len__(self) -> int:
        return len(self.captions)

    def first(self, count: int) -> "PairData":
        """The first ``count`` images."""
        return self.rows(range(min(count, len(self))))

    def rows(self, indices: Sequence[int]) -> "PairData":
        """The images of these numbers, in this order."""
        chosen = list(indices)
        return PairData(self.images[chosen], tuple(self.captions[i] for i in chosen),
                        tuple(self.scenes[i] for i in chosen))


@dataclass(frozen=True)
class ClassPictures:
    """Pictures of one thing each, with the number of its class; ``classes`` are noun phrases without article."""

    images: UInt8[Tensor, "n 3 s s"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]
    scenes: tuple[Scene, ...]

    def __len__(self) -> int:
        return len(self.labels)


def _draw(task: tuple[Sequence[Scene], int, str]) -> np.ndarray:
    scenes, size, style = task
    return np.stack([render(scene, size, style).image for scene in scenes])


def draw_scenes(scenes: Sequence[Scene], size: int = SIZE, style: str = "normal", processes: int = 2) -> UInt8[Tensor, "n 3 s s"]:
    """Pictures of scenes, drawn by ``processes`` processes where the system can fork, else by this one."""
    if not scenes:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    tasks = [(scenes[i:i + 20], size, style) for i in range(0, len(scenes), 20)]
    forks = "fork" in multiprocessing.get_all_start_methods() and os.name == "posix"
    if processes > 1 and len(tasks) > 2 and forks and not multiprocessing.current_process().daemon:
        with warnings.catch_warnings():                     # Python warns of forking beside threads; only NumPy runs here
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context("fork").Pool(processes) as pool:
                parts = pool.map(_draw, tasks, chunksize=1)
    else:
        parts = [_draw(task) for task in tasks]
    return torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()


@cache
def scene_pairs(count: int, split: str = "train", *, size: int = SIZE, seed: int = 0, style: str = "normal",
                longest: int = 16) -> PairData:
    """Scenes ``0 … count-1`` of a split with their captions of at most ``longest`` words (at least the shortest).

    A function of its arguments, remembered as long as the process lives. Raises ``ValueError`` for an unknown split or
    style and for less than one scene.
    """
    _check(count, split, style)
    scenes = tuple(sample_scene(seed, i, split) for i in range(count))
    return PairData(draw_scenes(scenes, size, style), tuple(short_captions(s, longest) for s in scenes), scenes)


def _check(count: int, split: str, style: str) -> None:
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 picture")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")
    if style not in STYLES:
        raise ValueError(f"style {style!r} is unknown; take one of {', '.join(STYLES)}")


By = Literal["category", "pair", "kind"]


def class_names(by: By = "category", unseen: bool = False) -> tuple[str, ...]:
    """The classes: categories ("cat"), pairs of colour and category ("red car"), or kinds ("animal").

    Those of the 30 categories that are drawn in training, with ``unseen`` of all 34.
    """
    known = [c for c in CATEGORIES if unseen or c.name not in HELD_OUT_CATEGORIES]
    if by == "category":
        return tuple(c.name for c in known)
    if by == "pair":
        return tuple(coloured(shade, c.name) for c in known for shade in c.colours)
    return tuple(pair[0] for kind, pair in HYPERNYMS.items() if any(c.supercategory == kind for c in known))


def coloured(colour: str, category: str) -> str:
    """A coloured thing as captions say it: ``red car``, but ``person in red``."""
    return f"person in {colour}" if category == "person" else f"{colour} {category}"


def class_of(scene: Scene, by: By = "category") -> str:
    """The class of the one thing that a scene shows ("" for a kind without a word, such as food)."""
    thing = scene.objects[0]
    if by == "category":
        return thing.category
    if by == "pair":
        return coloured(thing.colour, thing.category)
    return HYPERNYMS.get(CATEGORY[thing.category].supercategory, ("", ""))[0]


@cache
def class_pictures(count: int, split: str = "test", *, by: By = "category", style: str = "normal", size: int = SIZE,
                   seed: int = 0, unseen: bool | None = None) -> ClassPictures:
    """The first ``count`` pictures of a split that show one thing, with its class.

    ``by`` "category" (30 classes), "pair" (colour and category; in split "compositional" all are pairs never drawn in
    training), "kind" (animal, plant, vehicle …; things whose kind has no word are left out). ``unseen`` adds the
    categories never drawn in training to the classes, as split "zero_shot" does by itself.
    """
    _check(count, split, style)
    classes = class_names(by, split == "zero_shot" if unseen is None else unseen)
    number = {name: i for i, name in enumerate(classes)}
    found: list[Scene] = []
    for index in numbers_from():
        scene = sample_scene(seed, index, split)
        if scene.kind == "iconic object" and class_of(scene, by) in number:
            found.append(scene)
            if len(found) == count:
                break
    labels = torch.tensor([number[class_of(scene, by)] for scene in found])
    return ClassPictures(draw_scenes(found, size, style), labels, classes, tuple(found))


def scene_tokeniser(data: PairData, min_count: int = 1) -> WordTokeniser:
    """A tokeniser of the words of the captions; ids 0-3 are <unk> <pad> <bos> <eos>, and <eos> is where CLIP reads."""
    return WordTokeniser.train((text for texts in data.captions for text in texts), min_count)


def pixels(images: UInt8[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
    """Pictures of 0..255 as the image towers want them: standardised with CLIP's mean and deviation."""
    return standardise(images.float() / 255)


class PairBatch(NamedTuple):
    """Pairs: row i of ``tokens`` is a caption of image i; ``which`` is the number of each image in the data set."""

    images: Float[Tensor, "b 3 s s"]
    tokens: Int[Tensor, "b t"]
    which: Int[Tensor, " b"]


class PairBatches:
    """Endless shuffled batches of ``batch`` images with one of their captions each, a function of the step.

    Batch i is the same in every run with the same ``seed``, so that a resumed training sees what it would have seen.
    Captions longer than ``max_len`` tokens are cut.
    """

    def __init__(self, data: PairData, tokeniser: Tokeniser, batch: int = 128, *, seed: int = 0,
                 max_len: int | None = None) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; a batch has at least 1 pair (and 2 to contrast)")
        self.data, self.seed, self.pad = data, seed, tokeniser.pad
        self.batch = min(batch, len(data))
        self.per_epoch = len(data) // self.batch
        self.tokens = tokeniser.batch([text for texts in data.captions for text in texts], max_len)
        self.counts = torch.tensor([len(texts) for texts in data.captions])
        self.start = self.counts.cumsum(0) - self.counts
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def __call__(self, step: int) -> PairBatch:
        epoch, place = divmod(step, self.per_epoch)
        if self._order[0] != epoch:
            shuffled = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(self.seed + 7919 * epoch))
            self._order = (epoch, shuffled)
        which = self._order[1][place * self.batch:(place + 1) * self.batch]
        draw = torch.rand(self.batch, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + step))
        tokens = self.tokens[self.start[which] + (draw * self.counts[which]).long()]
        tokens = tokens[:, : int((tokens != self.pad).sum(1).max())]
        return PairBatch(pixels(self.data.images[which]), tokens, which)


# ----------------------------------------------------------------------------------------------------------- training

Loss = Callable[..., Tensor]                # loss(u, v, scale), and what else the objective hands over


def parameter_groups(model: nn.Module, weight_decay: float | int = 0.2) -> list[dict[str, Any]]:
    """Parameters for AdamW: matrices and filters decay, gains, biases and the logit scale do not."""
    weights = [p for p in model.parameters() if p.requires_grad]
    return [{"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}]


def contrastive_objective(loss: Loss = clip_loss, keys: Int[Tensor, " n"] | None = None) -> Callable[..., Any]:
    """A loss for ``fit``: embed the images and captions of a batch and compare all with all.

    ``loss(u, v, scale)`` also receives the bias of a model that has one, and the keys of the batch's images where
    ``keys`` holds one an image of the data set. The scale is recorded.
    """
    def objective(model: nn.Module, batch: PairBatch) -> tuple[Tensor, dict[str, Any]]:
        u, v, scale = model(batch.images, batch.tokens)
        more = []
        if getattr(model, "logit_bias", None) is not None:
            more.append(model.logit_bias)
        if keys is not None:
            more.append(keys[batch.which].to(u.device))
        return loss(u, v, scale, *more), {"scale": scale}

    return objective


def train_clip(model: nn.Module, data: PairData, tokeniser: Tokeniser, *, steps: int, batch: int = 128,
               lr: float | int = 1e-3, warmup: int = 50, weight_decay: float | int = 0.2, loss: Loss = clip_loss,
               keys: Int[Tensor, " n"] | None = None, most: float | int = 100.0, max_len: int | None = None,
               seed: int = 0, on_step: Callable[[int, Any], Any] | None = None, **options: Any) -> History:
    """Train a dual encoder as CLIP is trained: AdamW(.9, .98), warm-up, half a cosine to 0, the scale at most ``most``.

    ``loss`` and ``keys`` as in ``contrastive_objective``. The history's scalars hold the "scale" of each step. Further
    ``options`` (``evaluate``, ``title``, ``folder`` …) go to ``fit``.
    """
    batches = PairBatches(data, tokeniser, batch, seed=seed, max_len=max_len or context_of(model))
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)

    def after(step: int, trained: nn.Module) -> None:
        clamp_logit_scale_(trained, most)
        if on_step is not None:
            on_step(step, trained)

    options.setdefault("schedule", warmup_cosine(lr, min(warmup, steps // 4), steps))
    return fit(model, contrastive_objective(loss, keys), batches, steps=steps, optimizer=optimizer, seed=seed,
               on_step=after, **options)


def context_of(model: nn.Module) -> int | None:
    """Most tokens of a caption that a model reads, None where it does not say."""
    return getattr(getattr(model, "config", None), "context", None)


# --------------------------------------------------------------------------------------------------------- evaluation

class _evaluation:
    """A model in evaluation mode for a while."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> torch.device:
        self.training = self.model.training
        self.model.eval()
        return next(self.model.parameters()).device

    def __exit__(self, *error: Any) -> None:
        self.model.train(self.training)


def _parts(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))


@torch.no_grad()
def embed_images(model: nn.Module, images: UInt8[Tensor, "n 3 s s"], batch: int = 250) -> Float[Tensor, "n e"]:
    """Unit embeddings of pictures, in evaluation mode, on the CPU."""
    with _evaluation(model) as device:
        return torch.cat([model.encode_image(                              # type: ignore[operator]
            pixels(images[part].to(device)), normalise=True).float().cpu()
                          for part in _parts(len(images), batch)])


@torch.no_grad()
def embed_texts(model: nn.Module, tokeniser: Tokeniser, texts: Sequence[str], batch: int = 500) -> Float[Tensor, "n e"]:
    """Unit embeddings of texts, in evaluation mode, on the CPU."""
    with _evaluation(model) as device:
        tokens = tokeniser.batch(texts, context_of(model))
        return torch.cat([model.encode_text(                               # type: ignore[operator]
            tokens[part].to(device), normalise=True).float().cpu()
                          for part in _parts(len(tokens), batch)])


def zero_shot_accuracy(model: nn.Module, tokeniser: Tokeniser, pictures: ClassPictures,
                       templates: Sequence[str] = TEMPLATES, k: int = 1) -> float:
    """Fraction of pictures whose class is among the ``k`` whose sentences are closest (eq:zero-shot-weights)."""
    weights = zero_shot_weights(model, tokeniser, pictures.classes, templates).cpu()
    return top_k_accuracy(embed_images(model, pictures.images) @ weights.T, pictures.labels, k)


def retrieval(model: nn.Module, tokeniser: Tokeniser, data: PairData, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """R@k and median rank in both directions, over all images of ``data`` and all their captions (eq:recall-at-k)."""
    texts = [text for group in data.captions for text in group]
    owner = torch.arange(len(data)).repeat_interleave(torch.tensor([len(group) for group in data.captions]))
    return retrieval_metrics(embed_images(model, data.images), embed_texts(model, tokeniser, texts), owner, ks)


# -------------------------------------------------------------------------------------------------- the miniature

class Mini(NamedTuple):
    """A trained miniature: the model in evaluation mode, its words, and how it was trained and judged."""

    model: CLIP
    tokeniser: WordTokeniser
    about: dict[str, Any]


def save_mini(path: Path | str, model: CLIP, tokeniser: WordTokeniser, about: dict[str, Any]) -> None:
    """Write a CLIP as ``path`` (.safetensors, 16 bits) and a .json beside it with configuration, words and ``about``."""
    path = Path(path)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    write_atomically(path, save(portable(state)))
    tower = "resnet" if isinstance(model.config.image, ResNetConfig) else "vit"
    content = {"tower": tower, "config": asdict(model.config), **about, "splitter": tokeniser.splitter, "words": tokeniser.words}
    write_atomically(path.with_suffix(".json"), json.dumps(content, indent=1) + "\n")


def load_mini(kind: str | Path = "resnet") -> Mini:
    """The trained miniature that comes with the book ("resnet" or "vit"), or what ``save_mini`` wrote at a path.

    Raises ``FileNotFoundError`` if the files are not there, ``ValueError`` if they are something else.
    """
    path = CHECKPOINTS / FILES[str(kind)] if str(kind) in FILES else Path(kind)
    if not path.exists() or not path.with_suffix(".json").exists():
        raise FileNotFoundError(f"no miniature at {path} with a .json beside it; give 'vit', 'resnet' or a path, or train "
                                "one with `python -m mmlearn.recipes clip-mini`")
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        config, tower, words, splitter = (about.pop(name) for name in ("config", "tower", "words", "splitter"))
        image = {k: tuple(v) if isinstance(v, list) else v for k, v in config["image"].items()}
        towers = {"image": {"resnet": ResNetConfig, "vit": ViTConfig}[tower](**image), "text": TextConfig(**config["text"])}
        model = CLIP(CLIPConfig(**{**config, **towers}))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.with_suffix('.json')} does not describe a miniature ({error}); train it again with "
                         "`python -m mmlearn.recipes clip-mini`") from error
    try:
        weights = load(path.read_bytes())
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights of {path.with_suffix('.json')}: "
                         f"{' '.join(str(error).split())[:300]}; train it again") from error
    return Mini(model.eval(), WordTokeniser(words, splitter), about)
