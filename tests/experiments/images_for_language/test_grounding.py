"""The study of twins in small: text alone is at chance, what has seen pictures is not, and the verdicts are
sorted."""

import json

import pytest
import torch

from mmlearn.data import word_world
from mmlearn.experiments import main
from mmlearn.experiments.images_for_language import grounding
from mmlearn.experiments.images_for_language.grounding import Seen, shuffled, verdicts, which_picture

TWO = {"twins": 0.5, "which picture": 0.5, "mixed": 0.1}


def test_each_noun_gets_the_row_of_another():
    table = torch.arange(12).float()[:, None]
    for seed in range(20):
        wrong = shuffled(table, torch.Generator().manual_seed(seed))
        assert sorted(wrong[:, 0].tolist()) == table[:, 0].tolist()
        assert not bool((wrong == table).any())


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
                 "--processes", "1", "--out", str(path)]) == 0
    told = json.loads(path.read_text())
    assert set(told["arms"]) == {f"{method}: {how}" for method in (*grounding.TEXTS, "multimodal skip-gram A")
                                 for how in ("text alone", "with pictures", "shuffled pictures")} | {
        "pictures alone: with pictures", "pictures alone: shuffled pictures"}
    scores = {name: runs[0]["scores"] for name, runs in told["arms"].items()}
    assert scores["PPMI: with pictures"]["which picture"] > 0.9
    assert scores["PPMI: text alone"]["which picture"] < 0.8
