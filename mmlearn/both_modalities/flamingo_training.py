r"""Training the miniature Flamingo on pages of drawn scenes, judging it, and keeping what was trained.

Paper: J.-B. Alayrac et al. (2022), *Flamingo*, arXiv:2204.14198, sec. 2.4 and appendix B.1 (several sets of
data, their gradients summed), sec. 3 (what is judged).  Survey: 5.3.
Differs from the paper: two sets of data, pages of captions, questions and instructions and pages that bind
words to pictures. The frozen encoder has read every picture once before training starts.

What is saved is the adapter alone; the frozen language model and the frozen encoder are referred to by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmlearn.both_modalities.few_shot import score_answers, write_answers
from mmlearn.both_modalities.flamingo import (
    Flamingo,
    FlamingoAdapter,
    FlamingoConfig,
    mixture_loss,
    parameter_groups,
)
from mmlearn.both_modalities.flamingo_vision import PatchStates, ResNetCells
from mmlearn.both_modalities.interleaved import (
    NONSENSE,
    BindingBatches,
    ChunkTokeniser,
    Example,
    InterleavedBatch,
    Look,
    PageBatches,
    binding_page,
    caption_examples,
    collate_pages,
    interleaved_objective,
    shown,
)
from mmlearn.both_modalities.language_model import SavedLM, load_lm
from mmlearn.both_modalities.packing import packed_losses, packs
from mmlearn.catalog import kinds
from mmlearn.checkpoints import load_model, pair_of, save_model
from mmlearn.data.batches import Batches
from mmlearn.data.images import PictureFiles
from mmlearn.data.pairs import ClassPictures, PairData, pixels
from mmlearn.files import package_data
from mmlearn.nn.causal_lm import token_log_probs
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text_for_vision.training import load_mini
from mmlearn.train import History, fit, linear_warmup

ENCODERS = ("resnet", "vit")                    # of chapter 4's CLIPs
FILE = "flamingo.safetensors"
LANGUAGE = "scene-lm"                           # the frozen language model, in the folder of the checkpoints
SETS = ("pages", "bindings")


# ------------------------------------------------------------------------------------- what is frozen


def scene_encoder(kind: str = "resnet") -> nn.Module:
    """The picture tower of a CLIP of chapter 4 as cells (b, p, f), frozen; "resnet" or "vit".

    Raises ``ValueError`` for another name.
    """
    if kind not in ENCODERS:
        raise ValueError(f"the encoder is {kind!r}; take one of {', '.join(ENCODERS)}")
    tower: Any = load_mini(kind).model.image
    cells = ResNetCells(tower) if kind == "resnet" else PatchStates(tower)
    return cells.requires_grad_(False).eval()


@torch.no_grad()
def encode_pictures(
    vision: nn.Module, images: UInt8[Tensor, "n 3 s s"] | PictureFiles, batch: int = 250
) -> Float[Tensor, "n p f"]:
    """What the frozen encoder makes of pictures of 0..255, once and for all."""
    with eval_mode(vision) as device:
        return torch.cat([vision(pixels(images[i : i + batch].to(device))).float().cpu()
                          for i in range(0, len(images), batch)])


def mini_config(language: nn.Module, features: int, **options: Any) -> FlamingoConfig:
    """A miniature that fits a language model and an encoder of ``features`` numbers a cell; without times,
    since it sees no videos."""
    lm: Any = language
    config = FlamingoConfig.mini(lm.config.width, lm.config.layers, features)
    return replace(config, frames=0, head=16, **options)


def new_flamingo(
    config: FlamingoConfig, language: nn.Module, seed: int = 0, trained: Sequence[str] = ()
) -> Flamingo:
    """A Flamingo over a language model, its first weights a function of ``seed``; pictures come as
    features."""
    with seeded(seed):
        return Flamingo(config, language, trained=trained)


# ------------------------------------------------------------------------------------------- training


class MixedBatches(Batches):
    """Batches of several sets of data side by side: the batch ``number`` of each, by name."""

    def __init__(self, sets: Mapping[str, Batches]) -> None:
        first = next(iter(sets.values()))
        super().__init__(first.data, first.size, seed=first.seed)
        self.sets = dict(sets)

    def __repr__(self) -> str:
        return " + ".join(f"{name}: {batches!r}" for name, batches in self.sets.items())

    def make(self, indices: list[int], number: int) -> dict[str, InterleavedBatch]:
        return {name: batches[number] for name, batches in self.sets.items()}


def mixture_objective(weights: Mapping[str, float]) -> Any:
    """A loss for ``fit``: eq:flamingo-mixture of the losses of all sets, each of which is recorded."""
    def objective(model: nn.Module, batch: dict[str, InterleavedBatch]) -> tuple[Tensor, dict[str, Any]]:
        if packs(model):
            losses = packed_losses(model, batch)
        else:
            losses = {name: interleaved_objective(model, part)[0] for name, part in batch.items()}
        told = {name: loss.detach() for name, loss in losses.items()}
        lambdas = torch.tensor([weights[name] for name in losses], device=next(iter(losses.values())).device)
        return mixture_loss(torch.stack([*losses.values()]), lambdas), told

    return objective


def scene_batches(
    examples: Sequence[Example], look: Look, things: ClassPictures, look_at_things: Look,
    tokeniser: ChunkTokeniser, *, batch: int = 24, most: int = 4, binding: int = 16, seed: int = 0,
) -> MixedBatches:
    """Pages of ``examples`` and pages that bind words to ``things``, ``batch`` and ``binding`` a step; with
    ``most`` = 1 there are pairs of one picture and one text alone, and no bindings."""
    sets: dict[str, Batches] = {"pages": PageBatches(examples, tokeniser, look, batch, most=most, seed=seed)}
    if most > 1:
        sets["bindings"] = BindingBatches(things, tokeniser, look_at_things, binding, seed=seed)
    return MixedBatches(sets)


def train_flamingo(
    model: Flamingo, batches: MixedBatches, *, steps: int, lr: float | int = 1e-3, warmup: int = 50,
    weights: Mapping[str, float] | None = None, seed: int = 0, **options: Any,
) -> History:
    """Train what is not frozen: AdamW, weight decay 0.1 (none in the resampler), a linear warm-up and then a
    constant rate, gradients of norm 1 at most, as in the paper.

    The history's scalars hold the loss of each set and "gate", the mean of $|\\tanh\\alpha|$. Further
    ``options`` (``evaluate``, ``folder``, ``title`` …) go to ``fit``.
    """
    objective = mixture_objective(weights or dict.fromkeys(batches.sets, 1.0))

    def with_gates(trained: Any, batch: Any) -> tuple[Tensor, dict[str, Any]]:
        loss, told = objective(trained, batch)
        if model.config.gated:
            told["gate"] = model.adapter.gates().detach().abs().mean()
        return loss, told

    optimizer = torch.optim.AdamW(list(parameter_groups(model)), lr=lr, fused=True)
    options = {"optimizer": optimizer, "clip": 1.0,
               "schedule": linear_warmup(lr, max(1, min(warmup, steps // 4))), **options}
    return fit(model, with_gates, batches, steps=steps, seed=seed, **options)


# -------------------------------------------------------------------------------------------- judging


@torch.no_grad()
def caption_losses(
    model: nn.Module, data: PairData, tokeniser: ChunkTokeniser, look: Look, batch: int = 50
) -> dict[str, Float[Tensor, " n"]]:
    """Nats a token of the first caption of each picture: with its "own" picture, with an "other" one, the
    next of the data, and with "none"."""
    first: dict[int, Example] = {}
    for example in caption_examples(data):
        first.setdefault(example.picture, example)
    examples, n = [*first.values()], len(data)
    losses: dict[str, list[Tensor]] = {"own": [], "other": [], "none": []}
    with eval_mode(model) as device:
        for start in range(0, n, batch):
            some = examples[start : start + batch]
            for name, rows in losses.items():
                pages = [[e if name != "other" else e._replace(picture=(e.picture + 1) % n)] for e in some]
                given = collate_pages(pages, tokeniser, look, answers_only=True)
                tokens, scored = given.tokens.to(device), given.scored[:, 1:].to(device)
                if name == "none":
                    logits = model(tokens, media=torch.zeros_like(given.media).to(device))
                else:
                    logits = model(tokens, **shown(given.pictures.to(device)), media=given.media.to(device))
                told = token_log_probs(logits, tokens) * scored
                rows.append(-(told.sum(dim=1) / scored.sum(dim=1)).cpu())
    return {name: torch.cat(rows) for name, rows in losses.items()}


def answers_by_kind(
    model: nn.Module, questions: Sequence[Example], tokeniser: ChunkTokeniser, look: Look | None
) -> dict[str, float]:
    """Share of questions answered word for word, by their kind and over "all", written greedily; without
    ``look`` no picture is seen."""
    written = write_answers(model, [[question] for question in questions], tokeniser, look, beams=1,
                            max_len=8)
    right: dict[str, list[bool]] = {"all": []}
    for question, text in zip(questions, written):
        same = tokeniser.encode(text) == tokeniser.encode(question.answer)
        right["all"].append(same)
        right.setdefault(question.kind, []).append(same)
    return {kind: sum(each) / len(each) for kind, each in right.items()}


def prior_by_kind(train: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """The same of who gives each kind of question its most frequent answer."""
    counts: dict[str, dict[str, int]] = {}
    for example in train:
        of = counts.setdefault(example.kind, {})
        of[example.answer] = of.get(example.answer, 0) + 1
    usual = {kind: max(of, key=lambda answer: of[answer]) for kind, of in counts.items()}
    right: dict[str, list[bool]] = {"all": []}
    for example in test:
        same = usual.get(example.kind) == example.answer
        right["all"].append(same)
        right.setdefault(example.kind, []).append(same)
    return {kind: sum(each) / len(each) for kind, each in right.items()}


class Episode(NamedTuple):
    """Shots and a query that bind ``words`` to pictures."""

    page: list[Example]
    words: list[str]


def binding_episodes(
    pictures: ClassPictures, count: int, *, ways: int = 2, shots: int = 4, seed: int = 0
) -> list[Episode]:
    """Episodes of ``binding_page`` and the words that each of them binds."""
    generator = torch.Generator().manual_seed(seed)
    pages = [binding_page(pictures, ways, shots, generator) for _ in range(count)]
    return [Episode(page, sorted({example.answer for example in page})) for page in pages]


def with_first_shots(episode: Episode, shots: int) -> list[Example]:
    """The episode with the first ``shots`` of each word and the query."""
    seen: dict[str, int] = {}
    kept = []
    for example in episode.page[:-1]:
        seen[example.answer] = seen.get(example.answer, 0) + 1
        if seen[example.answer] <= shots:
            kept.append(example)
    return [*kept, episode.page[-1]]


def with_swapped_words(page: Sequence[Example], words: Sequence[str]) -> list[Example]:
    """Every shot has the next of ``words`` for its own: who follows the shots gives the next one, too."""
    turned = {word: words[(i + 1) % len(words)] for i, word in enumerate(words)}
    return [*(example._replace(answer=turned[example.answer]) for example in page[:-1]), page[-1]]


def binding_accuracy(
    model: nn.Module, episodes: Sequence[Episode], tokeniser: ChunkTokeniser, look: Look | None = None, *,
    shots: int, wrong: bool = False,
) -> float:
    """Share of queries whose word is the likelier of those of the episode, after ``shots`` shots of each;
    ``wrong`` swaps the words of the shots."""
    pages = [with_first_shots(episode, shots) for episode in episodes]
    if wrong:
        pages = [with_swapped_words(page, episode.words) for page, episode in zip(pages, episodes)]
    return score_answers(model, pages, [episode.words for episode in episodes], tokeniser, look).accuracy


def named_support(
    pictures: ClassPictures, classes: Sequence[str], each: int, words: Sequence[str] = NONSENSE,
) -> list[Example]:
    """``each`` pictures of some classes, whose names are nonsense words: a task that is told by shots alone.

    Raises ``ValueError`` for more classes than words, and for too few pictures of one.
    """
    if len(classes) > len(words):
        raise ValueError(f"{len(classes)} classes and {len(words)} words; give a word for each class")
    found = []
    for name, word in zip(classes, words):
        own = (pictures.labels == pictures.classes.index(name)).nonzero()[:each, 0].tolist()
        if len(own) < each:
            raise ValueError(f"there are {len(own)} pictures of {name}, asked for are {each}; draw more")
        found += [Example("Output:", word, number, "binding") for number in own]
    return found


# ---------------------------------------------------------------------------------------------- files


class SavedFlamingo(NamedTuple):
    """A trained Flamingo in evaluation mode, the tokeniser of its language model, its encoder of pictures,
    and how it was trained and judged."""

    model: Flamingo
    tokeniser: ChunkTokeniser
    encoder: nn.Module
    about: dict[str, Any]


def save_flamingo(
    path: str | Path, adapter: FlamingoAdapter, encoder: str, about: Mapping[str, Any],
    language: str = LANGUAGE,
) -> None:
    """Write what was trained as ``path`` (.safetensors, 16 bits; or a folder), and the names of what was
    frozen: the language model ``language`` of the folder of ``path`` or of the book's checkpoints, and a
    CLIP ``encoder``."""
    save_model(path, adapter, "flamingo", {**about, "language": language, "encoder": encoder}, half=True)


def load_flamingo(
    path: str | Path | None = None, language: SavedLM | None = None
) -> SavedFlamingo:
    """What ``save_flamingo`` wrote, over the language model that it was trained on; by default the book's
    miniature, ``data/checkpoints/flamingo.safetensors``.

    Raises ``FileNotFoundError`` if files are not there, ``ValueError`` if they are something else.
    """
    path = package_data("checkpoints") / FILE if path is None else path
    adapter, about = load_model(path, kinds("flamingo"), "train one with mmlearn train flamingo")
    lm = language or load_lm(language_path(path, str(about.get("language", LANGUAGE))))
    encoder = scene_encoder(str(about.get("encoder", "resnet")))
    config: Any = adapter.config
    model = Flamingo(config, lm.model, encoder)
    model.adapter = adapter                                 # type: ignore[assignment]
    return SavedFlamingo(model.eval(), lm.tokeniser, encoder, about)


def language_path(path: str | Path, name: str = LANGUAGE) -> Path:
    """Where the language model of a saved Flamingo is: beside it, else among the book's checkpoints."""
    beside = pair_of(path)[0].with_name(f"{name}.safetensors")
    return beside if beside.exists() else package_data("checkpoints") / f"{name}.safetensors"
