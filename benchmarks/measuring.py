"""What the benchmarks share: tasks that take turns, what one call makes a process grow by, common options."""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

Call = Callable[[], Any]

# ------------------------------------------------------------------------------------------------- options


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it stands."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_common(to: argparse.ArgumentParser, repeats: int, device: bool = True, memory: bool = True) -> None:
    """The options that benchmarks share; ``--child`` (not in the help) names what a child measures."""
    to.add_argument("--repeats", type=int, default=repeats)
    to.add_argument("--threads", type=int, default=2)
    if device:
        to.add_argument("--device", default="cpu")
    to.add_argument("--cpu-time", action="store_true",
                    help="count processor seconds of all threads instead of the clock's (for a busy machine)")
    if memory:
        to.add_argument("--memory", action="store_true", help="measure memory instead of time")
        to.add_argument("--child", help=argparse.SUPPRESS)
    to.add_argument("--json", action="store_true")


def setting(args: argparse.Namespace) -> str:
    """Where and how is measured, for the line above the numbers."""
    return f"{args.device}, {args.threads} threads, float32, torch {torch.__version__}"


def unit(args: argparse.Namespace) -> str:
    """The seconds that ``clock`` counts, in words."""
    return f"{'processor' if args.cpu_time else 'clock'} seconds"


# ---------------------------------------------------------------------------------------------------- time

def clock(args: argparse.Namespace) -> Callable[[], float]:
    """The clock that ``--cpu-time`` asks for."""
    return time.process_time if args.cpu_time else time.perf_counter


def turns(tasks: Mapping[str, Call], repeats: int, clock: Callable[[], float] = time.perf_counter,
          uncounted: int = 1) -> dict[str, list[float]]:
    """Seconds of each task turn by turn, the tasks taking turns so that a busy machine slows all alike; the
    first ``uncounted`` turns do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + uncounted):
        for name, task in tasks.items():
            start = clock()
            task()
            if turn >= uncounted:
                seconds[name].append(clock() - start)
            print(f"\r{name} {turn}/{repeats + uncounted - 1}", end=" " * 20, file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each task's turns."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def in_turns(tasks: Mapping[str, Call], args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of tasks that take turns, as often and by the clock that the options say."""
    return medians(turns(tasks, args.repeats, clock(args)))


def synchronised(ways: dict[str, Call], device: str) -> dict[str, Call]:
    """The same calls, which return when the device is done."""
    def waiting(call: Call) -> Call:
        def run() -> Any:
            result = call()
            torch.cuda.synchronize()
            return result
        return run

    return ways if device == "cpu" else {way: waiting(call) for way, call in ways.items()}


def seconds_of(tasks: Iterable[str], prepare: Callable[[str], dict[str, Call]],
               args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds of every way to do each task; ``prepare`` makes the ways of a task when it comes."""
    return {task: in_turns(synchronised(prepare(task), args.device), args) for task in tasks}


# -------------------------------------------------------------------------------------------------- memory

def grown() -> int:
    """The most bytes that this process has held so far (Linux)."""
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])


def forget_peak() -> None:
    """Let ``grown`` begin anew, so that what was made before is not counted (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def growth(call: Call, device: str, first: bool = True) -> int:
    """By how many bytes a call makes this process grow, or its share of the device.

    On a device a ``first`` call, which is not measured, makes room for what stays, such as the state of Adam.
    """
    if device == "cpu":
        before = grown()
        call()
        return grown() - before
    if first:
        call()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def in_child(script: str, way: str, args: argparse.Namespace, names: Iterable[str],
             *more: str) -> subprocess.CompletedProcess[str]:
    """A benchmark called again in a process of its own, as ``--child way`` with the options ``names``."""
    given = [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(args, name)))]
    return subprocess.run([sys.executable, script, "--child", way, *more, *given], capture_output=True,
                          text=True, env=os.environ, check=False)


def growth_of(ways: Mapping[str, Iterable[str]], script: str, args: argparse.Namespace, names: Iterable[str],
              option: str = "task") -> dict[str, dict[str, int]]:
    """The bytes that each way of a task prints in a process of its own; ``option`` names the task there."""
    found: dict[str, dict[str, int]] = {}
    names = [*names]
    for task, of in ways.items():
        for way in of:
            done = in_child(script, way, args, names, f"--{option}", task)
            if done.returncode:
                raise RuntimeError(f"{task}, {way}: ended with {done.returncode} {done.stderr[-300:]}")
            found.setdefault(task, {})[way] = int(done.stdout.splitlines()[-1])
    return found


# ------------------------------------------------------------------------------------------------ printing

def megabytes(value: float) -> str:
    return f"{value / 1e6:8.0f} MB"


def seconds(value: float) -> str:
    return f"{value:8.3f} s"


def print_rows(values: Mapping[str, Mapping[str, float]], widths: tuple[int, int],
               shown: Callable[[float], str],
               remark: Callable[[str, float], str] = lambda way, share: "") -> None:
    """A row a way: its value, as a multiple of mmlearn's too, and a remark on that."""
    first, second = widths
    for task, of in values.items():
        for way, value in of.items():
            share = value / max(of["mmlearn"], 1e-9)
            print(f"  {task:<{first}} {way:<{second}} {shown(value)} {share:8.2f} x{remark(way, share)}")
