"""Measure in a browser what a page of the built site cuts off, and say which lines.

    python tools/cut_off.py book/1-image2text [PAGE ...]

A page is measured at 1300 px (a laptop) and at 390 px (a phone), folded parts unfolded. At 1300 px no line of
code or of text output, no equation, table or figure may be wider than its place; on a phone code, equations
and tables may scroll, each by itself, and the page may not.
"""

import argparse
import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from notebooks import ROOT

LAPTOP, PHONE = 1300, 390
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]          # as without a network

# Returns [kind, what] pairs. A `pre` names its lines that are too wide; other things are named by how they
# begin.
MEASURE = r"""
(phone) => {
  const article = document.querySelector('article'), found = [];
  article.querySelectorAll('details').forEach(d => { d.open = true; });
  article.querySelectorAll('.toggle-hidden').forEach(t => t.classList.remove('toggle-hidden'));
  const seen = e => e.getClientRects().length > 0;
  const column = article.getBoundingClientRect(), style = getComputedStyle(article);
  const right = column.right - parseFloat(style.paddingRight), left = column.left + parseFloat(style.paddingLeft);
  const begin = e => (e.textContent || e.getAttribute('alt') || e.outerHTML).trim().replace(/\s+/g, ' ').slice(0, 70);
  const overflow = e => e.scrollWidth - e.clientWidth;
  const scrolls = e => { for (let p = e.parentElement; p && p !== article; p = p.parentElement)
      if (['auto', 'scroll'].includes(getComputedStyle(p).overflowX)) return true; return false; };

  for (const pre of article.querySelectorAll('pre')) {
    if (phone || !seen(pre) || overflow(pre) <= 1) continue;
    const css = getComputedStyle(pre), pen = document.createElement('canvas').getContext('2d');
    pen.font = css.font;
    const room = pre.clientWidth - parseFloat(css.paddingLeft) - parseFloat(css.paddingRight);
    const wide = pre.textContent.split('\n').filter(line => pen.measureText(line).width > room + 1);
    const kind = pre.closest('.cell_input') ? 'code' : pre.closest('.cell_output') ? 'output' : 'code in the text';
    (wide.length ? wide : [begin(pre)]).forEach(line => found.push([kind, line.trim().slice(0, 90)]));
  }
  for (const math of article.querySelectorAll('div.math')) {
    if (phone || !seen(math)) continue;
    const drawn = math.querySelector('mjx-math'), number = math.querySelector('.eqno');
    if (!drawn) continue;
    const box = drawn.getBoundingClientRect(), inside = math.getBoundingClientRect();
    const label = number ? number.textContent.trim() : begin(math);
    if (box.left < inside.left - 1 || box.right > inside.right + 1 || overflow(math) > 1) found.push(['equation', label]);
    else if (number) {
      const n = number.getBoundingClientRect();
      if (n.left < box.right && n.right > box.left && n.top < box.bottom && n.bottom > box.top)
        found.push(['equation under its number', label]);
    }
  }
  for (const math of article.querySelectorAll('span.math')) {
    const drawn = seen(math) && math.querySelector('mjx-math');
    if (drawn && !scrolls(drawn) && drawn.getBoundingClientRect().right > right + 1)
      found.push(['formula in the text', begin(math)]);
  }
  for (const table of article.querySelectorAll('table')) {
    if (!seen(table)) continue;
    const box = table.getBoundingClientRect();
    if (phone ? box.right > right + 1 && !scrolls(table) && getComputedStyle(table).overflowX === 'visible'
              : box.right > right + 1 || overflow(table) > 1 || (table.parentElement && overflow(table.parentElement) > 1))
      found.push(['table', begin(table)]);
  }
  for (const figure of article.querySelectorAll('img, svg, canvas, video, [class*="mml-"]')) {
    if (!seen(figure) || figure.parentElement.closest('svg')) continue;
    const box = figure.getBoundingClientRect();
    if (box.right > right + 1 || box.left < left - 1)
      found.push(['figure', begin(figure)]);
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth)
    found.push(['page', `${document.documentElement.scrollWidth} px wide on a screen of ${document.documentElement.clientWidth}`]);
  return found;
}
"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a local server of a folder."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"               # connections are kept: a page asks for some thirty files

        def log_message(self, *args) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128                    # a browser opens many at once; 5 is the default

    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chromium_path() -> str | None:
    """The Chromium of this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def settled(page) -> None:
    """Wait until a page has loaded and its formulas are drawn."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function("window.MathJax === undefined || window.MathJax.startup === undefined"
                           " || window.MathJax.startup.promise.then(() => true)")


def cut_off(page, width: int) -> list[str]:
    """What an open page cuts off at this width, "kind: how it begins"."""
    page.set_viewport_size({"width": width, "height": 900})
    settled(page)
    return [f"{kind}: {what}" for kind, what in page.evaluate(MEASURE, width < 768)]


def main(argv: list[str] | None = None) -> int:
    """Print what pages cut off; 1 if there is something."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", metavar="PAGE")
    args = parser.parse_args(argv)
    html = ROOT / "_build" / "html"
    names = [Path(name).with_suffix("").as_posix() if name.endswith((".ipynb", ".md", ".html")) else name
             for name in args.pages]
    path = chromium_path()
    lost = [name for name in names if not (html / f"{name}.html").is_file()]
    if path is None or lost:
        print("Chromium is missing" if path is None else f"{', '.join(lost)}: not built, run `make book`",
              file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    total = 0
    with served(html) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=CHROMIUM)
        for name in names:
            page = browser.new_page()
            page.set_default_timeout(180_000)            # a busy machine is slow
            page.goto(f"{address}/{name}.html")
            for width in (LAPTOP, PHONE):
                found = cut_off(page, width)
                total += len(found)
                print(f"{name} at {width} px: {len(found)} cut off", *found, sep="\n  ")
            page.close()
        browser.close()
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
