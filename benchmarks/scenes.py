"""How many scenes a second one core samples and renders, and how much memory ten thousand of them take.

Run: ``python benchmarks/scenes.py [--size 64] [--count 500] [--many 10000]``. One process, one thread; the
best of five rounds, in processor time and in wall-clock time. Prints one JSON object.
"""

import argparse
import json
import os
import platform
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from mmlearn.data.scenes import render, sample_scene


def rate(count: int, size: int, draw: bool, rounds: int = 5) -> dict[str, float]:
    """Scenes a second, the best of some rounds over different scenes."""
    best = {"cpu": 0.0, "wall": 0.0}
    for k in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        for index in range(k * count, (k + 1) * count):
            scene = sample_scene(1, index)
            if draw:
                render(scene, size)
        best["cpu"] = max(best["cpu"], count / (time.process_time() - cpu))
        best["wall"] = max(best["wall"], count / (time.perf_counter() - wall))
    return {key: round(value, 1) for key, value in best.items()}


def growth(many: int, size: int) -> float:
    """Growth of the peak memory, in MiB, while ``many`` scenes are drawn one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(many):
        render(sample_scene(2, index), size)
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of a picture in pixels")
    parser.add_argument("--count", type=int, default=500, help="scenes a round")
    parser.add_argument("--many", type=int, default=10_000, help="scenes of the memory test; 0 leaves it out")
    args = parser.parse_args()
    for index in range(200):                                      # paints the backgrounds, which are kept
        render(sample_scene(0, index), args.size)
    result = {
        "size": args.size, "processor": platform.processor() or platform.machine(),
        "sampled_per_second": rate(args.count, args.size, draw=False),
        "sampled_and_rendered_per_second": rate(args.count, args.size, draw=True),
    }
    if args.many:
        result["memory_growth_mib"] = {"scenes": args.many, "mib": growth(args.many, args.size)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
