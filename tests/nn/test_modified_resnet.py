import math

import pytest
import torch
import torch.nn.functional as F

from mmlearn.nn.attention import record_attention
from mmlearn.nn.modified_resnet import AttentionPool, Bottleneck, ModifiedResNet, ResNetConfig, pool_tokens

TINY = ResNetConfig(size=64, blocks=(1, 2, 1, 1), width=4, heads=4)


def network():
    torch.manual_seed(0)
    return ModifiedResNet(TINY, embed=6)


@pytest.mark.equation("eq:attention-pool-tokens")
def test_the_mean_stands_before_the_cells_and_all_get_positions():
    cells, positions = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    want = torch.empty(2, 4, 4, dtype=torch.float64)
    for i in range(2):
        want[i, 0] = (cells[i, 0] + cells[i, 1] + cells[i, 2]) / 3 + positions[0]
        for p in range(3):
            want[i, p + 1] = cells[i, p] + positions[p + 1]
    torch.testing.assert_close(pool_tokens(cells, positions), want)


@pytest.mark.equation("eq:attention-pool")
def test_attention_pooling_reads_the_cells_with_the_mean_as_its_only_query():
    torch.manual_seed(0)
    c, h, e = 6, 2, 3
    pool = AttentionPool(c, h, cells=4, embed=5).double()
    cells = torch.randn(2, 4, c, dtype=torch.float64)
    Wq, Wk, Wv = pool.attention.in_weight.chunk(3)
    bq, bk, bv = pool.attention.in_bias.chunk(3)
    with record_attention(pool) as recorded:
        got = pool(cells)
    for i in range(2):
        tokens = torch.cat([cells[i].mean(0, keepdim=True), cells[i]]) + pool.positions
        heads = []
        for a in range(h):
            part = slice(a * e, (a + 1) * e)
            q = (Wq @ tokens[0] + bq)[part]
            scores = torch.stack([q @ (Wk @ x + bk)[part] / math.sqrt(e) for x in tokens])
            weights = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(recorded["attention"][i, 0, a, 0], weights)
            heads.append(sum(w * (Wv @ x + bv)[part] for w, x in zip(weights, tokens)))
        want = pool.attention.out.weight @ torch.cat(heads) + pool.attention.out.bias
        torch.testing.assert_close(got[i], want)
    torch.testing.assert_close(pool(cells), got)


def test_a_new_block_is_its_shortcut():
    torch.manual_seed(0)
    block = Bottleneck(16, 4).eval()
    x = torch.randn(2, 16, 6, 6)
    torch.testing.assert_close(block(x.clone()), x.relu())


def test_a_block_that_changes_size_averages_before_it_drops_cells():
    torch.manual_seed(0)
    block = Bottleneck(8, 4, stride=2).eval()
    x = torch.randn(1, 8, 6, 6)
    mean = torch.stack([torch.stack([x[0, :, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2].mean((1, 2))
                                     for z in range(3)], -1)
                        for y in range(3)], -2)[None]
    want = (block.shortcut(mean) + block.third[1].bias[:, None, None]).relu()
    torch.testing.assert_close(block(x), want)
    assert all(m.stride == (1, 1) for m in block.modules() if isinstance(m, torch.nn.Conv2d))


def test_an_average_lets_a_block_respond_less_to_a_shift_than_dropping_cells_does():
    checker = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1  # the highest frequency there is
    blurred = F.avg_pool2d(checker[None, None], 2)
    dropped = checker[None, None, ::2, ::2]
    assert blurred.abs().max() == 0 and dropped.abs().min() == 1


def test_sides_shrink_by_32_and_channels_grow_to_32_w():
    model = network().eval()
    assert model.grid(torch.randn(2, 3, 64, 64)).shape == (2, 128, 2, 2)
    with record_attention(model) as weights:
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 6)
    assert weights["pool.attention"].shape == (2, 1, 4, 1, 5)
    assert TINY.channels == 128 and TINY.grid == 2


def test_gradients_reach_every_parameter_once_the_residual_branches_have_woken():
    model = network().train()
    for module in model.modules():
        if isinstance(module, Bottleneck):
            torch.nn.init.ones_(module.third[1].weight)
    model(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_in_evaluation_a_row_does_not_depend_on_its_batch_and_in_training_it_does():
    model = network()
    images = torch.randn(3, 3, 64, 64)
    for _ in range(3):
        model.train()(images)
    with torch.no_grad():
        model.eval()
        torch.testing.assert_close(model(images)[:2], model(images[:2]), atol=1e-5, rtol=1e-5)
        model.train()
        assert (model(images)[:2] - model(images[:2])).abs().max() > 1e-3


def test_the_pool_starts_as_in_the_released_code():
    torch.manual_seed(0)
    pool = AttentionPool(256, 4, cells=49, embed=128)
    for value in (pool.positions, pool.attention.in_weight, pool.attention.out.weight):
        assert float(value.detach().std()) == pytest.approx(256**-0.5, rel=0.05)
    assert pool.attention.in_bias.abs().max() <= 256**-0.5 and pool.attention.in_bias.std() > 0.02


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="size 100 is not a multiple of 32"):
        ResNetConfig(size=100)
    with pytest.raises(ValueError, match="96 x 96 pixels, the model wants 64 x 64"):
        network()(torch.randn(1, 3, 96, 96))
