"""Contrastive learning on the scene world: pairs become batches, a dual encoder is trained on them and
judged.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 2.5 (optimiser, schedule, clipped scale), sec. 3.1 (zero-shot), app. A and F.  Survey:
4.2. Differs from the paper: drawn scenes of 64 pixels with five captions each, of which one is drawn anew
every time the image is seen; words as tokens; no random crop, because captions say left and right; miniatures
see thousands of pairs, not billions, so that the learning rate is higher and the warm-up shorter.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from mmlearn.catalog import kinds
from mmlearn.checkpoints import load_model, pair_of, save_model
from mmlearn.data.clip_tokeniser import CLIPTokeniser
from mmlearn.data.images import PictureFiles
from mmlearn.data.pairs import ClassPictures, PairBatch, PairBatches, PairData, pixels
from mmlearn.data.tokenisers import Tokeniser, WordTokeniser
from mmlearn.files import package_data
from mmlearn.metrics.retrieval import retrieval as retrieval_metrics
from mmlearn.nn.modes import eval_mode
from mmlearn.text_for_vision.align import ALIGN, Number, align_loss, clamp_temperature_
from mmlearn.text_for_vision.clip import CLIP, clamp_logit_scale_
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.zero_shot import SCENE, top_k_accuracy, zero_shot_weights
from mmlearn.train import History, fit, parameter_groups, warmup_cosine, warmup_linear

CHECKPOINTS = package_data("checkpoints")
FILES = {"vit": "clip-mini.safetensors", "resnet": "clip-mini-resnet.safetensors"}
TEMPLATES = SCENE  # sentences that the scene world's captions might hold

# --------------------------------------------------------------------------------------------------- training

Loss = Callable[..., Tensor]                # loss(u, v, scale), and what else the objective hands over


def adamw_cosine(model: nn.Module, lr: float | int, steps: int, *, warmup: int = 50,
                 weight_decay: float | int = 0.2) -> dict[str, Any]:
    """The optimiser and schedule of CLIP, for ``fit``: AdamW(.9, .98), a warm-up of at most a quarter of the
    steps, a cosine to 0."""
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=(0.9, 0.98), eps=1e-6,
                                  fused=True)
    return {"optimizer": optimizer, "schedule": warmup_cosine(lr, min(warmup, steps // 4), steps)}


def contrastive_objective(loss: Loss = clip_loss, keys: Int[Tensor, " n"]
                          | None = None) -> Callable[..., Any]:
    """A loss for ``fit``: embed the images and captions of a batch and compare all with all.

    ``loss(u, v, scale)`` also receives the bias of a model that has one, and the keys of the batch's images
    where ``keys`` holds one an image of the data set. The scale is recorded.
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
               lr: float | int = 1e-3, warmup: int = 50, weight_decay: float | int = 0.2,
               loss: Loss = clip_loss, keys: Int[Tensor, " n"] | None = None, most: float | int = 100.0,
               max_len: int | None = None, seed: int = 0, on_step: Callable[[int, Any], Any] | None = None,
               **options: Any) -> History:
    """Train a dual encoder as CLIP is trained: AdamW(.9, .98), warm-up, half a cosine to 0, the scale at most
    ``most``.

    ``loss`` and ``keys`` as in ``contrastive_objective``. The history's scalars hold the "scale" of each
    step. Further ``options`` (``evaluate``, ``title``, ``folder`` …) go to ``fit``.
    """
    batches = PairBatches(data, tokeniser, batch, seed=seed, max_len=max_len or context_of(model))
    options = {**adamw_cosine(model, lr, steps, warmup=warmup, weight_decay=weight_decay), **options}

    def after(step: int, trained: nn.Module) -> None:
        clamp_logit_scale_(trained, most)
        if on_step is not None:
            on_step(step, trained)

    return fit(model, contrastive_objective(loss, keys), batches, steps=steps, seed=seed, on_step=after,
               **options)


def context_of(model: nn.Module) -> int | None:
    """Most tokens of a caption that a model reads, None where it does not say."""
    return getattr(getattr(model, "config", None), "context", None)


# ------------------------------------------------------------------------------------------------- evaluation

def _parts(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))


@torch.no_grad()
def embed_images(model: nn.Module, images: UInt8[Tensor, "n 3 s s"] | PictureFiles,
                 batch: int = 250) -> Float[Tensor, "n e"]:
    """Unit embeddings of pictures, in evaluation mode, on the CPU."""
    with eval_mode(model) as device:
        return torch.cat([model.encode_image(                              # type: ignore[operator]
            pixels(images[part].to(device)), normalise=True).float().cpu()
                          for part in _parts(len(images), batch)])


