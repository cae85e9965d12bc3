"""What tests of the live models share: a page with the engine of the book, and models from the site's
scripts."""

import base64
import json
import re

import numpy as np
from live_weights import weight_scripts
from notebooks import ROOT

LIVE = ROOT / "book" / "_static" / "live"
ODD = [
    "a man's dog isn't on the red-and-blue mat", "dogs' and cats’ beds", "it's they're we've I'll he'd I'm",
    "and/or w/o 3-d black/white", "a sign (old) and [new] {x}", "cannot gonna wanna gimme lemme gotta",
    "a U.S. flag on St. James St. at 5 p.m.", "No. 5 bus, no. bus", "what?! what?? a cat...",
    "AT&T b&w &amp; US$ 5",
    "1.5-inch ½ 3,400 7:30am -5 +3 90's '90s", "“smart” – dash — em… ‘this’ one",
    "don't can't won't 'tis 'n' 'em",
    "ma'am o'clock y'all c'mon ol' cap'n", "http://a.b/c?d=e www.x.org/ <b>bold</b> :-) (555) 555-1234",
    "@user #tag a@b.com #23 c++ c# a*b", "coloured café naïve 日本 ΑΣ",
    "a\tdog\nruns\u00a0\u2028now\x85then 😀 cat",
    "<unk> <pad> <bos> <eos>", "$5 for 50% off £3 €4 5¢ 5'10\" ``tick''", "", " ", "...",
    "mat.The no.", "x_y __z ---", "constructor toString __proto__ hasOwnProperty",
]


def engine_page(browser):
    """A blank page with nn.js and models.js, in a browser without WebAssembly."""
    page = browser.new_page()
    page.add_init_script("delete self.WebAssembly")
    page.goto("data:text/html,<title>engine</title>")
    page.set_default_timeout(120_000)
    for name in ("nn.js", "models.js"):
        page.add_script_tag(content=(LIVE / name).read_text(encoding="utf-8"))
    page.evaluate("""() => { window.nn = mmlearnEngine(); window.models = mmlearnModels(nn);
        window.last = steps => { let value; for (const step of steps) value = step; return value; };
        window.numbers = x => Array.from(x.data || x); }""")
    return page


def stored(name: str) -> tuple[dict, bytes]:
    """Description and weights of a model as the scripts of the site hold them."""
    scripts = [text for _, text in weight_scripts(name)]
    about = json.loads(re.fullmatch(r'mmlearnLive\.about\("[a-z-]+",(.*)\);\n', scripts[0])[1])
    pieces = [re.fullmatch(r'mmlearnLive\.piece\("[a-z-]+",(\d+),"(.*)"\);\n', text) for text in scripts[1:]]
    assert [int(piece[1]) for piece in pieces] == list(range(len(pieces)))
    return about, b"".join(base64.b64decode(piece[2]) for piece in pieces)


def open_model(page, name: str) -> None:
    """Make ``window.model`` that model."""
    about, weights = stored(name)
    page.evaluate("""([name, about, text]) => {
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        window.weights = nn.readSafetensors(bytes.buffer);
        window.model = models[name](window.weights, about); }""",
                  [name, about, base64.b64encode(weights).decode()])


def answer(page, call: str, *arguments):
    """The last value of a model's generator, arrays of numbers as lists; ``call`` is its name."""
    return json.loads(page.evaluate("""([call, given]) => JSON.stringify(last(model[call](...given)),
        (_, value) => ArrayBuffer.isView(value) ? numbers(value) : value)""", [call, list(arguments)]))


def planes(image: np.ndarray) -> list[float]:
    """Bytes (64, 64, 3) as the models read them: (3, 64, 64) in [0, 1]."""
    return (image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)).ravel().tolist()
