"""The study of Flamingo removes what it says, judges what it says, and writes what opens again."""

import argparse
import json

import pytest
import torch

from mmlearn.both_modalities.flamingo_training import load_flamingo
from mmlearn.both_modalities.language_model import lm_tokeniser, save_lm
from mmlearn.data.pairs import scene_pairs
from mmlearn.experiments import main
from mmlearn.experiments.both_modalities.flamingo import ARMS, BASE, SHOTS, job
from mmlearn.experiments.both_modalities.scene_lm import THINGS
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import seeded


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    of = lm_tokeniser(scene_pairs(16), things=THINGS)
    with seeded(0):
        lm = CausalLM(CausalLMConfig(len(of), 128, 16, 2, 4, 32, "rotary", "gelu"))
    path = tmp_path_factory.mktemp("lm") / "scene-lm.safetensors"
    save_lm(path, lm, of, {})
    return argparse.Namespace(
        steps=2, batch=4, binding=4, most=3, lr=1e-3, scenes=16, things=400, test=70, episodes=4,
        questions=12, encoder="resnet", language=path, folder=None, checkpoint=None, glances=1)


@pytest.mark.slow
def test_every_arm_is_trained_and_judged(args):
    told = {name: job(name, 0, args) for name in ARMS}
    base = told[BASE]["scores"]
    assert told["no gates"]["gates"] == [] and told[BASE]["gates"][0][1:] != []
    assert told["language model trained"]["trained"] > told[BASE]["trained"]
    for name, one in told.items():
        scores = one["scores"]
        assert len(scores["binding"]["known things"]) == len(SHOTS)
        changed = scores["text"]["after"] != scores["text"]["before"]
        assert changed == (name == "language model trained")
        assert ("bindings" in one["curve"]) == (name != "pairs only")
    assert base == job(BASE, 0, args)["scores"]                         # a function of its seed


@pytest.mark.slow
def test_the_recipe_is_written_and_opens(args, tmp_path):
    out, path = tmp_path / "r.json", tmp_path / "flamingo.safetensors"
    few = [part for name in ("steps", "batch", "binding", "most", "scenes", "things", "test", "episodes",
                             "questions", "glances") for part in (f"--{name}", str(getattr(args, name)))]
    assert main(["flamingo", *few, "--arms", BASE, "--seeds", "1", "--processes", "1", "--language",
                 str(args.language), "--checkpoint", str(path), "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert list(told["arms"]) == [BASE]
    (tmp_path / "scene-lm.safetensors").write_bytes(args.language.read_bytes())
    (tmp_path / "scene-lm.json").write_bytes(args.language.with_suffix(".json").read_bytes())
    saved = load_flamingo(path)
    gates = saved.model.adapter.gates().flatten()
    torch.testing.assert_close(gates, torch.tensor(told["arms"][BASE][0]["gates"][-1][1:]), atol=2e-3,
                               rtol=1e-2)
    assert saved.about["settings"]["steps"] == 2
