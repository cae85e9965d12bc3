"""What the survey says of GANs, of embeddings of text and of GAN-CLS, and what a computer says: each
correction of the errata that can be run, and a slip of the paper's own algorithm."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmlearn.data.scenes import HELD_OUT_CATEGORIES, HELD_OUT_PAIRS, sample_scene
from mmlearn.metrics.frechet import GaussianStatistics, frechet_distance
from mmlearn.text2image.adversarial import (
    discriminator_loss,
    jensen_shannon,
    non_saturating_gradient,
    non_saturating_loss,
    optimal_discriminator,
    saturating_gradient,
    saturating_loss,
    value_of_game,
)
from mmlearn.text2image.attngan import AttnGANConfig, WordBranch
from mmlearn.text2image.char_cnn_rnn import (
    ALPHABET,
    CharCNNRNN,
    CharCNNRNNConfig,
    GoogLeNetFeatures,
    characters,
    one_hot,
    sje_loss,
)
from mmlearn.text2image.damsm import DAMSMConfig, TextEncoder
from mmlearn.text2image.dcgan import DCGAN
from mmlearn.text2image.gan import GAN
from mmlearn.text2image.gan_cls import (
    GANCLS,
    GANCLSConfig,
    StyleEncoder,
    matching_discriminator_loss,
    style_objective,
    with_interpolated,
)

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
MINI = replace(GANCLSConfig.mini(text=12), noise=6, compressed=5, generator_width=8, discriminator_width=8)


def build(**change):
    torch.manual_seed(0)
    return GANCLS(replace(MINI, **change))


def warm(model):
    """Evaluation mode with the statistics of one batch, so that signals are as large as in training."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    images, text, z = batch()
    model(z, text), model.discriminator(images, text)
    return model.eval()


def batch(b=6):
    g = torch.Generator().manual_seed(0)
    images = torch.rand(b, 3, 32, 32, generator=g)
    return images, torch.randn(b, 12, generator=g), torch.randn(b, 6, generator=g)


@pytest.mark.equation("eq:gan-value-sum")
@pytest.mark.equation("eq:gan-criterion")
def test_e1_the_discriminator_maximises_and_a_minimum_over_it_has_no_end():
    values = [value_of_game(P, Q, torch.full_like(P, d)).item() for d in (1e-12, 1e-6, 0.5)]
    best = value_of_game(P, Q, optimal_discriminator(P, Q)).item()
    assert [round(v, 4) for v in (*values[1:], best)] == [-13.8155, -1.3863, -1.2052]
    assert values[0] < values[1] < values[2] < best and values[0] < -27      # as low as one likes
    assert jensen_shannon(P, Q).item() == pytest.approx(0.09057, abs=5e-6)
    assert best == pytest.approx(-math.log(4) + 2 * 0.09057, abs=1e-5)


@pytest.mark.equation("eq:gan-value-sum")
@pytest.mark.equation("eq:gan-optimal-d")
def test_e2_the_optimum_is_a_half_everywhere_and_not_the_formula_of_the_value():
    D = optimal_discriminator(P, P)
    assert D.tolist() == [0.5] * 3 and value_of_game(P, P, D).item() == pytest.approx(-1.386294, abs=1e-6)
    assert all(value_of_game(P, q, optimal_discriminator(P, q)) > -math.log(4)
               for q in (Q, P.flip(0), torch.ones_like(P) / 3))             # the generator's optimum is p


@pytest.mark.equation("eq:gan-saturating-gradient")
@pytest.mark.equation("eq:gan-non-saturating-gradient")
def test_e3_the_loss_that_is_used_has_a_gradient_where_the_one_of_the_theory_has_none():
    a = torch.tensor([-6.0], requires_grad=True)
    found = [torch.autograd.grad(loss(a), a)[0].item() for loss in (saturating_loss, non_saturating_loss)]
    assert [round(g, 4) for g in found] == [-0.0025, -0.9975]
    closed = [gradient(a).item() for gradient in (saturating_gradient, non_saturating_gradient)]
    assert closed == pytest.approx(found)


