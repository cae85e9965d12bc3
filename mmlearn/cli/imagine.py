"""``mmlearn imagine``: a picture of a sentence that no model draws: the codes of a VQGAN are moved until CLIP
sees in their picture what the sentence says."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mmlearn.cli.generate import check_place, plan, write_picture

DEFAULT, GUIDE = "vqgan", "clip-mini"
MOST_STEPS, MOST_SIDE = 100_000, 4096
EXAMPLES = """examples:
  mmlearn imagine "a red car in the snow" --out car.png
  mmlearn imagine "a blue house at night" --weights runs/vqgan --steps 200 --seed 7 --out house.png
  mmlearn imagine "a red car in the snow" --start car.png --frames steps/car.png --every 10 --out new.png
  mmlearn imagine "an armchair in the shape of an avocado" --weights last.ckpt --clip \
openai/clip-vit-base-patch32 --size 256 --steps 500 --cuts 32 --out chair.png
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn imagine``."""
    parser.epilog = EXAMPLES
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="what is to be seen, a sentence each")
    parser.add_argument("--texts", dest="file", type=Path, metavar="FILE",
                        help="more sentences, one a line of a text file")
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME",
                        help=f"a trained VQGAN: a saved model, a file or folder that its authors published, "
                             f"or {DEFAULT}, that of the book, where it came with this copy (default "
                             f"{DEFAULT})")
    parser.add_argument("--clip", default=GUIDE, metavar="NAME",
                        help=f"the CLIP that looks: as --weights of mmlearn classify (default {GUIDE}, which "
                             f"knows drawings only)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps of Adam (default 100)")
    parser.add_argument("--lr", type=float, default=0.1, metavar="R", help="its rate (default 0.1)")
    parser.add_argument("--cuts", type=int, metavar="N",
                        help="how many altered copies CLIP looks at in each step; 0: at the picture alone "
                             "(default 8 for a CLIP of 64 pixels, else 32)")
    parser.add_argument("--at-once", type=int, default=8, metavar="N",
                        help="copies at a time: fewer take less memory and give the same picture, but for "
                             "rounding (default 8)")
    parser.add_argument("--size", type=int, metavar="N", help="pixels a side (default: what the CLIP reads)")
    parser.add_argument("--samples", type=int, default=1, metavar="N",
                        help="pictures of each sentence (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="the same seed imagines the same picture; further samples have the next ones "
                             "(default 0)")
    parser.add_argument("--start", type=Path, metavar="PICTURE", help="begin with a picture, not with noise")
    parser.add_argument("--frames", type=Path, metavar="FILE.png",
                        help="of one picture also what it looked like on the way: FILE-0.png, FILE-1.png …")
    parser.add_argument("--every", type=int, default=10, metavar="N",
                        help="steps from one of them to the next (default 10)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png",
                        help="the picture; of several FILE-0.png, FILE-1.png …: the samples of the first "
                             "sentence, then of the second")
    parser.add_argument("--json", action="store_true", help="one JSON list, an entry a picture")
    parser.set_defaults(run=run)


def check(args: argparse.Namespace, pictures: int) -> None:
    """Raises ``ValueError`` for numbers out of range, before a model is read."""
    for name, low, high in (("steps", 1, MOST_STEPS), ("at_once", 1, 10_000), ("every", 1, MOST_STEPS)):
        if not low <= getattr(args, name) <= high:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; take {low} to {high:,}")
    if args.cuts is not None and not 0 <= args.cuts <= 1000:
        raise ValueError(f"--cuts is {args.cuts}; take 1 to 1000, or 0 for the picture alone")
    if not 0 < args.lr <= 100:
        raise ValueError(f"--lr is {args.lr}; take a number above 0, such as 0.1")
    if args.size is not None and not 1 <= args.size <= MOST_SIDE:
        raise ValueError(f"--size is {args.size}; take 1 to {MOST_SIDE} pixels")
    if args.frames is None:
        return
    if pictures > 1:
        raise ValueError(f"--frames is for one picture, and {pictures} are asked for; give one sentence and "
                         f"one sample")
    if args.frames.suffix.lower() != ".png":
        raise ValueError(f"--frames is {args.frames}; pictures are PNG files, give a name that ends in .png")
    taken = {place.resolve(): name for name, place in (("--start", args.start), ("--out", args.out)) if place}
    for i in range(len(range(0, args.steps, args.every)) + 1):
        place = frame(args.frames, i)
        if place.resolve() in taken:
            raise ValueError(f"--frames would write over {place}, which is {taken[place.resolve()]}; give "
                             f"another name")
        check_place(place, "--frames")


def frame(place: Path, number: int) -> Path:
    """Where a picture of the way goes."""
    return place.with_stem(f"{place.stem}-{number}")


def open_vqgan(source: str) -> Any:
    """A model with codes, frozen: that of the book, a saved one, or a published one."""
    from mmlearn.checkpoints import is_saved
    from mmlearn.images_for_language.vqgan_clip import latents_of
    from mmlearn.pretrained import load
    from mmlearn.text2image.first_stage import load_vqgan

    if source == GUIDE:
        raise ValueError(f"--weights is {GUIDE}, the book's CLIP, which goes to --clip; give a VQGAN")
    if source == DEFAULT:
        return load_vqgan()
    if is_saved(source):
        return load_vqgan(source)
    model = load(source).requires_grad_(False)
    latents_of(model)                                           # says what is wrong with another model
    return model


def run(args: argparse.Namespace) -> None:
    """Imagine pictures; see ``mmlearn imagine --help``."""
    texts, places = plan(args)
    check(args, len(places))
    from mmlearn.cli.dual import check_words
    from mmlearn.images_for_language.imagination import embedded
    from mmlearn.progress import Progress

    vqgan = open_vqgan(args.weights)
    ready, model = guide(args, vqgan)
    for text in texts:
        check_words(ready.tokeniser, args.clip, [text], "TEXT")
    goals = embedded(model.clip, ready.tokeniser, texts)
    start = first_picture(args, model, len(texts))
    done: list[dict[str, Any]] = []
    with Progress(args.steps * args.samples, "imagining", sys.stderr) as bar:
        for sample in range(args.samples):
            found = model.imagine(goals, seed=args.seed + sample, at_once=args.at_once, start=start,
                                  keep_every=args.every if args.frames else 0,
                                  on_step=lambda step, before=sample * args.steps: bar.update(before + step))
            scores = model.scores(found.images, goals).tolist()
            for i, picture in enumerate(found.images.cpu()):
                place = places[i * args.samples + sample]
                write_picture(place, picture)
                done.append({"file": str(place), "text": texts[i], "sample": sample,
                             "seed": args.seed + sample, "similarity": round(scores[i], 4)})
    for i, pictures in enumerate(found.frames):
        write_picture(frame(args.frames, i), pictures[0].float() / 127.5 - 1)
    done.sort(key=lambda one: (texts.index(one["text"]), one["sample"]))
    if args.json:
        print(json.dumps(done, ensure_ascii=False))
        return
    for one in done:
        print(f"{one['file']}: {one['text']} (similarity {one['similarity']:.2f})")


def guide(args: argparse.Namespace, vqgan: Any) -> tuple[Any, Any]:
    """The CLIP that looks, with its tokeniser, and both models together, where there is an accelerator on
    it."""
    from dataclasses import replace

    import torch

    from mmlearn.images_for_language.cutouts import CutoutConfig
    from mmlearn.images_for_language.vqgan_clip import VQGANCLIP
    from mmlearn.pretrained.dual_encoders import open_model
    from mmlearn.text_for_vision.clip import CLIP

    if args.clip == DEFAULT:
        raise ValueError(f"--clip is {DEFAULT}, the book's VQGAN, which goes to --weights; give a CLIP")
    ready = open_model(args.clip)
    if not isinstance(ready.model, CLIP):
        raise ValueError(f"--clip: {args.clip} is a {type(ready.model).__name__}; give a CLIP")
    cuts = CutoutConfig.mini() if ready.model.config.size <= 64 else CutoutConfig.paper()
    if args.cuts is not None:
        cuts = replace(cuts, cuts=args.cuts) if args.cuts else CutoutConfig.none()
    model = VQGANCLIP.of(vqgan, ready.model, cuts, args.size, args.steps, args.lr)
    return ready, model.to("cuda" if torch.cuda.is_available() else "cpu")


def first_picture(args: argparse.Namespace, model: Any, count: int) -> Any:
    """The picture of ``--start`` in [-1, 1], resized, for each sentence; None without one."""
    if args.start is None:
        return None
    from mmlearn.data.images import load_square

    device = next(model.clip.parameters()).device
    picture = load_square(args.start, model.config.size) * 2 - 1
    return picture[None].expand(count, -1, -1, -1).to(device)
