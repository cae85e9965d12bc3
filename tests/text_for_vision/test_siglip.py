import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmlearn.text_for_vision.siglip import (
    START_BIAS,
    START_SCALE,
    distributed_sigmoid_loss,
    lock_image_tower,
    pairwise_sigmoid,
    sigmoid_gradient,
    sigmoid_loss,
    sigmoid_start,
)


def pairs(b=6, e=4, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(b, e, generator=g, dtype=torch.float64),
                        dim=1).to(dtype) for _ in range(2)]


def naive(u, v, scale, bias):
    """b² yes-or-no questions, one after the other, divided by b."""
    b, total = len(u), 0.0
    for i, j in itertools.product(range(b), repeat=2):
        z = 1 if i == j else -1
        l = scale * sum(x * y for x, y in zip(u[i].tolist(), v[j].tolist())) + bias
        total -= math.log(1 / (1 + math.exp(-z * l)))
    return total / b


@pytest.mark.equation("eq:sigmoid-loss")
@pytest.mark.parametrize("b, chunk", [(1, None), (6, 1), (6, 4), (6, 6), (7, 50)])
def test_the_sigmoid_loss_asks_every_pair_alone_and_divides_by_b(b, chunk):
    u, v = pairs(b)
    want = naive(u, v, 5.0, -2.0)
    assert pairwise_sigmoid(5.0 * u @ v.T - 2.0).item() == pytest.approx(want, abs=1e-12)
    assert sigmoid_loss(u, v, 5.0, -2.0, chunk).item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_its_gradients_are_those_of_the_formula(chunk):
    inputs = [x.requires_grad_() for x in (*pairs(), *torch.tensor([5.0, -2.0], dtype=torch.float64))]
    u, v, scale, bias = inputs
    found = torch.autograd.grad(0.3 * sigmoid_loss(*inputs, chunk), inputs)
    for a, b in zip(found, torch.autograd.grad(0.3 * pairwise_sigmoid(scale * u @ v.T + bias), inputs)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *x: sigmoid_loss(*x, chunk), inputs)


@pytest.mark.equation("eq:sigmoid-gradient")
def test_the_gradient_of_an_entry_depends_on_that_entry_alone():
    u, v = pairs()
    l = (5.0 * u @ v.T).requires_grad_()
    pairwise_sigmoid(l).backward()
    for i, j in itertools.product(range(6), repeat=2):
        want = (1 / (1 + math.exp(-l[i, j].item())) - (i == j)) / 6
        assert sigmoid_gradient(l.detach())[i, j].item() == pytest.approx(want, abs=1e-12)
    torch.testing.assert_close(sigmoid_gradient(l.detach()), l.grad)


@pytest.mark.equation("eq:sigmoid-start")
def test_a_bias_of_minus_ten_starts_with_the_negatives_nearly_right():
    zero = torch.zeros(50, 50, dtype=torch.float64)
    for bias in (0.0, -10.0):
        pair, others = sigmoid_start(50, bias)
        assert pair == pytest.approx(-math.log(1 / (1 + math.exp(-bias))), abs=1e-9)
        assert others == pytest.approx(-49 * math.log(1 / (1 + math.exp(bias))), abs=1e-9)
        assert pair + others == pytest.approx(pairwise_sigmoid(zero + bias).item(), abs=1e-9)
    assert sigmoid_start(32_768, START_BIAS) == pytest.approx((10.0, 1.488), abs=1e-3)
    assert sigmoid_start(32_768, 0)[1] == pytest.approx(22_712, abs=1)
    assert START_SCALE == 10.0


def test_large_logits_keep_their_small_losses():
    u = torch.eye(4, requires_grad=True)
    loss = sigmoid_loss(u, torch.eye(4), 100.0, -50.0)
    loss.backward()
    assert loss.item() == pytest.approx(4 * math.exp(-50), rel=1e-3)
    assert 0 < u.grad.abs().max() < 1e-15


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_embeddings_are_compared_in_thirty_two(dtype):
    u, v = (x.requires_grad_() for x in pairs(30, 8, dtype=dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = sigmoid_loss(u, v, torch.tensor(10.0), torch.tensor(-10.0))
    want = pairwise_sigmoid(10.0 * u.detach().double() @ v.detach().double().T - 10.0)
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert loss.dtype == torch.float32 and v.grad.dtype == dtype


@pytest.mark.parity
def test_the_sigmoid_loss_is_that_of_open_clip_and_of_transformers():
    from open_clip.loss import SigLipLoss
    from transformers import SiglipConfig, SiglipModel

    inputs = [x.requires_grad_() for x in (*pairs(16, 8), *torch.tensor([10.0, -10.0], dtype=torch.float64))]
    for a, b in zip(torch.autograd.grad(sigmoid_loss(*inputs), inputs),
                    torch.autograd.grad(SigLipLoss()(*inputs), inputs)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(
        text_config={**small, "vocab_size": 20, "max_position_embeddings": 8, "projection_size": 16},
        vision_config={**small, "image_size": 16, "patch_size": 8})).eval()
    out = model(input_ids=torch.randint(0, 20, (5, 8)), pixel_values=torch.randn(5, 3, 16, 16),
                return_loss=True)
    ours = sigmoid_loss(out.image_embeds, out.text_embeds, model.logit_scale.exp()[0], model.logit_bias[0])
    torch.testing.assert_close(ours, out.loss, rtol=1e-5, atol=1e-5)


def test_bad_input_is_refused():
    u, v = pairs()
    for loss in (sigmoid_loss, distributed_sigmoid_loss):
        with pytest.raises(ValueError, match="row i of both is pair i"):
            loss(u, v[:5], 10.0, -10.0)
        with pytest.raises(ValueError, match="chunk is 0"):
            loss(u, v, 10.0, -10.0, 0)


def test_alone_the_distributed_loss_is_the_plain_one():
    u, v = pairs()
    assert distributed_sigmoid_loss(u, v, 10.0, -10.0).item() == sigmoid_loss(u, v, 10.0, -10.0).item()


# -------------------------------------------------------------------------------------------------------- LiT


class Dual(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.text = nn.Linear(2, 4)


def test_a_locked_tower_stays_as_it_is_whatever_mode_the_model_is_put_into():
    model = lock_image_tower(Dual())
    before = {name: x.clone() for name, x in model.image.state_dict().items()}
    x, y = torch.randn(8, 3), torch.randn(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)
    for _ in range(3):
        model.train()
        assert model.training and model.text.training
        assert not any(m.training for m in model.image.modules())
        optimizer.zero_grad()
        (model.image(x) * model.text(y)).sum().backward()
        optimizer.step()
    for name, value in model.image.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.image.parameters()) and model.text.weight.grad is not None
    assert torch.equal(model.image(x), model.image(x))


def test_a_copy_of_a_locked_model_is_locked_and_its_own():
    model = lock_image_tower(Dual())
    other = copy.deepcopy(model)
    assert other.train().image.train() is other.image and not other.image.training
    assert other.image is not model.image


def test_a_model_without_that_tower_is_refused():
    with pytest.raises(ValueError, match="no part named 'visual'; name its image tower, one of: image, text"):
        lock_image_tower(Dual(), "visual")


def test_the_image_tower_of_clip_can_be_locked():
    from mmlearn.text_for_vision.clip import CLIP, CLIPConfig

    model = lock_image_tower(CLIP(CLIPConfig.mini_resnet())).train()
    assert not any(m.training for m in model.image.modules())
    assert {name.split(".")[0] for name, p in model.named_parameters()
            if p.requires_grad} == {"text", "logit_scale"}
