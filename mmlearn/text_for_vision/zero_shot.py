"""Zero-shot classification: the names of the classes, put into sentences and embedded, are the classifier.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 3.1.2-3.1.4; prompts of the notebooks in github.com/openai/CLIP.  Survey: 4.2.1.
Differs from the paper: ``{a}`` in a template is the class with its article, "a cat" or "an apple"; OpenAI's
templates write "a {}" whatever follows.
"""

from collections.abc import Sequence
from string import Formatter

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.tokenisers import SPLITTERS, Tokeniser, WordTokeniser
from mmlearn.nn.modes import eval_mode

# "{}" takes the name of a class, "{a}" its name with an article.
BARE = ("{}",)                                                      # only the label
PHOTO = ("A photo of a {}.",)  # sec. 3.1.4: +1.3 points on ImageNet over the label
OPENAI_SEVEN = (  # chosen one by one out of 80, slightly better than all
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.",
    "a {} in a video game.", "art of the {}.", "a photo of the small {}.")
SCENE = ("A picture of {a}.", "There is {a}.", "{a} can be seen.", "The picture shows {a}.",
         "On the left there is {a}.", "{a} in a field.",
         "In a street there is {a}.")            # as the captions of the scene world begin
TASKS = {  # sec. 3.1.4: the kind of picture, told in words
    "pets": ("A photo of a {}, a type of pet.",), "food": ("A photo of {}, a type of food.",),
    "aircraft": ("A photo of a {}, a type of aircraft.",), "satellite": ("A satellite photo of {}.",),
    "digits": ('A photo of the number: "{}".',)}

SOUNDS_LIKE_YOU = ("eu", "ewe", "uni", "use", "usu", "ute", "ufo", "ubi", "ura", "one", "once", "ukulele",
                   "unix")
SILENT_H = ("heir", "honest", "honour", "honor", "hour", "herb")


def with_article(name: str) -> str:
    """``a cat``, ``an apple``, ``a unicycle``, ``an hourglass``: by the sound of English, as far as spelling
    shows it."""
    word = name.strip().lower()
    vowel = word[:1] in tuple("aeiou") and not word.startswith(SOUNDS_LIKE_YOU) or word.startswith("unin")
    return f"{'an' if vowel or word.startswith(SILENT_H) else 'a'} {name}"


def prompts(name: str, templates: Sequence[str]) -> list[str]:
    """The sentences about one class: "{}" in a template is its name, "{a}" its name with an article.

    Raises ``ValueError`` for a template without either, because every class would get the same sentence, and
    for one with anything else in braces ("{{" is a brace).
    """
    sentences = []
    for template in templates:
        parts = parsed(template)
        names = {"": name, "a": with_article(name)}
        sentence = "".join(text + ("" if field is None else names[field]) for text, field in parts)
        capital = parts[0] == ("", "a")
        sentences.append(sentence[0].upper() + sentence[1:] if capital else sentence)
    return sentences


