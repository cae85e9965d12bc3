"""The study of unCLIP's prior measures what it says, and is a function of its seed."""

import argparse
import json

import pytest
import torch

from mmlearn.data.things import thing_pairs
from mmlearn.experiments import main, results
from mmlearn.experiments.text2image.unclip_prior import ARMS, embedded, job, run
from mmlearn.text_for_vision.training import load_mini

SMALL = {"steps": 3, "batch": 8, "lr": 1e-3, "train": 20, "test": 6, "draws": 3, "bound": 2.0, "scale": 1.0}


def test_embeddings_are_of_length_one_and_fit_their_captions_better_than_others():
    z, text = embedded(load_mini("vit"), thing_pairs(30, "test"), 0)
    assert z.shape == (30, 64) and text.states.shape == (30, 32, 96)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(30))
    products = z @ text.embedding.T
    assert float(products.diagonal().mean()) > float(products.mean()) + 0.2
    assert text.mask.any(1).all() and not text.mask.all()


@pytest.mark.parametrize("name", ARMS)
def test_a_run_is_a_function_of_its_seed_and_the_better_of_two_fits_better(name):
    one, same, other = (job(name, seed, argparse.Namespace(**SMALL)) for seed in (0, 0, 1))
    assert one == same != other
    assert one["the better of two"]["with the caption"] >= one["one"]["with the caption"]


@pytest.mark.slow
def test_the_study_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    options = [text for name in ("steps", "batch", "train", "test", "draws")
               for text in (f"--{name}", str(SMALL[name]))]
    assert main(["unclip-prior", "--seeds", "1", "--processes", "1", *options, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]) == set(ARMS) and told["settings"]["seeds"] == [0]
    with pytest.raises(ValueError, match="--test is 1 and --steps 3"):
        run(argparse.Namespace(**{**SMALL, "test": 1}))


# ---- what the chapter says about the committed results -----------------------------------------------------


def test_of_two_draws_the_better_fits_the_caption_better_in_every_run():
    for runs in results("unclip-prior")["arms"].values():
        for found in runs:
            assert found["the better of two"]["with the caption"] > found["one"]["with the caption"]


def test_predicting_the_embedding_comes_nearer_to_the_picture_than_predicting_its_noise():
    arms = results("unclip-prior")["arms"]
    for x0, noise in zip(arms["x0"], arms["noise"]):
        assert x0["one"]["with the picture"] > noise["one"]["with the picture"]


def test_after_so_few_steps_predicted_noise_is_not_learnt_yet():
    arms = results("unclip-prior")["arms"]
    assert all(found["loss"] > 0.5 for found in arms["noise"])              # 1 for no prediction at all
    assert all(found["one"]["with the picture"] > found["caption itself"]["with the picture"]
               for found in arms["x0"])
