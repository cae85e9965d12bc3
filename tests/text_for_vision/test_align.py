"""ALIGN: sizes, the loss with smoothed labels, its temperature, sums of embeddings, LAMB, and transformers'
model."""

import math
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmlearn.catalog import count_parameters
from mmlearn.data.pairs import ClassPictures, scene_pairs, scene_tokeniser
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.efficientnet import EfficientNetConfig
from mmlearn.text_for_vision.align import (
    ALIGN,
    LAMB,
    ALIGNConfig,
    align_loss,
    clamp_temperature_,
    compose_query,
    sigma_gradient,
    smoothed_floor,
    smoothed_gradient,
    smoothed_margin,
    smoothed_targets,
)
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.training import train_align, zero_shot_accuracy
from mmlearn.text_for_vision.zero_shot import zero_shot_weights


def unit(b=5, e=4, seed=0):
    x = torch.randn(b, e, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True)


def mini(**changes):
    torch.manual_seed(0)
    return ALIGN(replace(ALIGNConfig.mini(vocab=20, context=10), **changes))


def pairs(b=4):
    torch.manual_seed(1)
    tokens = torch.randint(4, 20, (b, 8))
    tokens[1, 5:] = 1
    return torch.randn(b, 3, 32, 32), tokens


def naive_loss(u, v, scale, smoothing):
    """Both directions, one pair after the other, with the targets spelt out."""
    b, total = len(u), 0.0
    l = [[scale * sum(float(x) * float(y) for x, y in zip(u[i], v[j])) for j in range(b)] for i in range(b)]
    for i in range(b):
        for j in range(b):
            target = smoothing / b + (1 - smoothing) * (i == j)
            row = math.log(sum(math.exp(l[i][k]) for k in range(b)))
            column = math.log(sum(math.exp(l[k][j]) for k in range(b)))
            total -= target * ((l[i][j] - row) + (l[i][j] - column)) / b
    return total


# ------------------------------------------------------------------------------------------------------ sizes

def test_the_public_model_has_its_number_of_parameters_tower_by_tower():
    with torch.device("meta"):
        model = ALIGN(ALIGNConfig.base())
    assert count_parameters(model.image) == 62_143_440 and count_parameters(model.text) == 109_482_240
    assert count_parameters(model.text_projection) == 492_160 and count_parameters(model) == 172_117_841


def test_the_papers_model_is_l2_and_bert_large_in_1376_dimensions():
    with torch.device("meta"):
        model = ALIGN(ALIGNConfig.paper())
        u, v, scale = model(torch.empty(1, 3, 289, 289), torch.ones(1, 64, dtype=torch.long))
    assert u.shape == v.shape == (1, 1376) and scale.shape == ()
    assert count_parameters(model.image) == 467_219_796
    words, positions, layer = (
        100_000 * 1024,
        64 * 1024,
        4 * (1024**2 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024,
    )
    assert count_parameters(model.text) == words + positions + 2 * 1024 + 2 * 1024 + 24 * layer
    assert count_parameters(model) == 467_219_796 + count_parameters(model.text) + 1024 * 1376 + 1376 + 1
    assert 0.87e9 < count_parameters(model) < 0.875e9
    assert (model.config.size, model.config.context, model.config.vocab) == (289, 64, 100_000)


@pytest.mark.parametrize("image, embed, projected",
                         [("b5", 640, True), ("b7", 640, False), ("b5", 80, True), ("l2", 640, True)])
def test_the_ablations_project_images_only_where_the_widths_differ(image, embed, projected):
    with torch.device("meta"):
        model = ALIGN(ALIGNConfig.ablation(image, embed))
        u, v, _ = model(torch.empty(1, 3, 64, 64), torch.ones(1, 5, dtype=torch.long))
    assert u.shape == v.shape == (1, embed) and (model.image_projection is not None) == projected


def test_an_unknown_trunk_is_refused():
    with pytest.raises(ValueError, match="image is 'b9'; use one of b0, b1"):
        ALIGNConfig.ablation("b9")


# -------------------------------------------------------------------------------------------------- the model

def test_it_is_a_dual_encoder_with_unit_vectors_and_a_scale():
    model = mini().eval()
    images, tokens = pairs()
    u, v, scale = model(images, tokens)
    assert u.shape == v.shape == (4, 64)
    torch.testing.assert_close(u.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(F.normalize(model.encode_image(images), dim=1), u)
    torch.testing.assert_close(F.normalize(model.encode_text(tokens), dim=1), v)
    assert float(scale.detach()) == pytest.approx(10.0) and float(
        model.logit_scale.detach()
    ) == pytest.approx(math.log(10))
    torch.testing.assert_close(model.encode_image(images[2:3], True)[0], u[2], atol=1e-5, rtol=1e-4)


def test_a_text_is_read_at_its_first_state_and_padding_changes_nothing():
    model = mini().eval()
    _, tokens = pairs()
    v = model.encode_text(tokens)
    torch.testing.assert_close(v, model.text_projection(model.text(tokens)[:, 0]))
    torch.testing.assert_close(model.encode_text(tokens[1:2, :5])[0], v[1], atol=1e-5, rtol=1e-4)
    mask = torch.ones(4, 8, dtype=torch.bool)
    mask[:, 6:] = False
    torch.testing.assert_close(model.encode_text(tokens, mask=mask)[0], model.encode_text(tokens[:, :6])[0],
                               atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_parameter():
    model = mini()
    loss = align_loss(*model(*pairs()))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name,
               p in model.named_parameters() if name != "text.embed.segments.weight")


def test_sigma_stays_above_its_bound():
    model = mini(least=0.02)
    with torch.no_grad():
        model.temperature.fill_(-0.3)
    assert float(model.scale.detach()) == pytest.approx(50.0)
    clamp_temperature_(model)
    assert float(model.temperature.detach()) == pytest.approx(0.02)
    align_loss(*model(*pairs())).backward()
    # at the bound it can rise again
    assert model.temperature.grad is not None and float(model.temperature.grad) != 0


def test_sigma_starts_at_one_in_the_paper():
    assert ALIGNConfig.paper().temperature == ALIGNConfig.base().temperature == 1.0


# --------------------------------------------------------------------------------------------------- the loss

@pytest.mark.equation("eq:smoothed-targets")
def test_targets_give_a_share_to_all_and_sum_to_one():
    T = smoothed_targets(4, 0.2)
    for i in range(4):
        for j in range(4):
            assert float(T[i, j]) == pytest.approx(0.05 + 0.8 * (i == j))
    torch.testing.assert_close(T.sum(1), torch.ones(4))


@pytest.mark.equation("eq:align-loss")
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_sum_of_both_directions_with_smoothed_targets(smoothing):
    u, v = unit(seed=1), unit(seed=2)
    assert float(align_loss(u, v, 7.0, smoothing)) == pytest.approx(
        naive_loss(u, v, 7.0, smoothing), abs=1e-12
    )


def test_without_smoothing_it_is_twice_clips():
    u, v = unit(seed=1), unit(seed=2)
    torch.testing.assert_close(align_loss(u, v, 5.0, 0.0), 2 * clip_loss(u, v, 5.0))


@pytest.mark.equation("eq:smoothed-gradient")
def test_its_gradient_compares_probabilities_with_targets():
    u, v = unit(seed=1), unit(seed=2)
    l = (6 * u @ v.T).requires_grad_()
    partner = torch.arange(5)
    loss = sum(F.cross_entropy(side, partner, label_smoothing=0.1) for side in (l, l.T))
    want, = torch.autograd.grad(loss, l)
    torch.testing.assert_close(smoothed_gradient(l.detach(), 0.1), want)


def test_a_wrong_pair_that_is_refused_already_is_pulled_less():
    """At p = 0 the pull on the labelled pair is at most 2(1 - eps + eps / b) / b, and vanishes before p =
    1."""
    b, eps = 8, 0.2
    at_target = torch.full((b, b), 0.0, dtype=torch.float64)
    at_target.fill_diagonal_(smoothed_margin(b, eps))
    assert smoothed_gradient(at_target, eps).abs().max() < 1e-12
    beyond = at_target.clone().fill_diagonal_(3 * smoothed_margin(b, eps))
    assert (smoothed_gradient(beyond, eps).diagonal() > 0).all() and (
        smoothed_gradient(beyond, 0.0).diagonal() < 0
    ).all()


@pytest.mark.equation("eq:smoothed-margin")
@pytest.mark.parametrize("b, smoothing", [(4, 0.1), (16, 0.3)])
def test_the_best_logits_are_a_finite_margin_apart(b, smoothing):
    l = torch.zeros(b, b, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([l], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15,
                                  line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -(smoothed_targets(b, smoothing, torch.float64) * l.log_softmax(dim=1)).sum(1).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    best = l.detach()
    margins = best.diagonal()[:, None] - best
    off = ~torch.eye(b, dtype=torch.bool)
    torch.testing.assert_close(
        margins[off],
        torch.full((b * b - b,), smoothed_margin(b, smoothing), dtype=torch.float64),
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_margin_at_the_papers_batch():
    assert smoothed_margin(16_384, 0.1) == pytest.approx(11.9, abs=0.05)


@pytest.mark.equation("eq:smoothed-floor")
def test_no_embeddings_get_below_the_entropy_of_the_targets():
    for b, smoothing in ((4, 0.1), (9, 0.4)):
        want = 0.0
        for j in range(b):
            t = smoothing / b + (1 - smoothing) * (j == 0)
            want -= 2 * t * math.log(t)
        assert smoothed_floor(b, smoothing) == pytest.approx(want, abs=1e-12)
        l = smoothed_margin(b, smoothing) * torch.eye(b, dtype=torch.float64)
        T = smoothed_targets(b, smoothing, torch.float64)
        reached = -(T * (l.log_softmax(1) + l.log_softmax(0))).sum() / b
        assert float(reached) == pytest.approx(want, abs=1e-9)
        u, v = unit(b, seed=3), unit(b, seed=4)
        assert all(float(align_loss(u, v, s, smoothing)) > want for s in (1.0, 10.0, 100.0))
    assert smoothed_floor(7, 0.0) == 0.0


@pytest.mark.equation("eq:sigma-gradient")
def test_the_gradient_of_sigma_weighs_targets_against_probabilities():
    s = unit(seed=1) @ unit(seed=2).T
    for value, smoothing in ((0.05, 0.1), (1.0, 0.1), (0.3, 0.0)):
        sigma = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        l = s / sigma
        T = smoothed_targets(5, smoothing, torch.float64)
        loss = -(T * (l.log_softmax(1) + l.log_softmax(0))).sum() / 5
        want, = torch.autograd.grad(loss, sigma)
        torch.testing.assert_close(sigma_gradient(s, value, smoothing), want, atol=1e-9, rtol=1e-9)
    total = 0.0
    P, Q = (s / 0.3).softmax(1), (s / 0.3).softmax(0)
    for i in range(5):
        for j in range(5):
            total += float((2 * (0.02 + 0.9 * (i == j)) - P[i, j] - Q[i, j]) * s[i, j]) / (5 * 0.3**2)
    assert float(sigma_gradient(s, 0.3, 0.1)) == pytest.approx(total, abs=1e-9)


def test_bad_losses_are_refused():
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"smoothing is {smoothing}; it is a share"):
            align_loss(unit(), unit(), 1.0, smoothing)
    with pytest.raises(ValueError, match="without smoothing the best margin is infinite"):
        smoothed_margin(8, 0.0)
    with pytest.raises(ValueError, match="row i of both is pair i"):
        align_loss(unit(5), unit(4), 1.0)


# ------------------------------------------------------------------------------------------ searching by sums

@pytest.mark.equation("eq:compose-query")
def test_a_query_is_the_sum_of_two_unit_vectors():
    a, c = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([0.0, 5.0, 0.0])
    raw = [0.6 + 0.0, 0.0 + 2.0 * 1.0, 0.8 + 0.0]
    length = math.sqrt(sum(x * x for x in raw))
    torch.testing.assert_close(compose_query(a, c), torch.tensor([x / length for x in raw]))
    torch.testing.assert_close(compose_query(a, c, -1.0), torch.tensor([0.6, -1.0, 0.8]) / math.sqrt(2))
    batch = compose_query(torch.stack([a, 2 * a]), torch.stack([c, c]))
    torch.testing.assert_close(batch[0], batch[1])                                   # lengths do not count


# --------------------------------------------------------------------------------------------------- training

@pytest.mark.equation("eq:lamb")
def test_lamb_takes_steps_as_long_as_its_weights():
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    optimizer = LAMB([w], lr=0.1, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.01)
    want = [[float(x) for x in row] for row in w.detach()]
    m, v = [[0.0] * 2 for _ in range(3)], [[0.0] * 2 for _ in range(3)]
    for step in range(1, 5):
        grad = torch.randn(3, 2, dtype=torch.float64)
        w.grad = grad.clone()
        optimizer.step()
        r = [[0.0] * 2 for _ in range(3)]
        for i in range(3):
            for j in range(2):
                g = float(grad[i, j])
                m[i][j] = 0.9 * m[i][j] + 0.1 * g
                v[i][j] = 0.99 * v[i][j] + 0.01 * g * g
                r[i][j] = (
                    m[i][j] / (1 - 0.9**step) / (math.sqrt(v[i][j] / (1 - 0.99**step)) + 1e-6)
                    + 0.01 * want[i][j]
                )
        ratio = math.dist([0] * 6, sum(want, [])) / math.dist([0] * 6, sum(r, []))
        for i in range(3):
            for j in range(2):
                want[i][j] -= 0.1 * ratio * r[i][j]
        torch.testing.assert_close(w.detach(), torch.tensor(want, dtype=torch.float64))


@pytest.mark.parity
def test_lamb_is_timms():
    from timm.optim import Lamb

    torch.manual_seed(0)
    ours, theirs = (torch.nn.Linear(5, 4) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    first = LAMB(ours.parameters(), lr=0.03, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.02)
    second = Lamb(theirs.parameters(), lr=0.03, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.02,
                  max_grad_norm=None, always_adapt=True)
    for _ in range(5):
        x = torch.randn(6, 5)
        for model, optimizer in ((ours, first), (theirs, second)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


def test_lamb_moves_a_weight_of_zeros_and_can_leave_lengths_alone():
    zero, scalar = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.tensor(5.0))
    optimizer = LAMB([{"params": [zero]}, {"params": [scalar], "adapt": False}], lr=0.1)
    zero.grad, scalar.grad = torch.ones(3), torch.tensor(2.0)
    assert optimizer.step(lambda: "loss") == "loss"
    torch.testing.assert_close(zero.detach(), torch.full((3,), -0.1), atol=1e-5, rtol=0)
    assert float(scalar.detach()) == pytest.approx(4.9, abs=1e-5)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, LAMB])
def test_training_learns_a_handful_of_pairs(optimizer):
    data = scene_pairs(6, size=32)
    data = replace(data, captions=tuple(texts[:1] for texts in data.captions))
    tokeniser = scene_tokeniser(data)
    torch.manual_seed(0)
    model = ALIGN(ALIGNConfig.mini(len(tokeniser)))
    steps, lr = (40, 3e-3) if optimizer is torch.optim.AdamW else (60, 2e-2)
    history = train_align(model, data, tokeniser, steps=steps, batch=6, lr=lr, optimizer=optimizer,
                          progress=False)
    assert history.loss[-1] < 0.6 * history.loss[0] and history.loss[-1] > smoothed_floor(6, 0.1)
    assert len(history.scalars["scale"]) == steps
    weights = zero_shot_weights(model, tokeniser, ["cat", "dog"], ["a {}."])
    assert weights.shape == (2, 64)
    pictures = ClassPictures(data.images, torch.zeros(6, dtype=torch.long), ("cat", "dog"), data.scenes)
    assert 0 <= zero_shot_accuracy(model, tokeniser, pictures) <= 1


# ----------------------------------------------------------------------------------------------------- parity

@pytest.mark.parity
def test_embeddings_logits_and_loss_are_those_of_transformers():
    from transformers import AlignConfig, AlignModel

    from mmlearn.pretrained.align import BUFFERS, sources

    vision = dict(image_size=64, width_coefficient=0.25, depth_coefficient=1.5, depth_divisor=8,
                  in_channels=[32, 16, 24], out_channels=[16, 24, 32], kernel_sizes=[3, 3, 5],
                  strides=[1, 2, 2], num_block_repeats=[1, 1, 1], expand_ratios=[1, 6, 6], hidden_dim=32,
                  squeeze_expansion_ratio=0.25)
    text = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                vocab_size=99, max_position_embeddings=32)
    theirs = AlignModel(AlignConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    image = EfficientNetConfig(
        0.25,
        1.5,
        64,
        stages=tuple(
            type(EfficientNetConfig().stages[0])(*s)
            for s in ((1, 3, 1, 16, 1), (6, 3, 2, 24, 1), (6, 5, 2, 32, 1))
        ),
        padding="transformers",
    )
    torch.manual_seed(0)
    ours = ALIGN(ALIGNConfig(image, BERTConfig(99, 32, 32, 2, 4, 64), 8, temperature=0.4))
    ours.train()
    with torch.no_grad():
        for _ in range(30):
            ours.image(torch.randn(16, 3, 64, 64))  # statistics with which the signal survives
        for parameter in ours.text.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ours.eval()
    state = {}
    for name, value in ours.state_dict().items():
        names = sources(name)
        state.update(zip(names, value.chunk(len(names)) if len(names) > 1 else [value], strict=True))
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected and all(BUFFERS.fullmatch(name) for name in missing)
    images, tokens = torch.randn(3, 3, 64, 64), torch.randint(5, 99, (3, 9))
    tokens[1, 6:] = 0
    with torch.no_grad():
        want = theirs(input_ids=tokens, pixel_values=images, attention_mask=(tokens != 0).long(),
                      return_loss=True)
        u, v, scale = ours(images, tokens)
    assert want.logits_per_image.isfinite().all() and want.image_embeds.std(0).min() > 1e-3
    torch.testing.assert_close(u, want.image_embeds, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(v, want.text_embeds, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scale * u @ v.T, want.logits_per_image, atol=1e-5, rtol=1e-4)
    # a mean there, a sum here
    torch.testing.assert_close(align_loss(u, v, scale), 2 * want.loss, atol=1e-5, rtol=1e-4)


def test_a_vocabulary_that_does_not_fit_is_said():
    with pytest.raises(ValueError, match=re.escape("token ids go from 5 to 25, the vocabulary from 0 to 19")):
        mini().encode_text(torch.tensor([[5, 25]]))


def test_the_tokenisers_padding_is_the_towers():
    tokens = WordTokeniser.train(["a red car", "a car"], 1).batch(["a red car", "a car"])
    assert int(tokens[1, -1]) == ALIGNConfig.mini().text.pad
