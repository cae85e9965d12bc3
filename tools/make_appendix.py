"""Write the appendix pages that are read off the code: equation index, systems table, list of modules.

    python tools/make_appendix.py             rewrites them
    python tools/make_appendix.py --check     exit code 1 if a committed page is not current

The equation index joins four sources: labels in the book's text, ``@pytest.mark.equation`` markers in the
tests, labels in docstrings of ``mmlearn``, and the oracles of ``mmlearn.catalog``.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from notebooks import ROOT, notebooks, repository, write

APPENDIX = ROOT / "book" / "appendix"
PAGES = ("systems", "equations", "api")
LABEL = re.compile(r"eq:[A-Za-z0-9][\w-]*")
LABELLED = re.compile(r"\$\$\s*\((eq:[\w-]+)\)|^:label:\s*(eq:[\w-]+)", re.M)
STAMP = "% Written by tools/make_appendix.py; edit the code it is read from instead.\n\n"


def markdown_sources() -> Iterator[tuple[Path, str]]:
    """Every page of the book with its Markdown, notebooks included; pages written by this script are left
    out."""
    for path in notebooks():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    for path in sorted((ROOT / "book").rglob("*.md")):
        if path.parent != APPENDIX or path.stem not in PAGES:
            yield path, path.read_text(encoding="utf-8")


def labelled_equations() -> dict[str, list[Path]]:
    """label -> pages on which an equation carries it (more than one page is a mistake)."""
    found: dict[str, list[Path]] = {}
    for path, text in markdown_sources():
        for match in LABELLED.finditer(text):
            found.setdefault(match[1] or match[2], []).append(path)
    return found


def python_files(folder: str) -> list[Path]:
    """The Python files below a folder of the repository."""
    return sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts)


def equation_markers() -> dict[str, list[str]]:
    """label -> tests that cover it, as "tests/path.py::test_name"."""
    found: dict[str, list[str]] = {}
    for path in python_files("tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.equation"):
                    for argument in mark.args:
                        name = f"{path.relative_to(ROOT).as_posix()}::{node.name}"  # type: ignore[attr-defined]
                        tests = found.setdefault(ast.literal_eval(argument), [])
                        if name not in tests:
                            tests.append(name)
    return found


def definitions(path: Path) -> Iterator[tuple[str, ast.AST, str]]:
    """(qualified name, node, docstring) of the functions, classes and methods of a module, in order."""
    def inside(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST, str]]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name, node, ast.get_docstring(node) or ""
                if isinstance(node, ast.ClassDef):
                    yield from inside(node.body, prefix + node.name + ".")
    yield from inside(ast.parse(path.read_text(encoding="utf-8")).body, "")


def module_name(path: Path) -> str:
    """"mmlearn.nn.attention" for mmlearn/nn/attention.py."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def implementations() -> dict[str, list[tuple[str, Path]]]:
    """label -> functions or classes that implement it.

    Those whose docstring begins with the label; if there is none, those whose docstring mentions it.
    """
    first: dict[str, list[tuple[str, Path]]] = {}
    mentioned: dict[str, list[tuple[str, Path]]] = {}
    for path in python_files("mmlearn"):
        for name, _, text in definitions(path):
            entry = (f"{module_name(path)}.{name}", path)
            head = re.match(r"(?:eq:[\w-]+(?:, | and )?)+", text)
            leading = set(LABEL.findall(head[0])) if head else set()
            for label in dict.fromkeys(LABEL.findall(text)):
                (first if label in leading else mentioned).setdefault(label, []).append(entry)
    return {label: first.get(label) or mentioned[label] for label in first | mentioned}


def source_link(text: str, path: Path) -> str:
    """A link to a file of the repository."""
    return f"[{text}]({repository()}/blob/main/{path.relative_to(ROOT).as_posix()})"


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def equations_page() -> str:
    """The page equation -> function -> test -> oracle."""
    from mmlearn.catalog import SYSTEMS

    labels, markers, code = labelled_equations(), equation_markers(), implementations()
    out = [
        STAMP,
        "# Equation index\n\n",
        "Every labelled equation of the book, the function of `mmlearn` that implements it, the tests that compare the "
        "function with the equation written out naively, and what else it is compared with. The number, as the text "
        "says it, leads to the equation in its chapter; the name beside it is what code calls it. A labelled equation without a test fails the build.\n\n",
    ]
    seen: set[str] = set()

    def table(wanted: list[str]) -> str:
        rows = ["| equation | function | tests |\n|---|---|---|\n"]
        for label in wanted:
            seen.add(label)
            number = f"{{eq}}`{label}` " if label in labels else ""
            functions = ", ".join(
                source_link(
                    f"`{'.'.join([module_name(p).split('.')[-1], n.removeprefix(module_name(p) + '.')])}`", p
                )
                for n, p in code.get(label, [])
            )
            tests = markers.get(label, [])
            files = [
                f"{sum(t.startswith(file + '::') for t in tests)} in {source_link(f'`{Path(file).name}`', ROOT / file)}"
                for file in dict.fromkeys(t.split("::")[0] for t in tests)
            ]
            rows.append(f"| {number}`{label}` | {functions or '–'} | {', '.join(files) or '–'} |\n")
        return "".join(rows)

    for system in SYSTEMS:
        if system.equations:
            out.append(f"## {system.section} {system.name}\n\n")
            out.append(f"Compared with: {system.oracle}.\n\n" if system.oracle else "")
            out.append(table(list(system.equations)) + "\n")
    rest = [label for label in labels if label not in seen]
    if rest:
        out.append("## Others\n\n" + table(rest) + "\n")
    return "".join(out)


