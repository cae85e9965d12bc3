"""One letter, one meaning: the notation page lists every letter of the labelled equations, and where a second
use is."""

import re
from pathlib import Path

import make_appendix
import pytest
from notebooks import ROOT

from mmlearn.figures.diagram import COLOURS, ROLES

UNCONVERTED = {"4-text-for-vision.ipynb", "data.ipynb"}        # pages whose second edition is still to come
GREEK = ("alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho varrho "
         "sigma tau "
         "upsilon phi varphi chi psi omega ell Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi "
         "Omega").split()
BLOCK = re.compile(r"\$\$\n(.*?)\n\$\$(?: \((eq:[\w-]+)\))?", re.S)
NAMES = re.compile(r"\\(?:text|textcolor|mathrm|operatorname\*?|begin|end)\s*\{[^{}]*\}")
WORDS = re.compile(r"[_^]\{(?:data|new|mis|style|CA|DAMSM)\}")     # indices that are words, as the page says
SCRIPT = re.compile(r"\\(?:mathcal|mathbb)\s*\{?[A-Za-z]\}?")  # calligraphic letters are said in the text


def equations(text: str) -> dict[str, str]:
    """label -> TeX of the labelled equations of a page."""
    return {label: tex for tex, label in BLOCK.findall(text) if label}


def symbols(tex: str, compounds: list[str]) -> set[str]:
    """The symbols of a formula: those of ``compounds`` (letters with an index that is a name), then single
    letters."""
    tex = SCRIPT.sub(" ", NAMES.sub(" ", NAMES.sub(" ", tex)))            # twice: names inside of names
    found = set()
    for compound in sorted(compounds, key=len, reverse=True):
        if compound in tex:
            found.add(compound)
            tex = tex.replace(compound, " ")
    tex = WORDS.sub(" ", tex)
    found |= {f"\\{name}" for name in re.findall(r"\\([A-Za-z]+)", tex) if name in GREEK}
    return found | set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", tex)))


def listed(cell: str) -> list[str]:
    """The symbols that a cell of a table lists."""
    return re.findall(r"\$(.*?)\$", cell)


def tables(page: str) -> tuple[list[str], dict[str, str], list[tuple[str, str]]]:
    """Symbols of the main table, those of chapter 2 with what they mean elsewhere, and (symbol, label) of the
    second uses."""
    part = page[page.index("## Letters of the formulas"):]
    part = part[:part.find("\n## ", 5)]
    main, second = part.split("**Second uses.**")
    main, chapter = main.split("**In chapter 2**")
    rows = re.findall(r"^\| (\$.*?) \| (.*?) \|", second, re.M)
    return ([s for cell in re.findall(r"^\| (\$.*?) \|", main, re.M) for s in listed(cell)],
            {s: elsewhere for cell, elsewhere in re.findall(r"^\| (\$.*?) \| .*? \| (.*?) \|$", chapter, re.M)
             for s in listed(cell)},
            [(s, f"eq:{label}") for cell, where in rows for s in listed(cell)
             for label in re.findall(r"`(.*?)`", where)])


# Where the equations of chapter 2 are implemented, first half: text2image and metrics of generated pictures.
CHAPTER_2 = ("text2image", "metrics/generation.py", "metrics/frechet.py", "metrics/manifolds.py",
             "metrics/text_match.py")


def formula(docstring: str) -> str:
    """The formulas at the beginning of a docstring that names an equation, up to the words that explain
    them."""
    pieces = re.split(r"\$", docstring.split("\n\n")[0].partition(":")[2].partition(":")[2])
    found = []
    for words, tex in zip(pieces[::2], pieces[1::2]):
        if found and len(words.split()) > 2:
            break
        found.append(tex)
    return " ".join(found)


