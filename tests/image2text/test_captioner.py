from dataclasses import replace

import pytest
import torch
from networks import count

from mmlearn.generate import beam, greedy
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer, next_word_probabilities
from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.nn.attention import KVCache, record_attention

MINI = CaptionerConfig.mini(vocab=40)


def build(config=MINI):
    torch.manual_seed(0)
    return CNNTransformer(config).eval()


def batch(b=2, t=6):
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, 40, (b, t), generator=g)
    tokens[:, 0] = 2
    return torch.rand(b, 3, 64, 64, generator=g), tokens


@pytest.mark.parametrize("config, trunk, rest", [
    (CaptionerConfig.resnet101(), 42_500_160, 33_565_184),
    (CaptionerConfig.resnet50(), 23_508_032, 33_565_184),
    (CaptionerConfig.resnet101_6(), 42_500_160, 55_634_432),
])
def test_sizes_are_those_of_trunk_and_transformer(config, trunk, rest):
    with torch.device("meta"):
        model = CNNTransformer(config)
    assert count(model.trunk) == trunk
    assert count(model) == trunk + rest


def test_a_paper_size_model_reads_7_by_7_cells_of_a_224_pixel_image():
    with torch.device("meta"):
        model = CNNTransformer(CaptionerConfig.resnet50())
        images = torch.rand(1, 3, 224, 224)
        assert model.features(images).shape == (1, 49, 2048)
        assert model(images, torch.ones(1, 5, dtype=torch.long)).shape == (1, 5, 10_201)


def test_the_four_steps_make_the_model():
    model, (images, tokens) = build(), batch()
    grid = model.features(images)                               # 1. features of the image
    context = model.encode_grid(grid)                           # 2. the sequence of cells
    states = model.states(tokens, context)                      # 3. language
    logits = model.predict(states)                              # 4. prediction
    assert grid.shape == (2, 64, 64)
    assert context.levels.shape == (2, 1, 64, 64)
    assert states.shape == (2, 6, 64)
    torch.testing.assert_close(model(images, tokens), logits)
    torch.testing.assert_close(next_word_probabilities(model, tokens, context), logits[:, -1].softmax(-1))


@pytest.mark.equation("eq:output-layer")
def test_the_next_word_is_a_softmax_over_products_of_the_last_state_with_the_column_of_each_word():
    model = CNNTransformer(replace(CaptionerConfig.mini(vocab=7), dropout=0.0)).double().eval()
    tokens, images = torch.tensor([[2, 5, 4], [2, 6, 6]]), torch.rand(2, 3, 64, 64, dtype=torch.float64)
    context = model.encode(images)
    z, W_y = model.states(tokens, context)[:, -1], model.output.weight.mT  # rows and columns, d x v
    for row in range(2):
        logits = [sum(z[row, i] * W_y[i, word] for i in range(64)) for word in range(7)]
        weights = [torch.exp(logit) for logit in logits]
        want = torch.stack([weight / sum(weights) for weight in weights])
        torch.testing.assert_close(next_word_probabilities(model, tokens, context)[row], want)



@pytest.mark.equation("eq:caption-chain")
def test_the_probability_of_a_caption_is_the_product_of_its_words():
    model, (images, tokens) = build(), batch(b=1)
    context = model.encode(images)
    product = 1.0
    for t in range(1, 6):  # one word at a time, each given those before it
        product *= next_word_probabilities(model, tokens[:, :t], context)[0, tokens[0, t]].item()
    at_once = model(images, tokens[:, :-1]).log_softmax(-1).gather(-1, tokens[:, 1:, None]).sum().exp()
    assert at_once.item() == pytest.approx(product, rel=1e-4)


def test_the_cells_have_places():
    images = torch.rand(1, 3, 64, 64)
    grid = build().features(images)
    order = torch.randperm(64)
    tokens = torch.tensor([[2, 5, 6]])
    for config, same in ((MINI, False), (replace(MINI, grid_positions="none"), True)):
        model = build(config)
        a, b = (model.decode(tokens, model.encode_grid(g)) for g in (grid, grid[:, order]))
        assert torch.allclose(a, b, atol=1e-4) is same


def test_gradients_reach_every_parameter_of_a_trained_trunk():
    model, (images, tokens) = build().train(), batch()
    caption_cross_entropy(model(images, tokens[:, :-1]), tokens[:, 1:]).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


def test_a_frozen_trunk_is_not_trained():
    model, (images, tokens) = build(MINI.freeze()).train(), batch()
    before = {n: v.clone() for n, v in model.trunk.state_dict().items()}
    caption_cross_entropy(model(images, tokens[:, :-1]), tokens[:, 1:]).backward()
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    optimizer.step()
    assert all(torch.equal(before[n], v) for n, v in model.trunk.state_dict().items())
    assert all(p.grad is None for p in model.trunk.parameters())
    assert model.project.linear.weight.grad.abs().sum() > 0


def test_a_row_of_a_batch_is_what_it_is_alone():
    model, (images, tokens) = build(), batch()
    together = model(images, tokens)
    for i in range(2):
        torch.testing.assert_close(model(images[i : i + 1], tokens[i : i + 1])[0], together[i], atol=1e-4,
                                   rtol=1e-4)


def test_decoding_with_a_cache_gives_the_logits_of_one_pass():
    model, (images, _) = build().double(), batch()
    tokens = torch.randint(4, 40, (6, 5))
    context = model.encode(images.double())
    with KVCache(model):
        parts = [model.decode(tokens[:, i : i + 1], context) for i in range(5)]
    torch.testing.assert_close(torch.cat(parts, 1), model.decode(tokens, context))


def test_recording_keeps_the_attention_of_each_word_over_the_cells():
    model, (images, tokens) = build(), batch()
    with record_attention(model) as weights:
        logits = model(images, tokens)
    torch.testing.assert_close(logits, model(images, tokens), atol=1e-5, rtol=1e-5)
    assert weights["encoder.2.attention"].shape == (2, 4, 64, 64)
    assert weights["decoder.2.cross_attention"].shape == (2, 1, 4, 6, 64)
    torch.testing.assert_close(weights["decoder.2.cross_attention"].sum(-1), torch.ones(2, 1, 4, 6))


def test_it_can_be_decoded_like_any_other_model():
    model, (images, _) = build(), batch()
    context = model.encode(images)
    assert torch.equal(beam(model, context, k=1)[0][:, 0], greedy(model, context)[0])


def test_four_images_can_be_learnt_by_heart():
    model = CNNTransformer(replace(MINI, dropout=0.0)).train()
    images, tokens = batch(b=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(60):
        loss = caption_cross_entropy(model(images, tokens[:, :-1]), tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    shuffled = caption_cross_entropy(model(images.roll(1, dims=0), tokens[:, :-1]), tokens[:, 1:])
    assert shuffled > loss + 1                                  # E12: without the image there is no caption
