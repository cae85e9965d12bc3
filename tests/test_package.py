"""``import mmlearn`` is quick, and makes every part of the package available."""

import subprocess
import sys

import pytest


def test_the_parts_are_there_after_import_mmlearn_and_imported_when_they_are_used():
    code = ("import sys, mmlearn; assert 'torch' not in sys.modules; assert 'pretrained' in dir(mmlearn); "
            "print(mmlearn.files.package_data('scenes-sample').name, 'torch' in sys.modules, "
            "callable(mmlearn.progress.Progress), hasattr(mmlearn, 'nothing'))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "scenes-sample False True False\n", done.stderr


def test_public_weights_are_loaded_by_the_name_of_the_package():
    import mmlearn

    with pytest.raises(FileNotFoundError, match="neither a file or folder"):
        mmlearn.pretrained.load("nowhere")
