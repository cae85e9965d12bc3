"""Figures of decoding: a beam search as one drawing, and step by step.

Paper: M. Cornia et al. (2020), arXiv:1912.08226, sec. 4.2 (the semantics of the search).  Survey: 1.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.diagram import Diagram, Point, literal, text_width
from mmlearn.figures.interactive import Block, player
from mmlearn.generate import BeamTree


@dataclass(frozen=True)
class Hypothesis:
    """A prefix of a beam search: its last ``word``, its log-probability so far (``score``), the place in the
    step before that it grew from, whether it has ended, and whether the beam kept it."""

    word: str
    score: float
    parent: int = 0
    ended: bool = False
    kept: bool = True


Steps = Sequence[Sequence[Hypothesis]]      # of each step: what was kept, best first, then what was cut

EXAMPLE: Steps = (
    (Hypothesis("a", -0.36), Hypothesis("the", -1.31), Hypothesis("two", -3.22, kept=False)),
    (Hypothesis("dog", -0.82, 0), Hypothesis("red", -1.59, 0), Hypothesis("dog", -1.87, 1, kept=False)),
    (Hypothesis("runs", -1.64, 0), Hypothesis("tree", -1.71, 1), Hypothesis("is", -1.98, 0, kept=False)),
    (Hypothesis("behind", -2.02, 1), Hypothesis("right", -2.35, 0), Hypothesis("in", -2.60, 0, kept=False)),
    (Hypothesis("a", -2.16, 0), Hypothesis("of", -2.38, 1), Hypothesis("the", -3.40, 0, kept=False)),
    (Hypothesis("a", -2.52, 1), Hypothesis("dog", -2.61, 0), Hypothesis("flower", -3.37, 0, kept=False)),
    (Hypothesis("tree", -2.70), Hypothesis("end", -2.73, 1, True), Hypothesis("red", -3.30, kept=False)),
    (Hypothesis("end", -2.73, 1, True), Hypothesis("end", -2.79, 0, True)),
)


def beam_steps(trace: BeamTree, words: WordTokeniser, image: int = 0, cut: int = 1) -> list[list[Hypothesis]]:
    """What a beam search did for one image: at each step what it kept, and the ``cut`` best of the rest."""
    steps: list[list[Hypothesis]] = []
    for step in trace.steps:
        def hypothesis(parent: int, word: int, total: float, kept: bool = True) -> Hypothesis:
            frozen = word == words.pad
            said = "end" if frozen or word == words.eos else words.words[word]
            return Hypothesis(said, total, parent, frozen or word == words.eos, kept)

        kept = [hypothesis(*choice) for choice in
                zip(*(part[image].tolist() for part in (step.parent, step.token, step.total)))]
        taken = {(h.parent, h.word) for h in kept}
        rows = zip(step.words[image].tolist(), step.totals[image].tolist())
        others = [hypothesis(p, word, total, kept=False) for p, row in enumerate(rows)
                  for word, total in zip(*row) if total > float("-inf")]
        others = sorted((h for h in others if (h.parent, h.word) not in taken), key=lambda h: -h.score)
        steps.append(kept + others[:cut])
    return steps


def beam_search(steps: Steps = EXAMPLE, upto: int | None = None) -> Diagram:
    """A beam search from top to bottom, a row a step: kept hypotheses in columns, cut ones grey at the right.

    The best caption so far is violet, finished ones are teal, what leads nowhere is grey. ``upto`` draws the
    first steps only.
    """
    shown = steps if upto is None else steps[:upto]
    wide, down = max(len(step) for step in steps), 52
    across = max(92.0, min(130.0, 430 / wide))
    best = max((j for j, h in enumerate(shown[-1]) if h.kept), key=lambda j: shown[-1][j].score)
    path = _ancestors(shown, [best])
    alive = _ancestors(shown, [j for j, h in enumerate(shown[-1]) if h.kept])
    caption = " ".join(shown[i][j].word for i, j in sorted(path) if shown[i][j].word != "end")
    drawn = Diagram(across * wide + 24, down * (len(steps) + 1) - 12, (
        f"Beam search after {len(shown)} step{'s' * (len(shown) > 1)}. Best caption: {caption}, "
        f"log-probability {shown[-1][best].score:.2f}."))
    at = [[(24 + across * (j + 0.5), 18 + down * (i + 1)) for j in range(len(step))]
          for i, step in enumerate(steps)]
    drawn.box(at[0][0][0], 18, "start", "frozen", 78, 26)
    for final in (False, True):                                 # the best path lies above the others
        for i, step in enumerate(shown):
            for j, h in enumerate(step):
                if ((i, j) in path) == final:
                    role = "new" if final else "block" if (i, j) in alive else "frozen"
                    _curve(drawn, at[i - 1][h.parent] if i else (at[0][0][0], 18), at[i][j], role, not h.kept)
    for i, step in enumerate(shown):
        drawn.text(8, at[i][0][1], str(i + 1), 12, "soft")
        for j, h in enumerate(step):
            (x, y), live = at[i][j], (i, j) in alive
            role = "new" if (i, j) in path else "frozen" if not live else "image" if h.ended else "block"
            pale = "" if h.kept else ' stroke-dasharray="4 3" fill-opacity="0.3"'
            drawn.rect(x, y, across - 10, 30, role, 7, pale)
            size = min(14.0, 14 * 0.6 * across / max(text_width(h.word, 14), 1))
            tone, weight = ("", 600) if live else ("soft", 400)
            drawn.text(x - across / 2 + 11, y, literal(h.word), size, tone, "start", weight)
            drawn.text(x + across / 2 - 11, y, f"{h.score:.1f}".replace("-", "−"), 12, "soft", "end")
    return drawn


def _ancestors(steps: Steps, places: Sequence[int]) -> set[tuple[int, int]]:
    """The hypotheses of the last step at ``places`` and all they grew from, as (step, place)."""
    found = set()
    for place in places:
        for row in range(len(steps) - 1, -1, -1):
            found.add((row, place))
            place = steps[row][place].parent
    return found


def _curve(drawn: Diagram, start: Point, end: Point, role: str, cut: bool) -> None:
    """A line from below one cell to above another."""
    a, b, x, y = start[0], start[1] + 15, end[0], end[1] - 15
    middle = (b + y) / 2
    dashes = ' stroke-dasharray="3 3"' if cut else ""
    drawn.add(f'<path class="mm-l mm-{role}" d="M{a:.4g} {b:.4g}C{a:.4g} {middle:.4g} {x:.4g} {middle:.4g} '
              f'{x:.4g} {y:.4g}"{dashes}/>')


def beam_player(steps: Steps = EXAMPLE) -> Block:
    """Beam search step by step: what each step keeps and cuts, and the best caption so far."""
    labels = []
    for i, step in enumerate(steps, start=1):
        kept, cut = [h.word for h in step if h.kept and not h.ended], [h.word for h in step if not h.kept]
        ended = sum(h.ended for h in step if h.kept)
        parts = [f"keeps {', '.join(kept)}"] * bool(kept) + [f"{ended} finished"] * bool(ended)
        labels.append(f"step {i}: " + "; ".join([*parts, *[f"cuts {', '.join(cut)}, …"] * bool(cut)]))
    frames = [beam_search(steps, i) for i in range(1, len(steps) + 1)]
    return player(frames, labels, "Beam search step by step", start=-1, seconds=1.4)
