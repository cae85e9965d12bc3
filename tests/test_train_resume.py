"""A run goes on to the result it would have had; see ``test_kills`` for every moment at which it can be
killed."""

import errno
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resume_worker import Config, Net, run, run_to_file
from torch import nn

from mmlearn import checkpoints, files
from mmlearn.checkpoints import Checkpoint, load_weights, save_weights
from mmlearn.train import noam


@pytest.fixture(scope="module")
def processes():
    """Real processes, forked from a server that has imported torch already."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # the server looks for the worker there
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resume_worker"])
    return context


def uninterrupted(**more):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tensors = run(None, **more)
    torch.set_num_threads(threads)
    return tensors


def same(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(found[name], wanted[name]), name


def finish(context, folder, out, **more):
    process = context.Process(target=run_to_file, args=(folder, out), kwargs=more)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    return safetensors.torch.load_file(out)


def test_a_run_killed_at_random_moments_ends_with_identical_weights(processes, tmp_path):
    kills, moments = [], random.Random(os.getpid())
    for _ in range(3):
        process = processes.Process(target=run_to_file, args=(tmp_path / "run", tmp_path / "none"),
                                    kwargs={"slow": 0.02})
        process.start()
        known = checkpoints.steps_in(tmp_path / "run")
        while process.is_alive() and checkpoints.steps_in(tmp_path / "run") == known:
            time.sleep(0.02)  # it has written once more, or it would never get ahead
        time.sleep(moments.uniform(0.0, 0.25))
        process.kill()
        process.join(30)
        kills.append(process.exitcode)
    assert -signal.SIGKILL in kills
    assert checkpoints.newest(tmp_path / "run").step > 0
    same(finish(processes, tmp_path / "run", tmp_path / "out"), uninterrupted())


def test_a_shuffled_data_loader_resumes_exactly(tmp_path):
    run(tmp_path, steps=20, source="loader")
    same(run(tmp_path, source="loader"), run(None, source="loader"))


def test_a_finished_run_is_not_run_again(tmp_path):
    first = run(tmp_path, steps=20)
    seen = []
    same(run(tmp_path, steps=20, on_step=lambda step, model: seen.append(step)), first)
    assert seen == []


def test_a_run_stopped_by_patience_stays_stopped(tmp_path):
    settings = {"patience": 1, "lr": 0.0, "schedule": None}
    run(tmp_path, **settings)
    again = run(tmp_path, **settings)
    assert len(again["losses"]) == 20                    # the score of step 10 was never beaten


# Damage

@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "random.safetensors",
                                  "state.json"])
@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, capsys, name, damage):
    run(tmp_path, steps=20)
    newest, before = checkpoints.steps_in(tmp_path)
    content = bytearray((newest / name).read_bytes())
    if damage == "missing":
        (newest / name).unlink()
    else:
        if damage == "cut":
            del content[-5:]
        else:
            content[3] ^= 0xFF
        (newest / name).write_bytes(content)
    assert checkpoints.newest(tmp_path).step == checkpoints.read(before).step == 14
    said = capsys.readouterr().err
    assert name in said and "going back to the checkpoint before it" in said
    if (name, damage) == ("model.safetensors", "cut"):
        same(run(tmp_path), run(None))


def test_no_flipped_bit_of_a_checkpoint_goes_unseen(tmp_path):
    """Of the state every byte, of the tensors some: the checkpoint is as it was, or damaged."""
    run(tmp_path, steps=2, save_every=2, keep=1)
    path = checkpoints.steps_in(tmp_path)[0]
    draw = random.Random(0)
    for file in path.iterdir():
        content = file.read_bytes()
        places = range(len(content)) if file.name == "state.json" else draw.sample(range(len(content)), 20)
        for place in places:
            bad = bytearray(content)
            bad[place] ^= 1 << draw.randrange(8)
            file.write_bytes(bad)
            with pytest.raises(checkpoints.Damaged, match=file.name):
                checkpoints.read(path)
        file.write_bytes(content)
    assert checkpoints.read(path).step == 2


def test_a_checkpoint_of_the_format_before_is_still_read(tmp_path):
    run(tmp_path, steps=2, keep=1)
    path = checkpoints.steps_in(tmp_path)[0] / "state.json"
    state = json.loads(path.read_text())
    del state["checksum"]
    path.write_text(json.dumps({**state, "format": 1}))
    assert checkpoints.newest(tmp_path).step == 2
    path.write_text(json.dumps(state))                      # of this format, without its checksum
    with pytest.raises(ValueError, match="its checksum differs"):
        checkpoints.newest(tmp_path)


def test_a_whole_checkpoint_stays_when_a_later_one_is_damaged(tmp_path):
    run(tmp_path, steps=14, keep=2)
    (tmp_path / "step-00000014" / "model.safetensors").write_bytes(b"")
    run(tmp_path, steps=15, keep=1, save_every=4)
    assert [path.name for path in checkpoints.steps_in(tmp_path)] == ["step-00000015"]
    checkpoints.save(tmp_path, Checkpoint(9, {}, {}), keep=1)
    assert [path.name for path in checkpoints.steps_in(tmp_path)] == ["step-00000009"]


def test_the_first_weights_are_kept_whatever_is_handed_over_later(tmp_path):
    """A run killed before its first checkpoint goes on from the weights it began with."""
    class Killed(Exception):
        pass

    def kill(step, model):
        raise Killed
    wanted = run(None, steps=4)
    with pytest.raises(Killed):
        run(tmp_path, steps=4, on_step=kill)
    assert [path.name for path in checkpoints.steps_in(tmp_path)] == ["step-00000000"]
    same(run(tmp_path, steps=4, first=1), wanted)


def test_if_all_checkpoints_are_damaged_one_sentence_says_so(tmp_path):
    run(tmp_path, steps=20)
    for path in checkpoints.steps_in(tmp_path):
        (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read: .*model.safetensors has 0 bytes, "
                                         r"expected"):
        run(tmp_path)


def test_a_checkpoint_that_points_out_of_its_folder_is_refused(tmp_path):
    run(tmp_path, steps=7)
    path = checkpoints.steps_in(tmp_path)[0]
    state = json.loads((path / "state.json").read_text())
    state["files"]["../model.safetensors"] = [1, 1]
    del state["checksum"]
    (path / "state.json").write_bytes(checkpoints.sealed(json.dumps(state)))
    with pytest.raises(checkpoints.Damaged, match="not in its folder"):
        checkpoints.read(path)


# Another run

@pytest.mark.parametrize("change, sentence", [
    ({"config": Config(width=16)}, r"config.width 8 \(now 16\)"),
    ({"seed": 6}, r"seed 5 \(now 6\)"),
    ({"accumulate": 1}, r"accumulate 2 \(now 1\)"),
    ({"schedule": noam(8, 30)}, r"schedule noam\(width=8, warmup=20.*\(now noam\(width=8, warmup=30"),
    ({"source": "loader"}, r"batches Batches\(40 examples"),
    ({"optimizer": torch.optim.SGD, "schedule": noam(8, 20)}, r"optimizer AdamW \(now SGD\)"),
    ({"steps": 3}, "holds a run at step 7, beyond steps=3"),
])
def test_resuming_another_run_names_what_differs(tmp_path, change, sentence):
    run(tmp_path, steps=7)
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path, **change)


def test_weights_of_another_model_are_refused_by_name(tmp_path):
    save_weights(nn.Linear(3, 2), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"has weight of shape \(2, 3\), the model \(2, 4\)"):
        load_weights(nn.Linear(4, 2), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="lacks 0.weight"):
        load_weights(nn.Sequential(nn.Linear(3, 2)), tmp_path / "w.safetensors")


# Weights

def test_weights_come_back_from_a_run_and_from_a_file(tmp_path):
    kept = run(tmp_path / "run")
    best, last, average = (Net(Config()) for _ in range(3))
    load_weights(best, tmp_path / "run")
    load_weights(last, tmp_path / "run", which="model")
    load_weights(average, checkpoints.steps_in(tmp_path / "run")[0], which="ema")
    assert all(torch.equal(kept[f"ema.{name}"], value) for name, value in best.state_dict().items())
    assert torch.equal(kept["head.weight"], last.head.weight)
    assert not torch.equal(average.head.weight, last.head.weight)
    save_weights(last, tmp_path / "w.safetensors")
    load_weights(best, tmp_path / "w.safetensors")
    assert torch.equal(best.head.weight, last.head.weight)


def test_missing_or_foreign_weight_files_get_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_weights(Net(Config()), tmp_path / "nothing")
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04not a tensor")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_weights(Net(Config()), tmp_path / "w.safetensors")


def test_tied_and_viewed_tensors_survive_the_file(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.out.weight = self.embed.weight
            self.register_buffer("view", torch.arange(10.0)[2:5])
    first, second = Tied(), Tied()
    save_weights(first, tmp_path / "w.safetensors")
    load_weights(second, tmp_path / "w.safetensors")
    assert second.out.weight is second.embed.weight and torch.equal(second.embed.weight, first.embed.weight)
    assert second.view.tolist() == [2, 3, 4]


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path):
    run(tmp_path, steps=7)
    path = checkpoints.steps_in(tmp_path)[0]
    assert sorted(p.name for p in path.iterdir()) == [
        "best.safetensors", "ema.safetensors", "model.safetensors", "optimizer.safetensors",
        "random.safetensors", "state.json"]
    for file in path.glob("*.safetensors"):
        assert safetensors.torch.load(file.read_bytes())


# Parts

@given(st.lists(st.sampled_from(["python", "numpy", "torch"]), max_size=30))
@settings(max_examples=20, deadline=None)
def test_random_states_come_back_wherever_they_were_taken(draws):
    draw = {"python": lambda: random.gauss(0, 1), "torch": lambda: float(torch.randn(())),
            "numpy": lambda: float(np.random.normal())}         # noqa: NPY002
    for name in draws:
        draw[name]()
    states = checkpoints.random_states()
    first = [draw[name]() for name in ("python", "numpy", "torch") for _ in range(3)]
    checkpoints.set_random_states(states)
    assert [draw[name]() for name in ("python", "numpy", "torch") for _ in range(3)] == first


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.Adam(p, betas=(0.9, 0.98)),
    lambda p: torch.optim.AdamW(p, amsgrad=True, fused=True),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.Adagrad(p), torch.optim.RMSprop,
])
def test_every_usual_optimiser_goes_through_json_and_tensors(make):
    def steps(model, optimizer, count):
        for i in range(count):
            optimizer.zero_grad()
            ((model(torch.ones(2, 3)) - i) ** 2).sum().backward()
            optimizer.step()
    torch.manual_seed(0)
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = make(one.parameters()), make(two.parameters())
    steps(one, first, 3)
    tensors, numbers = checkpoints.pack_optimizer(first)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    two.load_state_dict(one.state_dict())
    checkpoints.fill_optimizer(second, tensors, json.loads(json.dumps(numbers)))
    steps(one, first, 3)
    steps(two, second, 3)
    assert torch.equal(one.weight, two.weight)


def test_only_the_newest_checkpoints_stay(tmp_path):
    for step in (1, 2, 10, 100):
        checkpoints.save(tmp_path, Checkpoint(step, {}, {"model": {"w": torch.ones(step)}}), keep=3)
    assert [path.name for path in checkpoints.steps_in(tmp_path)] == [
        "step-00000100",
        "step-00000010",
        "step-00000002",
    ]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_atomically(path, "old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match=r"a\.txt cannot be written \(No space left on device\); make room"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_atomic_file_has_the_usual_permissions(tmp_path):
    files.write_atomically(tmp_path / "sub" / "a.txt", "x")
    Path(tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "sub" / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode
