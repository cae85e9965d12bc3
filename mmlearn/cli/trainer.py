"""What ``mmlearn train`` does alike for every system: its options and their bounds, begin or resume, pictures
held out, an estimate of the time, what is printed and kept at the end."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.cli.training import add_data, check_data, given, records, resumed
from mmlearn.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmlearn.data.coco import CaptionRecord
    from mmlearn.train import History

SCENES, VALIDATION_SCENES = 2000, 200
MOST = 10**9
# the least and the most of a whole number; a number beyond them is a slip of the keyboard
WHOLE: dict[str, tuple[int, int]] = {
    "steps": (1, MOST), "encoder_steps": (1, MOST), "hole_steps": (1, MOST),
    "language_steps": (1, MOST),
    "up_steps": (1, MOST), "batch": (1, 10**6), "warmup": (0, MOST),
    "save_every": (1, MOST), "seed": (0, 2**32 - 1),
    "scenes": (1, 10**7), "hold_out": (1, MOST), "pixels": (16, 4096), "min_count": (1, MOST)}
OF_FILES = ("images", "annotations", "validation", "validation_images", "hold_out", "skip_incomplete")


# ---------------------------------------------------------------------------------------------------- options

def add_common(parser: argparse.ArgumentParser, run: "Callable[..., None]", texts: Mapping[str, str]) -> None:
    """Add the arguments of every trainer; ``texts`` are the helps of those whose default is the system's.

    ``run`` gets the parsed arguments and, as ``defaults``, what stands in them for an option not given.
    """
    add_data(parser)
    parser.add_argument("--hold-out", type=int, metavar="N",
                        help="validate on N of the pictures, drawn by --seed, and do not train on them "
                             "(coco, folder, csv; instead of --validation)")
    parser.add_argument("--steps", type=int, help=texts["steps"])
    parser.add_argument("--batch", type=int, help=texts["batch"])
    parser.add_argument("--lr", type=float, help=texts["lr"])
    if "warmup" in texts:
        parser.add_argument("--warmup", type=int, metavar="STEPS", help=texts["warmup"])
    else:
        parser.set_defaults(warmup=None)                    # settings of every run say it
    parser.add_argument("--precision", choices=("no", "bf16"), default="no",
                        help="bf16: compute in bfloat16, on hardware that has it")
    parser.add_argument("--save-every", type=int, metavar="STEPS",
                        help="steps between checkpoints (default: a tenth of the run)")
    parser.set_defaults(scenes=None)                        # none given: check_settings puts the default
    names = [action.dest for action in parser._actions]
    parser.set_defaults(run=partial(run, defaults={name: parser.get_default(name) for name in names}))


# --------------------------------------------------------------------------------------------------- settings

def asked_for(args: argparse.Namespace, files: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments as settings that JSON can hold; those of ``files`` that name a file made absolute."""
    settings = given(args)
    for name in files:
        value = settings[name]
        if value is not None and len(value) < 1000 and Path(value).is_file():
            settings[name] = str(Path(value).resolve())
    return settings


