r"""The miniature's language model: what the scene world says, learnt word by word, then frozen.

Papers: A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners*, sec. 2; J.-B. Alayrac
et al. (2022), *Flamingo*, arXiv:2204.14198, sec. 2.2 (the language model is trained first, on text alone).
Survey: 5.3.
Differs from the papers: the text is that of drawn scenes: captions, questions with answers, instructions, and
pages of them as few-shot prompts have, with ``<image>`` marks but no pictures. Where nonsense words are bound
in a page, a word that was said before is said again, so that the model can learn to look back; pages of
repeated random words teach nothing else (C. Olsson et al., 2022, *In-context Learning and Induction Heads*,
arXiv:2209.11895).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.both_modalities.interleaved import (
    NONSENSE,
    ChunkTokeniser,
    Example,
    caption_examples,
    encode_page,
    instruction_examples,
    question_examples,
)
from mmlearn.catalog import kinds
from mmlearn.checkpoints import load_model, pair_of, save_model
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import PairData
from mmlearn.nn.causal_lm import CausalLM, lm_loss, token_log_probs
from mmlearn.nn.modes import eval_mode
from mmlearn.train import History, fit, parameter_groups, warmup_cosine

THINGS = ("cat", "dog", "tree", "car")          # what pages of bindings name, unless more is given


def perplexity(loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    r"""eq:lm-perplexity: $e^{L}$ of a loss in nats a token: between how many words, all alike, the model is
    in doubt; a model that knows nothing has as many as there are words."""
    return loss.exp()


# ------------------------------------------------------------------------------------------ text


def all_examples(data: PairData) -> list[Example]:
    """Captions, questions and instructions of pictures, in this order."""
    return [*caption_examples(data), *question_examples(data), *instruction_examples(data)]


def lm_tokeniser(data: PairData, min_count: int = 1, things: Sequence[str] = ()) -> ChunkTokeniser:
    """The words of everything that is said of pictures, of further ``things``, and the nonsense words of
    ``binding_page``."""
    texts = [text for example in all_examples(data) for text in (example.request, example.answer)]
    return ChunkTokeniser.train([*texts, *NONSENSE * min_count, *tuple(things) * min_count], min_count)


def binding_text(
    words: Sequence[str], things: Sequence[str], dice: np.random.Generator, ways: int = 2, shots: int = 3
) -> list[Example]:
    """A page that binds nonsense words to ``things``, which text must name: ``Output: cat dax``.

    Each way stands ``shots`` times, in random order, and after a thing its word follows always: who looks
    back knows it.
    """
    which = dice.choice(len(things), ways, replace=False)
    named = dice.choice(len(words), ways, replace=False)
    order = dice.permutation(np.repeat(np.arange(ways), shots))
    return [Example(f"Output: {things[which[i]]}", words[named[i]], kind="binding") for i in order]


def repeated_text(tokeniser: ChunkTokeniser, dice: np.random.Generator, length: int) -> tuple[list[int], int]:
    """``length`` tokens of a page of random words that are said over and over in one order, 3 to 32 of them,
    and at which token the first repetition begins: from there on who looks back knows every word."""
    words = dice.choice(np.arange(tokeniser.image + 1, len(tokeniser)), int(dice.integers(3, 33)), False)
    said = np.resize(words, length - 1).tolist()
    return [tokeniser.bos, *said], 1 + len(words)


class TextBatch(NamedTuple):
    """Texts (b, t), padded at the right, and where their tokens are that the loss counts."""

    tokens: Int[Tensor, "b t"]
    scored: Bool[Tensor, "b t"]


class TextBatches(Batches):
    """Endless batches of pages of text, a function of their number: each example opens a page that goes on
    with up to ``most - 1`` more of its kind, and a share ``binding`` of the pages is ``binding_text`` of as
    many ways as one of ``ways`` says, 2 to 4 shots each. A share ``repeated`` of a batch is ``repeated_text``
    instead, of which the repetitions count.

    Pages are cut at ``context`` tokens. The loss counts everything but padding, ``<bos>`` and ``<image>``.
    """

    def __init__(
        self, examples: Sequence[Example], tokeniser: ChunkTokeniser, size: int = 32, *, context: int = 256,
        most: int = 5, binding: float | int = 0.25, things: Sequence[str] = THINGS,
        ways: Sequence[int] = (2,), repeated: float | int = 0.0, seed: int = 0,
    ) -> None:
        super().__init__(examples, size, seed=seed)
        if most < 1 or context < 2 or not 0 <= binding <= 1 or not 0 <= repeated <= 1:
            raise ValueError(f"most is {most}, context {context}, binding {binding} and repeated {repeated}; "
                             f"a page has 1 example and 2 tokens or more, a share is between 0 and 1")
        if not ways or min(ways) < 1 or max(ways) > min(len(things), len(NONSENSE)):
            raise ValueError(f"ways are {list(ways)} with {len(things)} things and {len(NONSENSE)} words to "
                             f"bind; give some between 1 and the smaller number")
        self.tokeniser, self.context, self.most, self.binding = tokeniser, context, most, binding
        self.things, self.ways, self.repeated = tuple(things), tuple(ways), repeated
        self.alike: dict[str, list[int]] = {}
        for number, example in enumerate(examples):
            self.alike.setdefault(example.kind, []).append(number)

    def pages(self, indices: Sequence[int], dice: np.random.Generator) -> Iterator[list[Example]]:
        """Pages which these examples open, or which bind words."""
        for first in indices:
            if dice.random() < self.binding:
                ways = self.ways[int(dice.integers(len(self.ways)))] if len(self.ways) > 1 else self.ways[0]
                yield binding_text(NONSENSE, self.things, dice, ways, 2 + int(dice.integers(3)))
                continue
            others = self.alike[self.data[first].kind]
            more = dice.integers(len(others), size=int(dice.integers(self.most)))
            yield [self.data[first], *(self.data[others[i]] for i in more)]

    def make(self, indices: list[int], number: int) -> TextBatch:
        """The batch ``number``."""
        dice = np.random.default_rng((self.seed, number, *indices[:1]))
        of, count = self.tokeniser, round(self.repeated * len(indices))
        rows = [repeated_text(of, dice, self.context) for _ in range(count)]
        rows += [(encode_page(page, of).ids[: self.context], 0) for page in self.pages(indices[count:], dice)]
        tokens = torch.full((len(rows), max(len(ids) for ids, _ in rows)), of.pad)
        for i, (ids, _) in enumerate(rows):
            tokens[i, : len(ids)] = torch.tensor(ids)
        begin = torch.tensor([[start] for _, start in rows])
        marks = torch.isin(tokens, torch.tensor([of.pad, of.bos, of.image]))
        return TextBatch(tokens, ~marks & (torch.arange(tokens.shape[1]) >= begin))


# -------------------------------------------------------------------------------------- training


def lm_objective(model: CausalLM, batch: TextBatch) -> tuple[Tensor, dict[str, Any]]:
    """A loss for ``fit``: eq:lm-loss of a batch, weighted by its tokens."""
    return lm_loss(model(batch.tokens), batch.tokens, batch.scored), {
        "weight": batch.scored[:, 1:].sum().float()}


def train_lm(
    model: CausalLM, examples: Sequence[Example], tokeniser: ChunkTokeniser, *, steps: int, batch: int = 32,
    lr: float | int = 2e-3, warmup: int = 50, weight_decay: float | int = 0.1, most: int = 5,
    binding: float | int = 0.25, things: Sequence[str] = THINGS, ways: Sequence[int] = (2,),
    repeated: float | int = 0.0, seed: int = 0, **options: Any,
) -> History:
    """Train a language model on what is said of scenes: AdamW(.9, .95), a warm-up of at most a quarter of the
    steps, a cosine to a tenth, gradients of norm 1 at most.

    A model that knows nothing has the loss log v. Further ``options`` (``evaluate``, ``folder``, ``title`` …)
    go to ``fit``.
    """
    batches = TextBatches(examples, tokeniser, batch, context=model.config.context, most=most,
                          binding=binding, things=things, ways=ways, repeated=repeated, seed=seed)
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=(0.9, 0.95), fused=True)
    options = {"optimizer": optimizer, "clip": 1.0,
               "schedule": warmup_cosine(lr, min(warmup, steps // 4), steps, lr / 10), **options}
    return fit(model, lm_objective, batches, steps=steps, seed=seed, **options)


def freeze_(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, in evaluation mode, none of its weights trained any more."""
    return model.requires_grad_(False).eval()


