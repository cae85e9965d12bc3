"""What the trainers of all systems share on the command line: where pictures come from, and what a run
remembers."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.files import write_atomically

if TYPE_CHECKING:
    from mmlearn.data.coco import CaptionRecord

SOURCES = ("scenes", "coco", "folder", "csv")


def add_data(parser: argparse.ArgumentParser, scenes: int = 2000) -> None:
    """Add the arguments that say what is trained on."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
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


def recall(out: Path) -> list[dict[str, Any]]:
    """The settings of the phases begun in a folder, in order."""
    path = out / "run.json"
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))["phases"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a run's file ({error}); choose another --out") from error


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
