"""Does imagination help a language model that has few examples? The same language model beside heads that see
the real picture, an imagined one, somebody else's, or the sentence twice.

Paper: Y. Lu et al. (2022), *Imagination-Augmented Natural Language Understanding*, NAACL, arXiv:2204.08535,
sec. 4 (few-shot).  Survey: 3.6.

Three tasks ask for a fact of the picture that its sentence does not state: is it bright, is it more red than
blue, is its lower half brighter than its upper half? Labels are read off the real pixels, cut at the median
of all training pictures. The fourth asks of two captions whether their pictures have the same dominant
colour; there the released head, none of whose inputs holds both, is tried ("same colour"), and one that can
compare ("same colour, compared"). A sentence, its real and its imagined picture are read by the guide's CLIP.

For each seed the trunk is trained to fill in hidden words; then, for each number of examples, the language
model is fine-tuned once, and for every arm a head beside it, from the same start with the same batches: as no
gradient passes between both, that is what a joint training does.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from mmlearn.data.things import thing_pairs
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.data.word_tasks import scene_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.cutouts import CutoutConfig
from mmlearn.images_for_language.iace import (
    IACE,
    Examples,
    accuracy,
    ensemble,
    fine_tune,
    fine_tune_head,
    sampled_rows,
)
from mmlearn.images_for_language.imagination import embedded, imagined_pictures, seen
from mmlearn.images_for_language.voken_lm import VokenLM, VokenLMConfig
from mmlearn.images_for_language.voken_training import MaskedBatches, train_voken_lm
from mmlearn.images_for_language.vqgan_clip import VQGANCLIP
from mmlearn.nn.bert import BERT
from mmlearn.nn.modes import seeded
from mmlearn.text2image.first_stage import load_vqgan
from mmlearn.text_for_vision.training import Mini, load_mini

BASE = "text only"
ARMS = ("real", "imagined", "shuffled", "text twice")
TASKS: dict[str, Callable[[Tensor], Tensor]] = {  # of pictures in [0, 1]: what is cut at its median
    "bright": lambda x: x.mean(dim=(1, 2, 3)),
    "warm": lambda x: x[:, 0].mean(dim=(1, 2)) - x[:, 2].mean(dim=(1, 2)),
    "bright ground": lambda x: (x[:, :, x.shape[2] // 2 :].mean(dim=(1, 2, 3))
                                - x[:, :, : x.shape[2] // 2].mean(dim=(1, 2, 3))),
}


PAIRS = "same colour"
NAMES = (*TASKS, PAIRS, f"{PAIRS}, compared")
LONGEST = 32                                            # tokens of a sentence


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--examples", default="16,32,64,128,256", help="numbers of training examples")
    parser.add_argument("--train", type=int, default=256, help="sentences to choose examples from")
    parser.add_argument("--test", type=int, default=200, help="test sentences")
    parser.add_argument("--imagine-steps", type=int, default=60, help="of VQGAN+CLIP, for each sentence")
    parser.add_argument("--phase-one", type=int, default=400, help="steps with hidden words")
    parser.add_argument("--captions", type=int, default=2000, help="sentences for them")
    parser.add_argument("--steps", type=int, default=150, help="of each fine-tuning")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--guide", default="vit", help="the CLIP that guides and reads")
    parser.add_argument("--vqgan", type=Path, help="a trained VQGAN (default: that of the book)")
    parser.add_argument("--pictures", type=Path,
                        help="keep imagined pictures here, to go on with if the run is killed")


@cache
def trunk_of(seed: int, steps: int, captions: int, guide: str) -> BERT:
    """The first phase: a small BERT that fills in hidden words of the world's sentences."""
    words = load_mini(guide).tokeniser
    texts = [text for group in thing_pairs(captions).captions for text in group]
    tokens = words.batch(texts, LONGEST)
    with seeded(seed):
        model = VokenLM(VokenLMConfig.mini(len(words), words.pad, 2 * LONGEST, vokens=1))
    batches = MaskedBatches(tokens, None, 64, special=(words.pad, words.bos, words.eos), vocab=len(words),
                            mask_id=words.unk, pad=words.pad, seed=seed)
    if steps:
        train_voken_lm(model, batches, steps=steps, lr=1e-3, warmup=min(50, steps // 4), seed=seed,
                       progress=False)
    return model.bert


class Data(NamedTuple):
    """Examples of a task, those to learn from first: s sentences each, their real pictures, labels."""

    texts: tuple[tuple[str, ...], ...]
    real: UInt8[Tensor, "n s 3 y x"]
    labels: Int[Tensor, " n"]


@cache
def data_of(name: str, train: int, test: int) -> Data:
    """The examples of a task."""
    if name in TASKS:
        parts = [thing_pairs(train, "train"), thing_pairs(test, "test")]
        real = torch.cat([cast(Tensor, part.images) for part in parts])
        score = TASKS[name](real.float() / 255)
        texts = tuple((sentences[0],) for part in parts for sentences in part.captions)
        return Data(texts, real[:, None], (score > score[:train].median()).long())
    pairs = [scene_pairs(train, "train"), scene_pairs(test, "test")]
    return Data(tuple(both for part in pairs for both in zip(part.first, part.second)),
                torch.cat([torch.stack(part.pictures(), dim=1) for part in pairs]),
                torch.cat([part.labels for part in pairs]))


def tokens_of(words: WordTokeniser, texts: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Sentences of examples one behind the other, each with its end, and which of them a token belongs to."""
    rows = [[words.bos] + [i for text in one for i in words.batch([text], LONGEST)[0, 1:].tolist()]
            for one in texts]
    tokens = torch.full((len(rows), max(map(len, rows))), words.pad)
    for row, ids in zip(tokens, rows):
        row[: len(ids)] = torch.tensor(ids)
    ended = (tokens == words.eos).long().cumsum(dim=1)
    segments = ended - (tokens == words.eos).long()             # an end belongs to the sentence before it
    return tokens, segments.clamp(max=1) * (tokens != words.pad)


def imaginer(args: argparse.Namespace, mini: Mini) -> VQGANCLIP:
    """What imagines."""
    return VQGANCLIP.of(load_vqgan(args.vqgan), mini.model, CutoutConfig.mini(), steps=args.imagine_steps)


def pictures_of(args: argparse.Namespace, mini: Mini, texts: list[str], progress: bool = False) -> Tensor:
    """The imagined pictures, drawn or read."""
    return imagined_pictures(imaginer(args, mini), mini.tokeniser, texts, args.pictures, progress=progress)


def shuffled(n: int, train: int, seed: int) -> Tensor:
    """An order in which nobody has the own picture, within the training sentences and within the test's."""
    g = torch.Generator().manual_seed(seed)
    orders = []
    for count, start in ((train, 0), (n - train, train)):
        order = torch.randperm(count, generator=g)
        away = torch.empty_like(order)
        away[order] = order.roll(1)                     # one circle through all
        orders.append(away + start)
    return torch.cat(orders)


def features_of(data: Data, mini: Mini, args: argparse.Namespace,
                seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """CLIP's features (n, s, e) of the sentences, and of what stands in the place of pictures, by arm."""
    flat = [text for one in data.texts for text in one]
    shape = (len(data.texts), -1)
    texts = embedded(mini.model, mini.tokeniser, flat).unflatten(0, shape)
    real = seen(mini.model, data.real.flatten(0, 1)).unflatten(0, shape)
    imagined = seen(mini.model, pictures_of(args, mini, flat)).unflatten(0, shape)
    others = imagined[shuffled(len(texts), args.train, seed)]
    return texts, {"real": real, "imagined": imagined, "shuffled": others, "text twice": texts}


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One task and seed: for each number of examples the test accuracy of the language model, of each head
    alone, and of both together."""
    mini, data = load_mini(args.guide), data_of(name.split(",")[0], args.train, args.test)
    tokens, segments = tokens_of(cast(WordTokeniser, mini.tokeniser), data.texts)
    texts, pictures = features_of(data, mini, args, seed)
    trunk = trunk_of(seed, args.phase_one, args.captions, args.guide)

    def examples(arm: str, rows: list[int]) -> Examples:
        return Examples(tokens, segments, pictures[arm], texts, data.labels).rows(rows)

    test = list(range(args.train, len(texts)))
    found: dict[str, dict[str, float]] = {}
    for n in counts(args):
        rows = sampled_rows(args.train, n, seed)
        options: dict[str, Any] = {"steps": args.steps, "lr": args.lr, "seed": seed, "progress": False}
        with seeded(seed):
            model = IACE.of(trunk, texts.shape[2], 64, compare=name.endswith("compared"))
        start = {key: value.clone() for key, value in model.head.state_dict().items()}
        scores: dict[str, float] = {}
        for arm in ARMS:
            if arm == ARMS[0]:
                fine_tune(model, examples(arm, rows), **options)
            else:
                model.head.load_state_dict(start)
                fine_tune_head(model, examples(arm, rows), **options)
            given = examples(arm, test)
            with torch.no_grad():
                language, first, second = model.eval()(given)
            scores[BASE] = accuracy(language, given.labels)
            scores[f"{arm}, head alone"] = accuracy(first + second, given.labels)
            scores[arm] = accuracy(ensemble(language, first, second), given.labels)
        found[str(n)] = {key: round(value, 4) for key, value in scores.items()}
    return {"seed": seed, "scores": found, "share of ones": round(float(data.labels[test].float().mean()), 4)}


def counts(args: argparse.Namespace) -> list[int]:
    """The numbers of examples. Raises ``ValueError`` for others than whole numbers that there are."""
    try:
        found = [int(number) for number in args.examples.split(",")]
    except ValueError:
        found = [0]
    if not all(1 <= number <= args.train for number in found):
        raise ValueError(f"--examples is {args.examples}; give whole numbers from 1 to {args.train} with "
                         f"commas between them")
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    counts(args)
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in NAMES]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    kinds = [data_of(name, args.train, args.test).texts for name in (next(iter(TASKS)), PAIRS)]
    everything = [text for texts in kinds for one in texts for text in one]
    with tempfile.TemporaryDirectory() as folder:
        args.pictures = args.pictures or Path(folder)
        pictures_of(args, load_mini(args.guide), everything, progress=True)
        for (name, seed), result in run_jobs(job, jobs, args):
            results[name].append(result)
            print(f"seed {seed}  {name:22}  {result['scores']}", flush=True)
    settings = {key: getattr(args, key) for key in ("examples", "train", "test", "imagine_steps", "phase_one",
                                                    "captions", "steps", "lr", "guide")}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "tasks": results}
