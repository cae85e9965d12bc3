"""Miniatures of the book that run in the reader's browser: ``live("clip-mini-resnet")``.

What is stored is a place on the page and an answer that PyTorch has prepared: a picture and text that need
no script. On the book's website ``book/_static/live/live.js`` adds a button to the place; where it is missing
(JupyterLab, Colab, GitHub) or scripts are off, the prepared answer stays. The reader begins with the same
picture, sentences and seed.
"""

import html
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from mmlearn.both_modalities.few_shot import score_answers
from mmlearn.both_modalities.flamingo_training import LANGUAGE, load_flamingo
from mmlearn.both_modalities.interleaved import NONSENSE, Example
from mmlearn.both_modalities.vilbert_regions import Seen, see
from mmlearn.both_modalities.vilbert_training import load_vilbert, mask_id, scores_of
from mmlearn.checkpoints import read_tensors
from mmlearn.data.images import standardise
from mmlearn.data.scenes import captions, render, sample_scene
from mmlearn.data.word_world import PICTURED, word_pictures
from mmlearn.figures.diagram import STYLE, data_uri
from mmlearn.figures.interactive import Block
from mmlearn.files import package_data
from mmlearn.generate import greedy
from mmlearn.image2text.regions import load_detector
from mmlearn.image2text.saved import load_captioner
from mmlearn.images_for_language.word_space import SHARE, load_word_space
from mmlearn.text2image.pipeline import load_text_to_image
from mmlearn.text2image.token_drawing import load_token_drawer
from mmlearn.text_for_vision.training import load_mini
from mmlearn.text_for_vision.zero_shot import SCENE, classify, zero_shot_weights

THINGS = (68, 124, 257, 373, 73, 156, 101, 113, 205, 1, 129, 385, 91, 293, 189, 329)   # of the same split
SCENES = (38, 21, 17, 3, 8, 9, 26, 14, 24, 1, 13, 35)  # of the test split: those to pick
PIECE = 393_216                                         # bytes of the weights in one script, a multiple of 3
LABELS = ("boat", "car", "house", "tower", "sun", "bird")
QUESTION = "There is a ___ to the left of the sun."      # what is left out is asked for
ANALOGY = ("poppy", "flower", "maple")
BOUND = (0, 2, 1)                                       # things: two that get names, and one that is asked
TEXTS = ("A large red balloon on a beach.", "There is a large green tree in a snowy field.")


@cache
def weights_of(name: str) -> bytes:
    """The file of weights that the browser loads: one of ``data/checkpoints``, or, of a miniature that stands
    on others, all that it needs of theirs in one."""
    def path(part: str) -> Path:
        return package_data("checkpoints", f"{part}.safetensors")

    if name == "dalle":
        stage = {f"stage.{key}": value for key, value in read_tensors(path("vqgan")).items()
                 if key.startswith(("codebook", "from_codes", "decoder"))}
        return save({**read_tensors(path(name)), **stage})
    if name != "flamingo":
        return path(name).read_bytes()
    tower = {key: value for key, value in read_tensors(path("clip-mini-resnet")).items()
             if key.startswith(("image.stem", "image.stages")) and value.is_floating_point()}
    language = {f"language.{key}": value for key, value in read_tensors(path(LANGUAGE)).items()}
    return save({**read_tensors(path(name)), **language, **tower})


def bytes_to_load(name: str) -> int:
    """Bytes of the scripts that bring the weights of a miniature: four letters for three bytes."""
    return 4 * -(-len(weights_of(name)) // 3)


def _picture(number: int) -> tuple[np.ndarray, str]:
    graph = sample_scene(0, number, "test")
    return render(graph).image, captions(graph)[0]


def scene_to_pick(scene: int) -> tuple[np.ndarray, str]:
    """The picture (64, 64, 3) and the first caption of one of the scenes that a reader can pick."""
    return _picture(SCENES[scene])


def thing_to_pick(thing: int) -> tuple[np.ndarray, str]:
    """The same of one of the pictures of one thing, to which words are bound; two in a row show the same
    thing."""
    return _picture(THINGS[thing])


def pixels_of(image: np.ndarray) -> torch.Tensor:
    """Bytes (64, 64, 3) as a batch (1, 3, 64, 64) in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


@cache
def seen_scenes() -> Seen:
    """What chapter 1's detector sees in the scenes to pick, in 16 bits a number, as the browser gets it."""
    pictures = torch.cat([pixels_of(scene_to_pick(i)[0]) for i in range(len(SCENES))])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)                            # so that two builds see the same
    try:
        seen = see(load_detector(), pictures)
    finally:
        torch.set_num_threads(threads)
    return Seen(seen.features.half().float(), seen.boxes, seen.mask, seen.classes)


