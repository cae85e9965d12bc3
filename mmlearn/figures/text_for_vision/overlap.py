"""Figure of the side page on robustness: how the interval of Clopper and Pearson comes about.

Paper: C. Clopper and E. Pearson (1934), Biometrika 26, 404-413.  Survey: 4.2.1.
"""

import math

from mmlearn.figures.diagram import Diagram
from mmlearn.figures.interactive import Block, slider
from mmlearn.text_for_vision.overlap import binomial_tail, clopper_pearson

LEFT, RIGHT, BASE = 36, 452, 156


def chances(trials: int, p: float) -> list[float]:
    """Probability of 0 to ``trials`` successes."""
    return [math.comb(trials, j) * p**j * (1 - p) ** (trials - j) for j in range(trials + 1)]


def tails(successes: int, trials: int, p: float) -> tuple[float, float]:
    """Probability of as many successes or more, and of as many or fewer."""
    return binomial_tail(successes, trials, p), 1 - (
        binomial_tail(successes + 1, trials, p) if successes < trials else 0.0)


def _frame(successes: int, trials: int, p: float, half: float) -> Diagram:
    more, fewer = tails(successes, trials, p)
    inside = more >= half and fewer >= half
    drawn = Diagram(480, 224, (
        f"Chances of 0 to {trials} right answers if each is right with probability {p:g}: {successes} or "
        f"more have {more:.4f}, {successes} or fewer {fewer:.4f}; {p:g} is "
        f"{'inside' if inside else 'outside'} of the interval."))
    wide = (RIGHT - LEFT) / (trials + 1)
    drawn.line([(LEFT, BASE), (RIGHT, BASE)])
    for j, chance in enumerate(chances(trials, p)):
        x, tall = LEFT + wide * (j + 0.5), 140 * chance
        role = "new" if j == successes else "loss" if j > successes else "text"
        drawn.bar(x - 0.35 * wide, BASE - tall / 2, 0.7 * wide, max(tall, 0.6), role)
        drawn.text(x, BASE + 12, str(j), 13, "new" if j == successes else "soft",
                   weight=600 if j == successes else 400)
    low, high = clopper_pearson(successes, trials, 1 - 2 * half)
    across = RIGHT - LEFT
    drawn.text(LEFT - 4, 200, "0", 13, "soft", "end")
    drawn.text(RIGHT + 4, 200, "1", 13, "soft", "start")
    drawn.line([(LEFT, 200), (RIGHT, 200)])
    drawn.bar(LEFT + across * low, 200, across * (high - low), 8, "block")
    drawn.rect(LEFT + across * p, 200, 10, 18, "new" if inside else "loss", radius=3)
    return drawn


def clopper_pearson_slider(successes: int = 9, trials: int = 10, confidence: float = 0.995,
                           start: float | int = 0.5) -> Block:
    """MOVING: the chances of all results for a probability p, and whether either tail rules p out
    (eq:binomial-tail, eq:clopper-pearson)."""
    half = (1 - confidence) / 2
    values = [i / 50 for i in range(1, 50)]
    frames, said = [], []
    for p in values:
        more, fewer = tails(successes, trials, p)
        ruled = ("ruled out: too many right" if more < half else
                 "ruled out: too few right" if fewer < half else "not ruled out")
        frames.append(_frame(successes, trials, p, half))
        said.append(f"p = {p:.2f}: {successes} or more {more:.4f}, {successes} or fewer {fewer:.4f}; bound "
                    f"{half:.4f}. {ruled}.")
    first = min(range(len(values)), key=lambda i: abs(values[i] - start))
    return slider({"p": [f"{p:.2f}" for p in values]}, frames, (
        f"Bars: chances of 0 to {trials} right answers, violet the {successes} that were seen. Below, blue, "
        f"the {100 * confidence:g} % interval on a line from 0 to 1, and a mark at p"), labels=said,
        start=first)
