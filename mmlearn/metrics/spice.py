"""SPICE: compare what two captions say, as sets of objects, attributes and relations.

Paper: P. Anderson et al. (2016), *SPICE: Semantic Propositional Image Caption Evaluation*, arXiv:1607.08822,
sec. 3.
Survey: none (metrics).
Differs from the paper: the parser is an argument. For the scene world it is exact (``parse_caption``); for
free text the paper's parser needs Java and a model of 385 MB, and ``official_spice`` runs it where they are
installed.
"""

import contextlib
import io
import shutil
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float

Tuple = tuple[str, ...]         # ("cat",), ("cat", "black") or ("cat", "left of", "tree")
Same = Callable[[Tuple, Tuple], bool]


@dataclass(frozen=True)
class SpiceResult:
    """SPICE: ``corpus`` is the mean of ``per_image``; with precision and recall of each image."""

    corpus: float
    per_image: Float[np.ndarray, "i"]
    precision: Float[np.ndarray, "i"]
    recall: Float[np.ndarray, "i"]


def spice_f1(candidate: Iterable[Tuple], reference: Iterable[Tuple], same: Same | None = None) -> tuple[float,
                                                                                                        ...]:
    """eq:spice: precision, recall and F1 of the candidate's tuples; a tuple counts once, however often it is
    said.

    ``same`` says when two tuples match (default: when they are equal), for instance up to synonyms.
    """
    ours, theirs = set(candidate), set(reference)
    if same is None:
        hits = (len(ours & theirs),) * 2
    else:
        hits = (sum(any(same(a, b) for b in theirs) for a in ours),
                sum(any(same(a, b) for a in ours) for b in theirs))
    precision = hits[0] / len(ours) if ours else 0.0
    recall = hits[1] / len(theirs) if theirs else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def spice(
    candidates: Sequence[Iterable[Tuple]], references: Sequence[Iterable[Tuple]], same: Same | None = None
) -> SpiceResult:
    """eq:spice: mean F1 of candidate tuples against the union of the references' tuples, image by image.

    Raises ``ValueError`` if the two lists differ in length or are empty.
    """
    if len(candidates) != len(references) or not len(candidates):
        raise ValueError(f"{len(candidates)} candidates for {len(references)} images; give one each, at "
                         f"least one")
    rows = np.array([spice_f1(c, r, same) for c, r in zip(candidates, references)])
    return SpiceResult(float(rows[:, 2].mean()), rows[:, 2], rows[:, 0], rows[:, 1])


def spice_of_captions(
    candidates: Sequence[str], references: Sequence[Sequence[str]], parse: Callable[[str], Iterable[Tuple]],
    same: Same | None = None,
) -> SpiceResult:
    """SPICE of texts, with ``parse`` from text to tuples; the tuples of an image's references are united."""
    return spice([frozenset(parse(text)) for text in candidates],
                 [frozenset(item for text in texts for item in parse(text)) for texts in references], same)


def missing_for_official_spice() -> str:
    """What the official SPICE needs and is not here, as a sentence; empty if it can run."""
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        return "SPICE needs the package pycocoevalcap; pip install pycocoevalcap"
    if shutil.which("java") is None:
        return (
            "SPICE needs Java, and there is no `java` on the PATH; install a Java runtime (version 8 to 17)"
        )
    jars = [Path(spec.submodule_search_locations[0], "spice", "lib", f"stanford-corenlp-3.6.0{part}.jar")
            for part in ("", "-models")]
    absent = [jar.name for jar in jars if not jar.is_file()]
    if absent:
        return (f"SPICE needs the parser of Stanford CoreNLP 3.6.0 ({' and '.join(absent)}, 385 MB) in "
                f"{jars[0].parent}; "
                "python -m pycocoevalcap.spice.get_stanford_models downloads it")
    return ""


def official_spice(
    candidates: Mapping[Hashable, str], references: Mapping[Hashable, Sequence[str]]
) -> float:
    """The official SPICE, by the authors' Java program. Raises ``FileNotFoundError`` that says what is
    missing."""
    if missing := missing_for_official_spice():
        raise FileNotFoundError(missing)
    from pycocoevalcap.spice.spice import Spice

    with contextlib.redirect_stdout(io.StringIO()):
        score, _ = Spice().compute_score({key: list(texts) for key, texts in references.items()},
                                         {key: [candidates[key]] for key in references})
    return float(score)