@torch.no_grad()
def embed_texts(model: nn.Module, tokeniser: Tokeniser, texts: Sequence[str],
                batch: int = 500) -> Float[Tensor, "n e"]:
    """Unit embeddings of texts, in evaluation mode, on the CPU."""
    with eval_mode(model) as device:
        tokens = tokeniser.batch(texts, context_of(model))
        return torch.cat([model.encode_text(                               # type: ignore[operator]
            tokens[part].to(device), normalise=True).float().cpu()
                          for part in _parts(len(tokens), batch)])


def zero_shot_accuracy(model: nn.Module, tokeniser: Tokeniser, pictures: ClassPictures,
                       templates: Sequence[str] = TEMPLATES, k: int = 1) -> float:
    """Fraction of pictures whose class is among the ``k`` whose sentences are closest
    (eq:zero-shot-weights)."""
    weights = zero_shot_weights(model, tokeniser, pictures.classes, templates).cpu()
    return top_k_accuracy(embed_images(model, pictures.images) @ weights.T, pictures.labels, k)


def retrieval(model: nn.Module, tokeniser: Tokeniser, data: PairData,
              ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """R@k and median rank in both directions, over all images of ``data`` and all their captions
    (eq:recall-at-k)."""
    texts = [text for group in data.captions for text in group]
    owner = torch.arange(len(data)).repeat_interleave(torch.tensor([len(group) for group in data.captions]))
    return retrieval_metrics(embed_images(model, data.images), embed_texts(model, tokeniser, texts), owner,
                             ks)


# ---------------------------------------------------------------------------------------------- the miniature

class Mini(NamedTuple):
    """A trained CLIP: the model in evaluation mode, its tokeniser, and how it was trained and judged."""

    model: CLIP
    tokeniser: Tokeniser
    about: dict[str, Any]


def save_mini(path: Path | str, model: CLIP, tokeniser: Tokeniser, about: dict[str, Any]) -> None:
    """Write a CLIP as ``path`` (.safetensors, 16 bits; or a folder) with its configuration, words and
    ``about``.

    CLIP's own tokeniser has no words to write: it is the same for all.
    """
    words = (
        {"splitter": tokeniser.splitter, "words": tokeniser.words}
        if isinstance(tokeniser, WordTokeniser)
        else {}
    )
    save_model(path, model, "clip", {**about, **words}, half=True)


def load_mini(kind: str | Path = "resnet") -> Mini:
    """The trained miniature that comes with the book ("resnet" or "vit"), or what ``save_mini`` wrote at a
    path.

    Raises ``FileNotFoundError`` if the files are not there, ``ValueError`` if they are something else.
    """
    path = CHECKPOINTS / FILES[str(kind)] if str(kind) in FILES else Path(kind)
    remedy = "give 'vit', 'resnet' or a path, or train one with `python -m mmlearn.experiments clip-mini`"
    model, about = load_model(path, kinds("clip"), remedy)
    description = pair_of(path)[1]
    tokeniser: Tokeniser = WordTokeniser.of(about, description) if "words" in about else CLIPTokeniser.find()
    if len(tokeniser) > model.config.vocab:  # type: ignore[union-attr,operator]
        raise ValueError(f"{description} has {len(tokeniser)} words and a model of "
                         f"{model.config.vocab}; {remedy}")  # type: ignore[union-attr]
    about = {name: value for name, value in about.items() if name not in ("words", "splitter")}
    return Mini(cast(CLIP, model), tokeniser, about)


def train_align(model: ALIGN, data: PairData, tokeniser: Tokeniser, *, steps: int, batch: int = 64,
                lr: Number = 2e-3, warmup: int = 20, weight_decay: Number = 1e-5, smoothing: Number = 0.1,
                optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW, seed: int = 0,
                **options: Any) -> History:
    """Train with smoothed labels, linear warm-up and linear decay; the scalars hold the "scale" of each step.

    The paper's optimiser is ``LAMB``, for batches of thousands; with the small batches of a miniature AdamW
    (the default) learns faster. Gains, biases and tau do not decay. Further ``options`` go to ``fit``.
    """
    decayed, free = parameter_groups(model, weight_decay)
    groups = [decayed, {**free, "adapt": False}]
    options.setdefault("schedule", warmup_linear(lr, min(warmup, steps // 4), steps))
    return fit(model, contrastive_objective(partial(align_loss, smoothing=smoothing)),
               PairBatches(data, tokeniser, batch, seed=seed, max_len=model.config.context), steps=steps,
               optimizer=optimizer(groups, lr=lr), seed=seed, on_step=lambda step,
               trained: clamp_temperature_(trained), **options)
