"""DM-GAN: a memory is written, addressed, read and answers."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, numbers
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.dmgan import (
    DMGAN,
    DMGANConfig,
    DMGANGenerator,
    MemoryBranch,
    address_keys,
    read_values,
    respond,
    response_gate,
    write_memory,
    writing_gate,
)

TINY = replace(DMGANConfig.mini(text=10, size=32), width=8, critic=4, noise=6, condition=5)


MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def sigmoid(x):
    return 1 / (1 + math.exp(-float(x)))


@pytest.mark.parametrize("config, generator, block, total", [
    (DMGANConfig.cub(), 21_449_042, 1_092_161, 46_747_640),
    (DMGANConfig.coco(), 22_335_314, 1_535_297, 47_633_912),
])
def test_paper_sizes_have_the_parameters_of_the_released_code(config, generator, block, total):
    with blank():
        model = DMGAN(config)

    assert count(model.generator) == generator and count(model) == total
    assert [count(branch) for branch in model.generator.further] == [block, block]
    assert [count(critic) for critic in model.critics] == [1_878_242, 5_155_810, 18_264_546]


@pytest.mark.equation("eq:dmgan-writing-gate")
@pytest.mark.equation("eq:dmgan-writing")
def test_a_gate_mixes_each_word_with_the_picture_so_far():
    words, places = numbers(2, 4, 5), numbers(2, 6, 3, seed=1)
    A, B = numbers(1, 5, seed=2), numbers(1, 3, seed=3)
    M_w, M_r = numbers(2, 4, 6, seed=4), numbers(2, 6, seed=5)
    mean = places.mean(dim=1)
    gate = writing_gate(words, mean, A, B)
    memory = write_memory(M_w, M_r, gate)
    for i in range(2):
        pooled = sum(places[i, j] for j in range(6)) / 6
        for t in range(4):
            g = sigmoid(A[0] @ words[i, t] + B[0] @ pooled)
            assert gate[i, t, 0].item() == pytest.approx(g)
            torch.testing.assert_close(memory[i, t], M_w[i, t] * g + M_r[i] * (1 - g))


@pytest.mark.equation("eq:dmgan-addressing")
@pytest.mark.equation("eq:dmgan-reading")
def test_places_address_slots_by_keys_and_read_their_values():
    places, keys, values = numbers(2, 6, 3), numbers(2, 4, 3, seed=1), numbers(2, 4, 3, seed=2)
    alpha = address_keys(places, keys, MASK)
    o = read_values(alpha, values)
    for i in range(2):
        slots = int(MASK[i].sum())
        for j in range(6):
            exps = [math.exp(float(keys[i, t] @ places[i, j])) for t in range(slots)]
            want = sum(e / sum(exps) * values[i, t] for t, e in enumerate(exps))
            torch.testing.assert_close(o[i, j], want)
    theirs = F.scaled_dot_product_attention(places, keys, values, attn_mask=MASK[:, None], scale=1.0)
    torch.testing.assert_close(o, theirs)


@pytest.mark.equation("eq:dmgan-response-gate")
@pytest.mark.equation("eq:dmgan-response")
def test_a_gate_decides_how_much_of_the_answer_a_place_takes_over():
    places, read = numbers(2, 6, 3), numbers(2, 6, 3, seed=1)
    W, b = numbers(1, 6, seed=2), numbers(1, seed=3)
    gate = response_gate(places, read, W, b)
    new = respond(places, read, gate)
    for i in range(2):
        for j in range(6):
            g = sigmoid(W[0, :3] @ places[i, j] + W[0, 3:] @ read[i, j] + b[0])
            assert gate[i, j, 0].item() == pytest.approx(g)
            torch.testing.assert_close(new[i, j], read[i, j] * g + places[i, j] * (1 - g))


def test_a_branch_puts_the_formulas_together():
    torch.manual_seed(0)
    branch = MemoryBranch(TINY).double().eval()
    h, words = numbers(2, 16, 8), numbers(2, 4, 10, seed=1)
    x, alpha, gates = branch.read(h, words, MASK)
    for i in range(2):
        mean = h[i].mean(0)
        memory = []
        for t in range(int(MASK[i].sum())):
            g = sigmoid(branch.A.weight[0] @ words[i, t] + branch.B.weight[0] @ mean)
            memory.append(branch.from_words(words[i, t]).relu() * g
                          + branch.from_places(mean).relu() * (1 - g))
        m = torch.stack(memory)
        for j in range(16):
            weights = (branch.key(m).relu() @ h[i, j]).softmax(0)
            o = weights @ branch.value(m).relu()
            g = sigmoid(branch.response(torch.cat([h[i, j], o])))
            new = o * g + h[i, j] * (1 - g)
            torch.testing.assert_close(x[i, j], torch.cat([new, new]))
            assert gates.response[i, j].item() == pytest.approx(g)
    assert (alpha[1, :, 2:] == 0).all()


def test_the_mean_of_the_picture_is_cut_off_from_the_gradient():
    torch.manual_seed(0)
    branch = MemoryBranch(TINY)
    h = torch.randn(1, 16, 8, requires_grad=True)
    slots, _ = branch.write(h, torch.randn(1, 4, 10))
    slots.sum().backward()
    assert h.grad is None


def test_e12_nothing_is_deformed_places_are_read_where_they_are():
    torch.manual_seed(0)
    model = DMGANGenerator(TINY).eval()
    names = [type(m).__name__.lower() for m in model.modules()] + [n for n, _ in model.named_parameters()]
    assert not any("deform" in name or "offset" in name for name in names)
    branch, order = model.further[0], torch.randperm(16)
    h, words = torch.randn(2, 16, 8), torch.randn(2, 4, 10)
    x, alpha, gates = branch.read(h, words, MASK)
    moved, alpha_moved, gates_moved = branch.read(h[:, order], words, MASK)
    # the memory knows no coordinates: places in another order give the same answers in that order
    torch.testing.assert_close(moved, x[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alpha_moved, alpha[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gates_moved.writing, gates.writing, atol=1e-5, rtol=1e-4)


def inputs(b=3, t=5):
    mask = torch.arange(t) < torch.tensor([t - i for i in range(b)])[:, None]
    return torch.randn(b, 6), torch.randn(b, 10), torch.randn(b, t, 10), mask


def test_pictures_weights_and_gates_have_the_shapes_of_the_branches():
    torch.manual_seed(0)
    drawn = DMGANGenerator(TINY)(*inputs())
    assert [tuple(x.shape) for x in drawn.images] == [(3, 3, s, s) for s in (8, 16, 32)]
    assert [tuple(a.shape) for a in drawn.attention] == [(3, 64, 5), (3, 256, 5)]
    assert [tuple(g.writing.shape) for g in drawn.gates] == [(3, 5, 1), (3, 5, 1)]
    assert [tuple(g.response.shape) for g in drawn.gates] == [(3, 64, 1), (3, 256, 1)]
    assert all(((g > 0) & (g < 1)).all() for gates in drawn.gates for g in gates)


@pytest.mark.parametrize("writing, response", [(False, True), (True, False), (False, False)])
def test_without_gates_words_are_the_memory_and_the_answer_stands_beside_the_place(writing, response):
    torch.manual_seed(0)
    config = replace(TINY, writing_gate=writing, response_gate=response)
    branch = MemoryBranch(config).eval()
    h, words = torch.randn(2, 16, 8), torch.randn(2, 4, 10)
    x, alpha, gates = branch.read(h, words, MASK)
    assert x.shape == (2, 16, 16)
    if not writing:
        assert torch.equal(branch.write(h, words)[0], branch.from_words(words).relu())
    if not response:
        assert torch.equal(x[..., :8], h)
    names = [name for name, _ in branch.named_parameters()]
    assert ("A.weight" in names) == writing and ("response.weight" in names) == response
    DMGANGenerator(config)(*inputs())


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    damsm = DAMSM(DAMSMConfig.mini(size=32)).eval().requires_grad_(False)
    model = DMGAN(replace(TINY, text=64))
    tokens = torch.tensor([[2, 3, 4], [5, 6, 1], [7, 8, 9]])
    words, sentence = damsm.text(tokens)
    mask = damsm.text.mask(tokens)
    drawn = model(torch.randn(3, 6), sentence, words, mask)
    model.generator_loss(drawn, sentence, words, mask, damsm).total().backward()
    without = [n for n, p in model.generator.named_parameters()
               if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    real = tuple(torch.randn_like(x) for x in drawn.images)
    torch.stack(model.discriminator_losses(real, drawn, sentence)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.critics.parameters())


def test_its_discriminators_have_spectral_normalisation_and_no_batch_norm():
    critics = DMGAN(TINY).critics
    assert not any(isinstance(m, nn.BatchNorm2d) for m in critics.modules())
    convs = [m for m in critics.modules() if isinstance(m, nn.Conv2d)]
    plain = [m for m in convs if not nn.utils.parametrize.is_parametrized(m)]
    assert len(plain) == 6                                           # the heads: two in each of three
    assert all(m.bias is not None for m in convs)
