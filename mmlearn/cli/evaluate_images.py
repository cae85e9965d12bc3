"""``mmlearn evaluate images``: generated pictures beside real ones, and beside the sentences they were made
from; nothing is trained."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.cli.dual import open_dual, say_drawings_only
from mmlearn.cli.evaluate_models import embedded
from mmlearn.cli.pictures import add_links, images_in

if TYPE_CHECKING:
    from torch import Tensor

    from mmlearn.metrics.generation import Score

NETWORK, ENCODER = "scene-classifier", "clip-mini-resnet"
BATCH, PIXELS = 64, 2**24           # pictures that the network sees at once, and pixels of all of them
FEWEST = 5                          # pictures of a folder: one, and neighbours for it
SPLITS, MANY = 10, 1000             # of the Inception Score, from so many pictures on
CANDIDATES = 99                     # sentences that stand against the right one


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn evaluate images``."""
    parser.add_argument("real", type=Path, metavar="REAL", help="a folder of real pictures")
    parser.add_argument("fake", type=Path, metavar="FAKE", help="a folder of generated pictures")
    parser.add_argument("--weights", default=NETWORK, metavar="NAME",
                        help=f"the network whose features are compared: {NETWORK} (default; for the drawings "
                             f"of the book), efficientnet-lite0 (for photographs), or a file of Inception-v3 "
                             f"as pytorch-fid or torchvision publish it, which makes the Frechet distance "
                             f"the FID")
    parser.add_argument("--captions", type=Path, metavar="FILE",
                        help="a table (file, caption) with the sentence that each picture of FAKE was made "
                             "from: CLIP score and R-precision, too")
    parser.add_argument("--encoder", metavar="NAME",
                        help=f"the dual encoder for --captions, by the names that mmlearn classify takes as "
                             f"--weights (default {ENCODER}, which knows drawings only); one that the "
                             f"generator was not trained with")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="of blocks, splits and candidates, which are drawn at random (default 0)")
    add_links(parser)
    parser.set_defaults(run=evaluate_images)


def evaluate_images(args: argparse.Namespace) -> None:
    """Print the numbers; see ``mmlearn evaluate images --help``."""
    if args.encoder is not None and args.captions is None:
        raise ValueError("--encoder is for --captions; leave it out, or give the sentences")
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed is {args.seed}; take a whole number from 0 on, of at most 18 digits")
    folders = [enough(folder, args.follow_links) for folder in (args.real, args.fake)]
    told = sentences(args.captions, args.fake) if args.captions is not None else {}
    import torch

    from mmlearn.metrics.generation import compare

    generator = torch.Generator().manual_seed(args.seed)
    network = opened(args.weights)
    real, fake = (features(network, paths) for paths in folders)
    few = min(len(real), len(fake))
    if few <= real.shape[1]:
        print(f"{few} pictures are fewer than the {real.shape[1]} features of {network.name}, which makes "
              f"the Frechet distance far too high; compare it at one number of pictures only",
              file=sys.stderr)
    logits = network.logits_of(fake)[torch.randperm(len(fake), generator=generator)].cpu()
    found = compare(real.cpu(), fake.cpu(), network.name, logits=logits,
                    splits=SPLITS if len(fake) >= MANY else 1, generator=generator)
    if told:
        found |= match(told, args.encoder or ENCODER, generator)
    show(found, args.json)


def enough(folder: Path, follow: bool) -> list[Path]:
    """The pictures of a folder. Raises ``ValueError`` where they are too few to be compared."""
    paths = images_in(folder, follow)
    if len(paths) < FEWEST:
        raise ValueError(f"{folder} holds {len(paths)} picture{'s' * (len(paths) > 1)}; give at least "
                         f"{FEWEST}, better thousands")
    return paths


def opened(weights: str) -> Any:
    """The network of ``--weights``, on the accelerator if there is one."""
    import torch

    from mmlearn.pretrained.feature_networks import open_network

    return open_network(weights).to("cuda" if torch.cuda.is_available() else "cpu")


def batches(paths: Sequence[Path]) -> "Iterator[Tensor]":
    """Pictures (b, 3, y, x) in [-1, 1], those of one size that follow each other together; one that cannot be
    read is an error."""
    import numpy as np
    import torch

    from mmlearn.data.images import read_image

    waiting: list[Tensor] = []
    for path in paths:
        pixels = torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1)          # y x 3 -> 3 y x
        full = len(waiting) == BATCH or (len(waiting) + 1) * pixels[0].numel() > PIXELS
        if waiting and (full or waiting[0].shape != pixels.shape):
            yield torch.stack(waiting).float() / 127.5 - 1
            waiting = []
        waiting.append(pixels)
    yield torch.stack(waiting).float() / 127.5 - 1


def features(network: Any, paths: Sequence[Path]) -> "Tensor":
    """Features (n, d) of pictures in files."""
    import torch

    from mmlearn.nn.modes import eval_mode
    from mmlearn.progress import Progress

    rows: list[Tensor] = []
    with eval_mode(network) as device, torch.no_grad(), Progress(
            len(paths), "images", sys.stderr, shown=len(paths) > BATCH) as bar:
        for batch in batches(paths):
            rows.append(network(batch.to(device)).float())
            bar.update(sum(map(len, rows)))
    return torch.cat(rows)


def sentences(table: Path, folder: Path) -> dict[Path, str]:
    """The sentence of each generated picture. Raises ``ValueError`` for a picture with several."""
    from mmlearn.data.captioned_files import read_captions

    records = read_captions(table, folder)
    if several := next((record for record in records if len(record.captions) > 1), None):
        raise ValueError(f"{table} gives {several.path.name} {len(several.captions)} sentences; a generated "
                         f"picture is made from one")
    if len({record.captions[0] for record in records}) < 2:
        raise ValueError(f"{table} has one sentence, {records[0].captions[0][:60]!r}, and nothing to tell it "
                         f"from; give pictures of two or more")
    return {record.path: record.captions[0] for record in records}


def match(told: Mapping[Path, str], encoder: str, generator: Any) -> "dict[str, Score]":
    """CLIP score and R-precision. Equal sentences do not stand against each other; the name of the second
    says how many do."""
    import torch

    from mmlearn.metrics.generation import match_scores
    from mmlearn.text_for_vision.training import embed_texts
    from mmlearn.text_for_vision.zero_shot import unknown_words

    ready = open_dual(argparse.Namespace(weights=encoder, activation=None), "--encoder")
    say_drawings_only(encoder)
    texts = list(told.values())
    if odd := sum(bool(unknown_words(ready.tokeniser, text)) for text in texts):
        print(f"{odd} of {len(texts)} captions hold words that {encoder} does not know", file=sys.stderr)
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    classes = torch.tensor([number[text] for text in texts])
    others = min(CANDIDATES, len(texts) - int(torch.bincount(classes).max()))
    if others < CANDIDATES:
        print(f"the right sentence stands against {others} others, not {CANDIDATES}: R-precision is "
              f"1 / {others + 1} by chance", file=sys.stderr)
    found = match_scores(embedded(ready, list(told)), embed_texts(ready.model, ready.tokeniser, texts),
                         encoder, classes=classes, candidates=others, generator=generator)
    return {name: found[name] for name in ("CLIP score", "R-precision")}


def show(found: "Mapping[str, Score]", as_json: bool) -> None:
    """Print scores, each with its network and its number of pictures."""
    if as_json:
        from dataclasses import asdict

        print(json.dumps({name: {key: value for key, value in asdict(score).items()
                                 if key != "name" and value is not None} for name, score in found.items()}))
        return
    for score in found.values():
        print(score)
