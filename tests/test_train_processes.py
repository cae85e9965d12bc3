"""Two processes train to the weights of one, on the same whole batches."""

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import process_worker
import pytest
import safetensors.torch
import torch

from mmlearn.train import Batches

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def two():
    """Run the worker in two real processes and return the tensors that each ended with."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["process_worker", "resume_worker"])

    def run(out, folder=None, steps=12, size=8, accumulate=1):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = [context.Process(target=process_worker.rank_of_two,
                                 args=(rank, port, out, folder, steps, size, accumulate)) for rank in (0, 1)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(240)
        assert [process.exitcode for process in ranks] == [0, 0]
        return [safetensors.torch.load_file(f"{out}-{rank}") for rank in (0, 1)]
    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "out"
    threads = torch.get_num_threads()
    process_worker.train(out)
    torch.set_num_threads(threads)
    return safetensors.torch.load_file(f"{out}-0")


def close(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-6)


def test_two_processes_end_with_the_weights_of_one(two, alone, tmp_path):
    for tensors in two(tmp_path / "out"):
        close(tensors, alone)


def test_what_changes_weights_does_so_in_every_process_before_the_average(two, alone, tmp_path):
    for tensors in [alone, *two(tmp_path / "out")]:
        assert tensors["layers.0.bias"].max() == 0.1 and tensors["ema.layers.0.bias"].max() <= 0.1
        close(tensors, alone)


def test_two_processes_that_accumulate_end_with_the_weights_of_one(two, alone, tmp_path):
    # a step of 2 x 4 examples is a different split of the same 8 only if the order is the same: see the next
    # test
    first, second = two(tmp_path / "out", size=4, accumulate=2)
    close(first, second)
    close(first, alone)


def test_small_batches_are_consecutive_parts_of_the_large_one():
    large, small = Batches(range(32), 8, seed=1), Batches(range(32), 4, seed=1)
    for number in range(8):
        assert large.indices(number) == small.indices(2 * number) + small.indices(2 * number + 1)
        assert sorted(large.indices(number, 0, 2) + large.indices(number, 1, 2)) == sorted(
            large.indices(number)
        )


def test_two_processes_resume_to_the_same_result(two, alone, tmp_path):
    two(tmp_path / "first", folder=tmp_path / "run", steps=6)
    for tensors in two(tmp_path / "second", folder=tmp_path / "run"):
        close(tensors, alone)


def test_a_batch_that_does_not_split_evenly_is_refused():
    with pytest.raises(ValueError, match="a batch of 9 does not split evenly over 2 processes"):
        Batches(range(32), 9).stream(0, 0, 2)


@pytest.mark.slow
def test_torchrun_trains_to_the_same_weights(alone, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(HERE / "process_worker.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"})
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in (0, 1):
        close(safetensors.torch.load_file(f"{tmp_path / 'out'}-{rank}"), alone)