@pytest.mark.equation("eq:char-encoder")
def test_e4_the_recurrence_has_eight_or_eighteen_steps_for_two_hundred_and_one_characters():
    for config, steps in ((CharCNNRNNConfig.cvpr(), 8), (CharCNNRNNConfig.icml(), 18)):
        small = replace(config, channels=(8, 8, 8), embed=4)
        model = CharCNNRNN(small).eval()
        text = characters(["a small bird with a red crown and a very short beak, " * 4])
        assert model.states(text).shape[1] == steps
        other = text.clone()
        other[0, 3] = 5                               # one character: a step sees many, and the next ones too
        changed = (model.states(text) - model.states(other)).abs().amax(dim=2)[0] > 0
        assert changed[0] and changed.sum() > 1
        torch.testing.assert_close(model(text), model.output(model.states(text).mean(dim=1)))   # unweighted


@pytest.mark.equation("eq:sje-loss")
def test_e5_nothing_is_pulled_to_distance_zero():
    """Texts t_i = u_i / 2, pictures v_i = k u_i, u_i orthonormal."""
    u = torch.eye(5, dtype=torch.float64)
    theta = 0.5 * u
    assert (0.5 * u - theta).norm() == 0
    assert sje_loss(0.5 * u, theta).item() == pytest.approx(2 * 0.75 * 4 / 5)    # distance 0: .75 each
    assert sje_loss(1.9 * u, theta).item() > 0
    assert sje_loss(2 * u, theta).item() == 0                                    # no loss, and 1.5 apart
    assert (2 * u - theta).norm(dim=1).tolist() == [1.5] * 5


@pytest.mark.equation("eq:gan-int-text")
def test_e6_interpolated_embeddings_lie_between_real_captions_and_only_the_generator_sees_them():
    model = build()
    images, text, z = batch()
    given = []
    model.discriminator.register_forward_hook(lambda m, args, out: given.append(args[1]))
    model.discriminator_loss(images, text, z, torch.arange(6).roll(1))
    assert len(given) == 3 and all(torch.equal(t, text) for t in given)
    model.generator_loss(text, torch.randn(9, 6))
    assert torch.equal(given[3], with_interpolated(text)) and len(given[3]) == 9
    for i in range(3):
        torch.testing.assert_close(given[3][6 + i], 0.5 * text[i] + 0.5 * text[i + 3])


@pytest.mark.equation("eq:gan-cls-d")
def test_e7_the_baseline_reads_the_text_already_and_cls_adds_the_wrong_pairs():
    real, wrong, fake = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).unbind()
    without = matching_discriminator_loss(real, wrong, fake, 0)
    torch.testing.assert_close(without, discriminator_loss(real, fake))
    baseline = warm(build(cls_weight=0, interp_weight=0))
    images, text, z = batch()
    assert (baseline(z, text) - baseline(z, text.flip(0))).abs().max() > 1e-3
    D = baseline.discriminator
    assert (D(images, text) - D(images, text.flip(0))).abs().max() > 1e-4
    wrong_first, wrong_second = torch.arange(6).roll(1), torch.arange(6).roll(2)
    for weight, same in ((0, True), (0.5, False)):
        model = warm(build(cls_weight=weight, interp_weight=0))
        losses = [model.discriminator_loss(images, text, z, w) for w in (wrong_first, wrong_second)]
        assert torch.equal(*losses) is same


def test_e8_the_model_of_coco_is_gan_cls_without_interpolation():
    coco, birds = GANCLSConfig.coco(), GANCLSConfig.gan_int_cls()
    assert coco.cls_weight == birds.cls_weight == 0.5
    assert coco.interp_weight == 0 < birds.interp_weight


@pytest.mark.equation("eq:gan-cls-d")
def test_p1_a_descent_on_the_log_likelihood_of_algorithm_1_would_unlearn():
    """Algorithm 1 writes D <- D - alpha dL_D/dD for an L_D that is to be large; our loss is -L_D."""
    after = {}
    for sign in (1, -1):
        g = torch.Generator().manual_seed(0)
        logits = [torch.randn(6, generator=g).requires_grad_() for _ in range(3)]
        likelihood = -matching_discriminator_loss(*logits)
        gradients = torch.autograd.grad(likelihood, logits)
        with torch.no_grad():
            moved = [a + sign * 0.5 * g for a, g in zip(logits, gradients)]
            after[sign] = (-matching_discriminator_loss(*moved) - likelihood).item()
    assert after[-1] < 0 < after[1]


# ------------------------------------------------------- slips that stand in the survey beside the systems


def test_e14_the_texts_of_these_gans_are_read_by_recurrent_networks_without_attention():
    encoders = [CharCNNRNN(CharCNNRNNConfig.mini()), TextEncoder(DAMSMConfig.mini())]
    for encoder in encoders:
        names = [type(module).__name__.lower() for module in encoder.modules()]
        assert not any("attention" in name or "transformer" in name for name in names)
    assert hasattr(encoders[0], "recurrence") and isinstance(encoders[1].rnn, nn.LSTM)


