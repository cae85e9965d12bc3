"""The wheel carries results, miniatures and the sample of scenes as ``mmlearn/_data``; all else stands in
pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mmlearn", "mmlearn.*"]), "mmlearn._data"],
    package_dir={"mmlearn._data": "data"},
    package_data={"mmlearn._data": ["results/*.json", "checkpoints/*", "scenes-sample/*/*"],
                  "mmlearn.figures": ["block.css", "block.js"]},
)