def of_chapter_2() -> dict[str, str]:
    """label -> TeX of its equations as the functions that are them say it."""
    return {label: formula(text) for path in make_appendix.python_files("mmlearn")
            if path.relative_to(ROOT / "mmlearn").as_posix().startswith(CHAPTER_2)
            for _, _, text in make_appendix.definitions(path)
            for label in re.findall(r"\A(eq:[\w-]+): ", text)}


PAGE = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
MAIN, GANS, SECOND = tables(PAGE)
IN_CODE = of_chapter_2()
ON_PAGES = {label: tex for path, text in make_appendix.markdown_sources()
            if Path(path).name not in UNCONVERTED
            for label, tex in equations(text).items()}
EQUATIONS = IN_CODE | ON_PAGES                          # as the page has it, where a page shows it
COMPOUNDS = [s for s in [*MAIN, *GANS, *(s for s, _ in SECOND)] if "_" in s]


def test_no_symbol_has_two_lines_in_the_main_table():
    assert sorted(MAIN) == sorted(set(MAIN))


@pytest.mark.parametrize("label", EQUATIONS)
def test_every_letter_of_an_equation_is_on_the_notation_page(label):
    here = {s for s, where in SECOND if where == label} | (set(GANS) if label in IN_CODE else set())
    assert symbols(EQUATIONS[label], COMPOUNDS) - set(MAIN) - here == set()


def test_equations_of_chapter_2_that_wait_for_their_page_are_read_off_their_functions():
    assert {"eq:gan-value", "eq:damsm-score", "eq:frechet-distance"} <= set(IN_CODE) and all(IN_CODE.values())
    assert formula("eq:a: $x=1$, then $y=x$, with a bias: all $z$.") == "x=1 y=x"


@pytest.mark.parametrize("symbol", GANS)
def test_a_letter_of_chapter_2_occurs_there_and_the_page_says_what_it_is_elsewhere(symbol):
    assert symbol in set().union(*(symbols(EQUATIONS[label], COMPOUNDS) for label in IN_CODE))
    assert (GANS[symbol] != "–") == (symbol in MAIN) or any(s in MAIN for s in row_of(symbol))


def row_of(symbol: str) -> list[str]:
    """The symbols that share a row of chapter 2's table."""
    return next(found for found in map(listed, PAGE.splitlines()) if symbol in found and found[0] in GANS)


@pytest.mark.parametrize("symbol, label", SECOND)
def test_a_second_use_is_where_the_page_says(symbol, label):
    assert symbol in symbols(EQUATIONS[label], COMPOUNDS), f"{symbol} does not occur in {label}"


def test_equations_use_the_colours_of_the_diagrams_and_no_others():
    used = {colour for tex in EQUATIONS.values() for colour in re.findall(r"\\(?:text)?color\{(.*?)\}", tex)}
    assert used and used <= set(COLOURS.values())


@pytest.mark.parametrize("role", ROLES)
def test_an_equation_in_the_dark_has_the_lighter_hue_of_its_colour(role):
    light, dark = ROLES[role][0], ROLES[role][2]
    rgb = ", ".join(str(int(light[i:i + 2], 16)) for i in (1, 3, 5))
    css = (ROOT / "book" / "_static" / "book.css").read_text(encoding="utf-8")
    assert f'mjx-mstyle[style*="{rgb}"] {{ color: {dark} !important; }}' in css


def test_symbols_are_read_off_a_formula():
    tex = r"\mathrm{LN}\big(x_i W_{km} + p_\theta(y\mid I)\big)\in\mathbb R^{d\times d_k}"
    assert symbols(tex, ["W_{km}", "p_\\theta", "d_k"]) == {
        "x",
        "i",
        "W_{km}",
        "p_\\theta",
        "y",
        "I",
        "d",
        "d_k",
    }


def test_every_symbol_of_the_main_table_occurs():
    used = set().union(*(symbols(tex, COMPOUNDS) for tex in EQUATIONS.values()))
    assert set(MAIN) - used - {"b", "h", "f", "n_m"} == set()
