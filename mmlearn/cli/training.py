"""What the trainers of all systems share on the command line: where pictures come from, and what a run
remembers."""

import argparse
import functools
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.files import locked, read_json, write_atomically

if TYPE_CHECKING:
    from mmlearn.data.coco import CaptionRecord

SOURCES = ("scenes", "coco", "folder", "csv")
# what the settings of any run hold, as JSON has it
KINDS: dict[str, Any] = {
    "system": str, "phase": str, "data": str, "size": str, "precision": str, "steps": int, "batch": int,
    "seed": int, "scenes": int | None, "save_every": int | None, "lr": int | float | None,
    "warmup": int | None, "images": str | None, "annotations": str | None, "validation": str | None,
    "validation_images": str | None}


def add_data(parser: argparse.ArgumentParser, scenes: int = 2000) -> None:
    """Add the arguments that say what is trained on."""
    parser.add_argument("--out", type=_folder, required=True, metavar="DIR",
                        help="folder of the run and of what it trains")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run in --out, with the settings it has")
    parser.add_argument("--data", choices=SOURCES, default="scenes",
                        help="drawn scenes; COCO's files; a folder of pictures with captions.csv (columns "
                             "file, caption); "
                             "such a table anywhere")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (coco, folder, csv)")
    parser.add_argument("--annotations", type=Path, metavar="FILE",
                        help="COCO captions file (coco), or table (csv)")
    parser.add_argument("--validation", type=Path, metavar="FILE",
                        help="captions to validate on, of the same kind")
    parser.add_argument("--validation-images", type=Path, metavar="DIR",
                        help="their images (default: --images)")
    parser.add_argument("--skip-incomplete", action="store_true",
                        help="leave out images without file or caption (coco)")
    parser.add_argument("--scenes", type=int, default=scenes, metavar="N",
                        help=f"training scenes (scenes; default {scenes})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _folder(name: str) -> Path:
    if not name.strip():
        raise argparse.ArgumentTypeError("an empty name is no folder; name a new one")
    return Path(name)


def check_data(settings: dict[str, Any]) -> None:
    """Raises ``ValueError`` where the arguments of ``add_data`` do not say what to train on."""
    needed = {"coco": ("images", "annotations"), "folder": ("images",),
              "csv": ("annotations",)}.get(settings["data"], ())
    if not all(settings[name] for name in needed):
        wanted = {"images": "--images DIR", "annotations": "--annotations FILE"}
        raise ValueError(f"--data {settings['data']} needs {' and '.join(wanted[name] for name in needed)}")
    if settings["scenes"] < 1:
        raise ValueError(f"--scenes is {settings['scenes']}; take 1 or more")


def records(settings: dict[str, Any], validation: bool = False) -> "list[CaptionRecord] | None":
    """Pictures with captions of a source other than scenes; None where there are none to validate on."""
    from mmlearn.data.captioned_files import read_captions
    from mmlearn.data.coco import CocoCaptions

    images, annotations = settings["images"], settings["annotations"]
    if validation:
        images, annotations = settings["validation_images"] or images, settings["validation"]
        if not annotations:
            return None
    if settings["data"] == "coco":
        return CocoCaptions(images, annotations, skip_incomplete=settings["skip_incomplete"]).records
    return read_captions(annotations or images, images)


def alone(run: Callable[..., None]) -> Callable[..., None]:
    """A trainer that holds the folder ``--out`` while it runs: no other process may write there."""
    @functools.wraps(run)
    def guarded(args: argparse.Namespace, **more: Any) -> None:
        if args.out.exists() and not args.out.is_dir():
            raise ValueError(f"--out {args.out} is a file; give a folder, new or of a run")
        first = os.environ.get("RANK", "0") == "0"              # of several processes of one run
        with locked(args.out) if first else nullcontext():
            run(args, **more)
    return guarded


def has_begun(out: Path, phase: str, history: str) -> bool:
    """Whether a phase has taken a step: its folder ``phase`` then has a checkpoint.

    Raises ``ValueError`` if it has ended, with its ``history`` written, and the checkpoints were deleted.
    """
    from mmlearn.checkpoints import steps_in

    if steps_in(out / phase):
        return True
    if (out / history).exists():
        raise ValueError(f"{out} holds a run that has ended and has no checkpoint in {phase} to go on from; "
                         f"choose another --out")
    return False


def recall(out: Path) -> list[dict[str, Any]]:
    """The settings of the phases begun in a folder, in order."""
    path, remedy = out / "run.json", "choose another --out"
    if not path.exists():
        return []
    phases = read_json(path, remedy=remedy).get("phases")
    if not isinstance(phases, list) or not all(isinstance(phase, dict) for phase in phases):
        raise ValueError(f"{path} is not a run's file (it lists no phases); {remedy}")
    for number, settings in enumerate(phases, 1):
        wrong = [name for name, kind in KINDS.items() if name not in settings
                 or isinstance(settings[name], bool) or not isinstance(settings[name], kind)]
        if wrong:
            raise ValueError(f"{path} is not a run's file (its phase {number} says {wrong[0]} "
                             f"{settings.get(wrong[0])!r}); {remedy}")
    return phases


def refuse_to_write_over(out: Path, begun: bool) -> None:
    """Raises ``ValueError`` if a run has ``begun`` in a folder, or a model that was trained elsewhere is
    there."""
    if begun or not recall(out) and (out / "config.json").exists():
        raise ValueError(f"{out} holds a run already; add --resume to go on with it, or choose another "
                         f"--out")


def remember(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a phase beside those of the phases before it."""
    phases = [p for p in recall(out) if p["phase"] != settings["phase"]] + [settings]
    write_atomically(out / "run.json", json.dumps({"phases": phases}, indent=1) + "\n")


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a trainer as settings that JSON can hold, paths made absolute."""
    return {name: str(value.resolve()) if isinstance(value, Path) else value for name,
            value in vars(args).items()
            if name not in ("command", "run", "out", "resume", "json")}


def resumed(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the last phase of the run in ``args.out``; more steps may be asked for."""
    phases = recall(args.out)
    if not phases:
        raise ValueError(f"{args.out} holds no run to resume; leave out --resume to begin one")
    settings = phases[-1]
    if args.system != settings["system"]:
        raise ValueError(f"{args.out} holds a run of {settings['system']}, not of {args.system}")
    return {**settings, "steps": args.steps or settings["steps"]}
