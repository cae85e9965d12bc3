"""Flamingo over the causal language model of the package, from its prompts and at the sizes of the paper."""

import pytest
import torch

from mmlearn import generate
from mmlearn.both_modalities.flamingo import Flamingo, FlamingoAdapter, FlamingoConfig, last_picture
from mmlearn.nn.modes import blank, seeded

causal_lm = pytest.importorskip("mmlearn.nn.causal_lm")
IMAGE, EOC = 4, 3


def made():
    with seeded(0):
        lm = causal_lm.CausalLM(causal_lm.CausalLMConfig.mini(30))
        model = Flamingo(FlamingoConfig.mini(), lm)
        fresh = FlamingoConfig.mini()
        with torch.no_grad():
            for value in model.adapter.parameters():
                value.copy_(0.3 * torch.randn(value.shape))
    return model.eval(), lm, fresh


def test_before_training_the_miniature_is_its_language_model():
    model, lm, config = made()
    tokens = torch.tensor([[2, IMAGE, 7, 8, EOC, IMAGE, 9, 10]])
    features = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        assert torch.equal(Flamingo(config, lm).eval()(tokens, features=features), lm(tokens))
        assert not torch.allclose(model(tokens, features=features), lm(tokens), atol=1e-3)


@torch.no_grad()
def test_texts_of_several_lengths_are_continued_from_their_pictures():
    model, _, _ = made()
    model = model.double()
    rows = [[2, IMAGE, 7, 8, EOC, IMAGE, 9, 10], [2, IMAGE, 9, 10]]
    tokens, real = causal_lm.left_padded(rows, pad=1)
    features = torch.randn(2, 2, 64, 64, dtype=torch.float64)
    prompt = causal_lm.Prompt(model.see(features=features), tokens=tokens, real=real,
                              media=last_picture(tokens == IMAGE))
    answers = torch.tensor([[[11, 12, EOC], [13, EOC, 1]], [[14, 15, 16], [12, 12, EOC]]])
    scores = generate.score(model, prompt, answers, eos=EOC)
    written, log_probs = generate.beam(model, prompt, k=2, eos=EOC, max_len=4)
    for i, row in enumerate(rows):
        for j, answer in enumerate(answers[i]):
            text = torch.tensor([row + answer.tolist()])
            phi = last_picture(text == IMAGE)
            logits = model(text, features=features[i:i + 1], media=phi)[0].log_softmax(-1)
            for t, word in enumerate(answer.tolist()):
                want = 0.0 if EOC in answer[:t].tolist() else float(logits[len(row) + t - 1, word])
                assert float(scores[i, j, t]) == pytest.approx(want, abs=1e-5)
    again = generate.score(model, prompt, written, eos=EOC)
    torch.testing.assert_close(again, log_probs.to(again), atol=1e-5, rtol=1e-5)
    alone = causal_lm.text_prompt([[2, 7, 8]])
    assert generate.greedy(model, alone, eos=EOC, max_len=2)[0].shape[0] == 1


@pytest.mark.parametrize("name, language, whole", [("flamingo_3b", "chinchilla_1b4", 3.2),
                                                   ("flamingo_80b", "chinchilla_70b", 79.0)])
def test_all_parts_together_have_the_stated_size(name, language, whole):
    """The paper says 3.2B and 80B; the shapes that it gives for the largest make 1B less."""
    with blank():
        parts = [FlamingoAdapter(getattr(FlamingoConfig, name)()),
                 causal_lm.CausalLM(getattr(causal_lm.CausalLMConfig, language)())]
    total = 435_286_032 + sum(p.numel() for part in parts for p in part.parameters())
    assert round(total / 1e9, 1) == whole
