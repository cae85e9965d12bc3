"""README, workflows, licences and references say what is true."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from notebooks import ROOT, notebooks, words


def canonical(name: str) -> str:
    """The name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_first_example_of_the_readme_runs_as_printed():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.S)[1]
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    shown = re.findall(r"^(\S.*?)\s+# ([\d_,() ]+)$", code, re.M)
    assert len(shown) == 3
    for expression, value in shown:
        assert eval(expression, names) == eval(value), expression


def test_the_readme_names_the_commands_that_the_makefile_has():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("book", "test", "check", "execute", "serve", "clean", "repository"):
        assert re.search(rf"^{target}:", makefile, re.M) and f"make {target}" in readme, target


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_is_one_that_the_runner_accepts(path):
    workflow = yaml.safe_load(path.read_text())
    assert {"name", "jobs"} <= set(workflow) and workflow[True], "YAML reads the key `on` as true"
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"] <= 180
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            for script in re.findall(r"(?:tools|\.ci)/[\w./]+", step.get("run", "")):
                assert (ROOT / script).is_file(), script


def test_the_gpu_runner_is_named_in_one_variable_only():
    text = "".join(p.read_text() for p in WORKFLOWS)
    assert text.count("runs-on: ${{ vars.GPU_RUNNER }}") == 1
    gpu = (ROOT / ".github" / "workflows" / "gpu-notebooks.yml").read_text()
    assert "torch.cuda.is_available()" in gpu and "MMLEARN_SCALE: gpu" in gpu


def test_the_scripts_of_ci_are_valid_shell():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_the_text_has_its_licence():
    text = (ROOT / "LICENSE-text").read_text(encoding="utf-8")
    assert "SPDX-License-Identifier: CC-BY-4.0" in text and "Section 8 – Interpretation" in text


def test_every_work_cited_is_in_the_references_and_no_key_is_there_twice():
    keys = re.findall(r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"),
                      re.M)
    assert len(keys) == len(set(keys))
    for path in [*notebooks(), *(ROOT / "book").rglob("*.md")]:
        for cited in re.findall(r"\{cite[^}]*\}`([^`]+)`", path.read_text(encoding="utf-8")):
            assert {c.strip() for c in cited.split(",")} <= set(keys), f"{path.name} cites {cited}"


def test_every_reference_says_who_what_and_when():
    entries = re.split(r"^@", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), flags=re.M)[1:]
    for entry in entries:
        for name in ("author", "title", "year"):
            assert re.search(rf"^\s*{name}\s*=", entry, re.M), entry[:60]


def test_what_tests_import_is_installed_with_the_test_extra():
    """A test module that imports more cannot even be collected where only ``.[test]`` is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {canonical(re.split(r"[<>=!~\[; ]", d)[0]) for d in project["dependencies"]
             + project["optional-dependencies"]["test"]}
    providers = importlib.metadata.packages_distributions()
    ours = {"mmlearn", "tests"} | {p.stem for folder in ("tools", "tests")
                                   for p in (ROOT / folder).rglob("*.py")}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = ([a.name for a in node.names] if isinstance(node, ast.Import)
                     else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            for top in {name.partition(".")[0] for name in names} - ours - sys.stdlib_module_names:
                assert {canonical(d) for d in providers.get(top, [])} & named, (
                    f"{path.relative_to(ROOT)} imports {top}"
                )


def test_the_front_page_and_the_readme_name_the_survey_and_link_it_and_its_booklet():
    for name in ("book/intro.md", "README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert (
            "[多模态模型技术综述](https://" in text
            and "[*Multimodal Deep Learning*](https://slds-lmu.github.io/" in text
        ), name


def test_reading_times_on_the_front_page_are_those_of_the_chapters():
    stated = re.findall(r"(?m)^\| \[(\d) .*?\]\((\S+?)\).*\|\s*(\d+ min|outline) \|$",
                        (ROOT / "book" / "intro.md").read_text(encoding="utf-8"))
    assert [number for number, _, _ in stated] == list("12345")
    for _, name, time in stated:
        minutes = words(ROOT / "book" / name) / 150
        assert minutes < 10 if time == "outline" else abs(int(time.split()[0]) - minutes) < minutes / 4, (
            f"{name}: {minutes:.0f} min"
        )
