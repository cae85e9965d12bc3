"""What ``mmlearn classify`` and ``mmlearn retrieve`` share: which dual encoder is used, and the words that it
knows."""

import argparse
import difflib
import json
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from mmlearn.files import read_text, shown

DEFAULT = "openai/clip-vit-base-patch32"
HERE = "or take --weights clip-mini-resnet, which is here and knows the drawn scenes of the book"


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which model is used."""
    parser.add_argument("--weights", default=DEFAULT, metavar="NAME",
                        help=f"a public name, the --out folder of mmlearn train clip, a folder or file of a "
                             f"checkpoint, or \"clip-mini-resnet\", the book's miniature, which is there "
                             f"without a network and knows drawings only (default {DEFAULT}, a download of "
                             f"605 MB, once)")
    parser.add_argument("--activation", choices=("quick_gelu", "gelu"),
                        help="of a file of weights that does not say it")


def open_dual(args: argparse.Namespace, flag: str = "--weights") -> Any:
    """Model, tokeniser and recipe of ``--weights`` (or of what a command calls ``flag``), on the accelerator
    if there is one."""
    from huggingface_hub import constants, try_to_load_from_cache

    here = HERE.replace("--weights", flag)
    offline = args.weights == DEFAULT and not hub_reached()
    if offline and not isinstance(try_to_load_from_cache(DEFAULT, "config.json"), str):
        raise FileNotFoundError(f"{DEFAULT} is not here and could not be fetched from huggingface.co; "
                                f"connect to the network, or download its folder elsewhere and load it by "
                                f"its path; {here}")     # before torch is imported
    import torch

    from mmlearn.checkpoints import is_saved
    from mmlearn.pretrained import READERS
    from mmlearn.pretrained.dual_encoders import MINIATURES, open_model

    ours = args.weights in MINIATURES or is_saved(args.weights)
    if args.activation and ours:
        raise ValueError(f"--activation is for a file of weights that does not say it, and {args.weights} "
                         f"does; leave it out")
    if offline or args.weights in READERS and not hub_reached():
        constants.HF_HUB_OFFLINE = True                                 # what was downloaded before is found
    try:
        ready = open_model(args.weights, **({"activation": args.activation} if args.activation else {}))
    except TypeError as error:
        if not args.activation:
            raise
        raise ValueError(f"--activation is for CLIP, and {args.weights} holds another model; leave it "
                         f"out") from error
    except FileNotFoundError as error:
        if args.weights not in READERS:
            raise
        raise FileNotFoundError(f"{error}; {here}") from error
    ready.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return ready


def hub_reached(seconds: float | int = 2.0) -> bool:
    """Does Hugging Face's hub answer a call, or is there a proxy to it? Its own client asks for a minute."""
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if address.scheme in getproxies():
        return True
    answered: list[bool] = []

    def call() -> None:
        host = address.hostname or ""
        with suppress(OSError), socket.create_connection((host, address.port or 443), seconds):
            answered.append(True)

    caller = threading.Thread(target=call, daemon=True)     # looking up a name knows no time limit
    caller.start()
    caller.join(seconds)
    return bool(answered)


def say_drawings_only(weights: str) -> None:
    """Say so on stderr if ``weights`` are a miniature of the book, or trained by ``mmlearn train`` on drawn
    scenes."""
    from mmlearn.checkpoints import is_saved, read_description
    from mmlearn.pretrained.dual_encoders import MINIATURES

    settings = read_description(weights).get("settings") if is_saved(weights) else None
    if weights in MINIATURES or (isinstance(settings, dict) and settings.get("data") == "scenes"):
        print(f"{weights} knows the drawn scenes of the book only, and no photographs", file=sys.stderr)


def check_words(tokeniser: Any, weights: str, texts: Sequence[str], what: str) -> None:
    """Raises ``ValueError`` naming the first word of ``texts`` that a tokeniser of whole words does not
    know."""
    from mmlearn.text_for_vision.zero_shot import unknown_words

    for text in texts:
        for word in unknown_words(tokeniser, text):
            near = difflib.get_close_matches(word, tokeniser.index, 1, 0.75)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{what}: {weights} does not know the word {shown(word)}{hint}; it knows "
                             f"{known(tokeniser, weights)}")


def known(tokeniser: Any, weights: str) -> str:
    """What a tokeniser of whole words knows, in words: the things of the scene world, or where its list
    is."""
    from mmlearn.data.scenes import CATEGORIES

    things = [c.name for c in CATEGORIES if all(word in tokeniser.index for word in c.name.split())]
    if len(things) > len(CATEGORIES) / 2:
        return f"{', '.join(things)}, their colours and places"
    return f'{len(tokeniser.index)} words, those under "words" in {Path(weights) / "config.json"}'


def read_list(text: str) -> list[str]:
    """Names separated by commas, or the lines of a file of that name."""
    lines = read_lines(Path(text)) if "," not in text and is_file(text) else text.split(",")
    names = list(dict.fromkeys(name.strip() for name in lines if name.strip()))
    if not names:
        raise ValueError(f"--labels {text!r} names no class; give some, separated by commas")
    return names


def is_file(text: str) -> bool:
    """Is there a file of this name? (A text may be too long to be one.)"""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    text = read_text(path, "give a text file in UTF-8, one entry a line")
    return [line.strip() for line in text.splitlines() if line.strip()]


def print_json(found: list[dict[str, Any]]) -> None:
    """One JSON list; names that are not UTF-8 are escaped."""
    print(json.dumps(found, ensure_ascii=False))
