"""``mmlearn classify``: which of some sentences fits an image best, by CLIP or another dual encoder; nothing
is trained."""

import argparse
from pathlib import Path
from typing import Any

from mmlearn.cli.dual import add_weights, check_words, open_dual, print_json, read_list, say_drawings_only

EXAMPLES = """examples:
  mmlearn classify data/scenes-sample/images/train_000003.png --labels "cat,tower,car" --weights \
clip-mini-resnet
  mmlearn classify photo.jpg --labels "a dog,a cat,a bicycle"
  mmlearn classify *.jpg --labels dog,cat --template "a photo of a {}" --template "a drawing of a {}" --top \
1 --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn classify``."""
    parser.epilog = EXAMPLES
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    parser.add_argument("--labels", required=True, metavar="A,B,…",
                        help="the classes, separated by commas, or a text file with one a line")
    parser.add_argument("--template", action="append", metavar="TEXT",
                        help='a sentence with {} for the label, or {a} for "a label" / "an label"; several '
                             'are averaged (default "a photo of {}."; a model that reads whole words brings '
                             "sentences that it knows)")
    add_weights(parser)
    parser.add_argument("--top", type=int, default=5, metavar="K",
                        help="how many classes to print (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON list, an entry an image")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Classify images; see ``mmlearn classify --help``."""
    import torch

    from mmlearn.data.images import preprocess, read_image
    from mmlearn.text_for_vision.zero_shot import classify, default_templates, prompts, zero_shot_weights

    if args.top < 1:
        raise ValueError(f"--top is {args.top}; take 1 or more")
    labels = read_list(args.labels)
    for template in args.template or ():
        prompts(labels[0], [template])                              # refuse it before the model is fetched
    pictures = [read_image(path) for path in args.images]
    ready = open_dual(args)
    templates = args.template or default_templates(ready.tokeniser)
    check_words(ready.tokeniser, args.weights, labels, "--labels")
    for label in labels:
        check_words(ready.tokeniser, args.weights, prompts(label, templates), "--template")
    say_drawings_only(args.weights)
    weights = zero_shot_weights(ready.model, ready.tokeniser, labels, templates)
    images = torch.stack([preprocess(picture, ready.recipe) for picture in pictures])
    found: list[dict[str, Any]] = []
    for path, row in zip(args.images, classify(ready.model, images, weights)):
        best = row.topk(min(args.top, len(labels)))
        classes = [{"label": labels[i], "probability": round(p, 4)} for p,
                   i in zip(best.values.tolist(), best.indices.tolist())]
        found.append({"image": str(path), "classes": classes})
    if args.json:
        print_json(found)
        return
    for one in found:
        if len(found) > 1:
            print(f"{one['image']}:")
        for entry in one["classes"]:
            print(f"{100 * entry['probability']:6.2f} %  {entry['label']}")