def fill(scene: int, text: str) -> dict[str, float]:
    """The five likeliest words for the first gap ``___`` of a text about a scene, with their probabilities.

    Raises ``ValueError`` for a text without a gap.
    """
    model, tokeniser, _ = load_vilbert()
    first, *further = (tokeniser.encode(part) for part in re.split("_+", text))
    if not further:
        raise ValueError(f"{text!r} has no gap; write ___ where a word shall stand")
    asked = [*first, *(i for part in further for i in (mask_id(tokeniser), *part))]
    seen = seen_scenes().rows(torch.tensor([scene]))
    tokens = torch.tensor([[tokeniser.bos, *asked, tokeniser.eos]])
    logits = scores_of(model, tokens, seen, tokeniser.pad)[0][0, 1 + len(first)]
    odds, best = logits.softmax(dim=0)[:-1].topk(5)
    return {tokeniser.words[i]: p for i, p in zip(best.tolist(), odds.tolist())}


@torch.no_grad()
def bind(shots: Sequence[tuple[int, str]], asked: int) -> dict[str, float]:
    """How probable each word of the shots, pairs of a picture of one thing and a word, is for another such
    picture, to Flamingo; the words' shares add up to 1."""
    mini = load_flamingo()
    numbers = [*(thing for thing, _ in shots), asked]
    words = list(dict.fromkeys(word for _, word in shots))
    page = [Example("Output:", word, i, "binding") for i, (_, word) in enumerate(shots)]
    page.append(Example("Output:", words[0], len(shots), "binding"))
    pictures = standardise(torch.cat([pixels_of(thing_to_pick(thing)[0]) for thing in numbers]))
    judged = score_answers(mini.model, [page], words, mini.tokeniser, lambda rows: pictures[rows])
    return dict(zip(words, judged.scores[0].softmax(dim=0).tolist()))


def _table(rows: Iterable[tuple[str, float]]) -> str:
    """Names and probabilities."""
    cells = "".join(f'<tr><th scope="row">{html.escape(name)}</th><td>{100 * p:.1f} %</td></tr>'
                    for name, p in rows)
    return f'<table class="mm-odds"><tbody>{cells}</tbody></table>'


def _filled(scene: int, text: str) -> tuple[np.ndarray, str, str]:
    """A picture of the scenes, what it shows, and ViLBERT's words for a gap as a table."""
    return *scene_to_pick(scene), f"<p>{html.escape(text)}</p>{_table(fill(scene, text).items())}"


def _classified(scene: int, labels: Sequence[str]) -> tuple[np.ndarray, str, str]:
    """A picture of the scenes, what it shows, and the probabilities of labels as a table."""
    image, about = scene_to_pick(scene)
    mini = load_mini("resnet")
    weights = zero_shot_weights(mini.model, mini.tokeniser, labels, SCENE)
    odds = classify(mini.model, standardise(pixels_of(image)), weights)[0].tolist()
    return image, about, _table(sorted(zip(labels, odds), key=lambda pair: -pair[1]))


@torch.no_grad()
def _captioned(scene: int) -> tuple[np.ndarray, str, str]:
    """A picture of the scenes, what it shows, and what the captioner writes."""
    image, about = scene_to_pick(scene)
    saved = load_captioner("captioner-grid")
    tokens, _ = greedy(saved.model, saved.model.encode(pixels_of(image)))       # type: ignore[operator]
    return image, about, f"<p>“{html.escape(saved.tokeniser.decode(tokens[0]))}”</p>"


def _drawn(name: str, texts: Sequence[str], seed: int) -> tuple[np.ndarray, str, str]:
    """What a GAN draws for the first sentence."""
    return _picture_of(load_text_to_image(name).draw(texts[:1], seed=seed)[0], texts[0], seed)


def _written(text: str, seed: int) -> tuple[np.ndarray, str, str]:
    """What DALL-E draws for a sentence."""
    return _picture_of(load_token_drawer("dalle").draw([text], seed=seed)[0], text, seed)