@torch.no_grad()
def judge_lm(model: CausalLM, batches: TextBatches, count: int = 4) -> dict[str, float]:
    """Loss in nats a token, perplexity, and the share of tokens foretold, over the first ``count``
    batches."""
    loss = right = total = 0.0
    with eval_mode(model) as device:
        for number in range(count):
            batch = batches[number]
            tokens, scored = batch.tokens.to(device), batch.scored[:, 1:].to(device)
            logits = model(tokens)
            loss -= float(token_log_probs(logits, tokens)[scored].sum())
            right += float((logits[:, :-1].argmax(dim=-1) == tokens[:, 1:])[scored].sum())
            total += float(scored.sum())
    mean = torch.tensor(loss / total)
    return {"loss": float(mean), "perplexity": float(perplexity(mean)), "accuracy": right / total}


def unigram_loss(batches: TextBatches, count: int = 4) -> float:
    """The loss of who knows how often each token occurs and nothing else, in nats a token: the baseline of
    ``judge_lm``, which counts the same batches."""
    tokens = torch.cat([batch.tokens[:, 1:][batch.scored[:, 1:]] for batch in map(batches.__getitem__,
                                                                                  range(count))])
    shares = torch.bincount(tokens).double() / len(tokens)
    shares = shares[shares > 0]
    return -float((shares * shares.log()).sum())


