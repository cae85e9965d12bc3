"""The study of the miniature's language model writes what load_lm opens, and tells whether it looks back."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mmlearn.both_modalities.interleaved import NONSENSE
from mmlearn.both_modalities.language_model import TextBatches, all_examples, copied, lm_tokeniser, load_lm
from mmlearn.data.pairs import scene_pairs
from mmlearn.experiments import main
from mmlearn.experiments.both_modalities.scene_lm import THINGS

SMALL = ["--steps", "4", "--batch", "4", "--scenes", "12", "--test", "4", "--layers", "1", "--width", "16",
         "--every", "2"]


class LooksBack(nn.Module):
    """Says what followed when the same token stood there last, else the token itself."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*tokens.shape, 400)
        for b, row in enumerate(tokens.tolist()):
            for t, token in enumerate(row):
                before = [s for s in range(t) if row[s] == token]
                logits[b, t, row[before[-1] + 1] if before else token] = 1.0
        return logits


def test_who_looks_back_copies_everything_and_who_says_one_word_almost_nothing():
    of = lm_tokeniser(scene_pairs(12), things=THINGS)
    assert of.unk not in of.encode(" ".join(THINGS))
    assert copied(LooksBack(), of, THINGS, ways=4, shots=2, pages=8) == 1.0

    class SaysOne(LooksBack):
        def forward(self, tokens):
            return nn.functional.one_hot(torch.full_like(tokens, of.encode("dax")[0]), 400).float()

    share = copied(SaysOne(), of, THINGS, ways=2, shots=3, pages=200)
    assert share == pytest.approx(1 / len(NONSENSE), abs=0.05)


def test_pages_bind_as_many_ways_as_are_asked_for():
    data = scene_pairs(12)
    of = lm_tokeniser(data, things=THINGS)
    batches = TextBatches(all_examples(data), of, 8, binding=1.0, things=THINGS, ways=(2, 3))
    ways = {len({e.request for e in page}) for i in range(4)
            for page in batches.pages([0] * 8, np.random.default_rng(i))}
    assert ways == {2, 3}
    with pytest.raises(ValueError, match=r"ways are \[5\] with 4 things"):
        TextBatches(all_examples(data), of, 8, things=THINGS[:4], ways=(5,))


def test_the_study_can_be_gone_on_with_and_its_model_opens(tmp_path):
    out, path = str(tmp_path / "r.json"), tmp_path / "lm.safetensors"
    more = [*SMALL, "--out", out, "--checkpoint", str(path), "--folder", str(tmp_path / "run")]
    assert main(["scene-lm", *more]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["scores"]) == {"copied, 2 ways", "copied, 4 ways", "loss", "perplexity", "accuracy",
                                   "unigram", "words", "parameters"}
    assert told["curve"]["judged"]["step"] == [2, 4]
    saved = load_lm(path)
    assert len(saved.tokeniser) == told["scores"]["words"] == saved.model.config.vocab
    assert saved.about["settings"]["steps"] == 4
    assert main(["scene-lm", *more]) == 0               # nothing is left to do, the same is written
    assert json.loads((tmp_path / "r.json").read_text())["scores"] == told["scores"]
