"""The study of words that were only read trains what it says and judges it."""

import argparse
import json

import pytest
import torch

from mmlearn.data.pairs import class_names
from mmlearn.data.word_world import NOUNS, ZERO_SHOT
from mmlearn.experiments import main
from mmlearn.experiments.images_for_language import zero_shot_words as study
from mmlearn.experiments.images_for_language.zero_shot_words import ARMS, BASE, job, sights, split, train

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
