"""The study of twins in small: text alone is at chance, what has seen pictures is not, and the verdicts are
sorted."""

import json
from collections import Counter
from itertools import permutations

import pytest
import torch

from mmlearn.data import word_world
from mmlearn.experiments import main
from mmlearn.experiments.images_for_language import grounding
from mmlearn.experiments.images_for_language.grounding import Seen, shuffled, verdicts, which_picture

TWO = {"twins": 0.5, "which picture": 0.5, "mixed": 0.1}


def test_shuffling_moves_whole_rows_and_no_order_is_rarer_than_another():
    table = torch.arange(3).float()[:, None].repeat(1, 2)
    draws, found = torch.Generator().manual_seed(0), Counter()
    for _ in range(1200):
        wrong = shuffled(table, draws)
        assert bool((wrong[:, 0] == wrong[:, 1]).all())
        found[tuple(wrong[:, 0].tolist())] += 1
    assert len(found) == 6 and min(found.values()) > 140


def test_over_all_orders_of_pictures_one_half_of_the_answers_is_right():
    """And over those alone in which nothing keeps its own picture it need not be."""
    table = torch.tensor([[1.0, 0.0], [0.9, 0.3], [0.0, 1.0], [-0.3, 0.8], [0.5, 0.7]])
    table = torch.nn.functional.normalize(table, dim=1)

    def right(order: tuple[int, ...]) -> float:
        word, like, unlike = (table[order[i]] for i in range(3))
        return float(word @ like > word @ unlike)

    orders = list(permutations(range(5)))
    assert sum(map(right, orders)) / len(orders) == 0.5
    moved = [order for order in orders if all(i != j for i, j in enumerate(order))]
    assert sum(map(right, moved)) / len(moved) != 0.5


def test_a_picture_goes_to_the_twin_whose_vector_is_mapped_near_it():
    draws = torch.Generator().manual_seed(0)
    n = len(word_world.PICTURED)
    nouns = torch.nn.functional.normalize(torch.randn(n, 24, generator=draws, dtype=torch.float64), dim=1)
    rows = [row for pair in grounding.TWIN_ROWS for row in pair]
    seen = Seen(nouns, nouns[rows][:, None].repeat(1, 3, 1))
    assert which_picture(nouns, seen, 0.01) == 1
    same = nouns.clone()
    same[rows[1::2]] = same[rows[::2]]                          # twins that have one vector
    same[rows[::2]] += 1e-6 * torch.randn(len(rows) // 2, 24, generator=draws, dtype=torch.float64)
    assert 0.2 < which_picture(same, seen, 0.01) < 0.8
    crossed = nouns.clone()
    crossed[rows] = nouns[[row for pair in grounding.TWIN_ROWS for row in pair[::-1]]]
    assert which_picture(crossed, seen, 0.01) == 0


def test_verdicts_put_the_adverse_ones_first():
    def runs(*values: float) -> list[dict]:
        return [{"seed": i, "scores": {**TWO, "twins": value}} for i, value in enumerate(values)]

    arms = {"PPMI: text alone": runs(0.51, 0.5, 0.49), "PPMI: with pictures": runs(0.8, 0.81, 0.82),
            "PPMI: shuffled pictures": runs(0.9, 0.92, 0.94)}
    said = verdicts(arms)
    assert [row["verdict"] for row in said] == sorted(
        (row["verdict"] for row in said), key=("worse", "cannot tell", "better").index)
    assert said[0] == {**said[0], "arm": "PPMI: with pictures", "base": "shuffled pictures",
                       "score": "twins", "verdict": "worse"}
    chance = [row for row in said if row["base"] == "chance" and row["arm"] == "PPMI: text alone"]
    assert {row["verdict"] for row in chance} == {"cannot tell"}


@pytest.mark.slow
def test_the_study_writes_what_it_measured(tmp_path):
    path = tmp_path / "r.json"
    assert main(["grounding", "--seeds", "1", "--sentences", "3000", "--pictures", "1", "--pairs", "300",
                 "--orders", "2", "--processes", "1", "--out", str(path)]) == 0
    told = json.loads(path.read_text())
    assert set(told["arms"]) == {f"{method}: {how}" for method in (*grounding.TEXTS, "multimodal skip-gram A")
                                 for how in ("text alone", "with pictures", "shuffled pictures")} | {
        "pictures alone: with pictures", "pictures alone: shuffled pictures"}
    scores = {name: runs[0]["scores"] for name, runs in told["arms"].items()}
    assert scores["PPMI: with pictures"]["which picture"] > 0.9
    assert scores["PPMI: text alone"]["which picture"] < 0.8
