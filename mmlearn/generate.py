"""Decoding: from scores of the next word to whole texts.  One set of methods for every autoregressive system.

Paper: M. Cornia et al. (2020), arXiv:1912.08226, sec. 4.2 (beam search; its semantics are those of the released
code); A. Fan et al. (2018), arXiv:1805.04833 (top-k); A. Holtzman et al. (2020), arXiv:1904.09751, sec. 3.1
(nucleus).  Survey: 1.2.
Differs from the paper: a search stops when nothing can change any more, instead of always after ``max_len`` steps.

No method keeps gradients: to differentiate the log-probability of what was found (self-critical training), give the
tokens to ``score``, which reads all of them in one teacher-forced pass. That costs one pass more than a search with
gradients, and saves keeping the activations of every step and of every rejected beam.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.nn.attention import KVCache
from mmlearn.nn.transformer import Context


@runtime_checkable
class Decoder(Protocol):
    """What a model must offer: logits (r, t, v) of the token after each of ``tokens`` (r, t).

    With a cache, ``tokens`` are the new ones only. r is a multiple of the images of ``context``, and the rows of an
    image stand together.
    """

    def decode(self, tokens: Tensor, context: Context, cache: KVCache | None = None) -> Tensor: ...


def at_least_float32(logits: Float[Tensor, "*b v"]) -> Float[Tensor, "*b v"]:
    """Sums of log-probabilities need more digits than bfloat16 has."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def part_of_caption(tokens: Int[Tensor, "*b t"], eos: int = 3) -> Bool[Tensor, "*b t"]:
    """True up to and including the first <eos> of each row."""
    ends = tokens == eos
    return ends.cumsum(dim=-1) - ends.long() == 0


def score(
    model: Decoder, context: Context, tokens: Int[Tensor, "b k t"], *, bos: int = 2, eos: int = 3
) -> Float[Tensor, "b k t"]:
    r"""eq:caption-chain: $\log p_\theta(y_t\mid y_{<t},I)$ of each token of k captions an image, with gradients.

    ``tokens`` have no <bos>; what follows <eos> counts 0. One teacher-forced pass.
    """
    k = tokens.shape[1]
    rows = tokens.flatten(0, 1)
    inputs = torch.cat([torch.full_like(rows[:, :1], bos), rows[:, :-1]], dim=1)
    logits = at_least_float32(model.decode(inputs, context.repeat(k)))
    log_probs = logits.log_softmax(dim=-1).gather(-1, rows[..., None])[..., 0]
    return torch.where(part_of_caption(rows, eos), log_probs, 0.0).unflatten(0, (-1, k))


@torch.no_grad()
def greedy(
    model: Decoder, context: Context, *, bos: int = 2, eos: int = 3, pad: int = 1, max_len: int = 20
) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t"]]:
    """The likeliest word at each step: tokens (b, t <= max_len) without <bos>, and their log-probabilities.

    After <eos> tokens are ``pad`` and log-probabilities 0.
    """
    cache = KVCache()
    token = torch.full((context.rows, 1), bos, dtype=torch.long, device=context.device)
    alive = torch.ones(context.rows, dtype=torch.bool, device=context.device)
    tokens, scores = [], []
    for _ in range(max_len):
        logits = at_least_float32(model.decode(token, context, cache)[:, -1])
        best, word = logits.max(dim=-1)
        tokens.append(torch.where(alive, word, pad))
        scores.append(torch.where(alive, best - logits.logsumexp(dim=-1), 0.0))
        alive = alive & (word != eos)
        token = tokens[-1][:, None]
        if not alive.any():
            break
    return torch.stack(tokens, dim=1), torch.stack(scores, dim=1)


@dataclass
class BeamStep:
    """One step of a beam search over ``b`` images, for drawing it.

    ``words``, ``totals`` (b, m, c): the c best continuations of each of the m prefixes and the summed
    log-probabilities they would reach; a frozen prefix has one continuation, ``pad``, the others being -inf.
    ``parent``, ``token``, ``total`` (b, k): what was kept, best first; ``parent`` is a place in the step before.
    """

    words: Int[Tensor, "b m c"]
    totals: Float[Tensor, "b m c"]
    parent: Int[Tensor, "b k"]
    token: Int[Tensor, "b k"]
    total: Float[Tensor, "b k"]


@dataclass
class BeamTree:
    """All steps of a beam search, and its result: tokens and log-probabilities (b, k, t)."""

    tokens: Int[Tensor, "b k t"]
    log_probs: Float[Tensor, "b k t"]
    steps: list[BeamStep] = field(default_factory=list)


