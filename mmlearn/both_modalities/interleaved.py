r"""Pictures and text in one sequence: chunks such as ``<image>Question: What is red? Answer: the car<EOC>``.

Papers: J.-B. Alayrac et al. (2022), *Flamingo: a Visual Language Model for Few-Shot Learning*, NeurIPS,
arXiv:2204.14198, sec. 2.3 and 2.4 (sequences, which picture a token sees); A. Awadalla et al. (2023),
*OpenFlamingo*, arXiv:2308.01390 (both marks are tokens).  Survey: 5.3.
Differs from the papers: drawn scenes instead of web pages, so that what a picture shows is known, and pages
whose chunks are all of one task. In Flamingo ``<image>`` is spelt in ordinary tokens and only ``<EOC>`` is a
new one; here, as in OpenFlamingo, each is one token. A token sees the picture of the last ``<image>`` at or
before it, so that the mark itself sees its own.

A page is a list of ``Example``; ``InterleavedBatch`` is what a model reads: tokens, their pictures, and which
picture each token sees.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from mmlearn.both_modalities.flamingo import last_picture
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import ClassPictures, PairData, pixels
from mmlearn.data.scenes import questions
from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import NUMBERS, PLACE_PHRASES, count_groups, join
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.nn.causal_lm import lm_loss

IMAGE, EOC = "<image>", "<EOC>"                 # a picture stands here; the end of a chunk
NO_PICTURE = -1
MARKS = re.compile(f"({IMAGE}|{EOC})")
NONSENSE = ("dax", "blicket", "wug", "fep", "toma", "zup", "gazzer", "modi", "koba", "tulver", "pilk",
            "sprock")

# a model that sees: (tokens, pictures=… or features=…, media=…) -> logits (b, t, v)
Sees = Callable[..., Tensor]
Look = Callable[[Int[Tensor, " n"]], Float[Tensor, "n ..."]]    # numbers of pictures -> pixels, or features


# ------------------------------------------------------------------------------------- equations


def next_positions(
    tokens: Int[Tensor, "b t"], image: int
) -> Int[Tensor, "b t"]:
    r"""eq:interleaved-next: $\phi'(t)=\phi(t)+1$, or 0 where no picture follows: text that is
    read with the picture behind it. Half of the pages are read so in training."""
    phi = last_picture(tokens == image)
    return torch.where(phi < phi[:, -1:], phi + 1, 0)


# ------------------------------------------------------------------------------------- tokeniser


class ChunkTokeniser(WordTokeniser):
    """Words, and the two marks: ``<image>`` is token 4, ``<EOC>`` is token 3, which ends a text elsewhere.

    ``decode`` gives what stands before the first ``<EOC>``, ``show`` a whole sequence with its marks. Raises
    ``ValueError`` for a vocabulary without ``<image>`` at its place.
    """

    def __init__(self, words: Sequence[str], splitter: str = "simple") -> None:
        super().__init__(words, splitter)
        if len(self.words) < 5 or self.words[4] != IMAGE:
            raise ValueError(f"word 4 of the vocabulary is {(list(words) + ['missing'] * 5)[4]!r}, expected "
                             f"{IMAGE!r}; train a ChunkTokeniser")
        self.image = 4
        del self.index[IMAGE]                               # a text spells it as a mark, never as a word

    @classmethod
    def train(
        cls, texts: Iterable[str], min_count: int = 1, splitter: str = "simple"
    ) -> "ChunkTokeniser":
        """The vocabulary of texts, in which marks may stand."""
        plain = (MARKS.sub(" ", text) for text in texts)
        words = WordTokeniser.train(plain, min_count, splitter).words
        return cls([*words[:4], IMAGE, *words[4:]], splitter)

    def _ids(self, text: str) -> list[int]:
        found: list[int] = []
        for part in MARKS.split(text):
            mark = {IMAGE: 4, EOC: self.eos}.get(part)
            found += super()._ids(part) if mark is None else [mark]
        return found

    def show(self, ids: Sequence[int] | Int[Tensor, " t"]) -> str:
        """The words of a sequence, marks and all, without padding and <bos>."""
        numbers = [int(i) for i in ids]
        marks = {self.eos: EOC, self.image: IMAGE}
        return " ".join(marks.get(i, self.words[i]) for i in numbers if i not in (self.pad, self.bos))


# -------------------------------------------------------------------------------------- examples


class Example(NamedTuple):
    """A picture (its number, or none), what is asked of it, and the answer."""

    request: str                        # "Output:", "Question: What colour is the cat? Answer:"
    answer: str
    picture: int = NO_PICTURE
    kind: str = "caption"               # the task; a page has examples of one


def chunk(example: Example, answered: bool = True) -> str:
    """An example as text: ``<image>request answer<EOC>``, without a picture without ``<image>``, and without
    its answer up to where the answer begins."""
    begin = ("" if example.picture == NO_PICTURE else IMAGE) + example.request
    return f"{begin} {example.answer}{EOC}" if answered else begin


def _scenes(data: PairData) -> tuple[Scene, ...]:
    if not data.scenes:
        raise ValueError("the pictures have no scene graphs, from which requests are made; take scene_pairs")
    return data.scenes


def caption_examples(data: PairData) -> list[Example]:
    """Every caption of every picture, after ``Output:``."""
    return [Example("Output:", text, i) for i, texts in enumerate(data.captions) for text in texts]


def question_examples(data: PairData, kinds: Sequence[str] | None = None) -> list[Example]:
    """The questions that scenes answer, of some ``kinds`` (default: all), after ``Question:``.

    Raises ``ValueError`` for pictures without scene graphs.
    """
    return [Example(f"Question: {asked.text} Answer:", asked.answer, i, asked.kind)
            for i, scene in enumerate(_scenes(data)) for asked in questions(scene)
            if kinds is None or asked.kind in kinds]


def things_in_words(scene: Scene) -> str:
    """What a scene shows, larger things first: ``one dog and two cats``; ``nothing``."""
    groups = count_groups(scene).items()
    named = [f"{NUMBERS[len(group)]} {name if len(group) == 1 else CATEGORY[name].plural}"
             for name, group in groups]
    return join(named) if named else "nothing"


def instruction_examples(data: PairData) -> list[Example]:
    """Things to do with a picture, after ``Instruction:``: describe it, name its things, say where it is.

    Raises ``ValueError`` for pictures without scene graphs.
    """
    found = []
    for i, scene in enumerate(_scenes(data)):
        for kind, order, answer in (
            ("describe", "Describe the picture.", data.captions[i][0]),
            ("name", "Name the things.", things_in_words(scene)),
            ("place", "Say where this is.", PLACE_PHRASES[scene.setting][0]),
        ):
            found.append(Example(f"Instruction: {order} Output:", answer, i, kind))
    return found


def binding_page(
    pictures: ClassPictures, ways: int = 2, shots: int = 2,
    generator: torch.Generator | None = None, words: Sequence[str] = NONSENSE,
) -> list[Example]:
    """An episode that nothing but its shots can answer: nonsense words are bound afresh to ``ways`` classes,
    ``shots`` pictures of each are named, in random order, and the last picture is asked for.

    The classes are drawn, so are words and pictures; no picture stands twice. Raises ``ValueError`` if there
    are too few classes, words, or pictures of a class.
    """
    counts = torch.bincount(pictures.labels, minlength=len(pictures.classes))
    able = (counts > shots).nonzero()[:, 0]
    if ways < 2 or len(able) < ways or len(words) < ways:
        raise ValueError(f"{ways} ways with {shots} shots each need as many classes of {shots + 1} pictures "
                         f"and words, there are {len(able)} and {len(words)}; ask for less, or draw more")
    classes = able[torch.randperm(len(able), generator=generator)[:ways]].tolist()
    names = [words[int(i)] for i in torch.randperm(len(words), generator=generator)[:ways]]
    asked = int(torch.randint(ways, (1,), generator=generator))
    shown: list[Example] = []
    query = []
    for way, (label, name) in enumerate(zip(classes, names)):
        own = (pictures.labels == label).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)].tolist()
        shown += [Example("Output:", name, number, "binding") for number in own[:shots]]
        if way == asked:
            query = [Example("Output:", name, own[shots], "binding")]
    order = torch.randperm(len(shown), generator=generator).tolist()
    return [*(shown[i] for i in order), *query]


# ------------------------------------------------------------------------------------- sequences


class Encoded(NamedTuple):
    """A page as numbers: ids, the pictures in their order, and which tokens are part of an answer (with the
    mark that ends it)."""

    ids: list[int]
    pictures: list[int]
    answers: list[bool]


def encode_page(examples: Sequence[Example], tokeniser: ChunkTokeniser, open_end: bool = False) -> Encoded:
    """``<bos>chunk chunk …``; with ``open_end`` the last chunk stops where its answer begins."""
    ids, answers = [tokeniser.bos], [False]
    for number, example in enumerate(examples):
        asked = tokeniser.encode(chunk(example, answered=False))
        ids += asked
        answers += [False] * len(asked)
        if not (open_end and number == len(examples) - 1):
            answer = [*tokeniser.encode(example.answer), tokeniser.eos]
            ids += answer
            answers += [True] * len(answer)
    return Encoded(ids, [e.picture for e in examples if e.picture != NO_PICTURE], answers)


class InterleavedBatch(NamedTuple):
    """Pages: tokens (b, t) padded at the right, their pictures (b, m, …) or features of them, which picture
    each token sees (eq:flamingo-phi), and which tokens the loss counts."""

    tokens: Int[Tensor, "b t"]
    pictures: Float[Tensor, "b m ..."]
    media: Int[Tensor, "b t"]
    scored: Bool[Tensor, "b t"]


def look_at_pixels(images: UInt8[Tensor, "n 3 s s"]) -> Look:
    """Pictures of 0..255 by their numbers, as image towers want them."""
    return lambda numbers: pixels(images[numbers])


def look_at_features(features: Float[Tensor, "n ..."]) -> Look:
    """Features that a frozen encoder has computed, by the numbers of their pictures."""
    return lambda numbers: features[numbers]


def stack_pictures(pages: Sequence[Sequence[int]], look: Look) -> Float[Tensor, "b m ..."]:
    """The pictures of pages side by side, (b, m, …), m the most of a page and at least 1; zeros fill up."""
    m = max(1, *map(len, pages))
    numbers = torch.tensor([[*page, *[NO_PICTURE] * (m - len(page))] for page in pages])
    seen = look(numbers.clamp(min=0).flatten()).unflatten(0, numbers.shape)
    there = (numbers != NO_PICTURE).view(*numbers.shape, *[1] * (seen.ndim - 2))
    return torch.where(there.to(seen.device), seen, 0.0)


def collate_pages(
    pages: Sequence[Sequence[Example]], tokeniser: ChunkTokeniser, look: Look,
    ahead: Sequence[bool] | None = None, answers_only: bool = False,
) -> InterleavedBatch:
    """Pages as a batch. The loss counts all words and ``<EOC>``, or with ``answers_only`` those of answers.

    Pages that are ``ahead`` have each text with the picture behind it (eq:interleaved-next).
    """
    rows = [encode_page(page, tokeniser) for page in pages]
    longest = max(len(row.ids) for row in rows)
    tokens = torch.full((len(rows), longest), tokeniser.pad)
    answers = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row.ids)] = torch.tensor(row.ids)
        answers[i, : len(row.ids)] = torch.tensor(row.answers)
    media = last_picture(tokens == tokeniser.image)
    if ahead is not None:
        media = torch.where(torch.tensor(ahead)[:, None], next_positions(tokens, tokeniser.image), media)
    silent = torch.tensor([tokeniser.pad, tokeniser.bos, tokeniser.image])
    scored = answers if answers_only else ~torch.isin(tokens, silent)
    return InterleavedBatch(tokens, stack_pictures([row.pictures for row in rows], look), media, scored)


def _dice(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


class PageBatches(Batches):
    """Endless batches of pages, a function of their number: each example opens a page, and up to ``most - 1``
    more of its kind, with other pictures, follow.

    ``most`` = 1 gives pairs. A share ``ahead`` of the pages is read with the picture behind each text (½ in
    Flamingo; 0 by default, since here all text stands behind its picture). ``answers_only`` as in
    ``collate_pages``.
    """

    def __init__(
        self, examples: Sequence[Example], tokeniser: ChunkTokeniser, look: Look, size: int = 32, *,
        most: int = 5, ahead: float | int = 0.0, answers_only: bool = False, seed: int = 0,
    ) -> None:
        super().__init__(examples, size, seed=seed)
        if most < 1 or not 0 <= ahead <= 1:
            raise ValueError(f"most is {most} and ahead {ahead}; a page has 1 example or more, a share is "
                             f"between 0 and 1")
        self.tokeniser, self.look, self.most, self.ahead = tokeniser, look, most, ahead
        self.answers_only = answers_only
        self.alike: dict[str, list[int]] = defaultdict(list)
        for number, example in enumerate(examples):
            self.alike[example.kind].append(number)

    def page(self, first: int, dice: np.random.Generator) -> list[Example]:
        """The page that an example opens."""
        examples, page = self.data, [self.data[first]]
        others = self.alike[page[0].kind]
        for number in dice.integers(len(others), size=int(dice.integers(self.most))):
            example = examples[others[number]]
            if example.picture not in [e.picture for e in page]:
                page.append(example)
        return page

    def make(self, indices: list[int], number: int) -> InterleavedBatch:
        """The batch ``number``, of pages that these examples open."""
        dice = _dice(self.seed, number, *indices[:1])
        pages = [self.page(first, dice) for first in indices]
        ahead = (dice.random(len(pages)) < self.ahead).tolist()
        return collate_pages(pages, self.tokeniser, self.look, ahead, self.answers_only)


class BindingBatches(Batches):
    """Endless batches of ``binding_page``: 1 to ``shots`` shots of each of ``ways`` classes; the loss counts
    answers."""

    def __init__(
        self, pictures: ClassPictures, tokeniser: ChunkTokeniser, look: Look, size: int = 32, *,
        ways: int = 2, shots: int = 4, seed: int = 0, words: Sequence[str] = NONSENSE,
    ) -> None:
        super().__init__(pictures, min(size, len(pictures)), seed=seed)
        self.tokeniser, self.look, self.ways, self.shots, self.words = tokeniser, look, ways, shots, words

    def make(self, indices: list[int], number: int) -> InterleavedBatch:
        """The batch ``number``: as many episodes as ``indices``, which follow from the number."""
        generator = torch.Generator().manual_seed(int(_dice(self.seed, number, *indices[:1]).integers(2**62)))
        pages = [binding_page(self.data, self.ways, 1 + int(torch.randint(self.shots, (1,),
                                                                          generator=generator)),
                              generator, self.words) for _ in indices]
        return collate_pages(pages, self.tokeniser, self.look, answers_only=True)


def shown(pictures: Float[Tensor, "b m ..."]) -> dict[str, Tensor]:
    """Pictures as a model that sees takes them: pixels (b, m, 3, y, x) are ``pictures``, what an encoder has
    made of them, (b, m, p, f) or (b, m, f), are ``features``."""
    return {"pictures" if pictures.ndim > 4 else "features": pictures}


class Blind(nn.Module):
    """A language model alone under the signature of one that sees: the question-only baseline."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Int[Tensor, "b t"], pictures: Float[Tensor, "b m ..."] | None = None,
        features: Float[Tensor, "b m ..."] | None = None, media: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        return self.model(tokens)

    def decode(self, tokens: Int[Tensor, "r t"], context: Any) -> Float[Tensor, "r t v"]:
        """Logits after each of ``tokens``, which follow a prompt."""
        return self.model.decode(tokens, context)          # type: ignore[operator]


def interleaved_objective(model: Sees, batch: InterleavedBatch) -> tuple[Tensor, dict[str, Any]]:
    """A loss for ``fit``: eq:lm-loss over the scored tokens of pages, and their number as its weight."""
    logits = model(batch.tokens, **shown(batch.pictures), media=batch.media)
    return lm_loss(logits, batch.tokens, batch.scored), {"weight": batch.scored[:, 1:].sum().float()}
