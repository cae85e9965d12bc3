"""Runs that the tests of crash safety kill after each of their file operations, in processes of their own.

A process that was started once, and has imported everything, forks one child a kill and one that goes on.
"""

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MODULES = {
    "train_by_fit": ["resume_worker"],
    "train_captioner": ["mmlearn.cli.train_captioner", "mmlearn.image2text.training"],
    "train_clip": ["mmlearn.cli.train_clip", "mmlearn.text_for_vision.training"],
    "train_dfgan": ["mmlearn.cli.train_text_to_image", "mmlearn.text2image.training"],
    "export_scenes": ["mmlearn.cli.data", "mmlearn.data.scenes.export"]}
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "os.link"}


def watch(root: Path, deadly: int | None = None) -> list[str]:
    """Write down every operation of this process that changes something below ``root``; before operation
    ``deadly``, counted from 0, it is killed."""
    done: list[str] = []
    place = os.fspath(root)

    def act(what: str) -> None:
        if len(done) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(what)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if flags & WRITES and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(place):
                act(f"open {path}")
        elif event in CHANGES:
            # rmtree names what it removes within an open folder, truncate may name a file by its number
            path = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else os.fspath(args[0])
            if path.startswith(place) or args[-1] != -1 and not isinstance(args[0], int):
                act(f"{event} {path}")

    sys.addaudithook(audit)
    os.fsync = lambda descriptor: None                      # a kill, unlike a power cut, loses nothing
    return done


