"""The study of words that were only read trains what it says and judges it."""

import argparse
import json

import pytest
import torch

from mmlearn.claims import paired
from mmlearn.data.pairs import class_names
from mmlearn.data.word_world import NOUNS, ZERO_SHOT
from mmlearn.experiments import main, results
from mmlearn.experiments.images_for_language import zero_shot_words as study
from mmlearn.experiments.images_for_language.zero_shot_words import (
    ARMS,
    BASE,
    LOWER,
    job,
    sights,
    split,
    train,
)

SMALL = {"sentences": 8000, "more": 0, "epochs": 1, "lr": 0.025, "dim": 8, "pictures": 1, "held_out": 0.3}


@pytest.fixture
def drawn(monkeypatch):
    """Features that need no drawing."""
    def features(count, part):
        words = torch.randn(len(NOUNS), 16, generator=torch.Generator().manual_seed(0))
        noise = torch.randn(len(NOUNS), 16, generator=torch.Generator().manual_seed(len(part)))
        return words + 0.1 * noise

    monkeypatch.setattr(study, "features", features)


def test_no_word_never_pictured_is_a_class_of_the_network():
    seen, held = split(argparse.Namespace(**SMALL), 0)
    names = {NOUNS[i] for i in held}
    assert len(held) == round(0.3 * len(NOUNS)) and len(seen) >= 150
    assert names >= set(ZERO_SHOT) and not names & (set(class_names()) - set(ZERO_SHOT))
    assert split(argparse.Namespace(**SMALL), 1)[1] != held


def test_directions_of_pictures_are_those_of_the_seen_words(drawn):
    args = argparse.Namespace(**SMALL)
    seen, held = split(args, 0)
    shown, searched = sights(args, seen)
    assert shown.shape == searched.shape == (len(NOUNS), 8)
    torch.testing.assert_close(shown[seen].mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)
    spread = shown[seen].T @ shown[seen]
    assert (spread - spread.diag().diag()).abs().max() < 1e-3 * spread.max()


def test_arms_of_a_seed_read_the_same_and_differ_by_what_they_see(drawn):
    args = argparse.Namespace(**SMALL)
    seen, held = split(args, 1)
    text, _ = train(BASE, 1, 8000, args)
    right, _ = train("B", 1, 8000, args)
    wrong, curve = train("B with exchanged pictures", 1, 8000, args)
    assert text.vocabulary == right.vocabulary
    assert len(text.pictures) == 0 and len(right.pictures) == len(seen)
    torch.testing.assert_close(right.pictures.sum(0), wrong.pictures.sum(0), atol=1e-4, rtol=0)
    assert not torch.allclose(right.pictures, wrong.pictures)
    assert curve["vision"][-1] < 0
    rows = right.row[[right.vocabulary.ids[NOUNS[i]] for i in held]]
    assert (rows == -1).all()


def test_a_job_is_a_function_of_its_seed(drawn):
    args = argparse.Namespace(**SMALL)
    one, same, base = job("8000 B", 1, args), job("8000 B", 1, args), job(f"8000 {BASE}", 1, args)
    assert one == same
    assert set(base["scores"]) < set(one["scores"])
    assert set(one["scores"]) - set(base["scores"]) == {"moved, seen", "moved, never pictured",
                                                        "moved, abstract"}
    assert one["scores"]["moved, seen"] > 0
    assert 1 <= one["scores"]["retrieval mean rank"] <= len(NOUNS)


@pytest.mark.slow
def test_the_study_of_words_that_were_only_read_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    options = [part for key, value in SMALL.items()
               for part in (f"--{key.replace('_', '-')}", str(value))]
    assert main(["zero-shot-words", "--seeds", "1", "--processes", "1", *options, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]["8000"]) == set(ARMS) and told["settings"]["nouns"] == len(NOUNS) >= 150
    assert told["chance"]["mean rank"] == (len(NOUNS) + 1) / 2


# ---- what the chapter can say about the committed results ------------------------------------------------

def verdict(ours, base, key, count="30000"):
    arms = results("zero-shot-words")["arms"][count]
    values = [[run["scores"][key] for run in arms[name]] for name in (ours, base)]
    return paired(*values, lower_is_better=key in LOWER).verdict


@pytest.mark.parametrize("arm", ["A", "B"])
def test_pictures_of_unseen_words_are_found_better_than_by_skip_gram_and_a_ridge(arm):
    for key in ("retrieval P@10", "retrieval mean rank", "retrieval among unseen P@1",
                "retrieval among unseen mean rank", "nearest has its drawing"):
        assert verdict(arm, BASE, key) == "better"
    assert verdict(arm, BASE, "retrieval P@1") == "cannot tell"


def test_the_margin_helps_to_find_pictures():
    for key in ("retrieval P@10", "retrieval mean rank", "nearest has its drawing", "nearest has its colour"):
        assert verdict("B", "B without margin", key) == "better"


def test_exchanged_pictures_find_nothing_and_yet_name_as_well_among_all_words():
    wrong = "B with exchanged pictures"
    assert verdict(wrong, BASE, "retrieval mean rank") == "worse"
    assert verdict(wrong, BASE, "labelling mean rank") == "better"          # so that gain is not sight
    assert verdict("B", wrong, "labelling mean rank") == "cannot tell"
    assert verdict("B", wrong, "labelling P@1") == "worse"
    assert verdict("B", wrong, "labelling among unseen mean rank") == "better"
    assert verdict("B", wrong, "labelling by folds mean rank") == "better"


def test_the_paper_s_order_of_a_and_b_is_not_found():
    for key in ("retrieval mean rank", "retrieval P@10", "labelling among unseen mean rank"):
        assert verdict("B", "A", key) == "cannot tell"


def test_words_that_were_only_read_move_less_than_seen_ones_and_abstract_ones_least():
    for arm in ("A", "B"):
        for run in results("zero-shot-words")["arms"]["30000"][arm]:
            seen, read, abstract = (run["scores"][f"moved, {name}"]
                                    for name in ("seen", "never pictured", "abstract"))
            assert seen > 1.5 * read > 5 * abstract > 0


def test_with_more_text_a_is_still_better_than_reading_and_b_cannot_be_told_from_it():
    for key in ("retrieval mean rank", "retrieval P@10"):
        assert verdict("A", BASE, key, "100000") == "better"
        assert verdict("B", BASE, key, "100000") == "cannot tell"
    for key in ("nearest has its drawing", "nearest has its colour"):
        assert verdict("B", BASE, key, "100000") == "cannot tell"
    assert verdict("B", BASE, "labelling by folds P@10", "100000") == "worse"


@pytest.mark.parametrize("count", ["30000", "100000"])
def test_exchanged_pictures_find_nothing_in_a_either(count):
    wrong = "A with exchanged pictures"
    for key in ("retrieval P@10", "retrieval mean rank"):
        assert verdict("A", wrong, key, count) == "better"
    found = [run["scores"]["retrieval P@10"] for run in results("zero-shot-words")["arms"][count][wrong]]
    assert max(found) < 0.1                                         # chance: 10 of 233
    assert verdict("A", wrong, "labelling P@1", count) == "worse"