def go_on(args: argparse.Namespace, asked: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run to resume. Raises ``ValueError`` if it is none, or if an argument differs from
    what it was begun with."""
    settings = resumed(args)
    lacking = sorted(asked.keys() - settings.keys() - {"hold_out"})
    if lacking:
        raise ValueError(f"{args.out / 'run.json'} does not say {flag(lacking[0])} of its run; choose "
                         f"another --out")
    unchanged(args, asked, settings, defaults, ("steps",))
    check_numbers(settings)
    done = reached(args.out / str(folder_of(settings)))
    if done > (settings["steps"] or done):
        raise ValueError(f"the run in {args.out} is at step {done} already; give --steps {done} or more")
    return settings


def unchanged(args: argparse.Namespace, asked: Mapping[str, Any], settings: Mapping[str, Any],
              defaults: Mapping[str, Any], free: Sequence[str]) -> None:
    """Raises ``ValueError`` for an argument that would be ignored: the run of ``settings`` has another."""
    for name, value in asked.items():
        if name in free or value == defaults.get(name) or value == settings.get(name):
            continue
        raise ValueError(f"{flag(name)} is {value}, and the run in {args.out} has {settings.get(name)}; "
                         f"leave it out, or choose another --out")


def folder_of(settings: Mapping[str, Any]) -> str:
    """Where in the folder of the run the checkpoints of a phase are."""
    return "steps" if settings["phase"] == "contrastive" else settings["phase"]


def reached(folder: Path) -> int:
    """The step of the newest checkpoint, 0 where there is none."""
    from mmlearn.checkpoints import steps_in

    numbers = [path.name.removeprefix("step-") for path in steps_in(folder)]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def check_settings(settings: dict[str, Any], pictures: bool = True) -> None:
    """Raises ``ValueError`` for settings of a new run that are out of bounds, or would be ignored; without
    ``pictures`` captions alone are needed."""
    if settings["data"] == "scenes":
        ignored = next((name for name in OF_FILES if settings.get(name)), None)
        if ignored is not None:
            raise ValueError(f"{flag(ignored)} is for --data coco, folder or csv, and drawn scenes are "
                             f"validated on other scenes; leave it out, or say --data")
        settings["scenes"] = SCENES if settings["scenes"] is None else settings["scenes"]
    elif settings["scenes"] is not None:
        raise ValueError(f"--scenes is for --data scenes, not for --data {settings['data']}; leave it out")
    elif settings["validation"] is None and settings["validation_images"] is not None:
        raise ValueError("--validation-images are the pictures of --validation FILE; give both")
    elif settings["validation"] is not None and settings["hold_out"] is not None:
        raise ValueError("--validation and --hold-out are both given; one of them says what to validate on")
    elif settings["skip_incomplete"] and settings["data"] != "coco":
        raise ValueError(f"--skip-incomplete is for --data coco, not for --data {settings['data']}; leave "
                         f"it out")
    check_numbers(settings)
    check_data({**settings, "scenes": settings["scenes"] or SCENES,
                "images": settings["images"] if pictures else "."})


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` for a number that is none or out of its bounds."""
    for name, (least, most) in WHOLE.items():
        value = settings.get(name)
        if value is not None and (type(value) is not int or not least <= value <= most):
            much = f"{least} or more" if type(value) is int and value < least else f"{least} to {most}"
            raise ValueError(f"{flag(name)} is {value}; take {much}")
    lr = settings.get("lr")
    if lr is not None and not (isinstance(lr, int | float) and 0 < lr < math.inf):
        raise ValueError(f"--lr is {lr}; take a number above 0, such as 1e-3")


def flag(name: str) -> str:
    """A setting as the command line calls it."""
    return "--" + {"weights": "trunk-weights"}.get(name, name).replace("_", "-")


@contextmanager
def one_first(args: argparse.Namespace) -> Iterator[bool]:
    """With several processes the first one plans and begins the run in the block, then the others join it;
    gives whether this one writes and speaks."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    from accelerate import PartialState

    state = PartialState()
    with state.main_process_first():
        args.resume = args.resume or not state.is_main_process
        yield state.is_main_process


# ------------------------------------------------------------------------------------------------------- data

def open_records(settings: dict[str, Any], read: "Callable[..., list[CaptionRecord] | None]" = records
                 ) -> "tuple[list[CaptionRecord], list[CaptionRecord] | None]":
    """The pictures of files to train on, and those to validate on where there are some."""
    import torch

    found: list[CaptionRecord] = read(settings) or []
    count = settings.get("hold_out")
    if not count:
        return found, read(settings, validation=True)
    if count >= len(found):
        raise ValueError(f"--hold-out is {count}, and there are {len(found)} pictures; take fewer, so that "
                         f"some are left to train on")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(settings["seed"])).tolist()
    held = set(order[:count])
    return ([record for i, record in enumerate(found) if i not in held],
            [record for i, record in enumerate(found) if i in held])


# ------------------------------------------------------------------------------------------------------- time

class Estimate:
    """Says on stderr, a few seconds after a run has begun, how long the rest of it will take, if that is
    long."""

    def __init__(self, steps: int, after: float | int = 3.0, least: float | int = 60.0) -> None:
        self.steps, self.after, self.least = steps, after, least
        self.first: tuple[int, float] | None = None
        self.told = os.environ.get("RANK", "0") != "0"          # one of several processes speaks

    def __call__(self, step: int, model: Any = None) -> None:
        now = time.perf_counter()
        if self.first is None:
            self.first = step, now
        elif not self.told and now - self.first[1] >= self.after:
            self.told = True
            left = (now - self.first[1]) / (step - self.first[0]) * (self.steps - step)
            if left >= self.least:
                print(f"the remaining {self.steps - step:,} steps will take about {duration(left)}, "
                      f"evaluations not counted", file=sys.stderr)


def duration(seconds: float | int) -> str:
    """``40 s``, ``12 min``, ``3.5 h``, ``4 days``."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}" if unit == "min" else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


# ----------------------------------------------------------------------------------------------------- result

def ending(history: "History", watch: str, patience: int | None = None) -> str:
    """Why a run with validation stopped, and which weights were kept."""
    if history.best is None:
        return ""
    step, value = history.best
    last = history.steps[-1]
    why = (f"stopped at step {last}: {watch} has not risen for {patience} evaluations" if history.finished
           else f"all {last} steps done")
    of_zero = "" if value else (f"; {watch} was 0 at every evaluation, so that the loss on the validation "
                                f"captions decided")
    return f"{why}; the weights kept are those of step {step} ({watch} {value:.4g}){of_zero}"


def keep_history(path: Path, history: "History") -> None:
    """Write the loss of every step and the metrics of every evaluation."""
    curve = {"steps": history.steps, "loss": history.loss, **history.scalars,
             "metric_steps": history.metric_steps, "metrics": history.metrics}
    write_atomically(path, json.dumps(curve) + "\n")


def tell(args: argparse.Namespace, result: dict[str, Any], sentence: str) -> None:
    """Print what came of it: as JSON, or in words."""
    print(json.dumps(result) if args.json else sentence)