def forked(task: Callable[[], Any]) -> int:
    """Run ``task`` in a child; returns its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        code = task() or 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# What is killed -------------------------------------------------------------------------------------------

def train_by_fit(folder: Path, more: int) -> None:
    """A run of ``fit``: begun or gone on with, the call is the same."""
    import resume_worker

    tensors = resume_worker.run(folder, steps=2 + more, save_every=1, keep=1)
    safetensors.torch.save_file(tensors, f"{folder}.result")


def command(*words: object) -> int:
    from mmlearn.cli import main

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return main([str(word) for word in words])


def phase(folder: Path, begin: list[object], ended: str, resume_first: bool) -> None:
    """Begin a phase, or go on with the run: one of the two must be possible, whichever is tried first."""
    if (folder / ended).exists():
        return
    again = ["train", begin[1], "--resume", "--out", folder]
    for words in (again, begin) if resume_first else (begin, again):
        if command(*words, "--out", folder) == 0 and (folder / ended).exists():
            return
    raise AssertionError(f"{folder} is stuck: it can neither be begun nor gone on with")


def train_captioner(folder: Path, more: int) -> None:
    """Two phases of ``mmlearn train captioner`` on the pictures in the folder beside."""
    data = ["--data", "csv", "--annotations", folder.parent / "captions.csv", "--images", folder.parent,
            "--size", "mini", "--pixels", 32, "--save-every", 1, "--batch", 4, "--steps", 2 + more]
    phase(folder, ["train", "captioner", *data], "history-xe.json", more % 2 == 0)
    phase(folder, ["train", "captioner", "--phase", "scst", "--steps", 2, "--batch", 2, "--save-every", 1],
          "history-scst.json", True)
    keep(folder, "captioner", "history-xe.json", "history-scst.json")


def train_clip(folder: Path, more: int) -> None:
    """``mmlearn train clip`` on the pictures in the folder beside."""
    data = ["--data", "csv", "--annotations", folder.parent / "captions.csv", "--images", folder.parent,
            "--size", "mini", "--save-every", 1, "--batch", 4, "--steps", 2 + more]
    phase(folder, ["train", "clip", *data], "history.json", False)
    keep(folder, "clip", "history.json")


def train_dfgan(folder: Path, more: int) -> None:
    """``mmlearn train dfgan`` on the pictures in the folder beside: encoder of text, then the game."""
    data = ["--data", "csv", "--annotations", folder.parent / "captions.csv", "--images", folder.parent,
            "--pixels", 16, "--save-every", 1, "--batch", 4, "--encoder-steps", 2, "--steps", 2 + more]
    phase(folder, ["train", "dfgan", *data], "history.json", False)
    keep(folder, "dfgan", "history-encoder.json", "history.json")


def keep(folder: Path, system: str, *histories: str) -> None:
    if (folder / ".lock").exists():             # killed when all was done: the next start cleans up
        assert command("train", system, "--resume", "--out", folder) == 0
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    for name in histories:
        tensors[name] = torch.tensor(json.loads((folder / name).read_text())["loss"], dtype=torch.float64)
    safetensors.torch.save_file(tensors, f"{folder}.result")


def export_scenes(folder: Path, more: int) -> None:
    """``mmlearn data scenes``: the bytes of all its files."""
    assert command("data", "scenes", "--out", folder, "--images", 3 + more, "--size", 16) == 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    bytes_ = {str(path.relative_to(folder)): torch.tensor(list(path.read_bytes())) for path in files}
    safetensors.torch.save_file(bytes_, f"{folder}.result")


# Killing --------------------------------------------------------------------------------------------------

def everywhere(task: Callable[[Path, int], None], place: Path, more: int = 0,
               every: int = 1) -> dict[str, Any]:
    """Kill ``task`` before every (``every``-th) operation on its folder, go on, and compare with a whole run.

    Returns the number of kills, and what did not end alike or left something behind.
    """
    log = place / "operations"

    def whole() -> None:
        done = watch(place / "whole")
        task(place / "whole", more)
        log.write_text("\n".join(done))

    assert forked(whole) == 0
    wanted = safetensors.torch.load_file(place / "whole.result")
    operations = log.read_text().splitlines()
    report: dict[str, Any] = {"operations": len(operations), "kills": 0, "different": []}
    for number in range(0, len(operations), every):
        code, found = killed_at(task, place / "run", more, number, wanted)
        report["kills"] += code == -signal.SIGKILL
        if code != -signal.SIGKILL or found:
            report["different"].append([number, operations[number], code, found])
    return report


def killed_at(task: Callable[[Path, int], None], folder: Path, more: int, number: int,
              wanted: dict[str, torch.Tensor]) -> tuple[int, list[str]]:
    """Kill ``task`` before operation ``number`` and let it go on: how the first ended, and what is not as in
    a whole run."""
    def run(deadly: int | None) -> None:
        watch(folder, deadly)
        task(folder, more)

    code, again = forked(lambda: run(number)), forked(lambda: run(None))
    found = unlike(safetensors.torch.load_file(f"{folder}.result"), wanted) if again == 0 else ["it failed"]
    found += [path.name for path in folder.rglob(".*")]
    shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.result").unlink(missing_ok=True)
    return code, found


def at_random(task: Callable[[Path, int], None], place: Path, kills: int, more: int = 0) -> dict[str, Any]:
    """Kill ``task`` at ``kills`` random moments, go on each time, and compare with a whole run."""
    begun = time.perf_counter()
    assert forked(lambda: task(place / "whole", more)) == 0
    lasts = time.perf_counter() - begun
    wanted = safetensors.torch.load_file(place / "whole.result")
    report: dict[str, Any] = {"kills": 0, "different": []}
    while report["kills"] < kills:
        folder, wait = place / "run", random.uniform(0, lasts)
        child = os.fork()
        if not child:
            task(folder, more)
            os._exit(0)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        report["kills"] += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        again = forked(lambda: task(folder, more))                           # noqa: B023
        found = unlike(safetensors.torch.load_file(f"{folder}.result"), wanted) if again == 0 else ["failed"]
        if found:
            report["different"].append([round(wait, 3), found])
        shutil.rmtree(folder)
    return report


def unlike(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in found.keys() | wanted.keys()
            if name not in found or name not in wanted or not torch.equal(found[name], wanted[name])]


def report_everywhere(task: str, place: Path, every: int, kills: int = 0) -> None:
    """``everywhere``, or ``kills`` times ``at_random``, for a process that is told the name of the task; the
    report comes in a file."""
    for module in MODULES[task]:                        # once, and not in every child
        importlib.import_module(module)
    torch.set_num_threads(1)
    report = (at_random(globals()[task], place, kills) if kills else
              everywhere(globals()[task], place, every=every))
    (place / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    report_everywhere(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
