"""Do ALIGN's rules about texts help? Training before and after they have removed junk, and without any junk.

Paper: C. Jia et al. (2021), *Scaling Up Visual and Vision-Language Representation Learning With Noisy Text
Supervision*, arXiv:2102.05918, sec. 3.  Survey: 4.3.
Differs from the paper: drawn single things; the junk is planted, and each text that is planted says what it
is, so that a rule's errors can be counted.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mmlearn.data.pairs import PairData
from mmlearn.data.things import captioned
from mmlearn.experiments import seeds
from mmlearn.experiments.text_for_vision.objects import objects, prompt_tokeniser, train_encoder
from mmlearn.text_for_vision.text_filters import TextRules, filter_pairs
from mmlearn.text_for_vision.training import zero_shot_accuracy

# -------------------------------------------------------------------------------------------------- the noise

ADVERTS = ("click here to buy now", "free shipping on all orders", "best price online shop", "add to cart",
           "see more offers like this", "sign up for our newsletter")
STOCK = ("image for illustration purposes only", "no description available", "photo loading please wait",
         "picture may contain outdoor things", "thumbnail of the next page")
WORDS = ("beautiful", "wallpaper", "love", "summer", "new", "home", "nice", "art", "photo", "best", "free",
         "hd", "gift", "kids", "design", "print", "travel", "family", "nature", "party", "blog", "winter",
         "cheap", "style", "fun", "ideas")
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
          "november", "december")
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _letters(rng: np.random.Generator, count: int) -> str:
    return "".join(rng.choice(LETTERS, count))


def file_name(rng: np.random.Generator) -> str:
    """Such as IMG_4821.jpg."""
    return (f"{_pick(rng, ('IMG_', 'DSC0', 'image', 'scan-'))}{rng.integers(10_000):04d}."
            f"{_pick(rng, ('jpg', 'JPG', 'png', 'gif'))}")


def code(rng: np.random.Generator) -> str:
    """Such as: item no 48210 ref qxkvb tid 25."""
    return f"item no {rng.integers(100_000)} ref {_letters(rng, 5)} tid {rng.integers(100)}"


def date(rng: np.random.Generator) -> str:
    """Such as 2019-03-14 or 14 march 2019."""
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(12)), int(rng.integers(1998, 2021))
    return f"{year}-{month + 1:02d}-{day:02d}" if rng.random() < 0.5 else f"{day} {MONTHS[month]} {year}"


def keywords(rng: np.random.Generator) -> str:
    """Search words in a row, 21 to 40 of them."""
    return ", ".join(_pick(rng, WORDS) for _ in range(int(rng.integers(21, 41))))


JUNK: dict[str, Callable[[np.random.Generator], str]] = {
    "file name": file_name, "code": code, "date": date, "one word": lambda rng: _pick(rng, WORDS),
    "advert": lambda rng: _pick(rng, ADVERTS), "stock phrase": lambda rng: _pick(rng, STOCK),
    "keywords": keywords}
SHARES = {"shuffled": 0.2, **{kind: 0.03 for kind in JUNK}}         # of all texts; the rest is clean


@dataclass(frozen=True)
class NoisyTexts:
    """Texts, one a picture, and what each is: "clean", "shuffled" (of another picture), or a kind of
    ``JUNK``."""

    texts: tuple[str, ...]
    kinds: tuple[str, ...]

    def are(self, *kinds: str) -> Bool[Tensor, " n"]:
        """True for texts of these kinds."""
        return torch.tensor([kind in kinds for kind in self.kinds], dtype=torch.bool)


def plan(count: int, shares: Mapping[str, float | int], rng: np.random.Generator) -> list[str]:
    """What each of ``count`` texts is to be: exactly these shares, rounded, in random places. Raises
    ``ValueError`` for an unknown kind and for shares that are negative or sum to more than 1."""
    unknown = sorted(set(shares) - {"shuffled", *JUNK})
    if unknown or min(shares.values(), default=0) < 0 or math.fsum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"shares are {dict(shares)}; give fractions of 0 or more that sum to at most 1, of "
                         f"shuffled, {', '.join(JUNK)}")
    kinds = ["clean"] * count
    order, start = rng.permutation(count), 0
    for kind, share in shares.items():
        stop = min(count, start + round(share * count))
        for place in order[start:stop]:
            kinds[int(place)] = kind
        start = stop
    return kinds


def web_texts(captions: Sequence[str], shares: Mapping[str, float | int] = SHARES,
              seed: int = 0) -> NoisyTexts:
    """``captions``, a share of them exchanged in a circle ("shuffled") and others replaced by junk; a
    function of ``seed``."""
    rng = np.random.default_rng(seed)
    kinds = plan(len(captions), shares, rng)
    moved = [i for i, kind in enumerate(kinds) if kind == "shuffled"]
    source = dict(zip(moved, moved[1:] + moved[:1]))
    texts = [JUNK[kind](rng) if kind in JUNK else captions[source.get(i, i)] for i, kind in enumerate(kinds)]
    return NoisyTexts(tuple(texts), tuple(kinds))


def removed_by_kind(noisy: NoisyTexts, kept: Mapping[str, Bool[Tensor, " n"]]) -> dict[str, dict[str, float]]:
    """For each rule and each kind of text, the fraction that the rule removes."""
    return {rule: {kind: float((~stays[noisy.are(kind)]).double().mean())
                   for kind in dict.fromkeys(noisy.kinds)}
            for rule, stays in kept.items()}


# -------------------------------------------------------------------------------------------------- data sets

@dataclass(frozen=True)
class NoisyPairs:
    """A data set whose texts are partly noise; ``kinds`` says of which kind the texts of each picture are."""

    data: PairData
    kinds: tuple[str, ...] = field(repr=False)


def noisy_pairs(data: PairData, shares: Mapping[str, float | int] = SHARES, seed: int = 0) -> NoisyPairs:
    """The pictures of ``data``: some with all captions of another picture, some with one piece of junk
    instead of theirs."""
    noisy = web_texts([str(i) for i in range(len(data))], shares, seed)
    captions = tuple((text,) if kind in JUNK else data.captions[int(text)] for text,
                     kind in zip(noisy.texts, noisy.kinds))
    return NoisyPairs(replace(data, captions=captions), noisy.kinds)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--train", type=int, default=2000, help="training pictures")
    parser.add_argument("--test", type=int, default=600, help="test pictures")
    parser.add_argument("--junk", type=float, default=0.5,
                        help="share of pictures with junk in place of captions")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    wanted = seeds(args.seeds)
    clean = captioned(objects(args.train, 3, places="any"))
    noisy = noisy_pairs(clean, {kind: args.junk / len(JUNK) for kind in JUNK})
    junk = {text for texts, kind in zip(noisy.data.captions,
                                        noisy.kinds) if kind != "clean" for text in texts}
    sets = {"with junk": noisy.data, "after the rules": filter_pairs(noisy.data, TextRules.scenes()),
            "captions alone":
            clean.rows([i for i, kind in enumerate(noisy.kinds) if kind == "clean"])}
    test = objects(args.test, 1, places="any")
    tokeniser = prompt_tokeniser(clean, noisy.data)
    runs: dict[str, list[float]] = {name: [] for name in sets}
    for seed in wanted:
        for name, data in sets.items():
            model, _ = train_encoder(data, tokeniser, steps=args.steps, seed=seed, batch=args.batch)
            runs[name].append(round(zero_shot_accuracy(model, tokeniser, test), 4))
            print(f"{name:16} {len(data):5} pictures, seed {seed}: {runs[name][-1]:.3f}", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": 2e-3, "warmup": 50, "size": 32,
                         "junk": args.junk, "train": args.train, "test": args.test, "seeds": wanted},
            "pictures": {name: len(data) for name, data in sets.items()},
            "junk texts": {name: sum(text in junk for texts in data.captions for text in texts) for name,
                           data in sets.items()},
            "texts": {name: sum(map(len, data.captions)) for name, data in sets.items()}, "runs": runs}
