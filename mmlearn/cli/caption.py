"""``mmlearn caption``: say what is on an image, with a miniature of the book or one that you have trained."""

import argparse
import json
import sys
from pathlib import Path

MINIATURES = ("m2-regions", "captioner-grid")
EXAMPLES = """examples:
  mmlearn caption data/scenes-sample/images/train_000003.png
  mmlearn caption photo.jpg --checkpoint runs/coco
  mmlearn caption a.png b.png --checkpoint runs/m2 --beam 5 --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn caption``."""
    parser.epilog = EXAMPLES
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    parser.add_argument("--checkpoint", "--weights", default=MINIATURES[0], metavar="DIR",
                        help="the --out folder of mmlearn train, or a miniature of the book: m2-regions "
                             "(default) or captioner-grid")
    parser.add_argument("--beam", type=int, default=5, metavar="K",
                        help="hypotheses (default 5; 1 is greedy)")
    parser.add_argument("--max-len", type=int, default=24, metavar="T", help="most words (default 24)")
    parser.add_argument("--json", action="store_true",
                        help="one JSON list, with all hypotheses and their log-probabilities")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Caption images; see ``mmlearn caption --help``."""
    import torch

    from mmlearn.data.images import PictureFiles
    from mmlearn.generate import beam
    from mmlearn.image2text.saved import load_captioner, look_at
    from mmlearn.image2text.training import encode

    if args.beam < 1 or args.max_len < 1:
        raise ValueError(f"--beam is {args.beam} and --max-len {args.max_len}; take 1 or more")
    if args.checkpoint in MINIATURES:
        print(f"{args.checkpoint} knows the drawn scenes of the book only, and no photographs",
              file=sys.stderr)
    saved = load_captioner(args.checkpoint)
    longest = saved.model.config.max_len
    pictures = PictureFiles(args.images, saved.sight.size)
    found = []
    with torch.no_grad():
        for i, path in enumerate(args.images):
            context = encode(saved.model, *look_at(saved, pictures, [i]))
            tokens, log_probs = beam(saved.model, context, k=args.beam, max_len=min(args.max_len, longest))
            hypotheses = [{"caption": saved.tokeniser.decode(row), "log_probability": round(float(score), 4)}
                          for row, score in zip(tokens[0], log_probs[0].sum(-1))]
            found.append({"image": str(path), **hypotheses[0], "hypotheses": hypotheses})
    if args.json:
        print(json.dumps(found))
        return
    for one in found:
        print(one["caption"] if len(found) == 1 else f"{one['image']}: {one['caption']}")
