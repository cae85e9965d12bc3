"""The tables of METEOR 1.5: synonyms of WordNet and paraphrases, as the package pycocoevalcap installs them.

Paper: M. Denkowski and A. Lavie (2014), *Meteor Universal*, WMT, sec. 2 and 4.  Survey: none (metrics).
Differs from the paper: nothing; where the tables are missing, the stages "exact" and "stem" are all there is.
"""

import gzip
import io
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

STAGES = ("exact", "stem", "synonym", "paraphrase")


def table(name: str) -> Path | None:
    """Where a file of the official tool lies inside the installed package pycocoevalcap, if it is there."""
    spec = find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, "meteor", name)).is_file():
            return path
    return None


def available_stages() -> tuple[str, ...]:
    """The stages whose tables are installed: always "exact" and "stem", the others with pycocoevalcap."""
    return STAGES[:2] + ("synonym",) * bool(table("meteor-1.5.jar")) + \
        ("paraphrase",) * bool(table("data/paraphrase-en.gz"))


@lru_cache(maxsize=1)
def wordnet() -> tuple[Mapping[str, frozenset[int]], Mapping[str, tuple[str, ...]]]:
    """Synsets of each word, and the base forms of irregular ones, from the tool's archive."""
    path = table("meteor-1.5.jar")
    if path is None:
        raise FileNotFoundError("WordNet synonyms need the archive meteor-1.5.jar; pip install pycocoevalcap")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("synonym/english.synsets").decode("utf-8").splitlines()
        synsets = {word: frozenset(map(int, numbers.split())) for word,
                   numbers in zip(lines[::2], lines[1::2])}
        lines = archive.read("synonym/english.exceptions").decode("utf-8").splitlines()
    bases: dict[str, list[str]] = {}
    for base, forms in zip(lines[::2], lines[1::2]):
        for form in forms.split():
            bases.setdefault(form, []).append(base)
    return MappingProxyType(synsets), MappingProxyType({form: tuple(known) for form, known in bases.items()})


# WordNet's rules of detachment: nouns, verbs, adjectives
ENDINGS = (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
           ("men", "man"),
           ("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""),
           ("ing", "e"),
           ("ing", ""), ("er", ""), ("est", ""), ("er", "e"), ("est", "e"))


@lru_cache(maxsize=100_000)
def synonyms(word: str) -> frozenset[int]:
    """Numbers of the WordNet synsets of a word and of its base form; two words that share one are
    synonyms."""
    synsets, bases = wordnet()
    own = synsets.get(word, frozenset())
    if word in bases:
        return own.union(*(synsets.get(base, ()) for base in bases[word]))
    if word.endswith("ss") or len(word) <= 2:
        return own
    for ending, other in ENDINGS:
        if word.endswith(ending) and (base := word[:len(word) - len(ending)] + other) in synsets:
            return own | synsets.get(base + ("ful" if word.endswith("ful") else ""), frozenset())
    return own


Paraphrases = Mapping[tuple[str, ...], tuple[tuple[str, ...], ...]]
_read: tuple[set[bytes], Paraphrases] = (set(), MappingProxyType({}))                # words known, their rows


def paraphrases(words: Iterable[str]) -> Paraphrases:
    """The part of the paraphrase table that uses no other words: phrase -> its paraphrases, in the table's
    order.

    The table (5 million rows) is read again only when a word is new, so repeated evaluations are fast.
    """
    global _read
    path = table("data/paraphrase-en.gz")
    if path is None:
        raise FileNotFoundError("paraphrases need the table paraphrase-en.gz; pip install pycocoevalcap")
    known = {word.encode() for word in words}
    if known <= _read[0]:
        return _read[1]
    known |= _read[0]
    rows: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    last, keep = b"", False
    with gzip.open(path, "rb") as file, io.BufferedReader(file, 1 << 20) as lines:
        for _, phrase, other in zip(lines, lines, lines):       # probability, phrase, paraphrase; and again
            if phrase != last:
                last, keep = phrase, known.issuperset(phrase.split())
            if keep and known.issuperset(other.split()):
                rows.setdefault(tuple(phrase.decode().split()), []).append(tuple(other.decode().split()))
    _read = (known, MappingProxyType({phrase: tuple(others) for phrase, others in rows.items()}))
    return _read[1]
