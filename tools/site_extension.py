"""Sphinx extension: the site loads nothing from elsewhere.

It carries MathJax and its fonts, so that formulas are drawn without a network; the files come from the package
sphinx-mathjax-offline (MathJax 3.2, Apache 2.0), and only what a page loads is copied. It also leaves out the scripts
of thebe, which the book does not use and which the theme includes twice.
"""

import importlib.metadata
import shutil
from pathlib import Path

PACKAGE = "sphinx-mathjax-offline"
WANTED = ("tex-chtml.js", "output/chtml/fonts/", "input/tex/extensions/", "a11y/assistive-mml.js", "ui/menu.js")


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
    return "thebe" in str(getattr(script, "filename", "") or "") or "THEBE" in script.attributes.get("body", "")


def leave_out_thebe(app, pagename, templatename, context, doctree) -> None:
    """Remove thebe's scripts from the list of a page's scripts."""
    context["script_files"] = [script for script in context.get("script_files", ()) if not is_of_thebe(script)]


def setup(app):
    """Called by Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", leave_out_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
