"""Sphinx extension: the site loads nothing from elsewhere, and shows the names of equations beside their
numbers.

It carries MathJax and its fonts, so that formulas are drawn without a network; the files come from the
package sphinx-mathjax-offline (MathJax 3.2, Apache 2.0), and only what a page loads is copied. It also leaves
out the scripts of thebe, which the book does not use and which the theme includes twice.

Code and listings call an equation by its label (``eq:m2-gate``), text by its number: a labelled equation
shows both, and a label in a comment of the code leads to its equation.
"""

import importlib.metadata
import re
import shutil
from pathlib import Path

PACKAGE = "sphinx-mathjax-offline"
WANTED = ("tex-chtml.js", "output/chtml/fonts/", "input/tex/extensions/", "a11y/assistive-mml.js",
          "ui/menu.js")


def copy_mathjax(app, error) -> None:
    """Copy what pages load into ``_static/mathjax`` of a site that has been built."""
    if error is not None or app.builder.format != "html":
        return
    for file in importlib.metadata.files(PACKAGE) or ():
        _, marker, rest = file.as_posix().partition("static/mathjax/")
        if marker and rest.startswith(WANTED):
            target = Path(app.outdir, "_static", "mathjax", rest)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)


def is_of_thebe(script) -> bool:
    """Whether a script of a page belongs to thebe."""
    return "thebe" in str(getattr(script, "filename",
                                  "") or "") or "THEBE" in script.attributes.get("body", "")


def leave_out_thebe(app, pagename, templatename, context, doctree) -> None:
    """Remove thebe's scripts from the list of a page's scripts."""
    context["script_files"] = [script for script in context.get("script_files", ())
                               if not is_of_thebe(script)]


def equation_places(app) -> dict[str, tuple[str, str, int]]:
    """label -> (page, id on the page, number) of every labelled equation."""
    from docutils.nodes import make_id

    return {label: (page, f"equation-{make_id(label)}", number)
            for label, (page, number) in app.env.get_domain("math").equations.items()}


def name_equations(app, pagename, templatename, context, doctree) -> None:
    """Write each label above its equation, and link labels in comments of the code to their equations."""
    body = context.get("body")
    if not body or "eq:" not in body and "equation-eq" not in body:
        return
    places = equation_places(app)
    names = {place: label for label, (page, place, _) in places.items() if page == pagename}

    def named(match: re.Match) -> str:
        label = names.get(match["id"])
        return f'<div class="eqname">{label}</div>\n{match[0]}' if label else match[0]

    def linked(match: re.Match) -> str:
        page, place, number = places.get(match[0], ("", "", 0))
        if not page:
            return match[0]
        address = "" if page == pagename else app.builder.get_relative_uri(pagename, page)
        return f'<a class="eqref" href="{address}#{place}" title="equation ({number})">{match[0]}</a>'

    body = re.sub(r'<div class="math[^"]*" id="(?P<id>equation-[^"]+)">', named, body)
    context["body"] = re.sub(r'<span class="c1">[^<]*</span>',
                             lambda comment: re.sub(r"eq:[A-Za-z0-9][\w-]*", linked, comment[0]), body)


def setup(app):
    """Called by Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", leave_out_thebe, priority=900)
    app.connect("html-page-context", name_equations)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
