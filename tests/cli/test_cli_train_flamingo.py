"""``mmlearn train flamingo``: pictures of one's own with a language model of their captions, drawn scenes;
stopped, resumed, opened."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from mmlearn.both_modalities.flamingo_training import load_flamingo
from mmlearn.both_modalities.language_model import lm_tokeniser, save_lm
from mmlearn.cli import main
from mmlearn.data.pairs import scene_pairs
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import seeded

SMALL = ["--batch", "4", "--save-every", "2", "--language-steps", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures of noise with captions, not square."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["file,caption"]
    for i, word in enumerate(("cat", "dog", "car", "tree", "house", "boat")):
        noise = np.random.default_rng(i).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        lines += [f"{i}.png,a {word}", f"{i}.png,there is a {word}"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def train(capsys, *arguments) -> dict:
    assert main(["train", "flamingo", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_pictures_of_ones_own_make_a_language_model_and_a_flamingo_over_it(folder, tmp_path, capsys):
    out = tmp_path / "run"
    told = train(capsys, "--data", "folder", "--images", folder, "--steps", 4, *SMALL, "--out", out)
    assert told["steps"] == 4 and told["pictures"] == 6 and told["judged on"] == "6 training pictures"
    assert set(told["captions"]) == {"own", "other", "none"} and told["mean gate"] > 0
    assert told["untrained"]["own"] == told["untrained"]["none"]        # at first it is its language model
    saved = load_flamingo(out)
    assert saved.about["language"] == "language" and "boat" in saved.tokeniser.words
    features = saved.encoder(torch.randn(1, 3, 64, 64))[:, None]
    tokens = torch.tensor([saved.tokeniser.encode("<image>output: a cat", add_special=True)])
    assert saved.model(tokens, features=features).shape == (1, tokens.shape[1], len(saved.tokeniser))


def test_a_run_cut_short_and_resumed_ends_as_one_that_was_not(folder, tmp_path, capsys):
    table = ["--data", "csv", "--annotations", folder / "captions.csv", "--validation",
             folder / "captions.csv"]
    told = train(capsys, *table, *SMALL, "--steps", 4, "--out", tmp_path / "whole")
    assert told["judged on"] == "6 validation pictures"
    half = ["--out", tmp_path / "half"]
    train(capsys, *table, *SMALL, "--steps", 4, *half)
    for step in (tmp_path / "half" / "flamingo").glob("step-*4"):   # as if it had been killed after step 2
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    assert train(capsys, "--resume", *half)["steps"] == 4
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_scenes_are_drawn_and_judged_on_other_scenes(tmp_path, capsys):
    of = lm_tokeniser(scene_pairs(60))
    with seeded(0):
        lm = CausalLM(CausalLMConfig(len(of), 128, 16, 2, 4, 32, "rotary", "gelu"))
    save_lm(tmp_path / "scene-lm.safetensors", lm, of, {})             # found beside what is trained
    told = train(capsys, "--scenes", 8, "--steps", 2, "--batch", "4", "--out", tmp_path)
    assert told["pictures"] == 8 and told["judged on"] == "200 validation pictures"


@pytest.mark.parametrize("arguments, sentence", [
    (["--data", "folder"], "--data folder needs --images DIR"),
    (["--language-steps", "5"], "--language-steps is for pictures of your own"),
    (["--resume"], "holds no run to resume"), (["--language-steps", "0"], "--language-steps is 0")])
def test_what_cannot_be_is_said(arguments, sentence, tmp_path, capsys):
    assert main(["train", "flamingo", *arguments, "--out", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
