"""A run that is killed after any of its file operations goes on to the very result it would have had."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a child for each kill")
ALL = os.environ.get("MMLEARN_KILLS") == "all"


@pytest.fixture(scope="module")
def everywhere():
    """Run a task of ``kill_worker`` in a process that has no threads, and return its report."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kill_worker", "resume_worker"])
    import kill_worker

    def run(task: str, place: Path, every: int) -> dict:
        process = context.Process(target=kill_worker.report_everywhere, args=(task, place, every))
        process.start()
        process.join(3000)
        assert process.exitcode == 0
        return json.loads((place / "report.json").read_text())
    return run


@pytest.fixture
def place(tmp_path):
    """A folder with six pictures and their captions."""
    words = ("cat", "dog", "car", "tree", "house", "boat")
    for i in range(len(words)):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    lines = [f"{i}.png,a {word}" for i, word in enumerate(words)]
    (tmp_path / "captions.csv").write_text("file,caption\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("task", "every"), [
    ("train_by_fit", 1), ("export_scenes", 5),
    pytest.param("train_captioner", 23, marks=pytest.mark.slow),
    pytest.param("train_clip", 17, marks=pytest.mark.slow),
    pytest.param("train_dfgan", 23, marks=pytest.mark.slow)])
def test_a_run_killed_after_any_file_operation_ends_alike_and_leaves_nothing_behind(
        everywhere, place, task, every):
    report = everywhere(task, place, 1 if ALL else every)
    assert report["different"] == []
    assert report["kills"] == len(range(0, report["operations"], 1 if ALL else every)) >= 5
