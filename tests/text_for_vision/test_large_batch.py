import copy
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import contrastive_worker
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from contrastive_worker import FLAGS, Towers, batch
from torch import nn

from mmlearn.text_for_vision.contrastive import clip_loss, logits, symmetric_cross_entropy
from mmlearn.text_for_vision.large_batch import (
    cached_loss,
    chunked_clip_loss,
    distributed_clip_loss,
    gather_with_gradient,
    simulate_workers,
    workers,
)
from mmlearn.text_for_vision.siglip import sigmoid_loss
from mmlearn.train import fit

HERE = Path(__file__).parent


def pairs(b=6, e=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(b, e, generator=g, dtype=torch.float64), dim=1) for _ in range(2)]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(found, wanted, atol=1e-12):
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=atol, msg=lambda m,
                                   n=name: f"{n}: {m}")


# --------------------------------------------------------------------------------------------- without matrix


@pytest.mark.parametrize("chunk", [1, 4, 6, 50, None])
def test_the_chunked_loss_and_its_gradients_are_those_of_the_formula(chunk):
    u, v = (x.requires_grad_() for x in pairs())
    t = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    loss = chunked_clip_loss(u, v, t.exp(), chunk)
    plain = symmetric_cross_entropy(logits(u, v, t.exp()))
    torch.testing.assert_close(loss, plain, rtol=0, atol=1e-12)
    for found, want in zip(torch.autograd.grad(loss, [u, v, t]), torch.autograd.grad(plain, [u, v, t])):
        torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="chunk is 0"):
        chunked_clip_loss(u, v, 1.0, 0)