@torch.no_grad()
def beam(
    model: Decoder, context: Context, *, k: int = 5, bos: int = 2, eos: int = 3, pad: int = 1, max_len: int = 20,
    steps: list[BeamStep] | None = None,
) -> tuple[Int[Tensor, "b k t"], Float[Tensor, "b k t"]]:
    r"""eq:beam: keep the k prefixes of the largest $\ell_b+\log p_\theta(w\mid y^b,I)$ over all prefixes b and words w.

    Returns tokens (b, k, t <= max_len) without <bos>, best first, and the log-probability of each token. A prefix
    that has emitted <eos> is frozen: it keeps its score and its place in the beam. No length normalisation. The first
    step expands a single prefix; while there are fewer than k prefixes all are kept. After <eos> tokens are ``pad``
    and log-probabilities 0. k = 1 is ``greedy``, and k >= V^(max_len - 1) finds the likeliest text of all. A place
    in the beam for which no text exists (more places than texts) has log-probability -inf.
    A list given as ``steps`` receives a ``BeamStep`` a step.
    """
    if k < 1 or max_len < 1:
        raise ValueError(f"beam of {k} with max_len {max_len}; both must be at least 1")
    device, b = context.device, context.rows
    cache = KVCache()
    token = torch.full((b, 1), bos, dtype=torch.long, device=device)
    total = torch.zeros(b, 1, device=device)                               # summed log-probabilities, b m
    alive = torch.ones(b, 1, dtype=torch.bool, device=device)
    tokens = torch.empty(b, 1, 0, dtype=torch.long, device=device)
    log_probs = torch.empty(b, 1, 0, device=device)
    images = torch.arange(b, device=device)[:, None]
    for _ in range(max_len):
        m = tokens.shape[1]
        logits = at_least_float32(model.decode(token, context.repeat(m), cache)[:, -1])
        gains, words = logits.topk(min(k, logits.shape[-1]), dim=-1)       # no word below a prefix's k best can win
        gains = (gains - logits.logsumexp(dim=-1, keepdim=True)).unflatten(0, (b, m))
        words = words.unflatten(0, (b, m))                                 # (b m) c -> b m c
        only = torch.full_like(gains, -math.inf)
        only[..., 0] = 0.0                                                 # a frozen prefix goes on for nothing
        gains = torch.where(alive[..., None], gains, only)
        words = torch.where(alive[..., None], words, pad)
        totals = total.to(gains.dtype)[..., None] + gains
        total, best = totals.flatten(1).topk(min(k, totals[0].numel()), dim=-1)
        parent = best // words.shape[-1]
        word = words.flatten(1).gather(1, best)
        gain = gains.flatten(1).gather(1, best)
        tokens = torch.cat([tokens[images, parent], word[..., None]], dim=-1)
        log_probs = torch.cat([log_probs[images, parent], gain[..., None]], dim=-1)
        alive = alive.gather(1, parent) & (word != eos) & gain.isfinite()
        if steps is not None:
            steps.append(BeamStep(words, totals, parent, word, total))
        if not alive.any():
            break
        cache.select((images * m + parent).flatten())
        token = word.flatten()[:, None]
    return tokens, log_probs


def beam_trace(
    model: Decoder, context: Context, *, k: int = 5, bos: int = 2, eos: int = 3, pad: int = 1, max_len: int = 20
) -> BeamTree:
    """A beam search that remembers every step: what each prefix offered, and what was kept."""
    steps: list[BeamStep] = []
    tokens, log_probs = beam(model, context, k=k, bos=bos, eos=eos, pad=pad, max_len=max_len, steps=steps)
    return BeamTree(tokens, log_probs, steps)


def keep_top_k(logits: Float[Tensor, "b v"], k: int) -> Float[Tensor, "b v"]:
    """Scores of the k likeliest words, -inf for the others (ties with the k-th stay). Raises ``ValueError`` for k < 1."""
    if k < 1:
        raise ValueError(f"top_k is {k}; keep at least 1 word")
    least = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def keep_nucleus(logits: Float[Tensor, "b v"], p: float) -> Float[Tensor, "b v"]:
    """Scores of the smallest set of likeliest words that has probability ``p`` or more, -inf for the others.

    The likeliest word always stays. Raises ``ValueError`` unless 0 < p <= 1.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p is {p}; give a probability above 0 and at most 1")
    order = logits.argsort(dim=-1, descending=True, stable=True)
    probs = logits.softmax(dim=-1).gather(-1, order)
    before = probs.cumsum(dim=-1) - probs                                   # mass of all likelier words
    drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -math.inf)


@torch.no_grad()
def sample(
    model: Decoder, context: Context, *, k: int = 1, bos: int = 2, eos: int = 3, pad: int = 1, max_len: int = 20,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "b k t"], Float[Tensor, "b k t"]]:
    """Draw k texts an image: tokens (b, k, t) without <bos>, and the model's own log-probability of each token.

    Logits are divided by ``temperature``, then cut to the ``top_k`` likeliest words, then to the nucleus of mass
    ``top_p``; the returned log-probabilities are those before any of it. After <eos>: ``pad`` and 0.
    ``generator`` is on the context's device. Raises ``ValueError`` for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; give a positive number, or use greedy")
    context = context.repeat(k)
    cache = KVCache()
    token = torch.full((context.rows, 1), bos, dtype=torch.long, device=context.device)
    alive = torch.ones(context.rows, dtype=torch.bool, device=context.device)
    tokens, scores = [], []
    for _ in range(max_len):
        logits = at_least_float32(model.decode(token, context, cache)[:, -1])
        cut = logits / temperature
        cut = cut if top_k is None else keep_top_k(cut, top_k)
        cut = cut if top_p is None else keep_nucleus(cut, top_p)
        word = torch.multinomial(cut.softmax(dim=-1), 1, generator=generator)
        gain = logits.gather(-1, word)[:, 0] - logits.logsumexp(dim=-1)
        tokens.append(torch.where(alive, word[:, 0], pad))
        scores.append(torch.where(alive, gain, 0.0))
        alive = alive & (word[:, 0] != eos)
        token = tokens[-1][:, None]
        if not alive.any():
            break
    return torch.stack(tokens, dim=1).unflatten(0, (-1, k)), torch.stack(scores, dim=1).unflatten(0, (-1, k))
