"""One letter, one meaning: the notation page lists every letter of the labelled equations, and where a second
use is."""

import re
from pathlib import Path

import make_appendix
import pytest
from notebooks import ROOT

from mmlearn.figures.diagram import COLOURS, ROLES

UNCONVERTED = {"data.ipynb"}                    # pages whose second edition is still to come
GREEK = ("alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho varrho "
         "sigma tau "
         "upsilon phi varphi chi psi omega ell Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi "
         "Omega").split()
BLOCK = re.compile(r"\$\$\n(.*?)\n\$\$(?: \((eq:[\w-]+)\))?", re.S)
NAMES = re.compile(r"\\(?:text|textcolor|mathrm|operatorname\*?|begin|end)\s*\{[^{}]*\}")
WORDS = re.compile(r"[_^]\{(?:data|new|mis|style|CA|DAMSM|ling|vision|text|vis|voken|MLM|NSP|Imagine|Lang|"
                   r"max|region|pair|rel|sim)\}")              # indices that are words, as the page says
SCRIPT = re.compile(r"\\(?:mathcal|mathbb)\s*\{?[A-Za-z]\}?")  # calligraphic letters are said in the text


def equations(text: str) -> dict[str, str]:
    """label -> TeX of the labelled equations of a page."""
    return {label: tex for tex, label in BLOCK.findall(text) if label}


def without(compound: str, tex: str) -> str:
    """A formula without a letter and its index; "a_r" is no part of ``\\delta_r``."""
    if compound.startswith("\\"):
        return tex.replace(compound, " ")
    return re.sub(rf"(\\[A-Za-z]+)|{re.escape(compound)}", lambda match: match[1] or " ", tex)


def symbols(tex: str, compounds: list[str]) -> set[str]:
    """The symbols of a formula: those of ``compounds`` (letters with an index that is a name), then single
    letters."""
    tex = SCRIPT.sub(" ", NAMES.sub(" ", NAMES.sub(" ", tex)))            # twice: names inside of names
    found = set()
    for compound in sorted(compounds, key=len, reverse=True):
        rest = without(compound, tex)
        if rest != tex:
            found.add(compound)
            tex = rest
    tex = WORDS.sub(" ", tex)
    found |= {f"\\{name}" for name in re.findall(r"\\([A-Za-z]+)", tex) if name in GREEK}
    return found | set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", tex)))


def listed(cell: str) -> list[str]:
    """The symbols that a cell of a table lists."""
    return re.findall(r"\$(.*?)\$", cell)


def tables(page: str) -> tuple[list[str], dict[str, dict[str, str]], list[tuple[str, str]]]:
    """Symbols of the main table, those of each chapter that has its own with what they mean elsewhere, and
    (symbol, label) of the second uses."""
    part = page[page.index("## Letters of the formulas"):]
    part = part[:part.find("\n## ", 5)]
    main, second = part.split("**Second uses.**")
    main, *own = re.split(r"\*\*In chapter (\d)\*\*", main)
    rows = re.findall(r"^\| (\$.*?) \| (.*?) \|", second, re.M)
    return ([s for cell in re.findall(r"^\| (\$.*?) \|", main, re.M) for s in listed(cell)],
            {chapter: {s: elsewhere
                       for cell, elsewhere in re.findall(r"^\| (\$.*?) \| .*? \| (.*?) \|$", text, re.M)
                       for s in listed(cell)} for chapter, text in zip(own[::2], own[1::2])},
            [(s, f"eq:{label}") for cell, where in rows for s in listed(cell)
             for label in re.findall(r"`(.*?)`", where)])


# Where the equations of a chapter are implemented (chapter 2: its first half, and metrics of its pictures).
MODULES = {"2": ("text2image", "metrics/generation.py", "metrics/frechet.py", "metrics/manifolds.py",
                 "metrics/text_match.py"),
           "3": ("images_for_language", "data/vocabulary.py", "data/word_vectors.py", "metrics/similarity.py",
                 "nn/bert.py", "nn/transformer.py"),
           "4": ("text_for_vision", "experiments/text_for_vision", "metrics/bias.py",
                 "metrics/embedding_space.py", "metrics/retrieval.py", "metrics/robustness.py",
                 "data/images.py", "nn/bert.py", "nn/efficientnet.py", "nn/modified_resnet.py", "nn/swin.py",
                 "nn/transformer.py", "nn/vit.py"),
           "5": ("both_modalities", "metrics/affect.py", "metrics/navigation.py", "metrics/vcr.py",
                 "metrics/vqa.py", "nn/beit.py", "nn/causal_lm.py", "data/affect.py", "data/expressions.py",
                 "data/navigation.py", "data/rationales.py", "data/voices.py")}


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


