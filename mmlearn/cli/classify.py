"""``mmlearn classify``: which of some sentences fits an image best, by CLIP or another dual encoder; nothing
is trained."""

import argparse
import json
from pathlib import Path
from typing import Any

DEFAULT = "openai/clip-vit-base-patch32"
EXAMPLES = """examples:
  mmlearn classify photo.jpg --labels "a dog,a cat,a bicycle"
  mmlearn classify *.jpg --labels dog,cat --template "a photo of a {}" --template "a drawing of a {}" --top 1 --json
  mmlearn classify scene.png --labels cat,car,house --template "a picture of {a}." --weights clip-mini
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn classify``."""
    parser.epilog = EXAMPLES
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    parser.add_argument("--labels", required=True, metavar="A,B,…",
                        help="the classes, separated by commas, or a text file with one a line")
    parser.add_argument("--template", action="append", metavar="TEXT",
                        help='a sentence with {} for the label, or {a} for "a label" / "an label"; several '
                             'are averaged (default "a photo of {}.")')
    add_weights(parser)
    parser.add_argument("--top", type=int, default=5, metavar="K",
                        help="how many classes to print (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON list, an entry an image")
    parser.set_defaults(run=run)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which model is used."""
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME",
                        help=f'a public name, a folder or file of a checkpoint, or "clip-mini-resnet", the '
                             f'book\'s miniature (default {DEFAULT})')
    parser.add_argument("--activation", choices=("quick_gelu", "gelu"),
                        help="of a file of weights that does not say it")


def read_list(text: str) -> list[str]:
    """Names separated by commas, or the lines of a file of that name."""
    lines = read_lines(Path(text)) if "," not in text and Path(text).is_file() else text.split(",")
    names = list(dict.fromkeys(name.strip() for name in lines if name.strip()))
    if not names:
        raise ValueError(f"--labels {text!r} names no class; give some, separated by commas")
    return names


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; check the path")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); save it as such") from error


def run(args: argparse.Namespace) -> None:
    """Classify images; see ``mmlearn classify --help``."""
    import torch

    from mmlearn.data.images import preprocess, read_image
    from mmlearn.pretrained.dual_encoders import open_model
    from mmlearn.text_for_vision.zero_shot import classify, prompts, zero_shot_weights

    if args.top < 1:
        raise ValueError(f"--top is {args.top}; take 1 or more")
    labels, templates = read_list(args.labels), args.template or ["a photo of {}."]
    for template in templates:
        prompts(labels[0], [template])                              # refuse it before the model is fetched
    pictures = [read_image(path) for path in args.images]
    model, tokeniser, recipe = open_model(args.weights,
                                          **({"activation": args.activation} if args.activation else {}))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    weights = zero_shot_weights(model, tokeniser, labels, templates)
    images = torch.stack([preprocess(picture, recipe) for picture in pictures])
    found: list[dict[str, Any]] = []
    for path, row in zip(args.images, classify(model, images, weights)):
        best = row.topk(min(args.top, len(labels)))
        classes = [{"label": labels[i], "probability": round(p, 4)} for p,
                   i in zip(best.values.tolist(), best.indices.tolist())]
        found.append({"image": str(path), "classes": classes})
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for one in found:
        if len(found) > 1:
            print(f"{one['image']}:")
        for entry in one["classes"]:
            print(f"{100 * entry['probability']:6.2f} %  {entry['label']}")
