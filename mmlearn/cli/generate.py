"""``mmlearn generate``: draw pictures of sentences, with a miniature of the book or a saved model, be it a
GAN or a diffusion model."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmlearn.cli.dual import read_lines
from mmlearn.files import check_writable, write_atomically

MOST = 1000             # pictures at once
DEFAULT = "dalle"
EXAMPLES = """examples:
  mmlearn generate "a red car in the snow" --out car.png
  mmlearn generate "a blue house in a meadow" --model attngan --samples 4 --seed 7 --out house.png
  mmlearn generate "a man is cooking" --weights runs/dfgan --out cook.png
  mmlearn generate "a red car in the snow" --model glide --guidance 3 --steps 50 --out car.png
  mmlearn generate --texts sentences.txt --out drawn/picture.png --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn generate``."""
    parser.epilog = EXAMPLES
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="what is to be drawn, a sentence each")
    parser.add_argument("--texts", dest="file", type=Path, metavar="FILE",
                        help="more sentences, one a line of a text file")
    parser.add_argument("--model", "--weights", "--checkpoint", dest="model", default=DEFAULT, metavar="NAME",
                        help=f"a miniature of the book that came with this copy (gan-cls, attngan, dmgan, "
                             f"dfgan, dalle, glide), the --out folder of mmlearn train, or a saved model "
                             f"(default {DEFAULT})")
    parser.add_argument("--samples", type=int, default=1, metavar="N",
                        help="pictures of each sentence (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="the same seed draws the same pictures (default 0)")
    add_diffusion(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png",
                        help="the picture; of several FILE-0.png, FILE-1.png …: the samples of the first "
                             "sentence, then of the second")
    parser.add_argument("--json", action="store_true", help="one JSON list, an entry a picture")
    parser.set_defaults(run=run)


def add_diffusion(parser: argparse.ArgumentParser) -> None:
    """Add what only models have that draw in steps."""
    parser.add_argument("--guidance", type=float, metavar="S",
                        help="of diffusion models: how far to go beyond what the sentence alone asks for; 1 "
                             "is not at all (default 3)")
    parser.add_argument("--steps", type=int, metavar="N",
                        help="of diffusion models: steps from noise to picture (default 100)")


def diffusion_options(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    """What ``add_diffusion`` was given, for ``model.draw``. Raises ``ValueError`` for numbers out of range
    and for models without steps."""
    from mmlearn.text2image.painting import Painter

    given = {name: value for name, value in (("guidance", args.guidance), ("steps", args.steps))
             if value is not None}
    if given and not isinstance(model, Painter):
        raise ValueError(f"--{next(iter(given))} is for diffusion models, and {args.model} is a "
                         f"{model.system}; leave it out")
    if not 0 <= given.get("guidance", 1) <= 100:            # also what is not a number
        raise ValueError(f"--guidance is {args.guidance}; take 0 to 100, such as 3")
    if isinstance(model, Painter):
        most = len(model.base.config.noise)
        if not 1 <= given.get("steps", 1) <= most:
            raise ValueError(f"--steps is {args.steps}; take 1 to {most}")
    return given


def run(args: argparse.Namespace) -> None:
    """Draw pictures; see ``mmlearn generate --help``."""
    texts, places = plan(args)
    from mmlearn.text2image.painting import OPENERS, open_drawer

    model = open_drawer(args.model)
    options = diffusion_options(args, model)
    if args.model in OPENERS or of_scenes(args.model):
        print(f"{args.model} knows drawings of "
              f"{'one thing or two' if model.system == 'glide' else 'one thing'} in a place, such as 'a red "
              f"car in the snow', and nothing else", file=sys.stderr)
    cut = getattr(model.tokeniser, "length", None)
    if cut is not None and (long := next((text for text in texts if len(text) > cut), None)):
        print(f"{args.model} reads {cut} characters; it does not see {long[cut:][:40]!r}", file=sys.stderr)
    say_what_is_not_read(args.model, model, texts)
    found: list[dict[str, Any]] = []
    for i, picture in enumerate(model.draw(texts, args.samples, args.seed, **options)):
        write_picture(places[i], picture)
        found.append({"file": str(places[i]), "text": texts[i // args.samples], "sample": i % args.samples,
                      "seed": args.seed})
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for one in found:
        print(f"{one['file']}: {one['text']}")


def write_picture(place: Path, picture: Any) -> None:
    """A picture (3, y, x) in [-1, 1] as a PNG file, in one step."""
    from mmlearn.text2image.pipeline import sheet

    content = io.BytesIO()
    sheet(picture[None]).save(content, "PNG")
    write_atomically(place, content.getvalue())


def say_what_is_not_read(name: str, model: Any, texts: Sequence[str]) -> None:
    """On stderr: words of a small vocabulary that were never learned, and what is beyond the context."""
    from mmlearn.data.glide_tokeniser import MERGES, GLIDETokeniser

    words = model.tokeniser
    if not isinstance(words, GLIDETokeniser):
        return
    if len(words) < MERGES and (new := [word for text in texts for word in words.spelt_out(text)]):
        print(f"{name} never read {', '.join(map(repr, dict.fromkeys(new)))}; it spells such words and does "
              f"not know what they look like", file=sys.stderr)
    if long := next((text for text in texts if len(words.encode(text)) > words.context), None):
        print(f"{name} reads {words.context} tokens; it does not see "
              f"{words.decode(words.encode(long)[words.context:])[:40]!r}", file=sys.stderr)


def plan(args: argparse.Namespace) -> tuple[list[str], list[Path]]:
    """The sentences, and where each picture goes. Raises ``ValueError`` before a model is read."""
    texts = [text.strip() for text in args.texts]
    if args.file is not None:
        more = read_lines(args.file)
        if not more:
            raise ValueError(f"--texts {args.file} holds no sentence; write one a line")
        texts += more
    if not texts:
        raise ValueError("nothing is to be drawn; give a sentence in quotes, or --texts FILE with one a line")
    if args.samples < 1 or args.samples * len(texts) > MOST:
        raise ValueError(f"--samples is {args.samples} of {len(texts)} sentence{'s' * (len(texts) > 1)}; "
                         f"take 1 or more, and at most {MOST} pictures in all")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed is {args.seed}; take 0 to {2**32 - 1}")
    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out is {str(args.out)[:80]}; pictures are PNG files, give a name that ends in "
                         f".png")
    count = args.samples * len(texts)
    places = [args.out] if count == 1 else [args.out.with_stem(f"{args.out.stem}-{i}") for i in range(count)]
    for place in places:
        check_place(place)
    return texts, places


def check_place(place: Path, option: str = "--out") -> None:
    """Raises ``ValueError`` if something is there that is no picture; a picture may be replaced."""
    from mmlearn.data.images import read_image

    try:
        check_writable(place)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    if place.exists():
        try:
            read_image(place)
        except (ValueError, OSError) as error:
            raise ValueError(f"{option}: {place} is there and is no picture that can be read; give another "
                             f"name") from error


def of_scenes(model: str) -> bool:
    """Was a model trained on drawn scenes by ``mmlearn train``?"""
    from mmlearn.checkpoints import read_description

    settings = read_description(model).get("settings")
    return isinstance(settings, dict) and settings.get("data") == "scenes"
