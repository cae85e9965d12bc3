"""Average precision of masks: `mmlearn evaluate detections --masks` against pycocotools, time and memory.

    python benchmarks/mask_evaluation.py

Each is a process of its own that reads the same two files. Two settings: 80 images of 480 x 640, and 2 images
of 3000 x 4000 pixels, with 8 things and 100 detections each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as runs

CALLS = {
    "pycocotools": """
import contextlib, io
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO(sys.argv[1])
    evaluation = COCOeval(coco, coco.loadRes(sys.argv[2]), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
numbers = evaluation.stats.tolist()
""",
    "mmlearn": """
import contextlib, io, json
from mmlearn.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
    assert main(["evaluate", "detections", *sys.argv[1:], "--masks", "--json"]) == 0
numbers = list(json.loads(out.getvalue()).values())
"""}
MEASURED = """
import json, sys, time
start = time.perf_counter()
{call}
with open("/proc/self/status") as status:                                  # of this program alone; Linux
    memory = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps([numbers, time.perf_counter() - start, time.process_time(), memory]))
"""


def outline(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A wobbly ellipse of 40 points anywhere in a picture."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = (1 + 0.15 * rng.normal(size=40))[:, None] * (0.02 + 0.15 * rng.random(2)) * (width, height)
    points = rng.random(2) * (width, height) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return points.ravel().round(2)


def write(folder: Path, images: int, height: int, width: int, things: int = 8, found: int = 100) -> list[str]:
    """An annotation file with polygons and a results file with compressed run lengths; their paths."""
    rng = np.random.default_rng(0)
    truth: dict[str, Any] = {"images": [], "annotations": [],
                             "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    results = []
    for image in range(1, images + 1):
        truth["images"].append({"id": image, "height": height, "width": width})
        shapes = [outline(rng, height, width) for _ in range(things)]
        for k, shape in enumerate(shapes):
            mask = runs.merge(runs.frPyObjects([shape.tolist()], height, width))
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image, "category_id": 1 + k % 2,
                "area": float(runs.area(mask)), "iscrowd": 0, "segmentation": [shape.tolist()],
                "bbox": runs.toBbox(mask).tolist()})
        for d in range(found):
            k = int(rng.integers(things))
            shape = outline(rng, height, width) if d % 2 else shapes[k] + rng.normal(size=80) * 0.01 * height
            mask = runs.merge(runs.frPyObjects([shape.tolist()], height, width))
            results.append({"image_id": image, "category_id": 1 + k % 2, "score": float(rng.random()),
                            "segmentation": {"size": [height, width], "counts": mask["counts"].decode()}})
    paths = [folder / "annotations.json", folder / "results.json"]
    for path, content in zip(paths, (truth, results)):
        path.write_text(json.dumps(content), encoding="utf-8")
    return [str(path) for path in paths]


def main() -> None:
    """Time both on both settings."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for images, height, width in ((80, 480, 640), (2, 3000, 4000)):
        print(f"{images} images of {height} x {width}, {100 * images} detections with masks")
        numbers = {}
        with tempfile.TemporaryDirectory() as folder:
            paths = write(Path(folder), images, height, width)
            for name, call in CALLS.items():
                done = subprocess.run([sys.executable, "-c", MEASURED.format(call=call), *paths],
                                      capture_output=True, text=True, check=True)
                numbers[name], seconds, work, memory = json.loads(done.stdout)
                print(f"  {name:<12} {seconds:6.2f} s ({work:.2f} s of a processor) {memory:7.0f} MB")
        difference = np.abs(np.subtract(*numbers.values())).max()
        print(f"  largest difference of the 12 numbers {difference:.1e}")


if __name__ == "__main__":
    main()
