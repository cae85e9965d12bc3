"""What comes with the package is found from a clone, and from an installed wheel in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmlearn.files import package_data

ROOT = Path(__file__).parents[1]

USE = """
import mmlearn
from mmlearn.data.coco import CocoCaptions
from mmlearn.experiments import results
from mmlearn.figures.interactive import slider
from mmlearn.files import package_data
from mmlearn.image2text.regions import load_detector
from mmlearn.text_for_vision.training import load_mini

sample = package_data("scenes-sample")
pictures = CocoCaptions(sample / "images", sample / "annotations" / "captions_train.json")
print(mmlearn.__file__, results("detector")["recipe"], load_mini("vit").model.config.size, load_detector().config.size,
      len(pictures), callable(slider), sep="|")
"""


def test_a_clone_reads_the_folder_of_the_repository():
    assert package_data("results") == ROOT / "data" / "results"
    assert package_data("checkpoints", "detector.safetensors").is_file()


def test_an_installed_package_reads_its_own_folder(tmp_path, monkeypatch):
    (tmp_path / "_data").mkdir()
    monkeypatch.setattr("mmlearn.files.PACKAGE", tmp_path)
    assert package_data("results", "scst.json") == tmp_path / "_data" / "results" / "scst.json"


@pytest.mark.slow
def test_a_wheel_brings_results_miniatures_and_the_sample_along(tmp_path):
    def run(*command: str) -> str:
        alone = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"),
                 "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=alone, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    source = tmp_path / "source"  # building leaves folders behind: not in the repository
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "mmlearn", "data", "setup.py",
                            "pyproject.toml", "README.md", "LICENSE"], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", str(source))
    wheel = next((tmp_path / "dist").glob("mmlearn-*.whl"))
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", "installed", str(wheel))
    where, name, size, pixels, pictures, moving = run("-c", USE).strip().split("|")
    assert Path(where).is_relative_to(tmp_path / "installed")
    assert (name, size, pixels, pictures, moving) == ("detector", "64", "64", "24", "True")
