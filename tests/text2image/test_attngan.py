"""AttnGAN: places read words, masks are in the order of the scores, losses add up."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, lengths_mask, numbers

from mmlearn.nn.modes import blank
from mmlearn.text2image.attngan import (
    AttnGAN,
    AttnGANConfig,
    AttnGANGenerator,
    WordBranch,
    branch_loss,
    discriminator_loss,
    paper_discriminator_loss,
    read_words,
    released_mask_order,
    word_weights,
)
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig

TINY = replace(AttnGANConfig.mini(text=10, size=32), width=8, critic=4, noise=6, condition=5)


def batch(config=TINY, b=3, t=5, seed=1):
    g = torch.Generator().manual_seed(seed)
    noise, sentence = torch.randn(b, config.noise, generator=g), torch.randn(b, config.text, generator=g)
    words = torch.randn(b, t, config.text, generator=g)
    return noise, sentence, words, lengths_mask(*(t - i % t for i in range(b)), t=t)


def seeded():
    return torch.Generator().manual_seed(7)


# ------------------------------------------------------------------------------------------------- parameters

@pytest.mark.parametrize("config, generator, critics, total", [
    (AttnGANConfig.cub(), 7_084_592, (6_313_730, 19_424_002, 71_858_946), 104_681_270),
    (AttnGANConfig.coco(), 13_811_456, (13_304_450, 42_800_258, 160_774_274), 230_690_438),
])
def test_paper_sizes_have_the_parameters_of_the_released_code(config, generator, critics, total):
    with blank():
        model = AttnGAN(config)

    assert count(model.generator) == generator
    assert tuple(map(count, model.critics)) == critics and count(model) == total


def test_pictures_have_64_128_and_256_pixels():
    assert AttnGANConfig.cub().sizes == (64, 128, 256) and TINY.sizes == (8, 16, 32)
    model = AttnGANGenerator(TINY)
    drawn = model(*batch())
    assert [tuple(x.shape) for x in drawn.images] == [(3, 3, s, s) for s in (8, 16, 32)]
    assert [tuple(a.shape) for a in drawn.attention] == [(3, 64, 5), (3, 256, 5)]
    assert all((x.abs() <= 1).all() for x in drawn.images) and drawn.gates == ()


# -------------------------------------------------------------------------------------------------- attention

@pytest.mark.equation("eq:attngan-weights")
@pytest.mark.equation("eq:attngan-read")
def test_each_place_reads_a_mean_of_the_words_weighted_by_unscaled_products():
    h, words, mask = numbers(2, 6, 4), numbers(2, 5, 4, seed=1), lengths_mask(5, 3)
    beta = word_weights(h, words, mask)
    c = read_words(beta, words)
    for i in range(2):
        for j in range(6):
            exps = [math.exp(float(h[i, j] @ words[i, k])) for k in range(int(mask[i].sum()))]
            want = sum(e / sum(exps) * words[i, k] for k, e in enumerate(exps))
            torch.testing.assert_close(c[i, j], want)
    assert (beta[1, :, 3:] == 0).all()


@pytest.mark.parity
def test_it_is_fused_attention_without_a_scale():
    h, words, mask = numbers(2, 6, 4), numbers(2, 5, 4, seed=1), lengths_mask(5, 3)
    theirs = F.scaled_dot_product_attention(h, words, words, attn_mask=mask[:, None], scale=1.0)
    torch.testing.assert_close(read_words(word_weights(h, words, mask), words), theirs)


def test_p2_the_released_order_of_masks_is_right_for_a_third_of_the_rows():
    mask = lengths_mask(5, 4, 3, 2)
    b, places = 4, 3
    tiled = released_mask_order(mask, places)
    for r in range(b * places):                       # rows of scores, caption by caption
        assert torch.equal(tiled.flatten(0, 1)[r], mask[r % b])
    right = mask.repeat_interleave(places, dim=0).view(b, places, -1)
    wrong = (tiled != right).any(dim=2).float().mean().item()
    assert wrong == pytest.approx(8 / 12)             # 67 % of the rows
    assert torch.equal(released_mask_order(mask[:1], places), mask[:1, None].expand(-1, places, -1))  # b = 1


def test_p2_with_the_released_order_padding_is_read():
    h, words, mask = 2 * numbers(3, 4, 6), numbers(3, 5, 6, seed=1), lengths_mask(5, 3, 2)
    scores = h @ words.mT
    broken = scores.masked_fill(~released_mask_order(mask, 4), -math.inf).softmax(dim=2)
    padding = ~mask[:, None]
    mass = (broken * padding).sum(dim=2)
    assert mass.max() > 0.9                           # of one place's attention
    assert (word_weights(h, words, mask) * padding).sum() == 0


def test_the_attention_of_the_model_is_the_formula_on_its_own_map():
    torch.manual_seed(0)
    branch = WordBranch(TINY).eval()
    map, (_, _, words, mask) = torch.randn(3, 8, 4, 4), batch()
    _, beta, gates = branch(map, words, mask)
    for i in range(4):
        for j in range(4):
            scores = map[0, :, i, j] @ branch.project.weight @ words[0].T
            torch.testing.assert_close(beta[0, 4 * i + j], scores.softmax(0), atol=1e-5, rtol=1e-4)
    assert gates is None


# ----------------------------------------------------------------------------------------- the usual promises

def test_a_row_of_a_batch_is_what_it_is_alone_and_padding_changes_nothing():
    torch.manual_seed(0)
    model = AttnGANGenerator(TINY).eval()
    noise, sentence, words, mask = batch()
    zero = torch.zeros(3, 5)
    model.condition.epsilon = lambda like, generator: zero[: len(like)]
    together = model(noise, sentence, words, mask)
    longer = torch.cat([words, torch.randn(3, 4, 10)], dim=1)
    padded = model(noise, sentence, longer, F.pad(mask, (0, 4)))
    for a, b in zip(together.images, padded.images):
        torch.testing.assert_close(a, b)
    for i in range(3):
        alone = model(noise[i : i + 1], sentence[i : i + 1], words[i : i + 1], mask[i : i + 1])
        for whole, one in zip(together.images, alone.images):
            torch.testing.assert_close(whole[i], one[0], atol=1e-5, rtol=1e-4)


def test_every_branch_reads_the_words_but_the_first():
    torch.manual_seed(0)
    model = AttnGANGenerator(TINY).eval()
    noise, sentence, words, mask = batch()
    first = model(noise, sentence, words, mask, seeded())
    other = model(noise, sentence, words.flip(0), mask, seeded())
    assert torch.equal(first.images[0], other.images[0])
    assert all(not torch.allclose(a, b) for a, b in zip(first.images[1:], other.images[1:]))


def test_gradients_reach_every_parameter_of_generator_and_discriminators():
    torch.manual_seed(0)
    damsm = DAMSM(DAMSMConfig.mini(size=32)).eval().requires_grad_(False)
    noise = torch.randn(3, 6)
    model = AttnGAN(replace(TINY, text=64))
    tokens = torch.tensor([[2, 3, 4], [5, 6, 1], [7, 8, 9]])
    words, sentence = damsm.text(tokens)
    mask = damsm.text.mask(tokens)
    drawn = model(noise, sentence, words, mask)
    loss = model.generator_loss(drawn, sentence, words, mask, damsm)
    loss.total().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.generator.parameters())
    model.zero_grad()
    real = tuple(torch.randn_like(x) for x in drawn.images)
    torch.stack(model.discriminator_losses(real, drawn, sentence)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.critics.parameters())
    assert all(p.grad is None for p in model.generator.parameters())      # drawn pictures are cut off


def test_a_step_runs_under_autocast_with_losses_in_32_bits():
    torch.manual_seed(0)
    model = AttnGAN(TINY)
    noise, sentence, words, mask = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        drawn = model(noise, sentence, words, mask)
        losses = model.discriminator_losses(drawn.images, drawn, sentence)
    assert all(x.dtype == torch.float32 and torch.isfinite(x) for x in losses)


def test_captions_without_words_and_configurations_without_branches_are_refused():
    noise, sentence, words, mask = batch()
    mask[1] = False
    with pytest.raises(ValueError, match="caption 1 has no words"):
        AttnGANGenerator(TINY)(noise, sentence, words, mask)
    with pytest.raises(ValueError, match="branches is 0"):
        replace(TINY, branches=0)
    with pytest.raises(ValueError, match="24 pixels a side"):
        replace(TINY, size=24)


# ----------------------------------------------------------------------------------------------------- losses

def cross_entropy(logits, label):
    values = [-math.log(1 / (1 + math.exp(-a if label else a))) for a in logits.tolist()]
    return sum(values) / len(values)


@pytest.mark.equation("eq:attngan-discriminator")
@pytest.mark.equation("eq:attngan-discriminator-paper")
@pytest.mark.equation("eq:attngan-branch")
def test_losses_are_the_cross_entropies_of_the_formulas():
    a, b, c, d, e = (numbers(4, seed=s) for s in range(5))
    code = (cross_entropy(a, 1) + cross_entropy(b, 1)) / 2 + (
        cross_entropy(c, 0) + cross_entropy(d, 0) + cross_entropy(e, 0)) / 3
    assert discriminator_loss((a, b), (c, d), e).item() == pytest.approx(code)
    paper = (cross_entropy(a, 1) + cross_entropy(c, 0)) / 2 + (cross_entropy(b, 1) + cross_entropy(d, 0)) / 2
    assert paper_discriminator_loss((a, b), (c, d)).item() == pytest.approx(paper)
    assert branch_loss((c, d)).item() == pytest.approx(cross_entropy(c, 1) + cross_entropy(d, 1))


@pytest.mark.equation("eq:attngan-generator")
def test_the_generators_loss_is_branches_and_kl_and_lambda_times_damsm():
    torch.manual_seed(0)
    damsm = DAMSM(DAMSMConfig.mini(size=32)).eval()
    model = AttnGAN(replace(TINY, text=64, damsm_weight=5.0)).eval()
    tokens = torch.tensor([[2, 3, 4], [5, 6, 1], [7, 8, 9]])
    words, sentence = damsm.text(tokens)
    mask = damsm.text.mask(tokens)
    drawn = model(torch.randn(3, 6), sentence, words, mask)
    parts = model.generator_loss(drawn, sentence, words, mask, damsm)
    adversarial = sum(cross_entropy(head, 1) for critic, x in zip(model.critics, drawn.images)
                      for head in critic(x, sentence))
    assert parts.branches.item() == pytest.approx(adversarial, rel=1e-4)
    assert parts.damsm.item() == pytest.approx(
        5 * damsm(drawn.images[2], tokens).total().item(), rel=1e-4)
    mu, log_var = drawn.mu, drawn.log_var
    kl = (0.5 * (mu**2 + log_var.exp() - log_var - 1)).mean().item()
    assert parts.kl.item() == pytest.approx(kl, rel=1e-4, abs=1e-7)
    assert parts.total().item() == pytest.approx(sum(float(x) for x in parts), rel=1e-5)


def test_a_wrong_text_is_the_next_pictures():
    torch.manual_seed(0)
    model = AttnGAN(TINY).eval()
    noise, sentence, words, mask = batch()
    drawn = model(noise, sentence, words, mask)
    real = tuple(torch.randn_like(x) for x in drawn.images)
    got = model.discriminator_losses(real, drawn, sentence)
    for i, critic in enumerate(model.critics):
        (ru, rc), (fu, fc) = critic(real[i], sentence), critic(drawn.images[i], sentence)
        _, wrong = critic(real[i][:2], sentence[1:])
        want = (cross_entropy(ru, 1) + cross_entropy(rc, 1)) / 2 + (
            cross_entropy(fu, 0) + cross_entropy(fc, 0) + cross_entropy(wrong, 0)) / 3
        assert got[i].item() == pytest.approx(want, rel=1e-4)


def test_a_generator_alone_can_learn_two_pictures_from_their_words():
    torch.manual_seed(0)
    model = AttnGANGenerator(replace(TINY, branches=2, size=8))
    noise, sentence, words, mask = batch(b=2, t=3)
    target = torch.stack([torch.full((3, 16, 16), 0.8), torch.full((3, 16, 16), -0.8)])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        drawn = model(noise, sentence, words, mask)
        loss = (drawn.images[1] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05                                              # from about 0.7
