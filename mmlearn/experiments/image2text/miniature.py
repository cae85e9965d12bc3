"""What the trained captioners of chapter 1 have in common: their arguments, the two phases of their training,
their scores, and the files that come with the book.

Survey: 1.2, 1.2.1.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import environment
from mmlearn.experiments.image2text.m2_ablation import four_digits, rounded
from mmlearn.figures.image2text.captioning import attention_on_things
from mmlearn.image2text.regions import Detector
from mmlearn.image2text.saved import CHECKPOINTS, SavedCaptioner, load_captioner, save_captioner
from mmlearn.image2text.training import (
    CaptionData,
    Captioner,
    describe,
    evaluate_captioner,
    train_cross_entropy,
    train_self_critical,
)
from mmlearn.train import History

SHOWN = 20  # captions that are recorded


def add_phases(parser: argparse.ArgumentParser, miniature: str, *, images: int, polish: int) -> None:
    """The arguments of both phases; ``miniature`` names the checkpoint that is written."""
    parser.add_argument("--steps", type=int, default=3000, help="steps of cross-entropy")
    parser.add_argument("--images", type=int, default=images, help="scenes a step")
    parser.add_argument("--captions", type=int, default=4, help="captions of each")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--polish", type=int, default=polish, help="self-critical steps at the end, 32 scenes each"
    )
    parser.add_argument("--polish-lr", type=float, default=1e-4)
    parser.add_argument("--train", type=int, default=10_000, help="training scenes")
    parser.add_argument("--val", type=int, default=300, help="validation scenes, for the curve")
    parser.add_argument("--test", type=int, default=1000, help="test scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINTS / f"{miniature}.safetensors")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the record says of how a captioner was trained and tested."""
    return {
        **{k: v for k, v in vars(args).items() if isinstance(v, int | float)},
        "schedule": "Adam(.9, .98), cosine to lr / 20",
        "test of": "test, seed 0",
        "longest caption": "16 words",
    }


def part(folder: Path | None, name: str) -> Path | None:
    """The folder of one phase of a run, or none."""
    return folder and folder / name


def say_what_people_said(
    args: argparse.Namespace,
    model: Captioner,
    data: CaptionData,
    val: CaptionData,
    tokeniser: WordTokeniser,
    phase: str,
) -> History:
    """Cross-entropy on the captions of ``data``, with a curve of greedy scores on ``val``."""
    history = train_cross_entropy(
        model,
        data,
        tokeniser,
        steps=args.steps,
        images=args.images,
        captions=args.captions,
        lr=args.lr,
        seed=args.seed,
        folder=part(args.folder, phase),
        save_every=100,
        progress=False,
        evaluate=lambda trained: evaluate_captioner(trained, val, tokeniser, full=False),
        evaluate_every=max(1, args.steps // 8),
    )
    print("captions", rounded(history.metrics), flush=True)
    return history


def earn_rewards(
    args: argparse.Namespace, model: Captioner, data: CaptionData, tokeniser: WordTokeniser, phase: str
) -> History:
    """Self-critical training on CIDEr-D without the end mark."""
    return train_self_critical(
        model,
        data,
        tokeniser,
        steps=args.polish,
        lr=args.polish_lr,
        seed=args.seed,
        eos_in_reward=False,
        folder=part(args.folder, phase),
        save_every=20,
        progress=False,
    )


def both_decodings(
    model: Captioner, test: CaptionData, tokeniser: WordTokeniser, greedy: str = "scores"
) -> dict[str, dict[str, float]]:
    """All scores of greedy captions, under the name ``greedy``, and of those of a beam of 5."""
    return {
        greedy: four_digits(evaluate_captioner(model, test, tokeniser)),
        "beam 5": four_digits(evaluate_captioner(model, test, tokeniser, beam=5)),
    }


def most_frequent(data: CaptionData, test: CaptionData) -> list[str]:
    """The commonest caption of ``data``, said of every image of ``test``."""
    counts = Counter(" ".join(words) for group in data.words for words in group)
    return [counts.most_common(1)[0][0]] * len(test)


def finish(
    recipe: str, saved: SavedCaptioner, test: CaptionData, measured: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Write the weights, read them again and measure what the rounding to half precision has left."""
    saved.about = {"recipe": recipe, **measured, **environment()}
    write_miniature(path, saved)
    module = saved.feature_extractor.module
    again = load_captioner(path, module if isinstance(module, Detector) else None)
    few = test.rows(range(min(100, len(test))))
    measured["half precision"] = {
        "beam 5": four_digits(evaluate_captioner(again.model, test, saved.tokeniser, beam=5)),
        "100 scenes": four_digits(evaluate_captioner(again.model, few, saved.tokeniser, beam=5)),
    }
    measured["captions"] = describe(again.model, few, saved.tokeniser, beam_size=5)[:SHOWN]
    if saved.feature_extractor.kind == "pictures" and test.scenes is not None:
        measured["attention"] = where_nouns_look(again, few)
    again.about = {"recipe": recipe, **measured, **environment()}
    write_miniature(path, again)
    return measured


def write_miniature(path: Path, saved: SavedCaptioner) -> None:
    """Write a captioner that comes with the book; the book's detector is not written again."""
    save_captioner(
        path,
        saved.model,
        saved.tokeniser,
        saved.feature_extractor,
        saved.about,
        half=True,
        detector="detector" if saved.feature_extractor.kind == "regions" else None,
    )


def where_nouns_look(saved: SavedCaptioner, data: CaptionData) -> dict[str, float] | None:
    """``attention_on_things`` for the record; None where no caption names a thing that is there."""
    try:
        on = attention_on_things(
            saved.model, data.inputs.rows(range(len(data)))[0], data.scenes or [], saved.tokeniser
        )
    except ValueError:
        return None
    return {name: round(value, 4) for name, value in on._asdict().items()}