MEMORY = """
import torch
import torch.nn.functional as F
from mmlearn.text_for_vision.contrastive import logits, symmetric_cross_entropy
from mmlearn.text_for_vision.large_batch import chunked_clip_loss

def peak():
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])

torch.set_num_threads(1)
u, v = (F.normalize(torch.randn(8192, 64), dim=1).requires_grad_() for _ in range(2))
plain = lambda u, v, scale: symmetric_cross_entropy(logits(u, v, scale))
chunked = lambda u, v, scale: chunked_clip_loss(u, v, scale, chunk=256)
for loss in (chunked, plain):  # what libraries set up at their first call does not count
    loss(u[:512], v[:512], 14.3).backward()
for loss in (chunked, plain):
    before = peak()
    loss(u, v, 14.3).backward()
    print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read where Linux tells it")
def test_the_chunked_loss_takes_a_small_part_of_the_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    chunked, plain = map(int, done.stdout.split())
    matrix = 4 * 8192**2
    assert chunked < matrix / 2 and 3 * matrix < plain


# ------------------------------------------------------------------------------------------- gradient caching


@pytest.mark.equation("eq:gradient-cache")
@pytest.mark.parametrize("chunk", [1, 3, 8, 20])
def test_cached_gradients_are_those_of_the_whole_batch(chunk):
    model, (images, tokens) = Towers(), batch(8)
    u, v, scale = model(images, tokens)
    whole = gradients(model, symmetric_cross_entropy(scale * u @ v.T))
    loss = cached_loss(model, images, tokens, chunk)
    torch.testing.assert_close(loss, symmetric_cross_entropy(scale * u @ v.T).detach(), rtol=0, atol=1e-12)
    same(gradients(model, 0.5 * loss), {name: 0.5 * g for name, g in whole.items()})


@pytest.mark.equation("eq:gradient-cache")
def test_the_sum_over_chunks_of_jacobian_times_cached_gradient_is_the_gradient():
    model, (images, tokens) = Towers(), batch(4)
    weight = model.image[0].weight
    with torch.no_grad():
        u, v, scale = model(images, tokens)
    u, v = u.requires_grad_(), v.requires_grad_()
    slope, = torch.autograd.grad(symmetric_cross_entropy(scale * u @ v.T), u)
    total = torch.zeros_like(weight)
    for i in range(4):  # chunks of one image, one output at a time
        live = model(images[i : i + 1], tokens[i : i + 1])[0][0]
        for k in range(4):
            total += slope[i, k] * torch.autograd.grad(live[k], weight, retain_graph=True)[0]
    found = gradients(model, cached_loss(model, images, tokens, 1))["image.0.weight"]
    torch.testing.assert_close(found, total, rtol=0, atol=1e-12)


def test_accumulating_the_losses_of_small_batches_is_something_else():
    model, (images, tokens) = Towers(), batch(8)
    whole = gradients(model, clip_loss(*model(images, tokens)))
    parts = sum(clip_loss(*model(images[i : i + 2], tokens[i : i + 2])) for i in range(0, 8, 2)) / 4
    accumulated = gradients(model, parts)
    w, a = (torch.cat([g.flatten() for g in grads.values()]) for grads in (whole, accumulated))
    assert (w - a).norm() > 0.2 * w.norm()


def test_dropout_draws_the_same_masks_again_and_leaves_the_generator_where_it_was():
    model, (images, tokens) = Towers(dropout=0.5), batch(8)
    torch.manual_seed(3)
    parts = [model(images[i : i + 3], tokens[i : i + 3]) for i in range(0, 8, 3)]
    after = torch.rand(1)
    u, v = (torch.cat([part[k] for part in parts]) for k in (0, 1))
    whole = gradients(model, symmetric_cross_entropy(parts[0][2] * u @ v.T))
    torch.manual_seed(3)
    loss = cached_loss(model, images, tokens, 3)
    assert torch.equal(torch.rand(1), after)
    before = torch.get_rng_state()
    same(gradients(model, loss), whole)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_may_use_parameters_of_the_model():
    model, (images, tokens) = Towers(), batch(8)
    def loss(u, v, scale):
        return sigmoid_loss(u, v, scale, model.logit_bias)
    whole = gradients(model, loss(*model(images, tokens)))
    assert whole["logit_bias"].abs() > 0
    same(gradients(model, cached_loss(model, images, tokens, 3, loss)), whole)


def test_frozen_parts_get_no_gradient_and_the_rest_theirs():
    model, (images, tokens) = Towers(), batch(8)
    model.image.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    whole = gradients(model, clip_loss(*model(images, tokens)))
    assert all(name.startswith("text") for name in whole)
    same(gradients(model, cached_loss(model, images, tokens, 3)), whole)
    model.requires_grad_(False)
    assert not cached_loss(model, images, tokens, 3).requires_grad


def test_the_second_forward_runs_in_the_precision_of_the_first():
    model, (images, tokens) = Towers().float(), batch(8)
    def at(fn):
        with torch.autocast("cpu", torch.bfloat16):
            return fn()
    whole = gradients(model, at(lambda: clip_loss(*model(images.float(), tokens.float()))))
    found = gradients(model, at(lambda: cached_loss(model, images.float(), tokens.float(), 8)))
    same(found, whole, 1e-6)


def test_training_with_the_cache_ends_with_the_weights_of_training_without():
    data = [batch(16)[0], batch(16)[1]]
    def train(loss):
        model = Towers()
        history = fit(model, loss, [data], steps=5, lr=0.01, clip=0.1, progress=False)
        return history, model.state_dict()
    plain, weights = train(lambda model, pair: clip_loss(*model(*pair)))
    cached, found = train(lambda model, pair: cached_loss(model, *pair, chunk=4))
    same(found, weights, 1e-9)
    assert cached.loss == pytest.approx(plain.loss) and plain.loss[-1] < plain.loss[0]


def test_what_cannot_be_cached_exactly_is_refused():
    model, (images, tokens) = Towers(), batch(8)
    with pytest.raises(ValueError, match="8 images and 7 texts"):
        cached_loss(model, images, tokens[:7], 2)
    with pytest.raises(ValueError, match="chunk is 0"):
        cached_loss(model, images, tokens, 0)
    model.image.insert(1, nn.BatchNorm1d(8).double())
    with pytest.raises(ValueError, match="image.1 normalises over the batch"):
        cached_loss(model, images, tokens, 2)
    model.image.eval()
    same(gradients(model, cached_loss(model, images, tokens, 3)),
         gradients(model, clip_loss(*model(images, tokens))))


# ----------------------------------------------------------------------------------------------- many workers


def run_workers(out, count, b=12):
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["contrastive_worker"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=contrastive_worker.main,
                             args=(rank, count, port, str(out), b)) for rank in range(count)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(240)
    assert [process.exitcode for process in ranks] == [0] * count
    return safetensors.torch.load_file(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "out"
    threads = torch.get_num_threads()
    contrastive_worker.measure(out, 12)
    torch.set_num_threads(threads)
    return safetensors.torch.load_file(out)


@pytest.fixture(scope="module", params=[2, 3])
def many(request, tmp_path_factory):
    """The losses and averaged gradients of several real processes, and how many there were."""
    return run_workers(tmp_path_factory.mktemp("many") / "out", request.param), request.param


def part(found, name):
    return {key.split("/")[1]: value for key, value in found.items() if key.startswith(name + "/")}


def flat(gradients_of):
    return torch.cat([gradients_of[name].flatten() for name in sorted(gradients_of)
                      if name.startswith(("image", "text"))])


@pytest.mark.equation("eq:local-loss")
@pytest.mark.slow
def test_only_gradients_that_flow_through_the_gathering_are_right(many, alone):
    found, count = many
    want = part(alone, "clip 11")
    truth = flat(want)
    for local, gather in FLAGS:
        mine = part(found, f"clip {int(local)}{int(gather)}")
        torch.testing.assert_close(mine["loss"], want["loss"], rtol=0, atol=1e-12)
        torch.testing.assert_close(mine["logit_scale"], want["logit_scale"], rtol=0, atol=1e-12)
        gradient = flat(mine)
        if gather:
            same(mine, want)
        elif not local:
            torch.testing.assert_close(gradient, truth / count, rtol=0, atol=1e-12)
        else:
            assert F.cosine_similarity(gradient, truth,
                                       dim=0) < 0.999 and (gradient - truth).norm() > 0.2 * truth.norm()


@pytest.mark.slow
@pytest.mark.equation("eq:sigmoid-ring")
def test_the_ring_of_the_sigmoid_loss_gives_the_gradient_of_one_process(many, alone):
    found, _ = many
    same(part(found, "sigmoid"), part(alone, "sigmoid"))
    same(part(found, "sigmoid in 16 bits"), part(alone, "sigmoid in 16 bits"), 0.02)


@pytest.mark.slow
def test_cached_gradients_of_several_workers_are_those_of_one_process(many, alone):
    found, _ = many
    same(part(found, "cached"), part(alone, "clip 11"))


@pytest.mark.equation("eq:local-loss")
@pytest.mark.parametrize("local, gather", FLAGS)
def test_the_mean_of_the_workers_shares_is_the_loss_of_the_whole(local, gather):
    u, v = pairs(6)
    scale = torch.tensor(4.0, dtype=torch.float64)
    l = (4.0 * u @ v.T).tolist()
    p = torch.tensor(l, dtype=torch.float64).softmax(1)
    q = torch.tensor(l, dtype=torch.float64).softmax(0)
    shares = [sum(-p[i, i].log() - q[i, i].log() for i in rows) / 6 for rows in ((0, 1, 2), (3, 4, 5))]
    loss, _, _, by_scale = simulate_workers(u, v, scale, 2, local, gather)
    assert loss == pytest.approx(float(sum(shares)) / 2, abs=1e-12)
    s = scale.clone().requires_grad_()
    symmetric_cross_entropy(s * u @ v.T).backward()
    assert by_scale == pytest.approx(s.grad.item(), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("local, gather", FLAGS)
def test_simulated_workers_do_what_real_ones_do(many, local, gather):
    found, count = many
    model, (images, tokens) = Towers(), batch(12)
    u, v, scale = model(images, tokens)
    _, grad_u, grad_v, _ = simulate_workers(u, v, scale, count, local, gather)
    model.zero_grad()
    torch.autograd.backward([u, v], [grad_u, grad_v])
    mine = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(flat(mine), flat(part(found, f"clip {int(local)}{int(gather)}")), rtol=0,
                               atol=1e-12)


def test_alone_the_distributed_loss_is_the_plain_one():
    u, v = pairs()
    assert workers() == (0, 1) and gather_with_gradient(u) is u
    for local, gather in FLAGS:
        assert distributed_clip_loss(u, v, 3.0, local, gather).item() == clip_loss(u, v, 3.0).item()
    with pytest.raises(ValueError, match="6 pairs do not split evenly over 4 workers"):
        simulate_workers(u, v, torch.tensor(3.0), 4)


@pytest.mark.parity
def test_local_loss_without_gradient_is_what_open_clip_computes():
    from open_clip.loss import ClipLoss

    class AsWorker(ClipLoss):
        """open_clip's loss with its gathering replaced by what the other worker would have sent."""
        def get_logits(self, u, v, scale, logit_bias=None):
            return scale * u @ self.all_v.T, scale * v @ self.all_u.T

    u, v = pairs()
    grads = []
    for rank in (0, 1):
        loss = AsWorker(local_loss=True, rank=rank, world_size=2)
        loss.all_u, loss.all_v = u, v
        mine = [x[3 * rank : 3 * rank + 3].clone().requires_grad_() for x in (u, v)]
        grads.append(torch.autograd.grad(loss(*mine, torch.tensor(4.0, dtype=torch.float64)), mine)[0] / 2)
    found = simulate_workers(u, v, torch.tensor(4.0, dtype=torch.float64), 2, True, False)[1]
    torch.testing.assert_close(found, torch.cat(grads), rtol=0, atol=1e-12)


def test_a_copied_model_is_cached_alike():
    model, (images, tokens) = Towers(), batch(4)
    again = copy.deepcopy(model)
    same(gradients(model, cached_loss(model, images, tokens, 2)),
         gradients(again, cached_loss(again, images, tokens, 2)))
