"""What the package promises of its own code: nobody changes what another remembers, data are found in one
way, and no function stands there that nothing calls."""

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "mmlearn").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
FUNCTIONS = [(path.relative_to(ROOT).as_posix(), node) for path, tree in TREES.items()
             for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_what_functools_remembers_for_all_callers_holds_no_tensor():
    """A module may share a tensor with itself, in a function whose name begins with "_"; whoever else would
    change it for everybody: ``mmlearn.nn.modes.remembered`` gives each caller a tensor of its own."""
    shared = [f"{path}: {node.name}" for path, node in FUNCTIONS if not node.name.startswith("_")
              and any(re.search(r"\b(lru_)?cache\b", ast.unparse(d)) for d in node.decorator_list)
              and node.returns is not None and re.search(r"Tensor|ndarray", ast.unparse(node.returns))]
    assert not shared


def test_no_module_finds_its_data_by_counting_folders():
    """``mmlearn.files.package_data`` knows where data are, in a clone and in a wheel."""
    counting = [path for path, tree in TREES.items() for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and node.attr == "parents"]
    assert not counting


def mentioned() -> Counter[str]:
    """How often a word stands in the package, its tools and its benchmarks, and on the pages of the book."""
    counts: Counter[str] = Counter()
    for path in (*SOURCES, *(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")):
        counts.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    for path in (ROOT / "book").rglob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            counts.update(re.findall(r"\w+", "".join(cell["source"])))
    for path in (ROOT / "book").rglob("*.md"):
        if path.parent.name != "appendix":                  # which lists every function
            counts.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return counts


def test_every_function_is_called_by_the_package_or_a_page():
    """But for those that other people's code calls by their names, and the named sizes of papers."""
    counts = mentioned()
    by_others = {"generate_anchors"}                        # torchvision's anchor generator
    lonely = [f"{path}: {node.name}" for path, node in FUNCTIONS
              if counts[node.name] <= 1 and node.name not in by_others and not node.name.startswith("__")
              and "classmethod" not in map(ast.unparse, node.decorator_list)]
    assert not lonely


@pytest.mark.parametrize("name, module", [
    ("memory_attention", "image2text/m2"), ("mesh_gate", "image2text/m2"), ("mesh", "image2text/m2"),
    ("softmax_gates", "image2text/m2"), ("feed_forward", "nn/transformer"),
    ("symmetric_cross_entropy", "text_for_vision/contrastive"),
    ("pairwise_sigmoid", "text_for_vision/siglip"),
    ("scale_attention", "text_for_vision/dynamic_head"),
    ("spatial_attention", "text_for_vision/dynamic_head"),
    ("attention_weights", "nn/attention"), ("caption_cross_entropy", "image2text/training"),
    ("self_critical_loss", "image2text/training")])
def test_what_a_chapter_shows_is_what_its_module_runs(name, module):
    tree = TREES[ROOT / "mmlearn" / f"{module}.py"]
    assert any(isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
               for node in ast.walk(tree))