def _picture_of(picture: torch.Tensor, text: str, seed: int) -> tuple[np.ndarray, str, str]:
    """Pixels (3, 64, 64) in [-1, 1] that were drawn for a sentence, as an answer."""
    image = ((picture + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return image, f"drawn by the model: {text}", f"<p>“{html.escape(text)}” (seed {seed})</p>"


def _bound(things: Sequence[int], words: Sequence[str]) -> tuple[np.ndarray, str, str]:
    """A picture that is asked for, what it shows, and the probabilities of two words that others got."""
    *shots, asked = things
    named = "".join(f"<p>“{word}”: {html.escape(thing_to_pick(thing)[1])}</p>"
                    for thing, word in zip(shots, words))
    return *thing_to_pick(asked), named + _table(bind([*zip(shots, words)], asked).items())


def _near(word: str) -> tuple[np.ndarray, str, str]:
    """A new picture of a word, and its neighbours by text alone and with pictures, side by side."""
    image = word_pictures(word, 1, "test")[0].permute(1, 2, 0).numpy()
    space = load_word_space()
    lists = [[f"{other} {cosine:.2f}" for other, cosine in
              space.with_share(share).word_vectors().neighbours(word, 5)] for share in (1.0, SHARE)]
    cells = "".join(f'<tr><td>{text}</td><td style="text-align:left">{both}</td></tr>'
                    for text, both in zip(*lists))
    return image, f"A picture of the word {word}.", (
        f'<p>nearest to “{word}”</p><table class="mm-odds"><thead><tr><th scope="col">text alone</th>'
        f'<th scope="col">with pictures</th></tr></thead><tbody>{cells}</tbody></table>')


DRAWN = ("attngan", "dfgan", "dalle")                   # models that draw


# name -> what the model does, and the answer that is prepared
MODELS: dict[str, tuple[str, Callable[..., tuple[np.ndarray, str, str]]]] = {
    "clip-mini-resnet": ("says which of the labels that you type fits a picture",
                         lambda given: _classified(given["scene"], given["labels"])),
    "captioner-grid": ("describes a picture, word by word", lambda given: _captioned(given["scene"])),
    "attngan": ("draws what a sentence says", lambda given: _drawn("attngan", given["texts"], given["seed"])),
    "dfgan": ("draws what a sentence says", lambda given: _drawn("dfgan", given["texts"], given["seed"])),
    "dalle": ("writes a picture for a sentence, code by code",
              lambda given: _written(given["texts"][0], given["seed"])),
    "word-space": ("finds the words nearest to a word, by what is written of them and by how they look",
                   lambda given: _near(given["word"])),
    "vilbert": ("fills a gap in a sentence about a picture",
                lambda given: _filled(given["scene"], given["question"])),
    "flamingo": ("learns two made-up words from a picture each, and says which of them fits another picture",
                 lambda given: _bound(given["things"], given["names"])),
}


def live(name: str, *, scene: int = 0, labels: Sequence[str] = LABELS, texts: Sequence[str] = TEXTS,
         seed: int = 0, question: str = QUESTION, word: str = "raven") -> Block:
    """A miniature that runs on the page when a reader presses a button, and a prepared answer before that.

    ``name`` is one of ``MODELS``, as "clip-mini-resnet". The reader begins with the ``scene`` of those to
    pick (0-11), with these ``labels``, with these two ``texts`` (DALL-E with the first) and this ``seed``,
    with this ``question``, a sentence with a gap, and with this ``word``, a noun that has pictures. Raises
    ``ValueError`` for another name, a scene that is not there, no labels, another number of texts, a question
    without a gap, and a word without pictures.
    """
    if name not in MODELS:
        raise ValueError(f"{name!r} does not run in the browser; take one of {', '.join(MODELS)}")
    if not 0 <= scene < len(SCENES):
        raise ValueError(f"scene is {scene}; give one of 0 to {len(SCENES) - 1}")
    if not labels or len(texts) != 2:
        raise ValueError(f"{len(labels)} labels and {len(texts)} texts; give at least one label and two "
                         f"texts")
    if word not in PICTURED:
        raise ValueError(f"{word!r} has no pictures in the word world; take a noun of PICTURED, as raven")
    what, answer = MODELS[name]
    given: dict[str, Any] = {"scene": scene, "labels": list(labels), "texts": list(texts), "seed": seed,
                             "question": question, "word": word, "share": SHARE, "analogy": ANALOGY,
                             "things": BOUND, "names": NONSENSE[:2]}
    image, about, answered = answer(given)
    alt = f"{about} The miniature {name} {what}."
    address = data_uri(image, lossless=name not in DRAWN)       # drawn pictures would take thrice the bytes
    picture = f'<img src="{address}" alt="{html.escape(about)}" width="256">'
    return Block(
        f'<style>{STYLE}</style><div class="mm mm-live" data-live="{name}" '
        f'data-bytes="{bytes_to_load(name)}" role="group" '
        f'data-given="{html.escape(json.dumps(given, ensure_ascii=False))}" '
        f'aria-label="the miniature {name}, which {what}" data-lm-suppress-shortcuts="true">'
        '<div style="display:flex;flex-wrap:wrap;gap:12px 20px;justify-content:center;align-items:center">'
        f'<div>{picture}</div><div>{answered}</div></div>'
        f'<p style="text-align:center;margin:10px 0 0">The miniature {name} {what}. '
        '<span class="mm-note">This answer was prepared; on the book’s website a button here runs the model '
        "in the browser.</span></p></div>", alt)
