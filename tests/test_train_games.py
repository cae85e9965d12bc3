"""In a game each player moves its own weights, and the next one sees them."""

import multiprocessing
import os
import socket
from pathlib import Path

import game_worker
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from game_worker import Game, examples, play, train
from torch import nn

from mmlearn.train import Batches, fit


def test_a_game_takes_the_steps_of_a_loop_written_out_by_hand():
    model, history = train()
    torch.manual_seed(0)
    byhand = Game()
    d = torch.optim.Adam(byhand.discriminator.parameters(), lr=4e-2, betas=(0.5, 0.9))
    g = torch.optim.Adam(byhand.generator.parameters(), lr=1e-2, betas=(0.5, 0.9))
    batches = Batches(examples(), 8)
    losses = []
    for number in range(12):
        real, noise = batches[number]
        fake = byhand.generator(noise)
        d.zero_grad()
        judged = F.softplus(-byhand.discriminator(real)) + F.softplus(byhand.discriminator(fake.detach()))
        judged.mean().backward()
        d.step()
        g.zero_grad()
        loss = F.softplus(-byhand.discriminator(fake)).mean()
        loss.backward()
        g.step()
        losses.append(loss.item())
    for name, want in byhand.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], want, rtol=1e-6, atol=1e-7)
    assert history.loss == pytest.approx(losses, rel=1e-5)


def test_the_loss_of_a_player_moves_nobody_else():
    def only(player):
        def moves(model, batch):
            yield player, model.discriminator(model.generator(batch[1])).mean()
        return moves

    for player, other in (("generator", "discriminator"), ("discriminator", "generator")):
        torch.manual_seed(0)
        model = Game()
        before = {name: p.clone() for name, p in model.state_dict().items()}
        fit(model, only(player), Batches(examples(), 8), steps=2, progress=False)
        for name, p in model.state_dict().items():
            assert torch.equal(p, before[name]) == name.startswith(other)


def test_the_losses_of_all_players_and_their_scalars_are_recorded():
    _, history = train(clip=1e9)
    assert history.loss == history.scalars["generator"] and len(history.loss) == 12
    assert history.scalars.keys() == {"discriminator", "generator", "real", "discriminator norm",
                                      "generator norm"}
    assert min(history.scalars["generator norm"]) > 0


def test_a_player_that_is_frozen_in_part_moves_the_rest():
    torch.manual_seed(0)
    model = Game()
    model.generator[0].requires_grad_(False)
    before = model.generator[0].weight.clone(), model.generator[2].weight.clone()
    fit(model, play, Batches(examples(), 8), steps=1, progress=False)
    assert torch.equal(model.generator[0].weight, before[0])
    assert not torch.equal(model.generator[2].weight, before[1])


@pytest.mark.parametrize("name, most", [("norm", 0.1)])
def test_each_player_is_clipped_by_its_own_norm(name, most):
    moved = {}
    for clip in (most, None):
        torch.manual_seed(0)
        model = Game()
        before = {n: p.clone() for n, p in model.named_parameters()}
        fit(model, play, Batches(examples(), 8), steps=1, progress=False, clip=clip,
            optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
        moved[clip] = {n: p.detach() - before[n] for n, p in model.named_parameters()}
    for player in ("generator", "discriminator"):
        step = [torch.cat([d.flatten() for n, d in moved[c].items() if n.startswith(player)]) for c in moved]
        assert float(step[0].norm()) == pytest.approx(min(most, float(step[1].norm())), rel=1e-3)


def test_a_game_that_was_stopped_goes_on_to_the_same_result(tmp_path):
    whole, history = train(ema=0.9)
    train(ema=0.9, steps=5, folder=tmp_path, save_every=5)
    resumed, after = train(ema=0.9, seed=7, folder=tmp_path)
    for name, want in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], want)
    for name, want in history.ema.state_dict().items():
        assert torch.equal(after.ema.state_dict()[name], want)
    assert after.loss == history.loss and after.scalars == history.scalars


def test_with_bf16_every_move_is_computed_in_it():
    seen = []

    def moves(model, batch):
        fake = model.generator(batch[1])
        yield "discriminator", model.discriminator(fake.detach()).float().mean()
        seen.append((fake.dtype, model.discriminator(fake).dtype))
        yield "generator", model.discriminator(fake).float().mean()

    fit(Game(), moves, Batches(examples(), 8), steps=1, progress=False, precision="bf16")
    assert seen == [(torch.bfloat16, torch.bfloat16)] and not torch.is_autocast_enabled("cpu")


def test_slips_in_a_game_get_one_sentence():
    def stranger(model, batch):
        yield "critic", model.discriminator(batch[0]).mean()

    def nobody(model, batch):
        yield from ()

    batches = Batches(examples(), 8)
    with pytest.raises(ValueError, match="'critic' moves, the model has generator, discriminator"):
        fit(Game(), stranger, batches, steps=1, progress=False)
    with pytest.raises(ValueError, match="nobody moves"):
        fit(Game(), nobody, batches, steps=1, progress=False)
    with pytest.raises(ValueError, match="accumulate is 2; a game has one batch a step"):
        fit(Game(), play, batches, steps=1, accumulate=2, progress=False)


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    context = multiprocessing.get_context("forkserver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=game_worker.rank_of_two, args=(rank, port, str(tmp_path / "out")))
             for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(240)
    assert [process.exitcode for process in ranks] == [0, 0]
    alone, history = train()
    for rank in (0, 1):
        found = safetensors.torch.load_file(tmp_path / f"out-{rank}")
        torch.testing.assert_close(found.pop("losses"), torch.tensor(history.loss), rtol=1e-5, atol=1e-6)
        for name, want in alone.state_dict().items():
            torch.testing.assert_close(found[name], want, rtol=1e-5, atol=1e-5)


def test_a_loss_without_moves_is_trained_as_before():
    model = nn.Linear(2, 1)
    history = fit(model, lambda m, batch: m(batch[0]).square().mean(), Batches(examples(), 8), steps=3,
                  progress=False)
    assert len(history.loss) == 3 and not history.scalars