def of_chapter(chapter: str) -> dict[str, str]:
    """label -> TeX of its equations as the functions that are them say it; none that stands on a page of
    another chapter."""
    elsewhere = {label for label, pages in make_appendix.labelled_equations().items()
                 if not any(page.name.startswith(chapter) for page in pages)}
    return {label: formula(text) for path in make_appendix.python_files("mmlearn")
            if path.relative_to(ROOT / "mmlearn").as_posix().startswith(MODULES[chapter])
            for _, _, text in make_appendix.definitions(path)
            for label in re.findall(r"\A(eq:[\w-]+):\s", text) if label not in elsewhere}


PAGE = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
MAIN, CHAPTERS, SECOND = tables(PAGE)
IN_CODE = {chapter: of_chapter(chapter) for chapter in CHAPTERS}
ON_PAGES = {label: tex for path, text in make_appendix.markdown_sources()
            if Path(path).name not in UNCONVERTED
            for label, tex in equations(text).items()}
EQUATIONS = {label: tex for found in (*IN_CODE.values(), ON_PAGES)      # as a page has it, where one shows it
             for label, tex in found.items()}
COMPOUNDS = [s for s in [*MAIN, *(s for own in CHAPTERS.values() for s in own), *(s for s, _ in SECOND)]
             if "_" in s]


def test_no_symbol_has_two_lines_in_the_main_table():
    assert sorted(MAIN) == sorted(set(MAIN))


@pytest.mark.parametrize("label", EQUATIONS)
def test_every_letter_of_an_equation_is_on_the_notation_page(label):
    here = {s for s, where in SECOND if where == label}.union(
        *(CHAPTERS[chapter] for chapter, labels in IN_CODE.items() if label in labels))
    assert symbols(EQUATIONS[label], COMPOUNDS) - set(MAIN) - here == set()


def test_equations_that_wait_for_their_page_are_read_off_their_functions():
    assert {"eq:gan-value", "eq:damsm-score", "eq:frechet-distance"} <= set(IN_CODE["2"])
    assert {"eq:skipgram-hs", "eq:gelu", "eq:sim-spearman", "eq:words-cosadd"} <= set(IN_CODE["3"])
    assert {label for labels in IN_CODE.values() for label, tex in labels.items()
            if not tex and label not in ON_PAGES} <= {
        "eq:voken-align", "eq:d2v-corrupt"}                     # which their docstrings say in words
    assert formula("eq:a: $x=1$, then $y=x$, with a bias: all $z$.") == "x=1 y=x"


@pytest.mark.parametrize("chapter, symbol", [(chapter, s) for chapter, own in CHAPTERS.items() for s in own])
def test_a_letter_of_a_chapter_occurs_there_and_the_page_says_what_it_is_elsewhere(chapter, symbol):
    assert symbol in set().union(*(symbols(EQUATIONS[label], COMPOUNDS) for label in IN_CODE[chapter]))
    elsewhere = CHAPTERS[chapter][symbol]
    assert (elsewhere != "–") == (symbol in MAIN) or any(s in MAIN for s in row_of(chapter, symbol))


def row_of(chapter: str, symbol: str) -> list[str]:
    """The symbols that share a row of a chapter's table."""
    return next(found for found in map(listed, PAGE.splitlines())
                if symbol in found and found[0] in CHAPTERS[chapter])


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


def test_an_index_of_a_command_is_no_index_of_its_last_letter():
    assert symbols(r"\delta_rL_r+a_r", ["a_r"]) == {"\\delta", "r", "L", "a_r"}


def test_every_symbol_of_the_main_table_occurs():
    used = set().union(*(symbols(tex, COMPOUNDS) for tex in EQUATIONS.values()))
    assert set(MAIN) - used - {"b", "h", "f", "n_m"} == set()
