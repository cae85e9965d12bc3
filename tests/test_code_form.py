"""What the package promises of its own code: nobody changes what another remembers, data are found in one
way, and what a chapter shows is what runs."""

import ast
import re
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
              and any(re.match(r"(functools\.)?(lru_)?cache\b", ast.unparse(d)) for d in node.decorator_list)
              and node.returns is not None and "Tensor" in ast.unparse(node.returns)]
    assert not shared


def test_no_module_finds_its_data_by_counting_folders():
    """``mmlearn.files.package_data`` knows where data are, in a clone and in a wheel."""
    counting = [path for path, tree in TREES.items() for node in ast.walk(tree)
                if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute)
                and node.value.attr == "parents"]
    assert not counting


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
