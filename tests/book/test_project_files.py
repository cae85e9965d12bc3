"""README, workflows, licences and references say what is true."""

import re
import subprocess

import pytest
import yaml
from notebooks import ROOT, notebooks

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
    keys = re.findall(r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.M)
    assert len(keys) == len(set(keys))
    for path in [*notebooks(), *(ROOT / "book").rglob("*.md")]:
        for cited in re.findall(r"\{cite[^}]*\}`([^`]+)`", path.read_text(encoding="utf-8")):
            assert {c.strip() for c in cited.split(",")} <= set(keys), f"{path.name} cites {cited}"


def test_every_reference_says_who_what_and_when():
    entries = re.split(r"^@", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), flags=re.M)[1:]
    for entry in entries:
        for name in ("author", "title", "year"):
            assert re.search(rf"^\s*{name}\s*=", entry, re.M), entry[:60]