def parsed(template: str) -> list[tuple[str, str | None]]:
    """A template as pairs of text and what follows it: "" for the class, "a" for it with its article, or
    nothing."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError:
        pieces = []
    fields = [field for _, field, _, _ in pieces if field is not None]
    if not fields or any(field not in ("", "a") or spec or conversion
                         for _, field, spec, conversion in pieces if field is not None):
        raise ValueError(f"template {template!r} must hold {{}} for the class, or {{a}} for the class "
                         f"with its article, and nothing else in braces")
    return [(text, field) for text, field, _, _ in pieces]


def unknown_words(tokeniser: Tokeniser, text: str) -> list[str]:
    """The words of a text that a tokeniser of whole words does not know and reads as one and the same token.

    A text without any word is itself unknown. Tokenisers of parts of words know every text.
    """
    if not isinstance(tokeniser, WordTokeniser):
        return []
    words = SPLITTERS[tokeniser.splitter](text)
    return [word for word in words if word not in tokeniser.index] if words else [text]


def default_templates(tokeniser: Tokeniser) -> tuple[str, ...]:
    """Sentences of the kind that a model was trained on, as far as its words tell: those of the scene world
    if it knows all their words, else the longest it knows; "a photo of {}." where it reads parts of words."""
    if not isinstance(tokeniser, WordTokeniser):
        return ("a photo of {}.",)

    def known(*templates: str) -> bool:
        return not any(unknown_words(tokeniser, template.format(a="a an")) for template in templates)

    if known(*SCENE):
        return SCENE
    simple = ("a photo of {a}.", "a picture of {a}.", "{a}")
    return (next((template for template in simple if known(template)), "{}"),)


def average_prompts(v: Float[Tensor, "c m e"]) -> Float[Tensor, "c e"]:
    r"""eq:zero-shot-weights: $w_c=\bar v_c/\|\bar v_c\|$ with $\bar v_c=\frac1m\sum_j v_{cj}/\|v_{cj}\|$.

    ``v``: embeddings of m sentences about each of c classes. Every sentence has the same say, whatever its
    length, and the result has length 1.
    """
    return F.normalize(F.normalize(v, dim=-1).mean(dim=1), dim=-1)


def class_probabilities(
    u: Float[Tensor, "b e"],
    weights: Float[Tensor, "c e"],
    scale: Float[Tensor, ""] | float | int,
) -> Float[Tensor, "b c"]:
    r"""eq:zero-shot-posterior: $p_{ic}=\operatorname{softmax}_c(e^t\,u_i^\top w_c)$; ``scale`` is $e^t$."""
    return (scale * u @ weights.T).softmax(dim=-1)


@torch.no_grad()
def zero_shot_weights(
    model: nn.Module, tokeniser: Tokeniser, classes: Sequence[str], templates: Sequence[str] = PHOTO, *,
    batch: int = 256
) -> Float[Tensor, "c e"]:
    """A linear classifier from words: row c is the unit mean of the embedded sentences about class c.

    ``model`` is any dual encoder and is put into evaluation mode while it reads. Raises ``ValueError``
    without classes or templates, and for two classes of one name.
    """
    if not classes or not templates:
        raise ValueError(f"{len(classes)} classes and {len(templates)} templates; give at least one of each")
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if list(classes).count(name) > 1)
        raise ValueError(f"class {twice!r} is named twice; the two would share every picture evenly, give "
                         f"them two names")
    sentences = [sentence for name in classes for sentence in prompts(name, templates)]
    tokens = tokeniser.batch(sentences, getattr(getattr(model, "config", None), "context", None))
    with eval_mode(model) as device:
        parts = [model.encode_text(part.to(device)) for part in tokens.split(batch)]   # type: ignore[operator]
        v = torch.cat(parts)
    return average_prompts(v.unflatten(0, (len(classes), len(templates))).float())


@torch.no_grad()
def classify(
    model: nn.Module, images: Float[Tensor, "b 3 y x"], weights: Float[Tensor, "c e"], *, batch: int = 256
) -> Float[Tensor, "b c"]:
    """Probabilities of the classes for standardised images, with the model's own scale, in evaluation
    mode."""
    device = weights.device
    with eval_mode(model) as place:
        u = torch.cat([model.encode_image(part.to(place),
                                          normalise=True)                       # type: ignore[operator]
                       for part in images.split(batch)])
    return class_probabilities(u.float().to(device), weights, model.logit_scale.exp().float().to(device))  # type: ignore[operator, union-attr]


def top_k_accuracy(scores: Float[Tensor, "b c"], labels: Int[Tensor, " b"], k: int = 1) -> float:
    """Fraction of rows whose label is among the k highest scores; a tie with another class counts as a miss.

    Raises ``ValueError`` unless 1 <= k <= c and the labels are in 0..c-1.
    """
    classes = scores.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"k is {k} with {classes} classes; take 1 to {classes}")
    if len(labels) and not (0 <= int(labels.min()) and int(labels.max()) < classes):
        raise ValueError(f"labels go from {int(labels.min())} to {int(labels.max())}, the classes from 0 to "
                         f"{classes - 1}")
    own = scores.gather(1, labels[:, None].long())
    return float(((scores >= own).sum(dim=1) <= k).float().mean())  # the label itself is one of those counted
