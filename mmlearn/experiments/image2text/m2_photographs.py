"""M2 in the paper's configuration on a COCO folder, killed half-way and resumed.

Paper: M. Cornia et al. (2020), *Meshed-Memory Transformer for Image Captioning*, arXiv:1912.08226.  Survey:
1.2.1. Differs from the paper: a few photographs and a few hundred steps, to see that loss falls and that a
killed run goes on; cells of a ResNet grid in place of detected regions; the learning rate warms up within the
run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mmlearn.checkpoints import steps_in


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--annotations", type=Path, required=True, help="their COCO captions file")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kill", type=int, default=80,
                        help="step after whose checkpoint the process is killed")
    parser.add_argument("--batch", type=int, default=16, help="pairs of an image and a caption a step")
    parser.add_argument("--lr", type=float, default=3e-4)


def run(args: argparse.Namespace) -> dict[str, Any]:
    if not 0 < args.kill < args.steps:
        raise ValueError(f"--kill {args.kill} is not between 1 and --steps {args.steps}")
    captions = json.loads(args.annotations.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        base = [sys.executable, "-m", "mmlearn", "train", "m2", "--out", folder]
        first = [*base, "--data", "coco", "--images", str(args.images), "--annotations",
                 str(args.annotations), "--size", "paper", "--min-count", "1", "--steps", str(args.steps),
                 "--batch", str(args.batch), "--lr", str(args.lr), "--warmup", "20", "--save-every",
                 str(max(1, args.kill // 2))]
        killed_at = kill_at(first, Path(folder) / "xe", args.kill)
        done = subprocess.run([*base, "--resume", "--json"], capture_output=True, encoding="utf-8")
        if done.returncode:
            raise ValueError(f"the resumed run ended with {done.returncode}: {done.stderr[-300:]}")
        history = json.loads((Path(folder) / "history-xe.json").read_text(encoding="utf-8"))
        result = json.loads(done.stdout)
    if history["steps"] != list(range(1, args.steps + 1)):
        raise ValueError("the resumed run has not every step once")
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": args.lr, "warmup": 20, "features":
                         "grid of a ResNet-101 with random weights, 224 pixels"},
            "images": len(captions["images"]), "captions": len(captions["annotations"]),
            "vocabulary": result["words"], "parameters": result["parameters"], "killed at": killed_at,
            "loss": [round(x, 4) for x in history["loss"]]}


def kill_at(command: list[str], folder: Path, step: int) -> int:
    """Start a run, kill it once a checkpoint of ``step`` or later is written; returns that checkpoint's
    step."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        while process.poll() is None:
            written = max((int(path.name.removeprefix("step-")) for path in steps_in(folder)), default=0)
            if written >= step:
                process.kill()
                process.wait()
                return written
            time.sleep(2)
    finally:
        process.kill()
    error = process.stderr.read()[-300:] if process.stderr else ""
    raise ValueError(f"the run ended with {process.returncode} before step {step}: {error}")