def systems_page() -> str:
    """The catalogue as a page."""
    from mmlearn.catalog import as_records

    out = [
        STAMP,
        "# Systems\n\n",
        "What `mmlearn` holds, as `mmlearn systems` prints it (with `--json` for programs). Parameters are counted on "
        "models built at the size of the paper; where a source states a number, it stands beside ours.\n\n",
    ]
    for record in as_records():
        out.append(f"## {record['section']} {record['name']}\n\n{record['paper']}\n\n")
        if record["configurations"]:
            out.append("| configuration | parameters | published | source |\n|---|--:|--:|---|\n")
            for c in record["configurations"]:
                published = f"{c['published']:,}" if c["published"] is not None else "–"
                out.append(f"| `{c['name']}` | {c['parameters']:,} | {published} | "
                           f"{cell(c['source'] or '–')} |\n")
            out.append("\n")
        out.append(f"- **Compared with:** {record['oracle'] or '–'}\n")
        out.append(f"- **Public weights:** {record['weights'] or '–'}\n")
        out.append(f"- **Equations:** {', '.join(f'`{e}`' for e in record['equations']) or '–'}\n\n")
    return "".join(out)


def signature(node: ast.AST) -> str:
    """Names of the parameters, without annotations."""
    if isinstance(node, ast.ClassDef):
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is None:
            fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign)
                      and isinstance(n.target, ast.Name)]
            return f"({', '.join(fields if len(fields) < 7 else [*fields[:6], '…'])})" if fields else ""
        node = init
    assert isinstance(node, ast.FunctionDef)
    a = node.args
    names = [x.arg for x in [*a.posonlyargs, *a.args] if x.arg not in ("self", "cls")]
    names += [f"*{a.vararg.arg}"] if a.vararg else ["*"] if a.kwonlyargs else []
    names += [x.arg for x in a.kwonlyargs] + ([f"**{a.kwarg.arg}"] if a.kwarg else [])
    return f"({', '.join(names)})"


def summary(text: str) -> str:
    """The first paragraph of a docstring as one line, up to its first full stop."""
    line = " ".join(text.split("\n\n")[0].split()).replace("``", "`")
    line = re.sub(r"(?<=[^ .])\. (?=[A-Z]).*", ".", line)
    return re.sub(r"(?<![`\w])(eq:[\w-]+)", r"`\1`", line)


def api_page() -> str:
    """Modules of the package with their public functions and classes."""
    out = [
        STAMP,
        "# Package\n\n",
        "The modules of `mmlearn` in one list, read off the source. A name leads to its file; `help(name)` in Python "
        "prints shapes, units and errors. Configurations are frozen dataclasses whose classmethods are the sizes of the "
        "papers; letters of shapes are those of [Notation](../notation.md).\n\n",
    ]
    groups: dict[str, list[Path]] = {}
    for path in python_files("mmlearn"):
        parts = path.relative_to(ROOT).parts
        groups.setdefault("mmlearn" if len(parts) == 2 else f"mmlearn.{parts[1]}", []).append(path)
    for group, paths in sorted(groups.items(), key=lambda item: item[0] != "mmlearn"):
        about = ast.get_docstring(
            ast.parse((ROOT / group.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
        )
        out.append(f"## `{group}`\n\n{summary(about or '')}\n\n")
        for path in paths:
            entries = [(n, d, t) for n, d, t in definitions(path) if "." not in n and not n.startswith("_")
                       and t]
            if not entries:
                continue
            name = module_name(path)
            out.append(f"**{source_link(f'`{name}`', path)}** · "
                       f"{summary(ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or '')}\n\n")
            out.extend(f"- `{n}{signature(d)}`: {summary(t)}\n" for n, d, t in entries)
            out.append("\n")
    return "".join(out)


def problems() -> list[str]:
    """What is wrong between text and tests: equations without a test, markers without an equation, labels
    used twice."""
    labels, markers = labelled_equations(), equation_markers()
    out = [f"{label} ({pages[0].name}) has no test: mark one with @pytest.mark.equation(\"{label}\")"
           for label, pages in labels.items() if label not in markers]
    out += [f"{label} is marked by {tests[0]} and no equation of the book carries it"
            for label, tests in markers.items() if label not in labels]
    out += [f"{label} labels {len(pages)} equations" for label, pages in labels.items() if len(pages) > 1]
    return out


def main() -> int:
    """Rewrite the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = []
    for name, page in (("systems", systems_page), ("equations", equations_page), ("api", api_page)):
        path, text = APPENDIX / f"{name}.md", page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if not args.check:
                write(path, text)
    for path in stale:
        print(f"{path.relative_to(ROOT)}: "
              f"{'not current, run tools/make_appendix.py' if args.check else 'written'}")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
