"""Many short trainings, several at a time, that can be stopped and gone on with: what the studies of chapter
4 share.

Survey: none.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from mmlearn.files import locked, read_json, write_atomically
from mmlearn.processes import pool

Job = tuple[str, int]                   # name of a variant, seed


def add_jobs(parser: argparse.ArgumentParser, seeds: int = 3) -> None:
    """The arguments that ``run_jobs`` reads."""
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--processes", type=int, default=2,
                        help="models trained at the same time, one thread each")
    parser.add_argument("--keep", type=Path, help="folder for finished runs; what is there already is not "
                                                  "run again")


def _one_thread() -> None:
    torch.set_num_threads(1)


def run_jobs(run: Callable[..., dict[str, Any]], jobs: Sequence[Job],
             args: argparse.Namespace) -> Iterator[tuple[Job, dict[str, Any]]]:
    """``run(name, seed, args)`` for every job, in order, each in one of ``args.processes`` processes with one
    thread.

    With ``args.keep`` each result is written there as soon as it is known, and read instead of run the next
    time, if it came of the same settings; one process at a time may write there. ``run`` is a function of a
    module, so that another process finds it.
    """
    settings = {k: v for k, v in vars(args).items() if isinstance(v, int | float | str)
                and k not in ("seeds", "processes")}
    files = {job: args.keep / f"{job[0].replace(' ', '-')}-{job[1]}.json"
             for job in jobs} if args.keep else {}
    with locked(args.keep) if args.keep else nullcontext():
        done = {job: _kept(path, settings) for job, path in files.items() if path.exists()}
        with pool(max(1, args.processes), _one_thread, "spawn") as workers:
            try:
                waiting = {job: workers.submit(run, *job, args) for job in jobs if job not in done}
                for job in jobs:
                    result = done[job] if job in done else waiting[job].result()
                    if args.keep and job not in done:
                        write_atomically(files[job],
                                         json.dumps({"settings": settings, "result": result}) + "\n")
                    yield job, result
            except BaseException:
                workers.shutdown(wait=False, cancel_futures=True)           # what has not begun need not
                raise


def _kept(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The result in a file, if it came of these settings."""
    found = read_json(path, remedy="delete it, so that it is run again")
    if not isinstance(found.get("settings"), dict) or not isinstance(found.get("result"), dict):
        raise ValueError(f"{path} holds no settings and result of a run; delete it, so that it is run again")
    if found["settings"] != settings:
        raise ValueError(f"{path} was made with {found['settings']}, asked for are {settings}; use "
                         f"another --keep folder")
    return found["result"]
