"""The study of the visual prefix compares what it says, from equal starts."""

import argparse
import json

import pytest
import torch

from mmlearn.both_modalities.language_model import lm_tokeniser, save_lm
from mmlearn.data.pairs import scene_pairs
from mmlearn.experiments import main
from mmlearn.experiments.both_modalities.visual_prefix import ARMS, arm_of, by_kind, job, prior, world
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import seeded

SMALL = {"steps": 2, "batch": 4, "lr": 1e-3, "train": 12, "test": 6}


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "scene-lm.safetensors"
    of = lm_tokeniser(scene_pairs(12))
    with seeded(0):
        save_lm(path, CausalLM(CausalLMConfig(len(of), 64, 16, 1, 2, 32, "rotary", "gelu")), of, {})
    return path


def test_arms_of_a_seed_begin_alike_and_train_what_they_say(language):
    from mmlearn.both_modalities.language_model import load_lm

    arms = {name: arm_of(name, load_lm(language), 1) for name in ARMS}
    first = arms["two layers"].state_dict()
    for name in ("other pictures", "language model trained"):
        assert all(torch.equal(first[key], value) for key, value in arms[name].state_dict().items())
    learn = {name: {key.split(".")[0] for key, w in model.named_parameters() if w.requires_grad}
             for name, model in arms.items()}
    assert learn.pop("language model trained") == {"projection", "language"}
    assert all(parts == {"projection"} for parts in learn.values())
    assert arms["matrix"].projection.second is None


def test_the_prior_is_the_share_of_the_most_frequent_answer():
    train, test = world(12, "train"), world(6, "val")
    told = prior(train, test)
    for kind, asked in by_kind(test.questions).items():
        answers = [e.answer for e in train.questions if e.kind == kind]
        most = max(dict.fromkeys(answers), key=answers.count)
        asked = asked[:6]
        assert told[kind] == pytest.approx([e.answer for e in asked].count(most) / len(asked))
    assert test.cells.shape == (6, 16, 256)
    assert float(test.cells.square().mean()) == pytest.approx(1, abs=1e-3)


def test_a_run_is_a_function_of_its_seed(language):
    args = argparse.Namespace(**SMALL, language=language)
    one, same = job("two layers", 1, args), job("two layers", 1, args)
    assert one["scores"] == same["scores"] and one["trained numbers"] == 256 * 16 + 16 + 16 * 16 + 16
    alone = job("language model alone", 0, args)
    assert alone["scores"]["caption loss"] == alone["scores"]["caption loss, other picture"]
    assert alone["text alone"] == pytest.approx(one["text alone"])


@pytest.mark.slow
def test_the_study_writes_its_arms(tmp_path, language):
    few = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    out = tmp_path / "out.json"
    assert main(["visual-prefix", *few, "--seeds", "1", "--processes", "1", "--language", str(language),
                 "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert set(written["arms"]) == set(ARMS) and "prior" in written["alone"]