# ------------------------------------------------------------------------------------------ files


class SavedLM(NamedTuple):
    """A trained language model in evaluation mode, its tokeniser, and how it was trained and judged."""

    model: CausalLM
    tokeniser: ChunkTokeniser
    about: dict[str, Any]


def save_lm(path: str | Path, model: CausalLM, tokeniser: ChunkTokeniser, about: dict[str, Any]) -> None:
    """Write a language model as ``path`` (.safetensors, 16 bits; or a folder) with its configuration, words
    and ``about``."""
    words = {"splitter": tokeniser.splitter, "words": tokeniser.words}
    save_model(path, model, "causal-lm", {**about, **words}, half=True)


def load_lm(path: str | Path) -> SavedLM:
    """What ``save_lm`` wrote.

    Raises ``FileNotFoundError`` if the files are not there, ``ValueError`` if they are something else.
    """
    model, about = load_model(path, kinds("causal-lm"), "train one with train_lm")
    if not isinstance(model, CausalLM):
        raise ValueError(f"{path} holds a {type(model).__name__}, no language model; give another path")
    tokeniser = ChunkTokeniser.of(about, pair_of(path)[1])
    if not isinstance(tokeniser, ChunkTokeniser) or len(tokeniser) > model.config.vocab:
        raise ValueError(f"{path} has {len(tokeniser)} words and a model of {model.config.vocab}; train it "
                         f"again")
    rest = {name: value for name, value in about.items() if name not in ("words", "splitter")}
    return SavedLM(model, tokeniser, rest)


@torch.no_grad()
def copied(
    model: torch.nn.Module, tokeniser: ChunkTokeniser, things: Sequence[str], *, ways: int = 2,
    shots: int = 3, pages: int = 64, seed: int = 0,
) -> float:
    """Does the model look back? The share of fresh pages of ``binding_text`` after which a thing is named
    once more and its word is the first choice. All words were said equally often before, so that counting
    does not help: who knows the words of the page and not which is whose has 1 / ways."""
    dice = np.random.default_rng((seed, ways, shots))
    rows, words = [], []
    for _ in range(pages):
        page = binding_text(NONSENSE, things, dice, ways, shots)
        asked = page[int(dice.integers(len(page)))]
        rows.append(encode_page([*page, asked], tokeniser, open_end=True).ids)
        words.append(tokeniser.encode(asked.answer)[0])
    longest = max(map(len, rows))
    tokens = torch.tensor([ids + [tokeniser.pad] * (longest - len(ids)) for ids in rows])
    last = torch.tensor([len(ids) - 1 for ids in rows])
    with eval_mode(model) as device:
        choice = model(tokens.to(device)).argmax(dim=-1).cpu()
    return float((choice[torch.arange(pages), last] == torch.tensor(words)).double().mean())
