"""What is shown of a captioner is what it did."""

import pytest
import torch

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.image2text.captioning import attention_maps
from mmlearn.generate import beam
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
from mmlearn.image2text.m2 import M2Config, M2Transformer

WORDS = WordTokeniser.train(["a red cat sits left of the blue house", "two birds"])


def m2(seed=0):
    torch.manual_seed(seed)
    return M2Transformer(M2Config.mini(len(WORDS), 12)).eval()


def test_the_words_are_those_of_the_best_hypothesis():
    model, x = m2(), torch.randn(1, 5, 12)
    tokens, _ = beam(model, model.encode(x), k=3, max_len=8)
    assert attention_maps(model, x, WORDS, k=3, max_len=8).words == [
        WORDS.words[i] for i in tokens[0, 0].tolist() if i != WORDS.pad
    ]


def test_attention_of_each_word_is_a_distribution_over_real_regions():
    model, x = m2(), torch.randn(1, 5, 12)
    mask = torch.tensor([[True, True, True, False, False]])
    maps = attention_maps(model, x, WORDS, mask, k=2, max_len=6)
    assert maps.attention.shape == (len(maps.words), 3)
    torch.testing.assert_close(maps.attention.sum(-1), torch.ones(len(maps.words)))


def test_gates_and_memory_shares_lie_between_zero_and_one_and_have_one_entry_a_layer():
    model, x = m2(), torch.randn(1, 5, 12)
    maps = attention_maps(model, x, WORDS, k=2, max_len=6)
    assert maps.gates.shape == (3, 3, len(maps.words)) and maps.memory.shape == (3, 4, 5)
    for values in (maps.gates, maps.memory):
        assert ((values > 0) & (values < 1)).all()


def test_the_memory_share_is_one_minus_lambda_of_the_equation():
    from mmlearn.image2text.m2 import memory_gate

    model, x = m2(), torch.randn(1, 5, 12)
    layer = model.encoder[0].attention
    q, k, _ = layer.project_all(model.project(x))
    share = 1 - memory_gate(q, k, layer.memory(1)[0])
    torch.testing.assert_close(attention_maps(model, x, WORDS, k=1, max_len=3).memory[0], share[0])


def test_a_plain_transformer_has_neither_gates_nor_memory():
    torch.manual_seed(0)
    model = M2Transformer(M2Config.plain_mini(len(WORDS), 12))
    maps = attention_maps(model, torch.randn(1, 5, 12), WORDS, k=1, max_len=4)
    assert maps.gates is None and maps.memory is None
    assert model.training


def test_a_captioner_of_pixels_attends_to_cells_of_its_grid():
    torch.manual_seed(0)
    model = CNNTransformer(CaptionerConfig.mini(len(WORDS)))
    assert attention_maps(model, torch.rand(1, 3, 64, 64), WORDS, k=1, max_len=4).attention.shape[1] == 64


def test_two_images_at_once_are_refused():
    with pytest.raises(ValueError, match="one at a time"):
        attention_maps(m2(), torch.randn(2, 5, 12), WORDS)
