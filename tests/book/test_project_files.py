"""README, workflows, licences and references say what is true."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from import_all import modules
from notebooks import ROOT, notebooks, words
from oldest import constraints

from mmlearn.book import fitting_torchvision


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


def jobs(name: str) -> dict:
    """The jobs of a workflow."""
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))["jobs"]


def steps(job: dict) -> str:
    """What the steps of a job run, in one text."""
    return "\n".join(step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_is_one_that_the_runner_accepts(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "jobs"} <= set(workflow) and workflow[True], "YAML reads the key `on` as true"
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"] <= 180
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            for script in re.findall(r"(?:tools|\.ci)/[\w./]+", step.get("run", "")):
                assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_takes_nothing_from_outside_that_may_change_or_write(path):
    """Actions by commit, images by date, no token in the checkout, no text of a stranger in a script."""
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        if "container" in job:
            assert re.search(r":[\w.-]*_20\d{6}[\w.-]*$|@sha256:[0-9a-f]{64}$", job["container"]["image"])
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            assert "${{" not in step.get("run", ""), "hand it over in `env`"
    for line in re.findall(r"uses:.*", text):
        assert re.search(r" # v\d+\.\d+\.\d+$", line), f"say which version it is: {line}"


def test_three_systems_three_pythons_and_both_ends_of_torch_are_tried():
    job = jobs("checks.yml")["systems"]
    matrix = job["strategy"]["matrix"]
    assert {s.partition("-")[0] for s in matrix["system"]} == {"ubuntu", "macos", "windows"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"] and project["requires-python"] == ">=3.11"
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert "python>=3.11,<3.14" in conda
    assert matrix["torch"] == ["newest"] and "oldest" in {one["torch"] for one in matrix["include"]}
    assert "tools/oldest.py" in steps(job) and "tools/import_all.py" in steps(job)
    assert "not slow and not parity and not notebook and not site and not browser" in steps(job)
    torch, torchvision = constraints()
    assert f"torch>={torch.removeprefix('torch==').removesuffix('.*')}," in project["dependencies"][0]
    minor = [int(one.split(".")[1]) for one in (torch, torchvision)]
    assert fitting_torchvision(f"2.{minor[0]}.0") == f"0.{minor[1]}", "of one release"


def test_every_module_is_imported_where_the_systems_are_tried():
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
             for p in (ROOT / "mmlearn").rglob("*.py")} - {"mmlearn"}
    assert set(modules()) == {name for name in files if not name.endswith("__main__")}


def test_the_gpu_runner_is_named_in_one_variable_only():
    text = "".join(p.read_text(encoding="utf-8") for p in WORKFLOWS)
    assert text.count("runs-on: ${{ vars.GPU_RUNNER }}") == 1
    gpu = (ROOT / ".github" / "workflows" / "gpu-notebooks.yml").read_text(encoding="utf-8")
    assert "torch.cuda.is_available()" in gpu and "MMLEARN_SCALE: gpu" in gpu


def test_notebooks_run_on_a_gpu_whenever_book_or_package_change_or_somebody_asks():
    path = ROOT / ".github" / "workflows" / "gpu-notebooks.yml"
    on = yaml.safe_load(path.read_text(encoding="utf-8"))[True]
    assert on["push"] == {"branches": ["main"], "paths": ["book/**", "mmlearn/**"]}
    assert on["pull_request"] == {"types": ["labeled"]} and on["schedule"] and "workflow_dispatch" in on
    job = jobs("gpu-notebooks.yml")["notebooks"]
    assert "github.event.label.name == 'gpu'" in job["if"]
    assert "tools/nbval_run.py" in steps(job) and "find book -name '*.ipynb'" in steps(job)
    upload = job["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@") and upload["if"] == "always()"


def test_without_a_gpu_runner_a_warning_says_that_nothing_was_run():
    there, missing = (jobs("gpu-notebooks.yml")[name] for name in ("notebooks", "no-runner"))
    assert there["if"] == missing["if"].replace("== ''", "!= ''", 1)
    assert "::warning title=" in steps(missing) and missing["runs-on"] == "ubuntu-latest"


def test_the_website_is_that_of_the_newest_tag():
    job = jobs("pages.yml")["build"]
    assert job["steps"][0]["with"]["fetch-depth"] == 0 and "git checkout" in steps(job)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert "s/^  branch: main$/" in steps(job) and re.search(r"(?m)^  branch: main$", config)


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
    """A test module, or a tool of ours that it imports, that imports more cannot even be collected where only
    ``.[test]`` is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {canonical(re.split(r"[<>=!~\[; ]", d)[0]) for d in project["dependencies"]
             + project["optional-dependencies"]["test"]}
    providers = importlib.metadata.packages_distributions()
    ours = {"mmlearn", "tests"} | {name for folder in ("tools", "tests")
                                   for p in (ROOT / folder).rglob("*.py") for name in (p.stem, p.parent.name)}
    for path in sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").glob("*.py")]):
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