@pytest.mark.parametrize("system", [GAN, DCGAN], ids=lambda s: s.__name__)
def test_e17_the_generator_of_the_basic_gan_is_given_noise_and_no_text(system):
    assert list(inspect.signature(system.forward).parameters) == ["self", "z"]


@pytest.mark.equation("eq:char-encoder")
@pytest.mark.parametrize("config", [CharCNNRNNConfig.cvpr(), CharCNNRNNConfig.icml()], ids=["cvpr", "icml"])
def test_e18_an_embedding_is_a_linear_map_of_the_plain_mean_of_states(config):
    model = CharCNNRNN(config).eval()
    text = characters(["a small bird with a red crown"])
    states = model.states(text)
    mean = sum(states[0, step] for step in range(states.shape[1])) / states.shape[1]
    embedding = mean @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(text)[0], embedding, atol=1e-5, rtol=1e-4)
    assert states.shape[2] in (256, 512) and len(embedding) == 1024     # a state is no embedding


@pytest.mark.equation("eq:char-one-hot")
def test_e19_a_character_is_one_of_seventy_places_and_not_a_vector_of_features():
    x = one_hot(characters(["a - B? é"]))[0]                            # 70 x 201
    columns = x.sum(dim=0)
    assert columns[:7].tolist() == [1] * 7 and columns[7:].sum() == 0    # é is unknown, then nothing
    assert set(x.unique().tolist()) == {0.0, 1.0}
    first, last = (i for i, sign in enumerate(ALPHABET) if sign == "-")
    assert x[first].sum() == 0 and x[last].sum() == 1                   # of the two hyphens one is never on


def test_e20_the_image_encoder_is_frozen_and_the_gan_reads_embeddings_of_texts_only():
    assert not any(parameter.requires_grad for parameter in GoogLeNetFeatures().parameters())
    assert list(inspect.signature(GANCLS.forward).parameters) == ["self", "z", "text"]


def test_e21_a_class_that_training_never_draws_is_one_thing_and_a_new_pair_of_known_ones_another():
    def drawn(split):
        return [{(thing.colour, thing.category) for thing in sample_scene(0, i, split).objects}
                for i in range(60)]

    training = set().union(*drawn("train"))
    names = {name for _, name in training}
    assert all({name for _, name in things} & set(HELD_OUT_CATEGORIES) for things in drawn("zero_shot"))
    assert not names & set(HELD_OUT_CATEGORIES)
    assert all(things & set(HELD_OUT_PAIRS) for things in drawn("compositional"))
    assert not training & set(HELD_OUT_PAIRS)


@pytest.mark.equation("eq:gan-style")
def test_e22_style_is_read_by_a_network_that_is_no_part_of_the_gan():
    model = build()
    assert not any(isinstance(module, StyleEncoder) for module in model.modules())
    encoder = StyleEncoder(MINI)
    _, text, z = batch()
    style_objective(encoder, model.generator, text, z).backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.equation("eq:attngan-weights")
def test_e24_places_of_the_picture_look_at_words():
    config = AttnGANConfig.mini(text=10, size=32)
    branch, mask = WordBranch(config), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    h = torch.randn(2, 64, config.width, generator=torch.Generator().manual_seed(0))
    _, beta, _ = branch.read(h, torch.randn(2, 5, 10), mask)
    assert beta.shape == (2, 64, 5)                                     # b p t
    torch.testing.assert_close(beta.sum(dim=2), torch.ones(2, 64))
    assert beta.std(dim=1).max() > 1e-3                                 # and not all at the same


@pytest.mark.equation("eq:frechet-distance")
def test_p6_two_networks_give_two_distances_and_what_they_saw_is_not_compared():
    g = torch.Generator().manual_seed(0)
    pictures = [torch.randn(200, 12, generator=g), torch.randn(200, 12, generator=g) + 0.3]
    sides = {}
    for name in ("2015", "2019"):                                       # two networks, two sets of features
        weights = torch.randn(12, 5, generator=g)
        sides[name] = [GaussianStatistics.of((x @ weights).relu(), name) for x in pictures]
    first, second = (frechet_distance(*pair) for pair in sides.values())
    assert abs(first / second - 1) > 0.1
    with pytest.raises(ValueError, match="one set of features is of 2015, the other of 2019"):
        frechet_distance(sides["2015"][0], sides["2019"][1])
