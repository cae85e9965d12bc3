"""Decoding: from scores of the next word to whole texts.  One set of methods for every autoregressive system.

Paper: M. Cornia et al. (2020), arXiv:1912.08226, sec. 4.2 (beam search; its semantics are those of the
released code); A. Fan et al. (2018), arXiv:1805.04833 (top-k); A. Holtzman et al. (2020), arXiv:1904.09751,
sec. 3.1 (nucleus).  Survey: 1.2.
Differs from the paper: a search stops when nothing can change any more, instead of always after ``max_len``
steps.

No method keeps gradients: to differentiate the log-probability of what was found (self-critical training),
give the tokens to ``score``, which reads all of them in one teacher-forced pass. That costs one pass more
than a search with gradients, and saves keeping the activations of every step and of every rejected beam.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mmlearn.nn.attention import KVCache
from mmlearn.nn.transformer import Context


@runtime_checkable
class Decoder(Protocol):
    """What a model must offer: logits (r, t, v) of the token after each of ``tokens`` (r, t).

    Inside a ``KVCache`` ``tokens`` are the new ones only. r is a multiple of the images of ``context``, and
    the rows of an image stand together.
    """

    def decode(self, tokens: Tensor, context: Context) -> Tensor: ...

    def modules(self) -> Iterator[nn.Module]: ...


def at_least_float32(logits: Float[Tensor, "*b v"]) -> Float[Tensor, "*b v"]:
    """Sums of log-probabilities need more digits than bfloat16 has."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@torch.no_grad()
def next_logits(
    model: Decoder, tokens: Int[Tensor, "r t"], context: Context
) -> Float[Tensor, "r v"]:
    """Scores of the word after the last of ``tokens``."""
    return at_least_float32(model.decode(tokens, context)[:, -1])


def part_of_caption(tokens: Int[Tensor, "*b t"], eos: int = 3) -> Bool[Tensor, "*b t"]:
    """True up to and including the first <eos> of each row."""
    ends = tokens == eos
    return ends.cumsum(dim=-1) - ends.long() == 0


def score(
    model: Decoder, context: Context, tokens: Int[Tensor, "b k t"], *, bos: int = 2, eos: int = 3
) -> Float[Tensor, "b k t"]:
    r"""eq:caption-chain: $\log p_\theta(y_t\mid y_{<t},I)$ of each token of k captions an image, with
    gradients.

    ``tokens`` have no <bos>; what follows <eos> counts 0. One teacher-forced pass.
    """
    k = tokens.shape[1]
    rows = tokens.flatten(0, 1)
    inputs = torch.cat([torch.full_like(rows[:, :1], bos), rows[:, :-1]], dim=1)
    logits = at_least_float32(model.decode(inputs, context.repeat(k)))
    log_probs = logits.log_softmax(dim=-1).gather(-1, rows[..., None])[..., 0]
    return torch.where(part_of_caption(rows, eos), log_probs, 0.0).unflatten(0, (-1, k))


# ----------------------------------------------------------------------------------------- one word at a time


@torch.no_grad()
def write(
    model: Decoder, context: Context, choose: Callable[[Tensor], Tensor],
    *, bos: int, eos: int, pad: int, max_len: int,
) -> tuple[Int[Tensor, "r t"], Float[Tensor, "r t"]]:
    """Word after word, each chosen from its logits (r, v) -> (r,): tokens, and the log-probability of
    each."""
    rows, device = context.rows, context.device
    token = torch.full((rows, 1), bos, device=device)
    alive = torch.ones(rows, dtype=torch.bool, device=device)
    tokens: list[Tensor] = []
    log_probs: list[Tensor] = []
    with KVCache(model):
        while len(tokens) < max_len and alive.any():
            logits = next_logits(model, token, context)
            token = choose(logits)[:, None]
            gain = logits.log_softmax(-1).gather(-1, token)
            token = token.where(alive[:, None], pad)
            tokens.append(token)
            log_probs.append(gain.where(alive[:, None], 0.0))
            alive = alive & (token[:, 0] != eos)
    return torch.cat(tokens, dim=1), torch.cat(log_probs, dim=1)


def greedy(
    model: Decoder, context: Context, *, bos: int = 2, eos: int = 3, pad: int = 1, max_len: int = 20
) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t"]]:
    """The likeliest word at each step: tokens (b, t <= max_len) without <bos>, and their log-probabilities.

    After <eos> tokens are ``pad`` and log-probabilities 0.
    """
    def choose(logits: Tensor) -> Tensor:
        return logits.argmax(dim=-1)

    return write(model, context, choose, bos=bos, eos=eos, pad=pad, max_len=max_len)


def keep_top_k(logits: Float[Tensor, "b v"], k: int) -> Float[Tensor, "b v"]:
    """Scores of the k likeliest words, -inf for the others (ties with the k-th stay). Raises ``ValueError``
    for k < 1."""
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


def draw_token(
    logits: Float[Tensor, "b v"], temperature: float | int = 1.0, top_k: int | None = None,
    top_p: float | int | None = None, generator: torch.Generator | None = None,
) -> Int[Tensor, " b"]:
    """One token a row, drawn from the softmax of ``logits`` over ``temperature``, cut to the ``top_k``
    likeliest and then to the nucleus of mass ``top_p``. Raises ``ValueError`` for a temperature that is not
    positive."""
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; give a positive number, or use greedy")
    logits = logits / temperature
    logits = logits if top_k is None else keep_top_k(logits, top_k)
    logits = logits if top_p is None else keep_nucleus(logits, top_p)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def sample(
    model: Decoder, context: Context, *, k: int = 1, bos: int = 2, eos: int = 3, pad: int = 1,
    max_len: int = 20,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "b k t"], Float[Tensor, "b k t"]]:
    """Draw k texts an image: tokens (b, k, t) without <bos>, and the model's own log-probability of each
    token.

    Logits are divided by ``temperature``, then cut to the ``top_k`` likeliest words, then to the nucleus of
    mass ``top_p``; the returned log-probabilities are those before any of it. After <eos>: ``pad`` and 0.
    ``generator`` is on the context's device. Raises ``ValueError`` for a temperature that is not positive.
    """
    def choose(logits: Tensor) -> Tensor:
        return draw_token(logits, temperature, top_k, top_p, generator)

    tokens, log_probs = write(model, context.repeat(k), choose, bos=bos, eos=eos, pad=pad, max_len=max_len)
    return tokens.unflatten(0, (-1, k)), log_probs.unflatten(0, (-1, k))


# ------------------------------------------------------------------------------------------------ beam search


@dataclass
class BeamStep:
    """One step of a beam search over ``b`` images.

    ``words``, ``totals`` (b, m, c): the c best continuations of each of the m prefixes and the summed
    log-probabilities they would reach; a finished prefix has one continuation, ``pad``, the others being
    -inf. ``parent``, ``token``, ``total`` (b, k): what was kept, best first; ``parent`` is a place in the
    step before. ``tokens``, ``log_probs`` (b, k, t): the whole prefixes that were kept, without <bos>.
    """

    words: Int[Tensor, "b m c"]
    totals: Float[Tensor, "b m c"]
    parent: Int[Tensor, "b k"]
    token: Int[Tensor, "b k"]
    total: Float[Tensor, "b k"]
    tokens: Int[Tensor, "b k t"]
    log_probs: Float[Tensor, "b k t"]


def best_words(
    logits: Float[Tensor, "r v"], alive: Bool[Tensor, "b m"], k: int, pad: int
) -> tuple[Int[Tensor, "b m c"], Float[Tensor, "b m c"]]:
    """The c <= k likeliest words after each of r = b m prefixes (no other can win), and their
    log-probabilities.

    A prefix that is not ``alive`` has one continuation, ``pad``, which costs nothing.
    """
    gains, words = logits.topk(min(k, logits.shape[-1]), dim=-1)
    gains = gains - logits.logsumexp(dim=-1, keepdim=True)
    gains, words = (x.unflatten(0, alive.shape) for x in (gains, words))
    free = torch.full_like(gains, -math.inf)
    free[..., 0] = 0.0
    alive = alive[..., None]
    return words.where(alive, pad), gains.where(alive, free)


def grow(
    prefixes: Shaped[Tensor, "b m t"],
    parent: Int[Tensor, "b k"],
    last: Shaped[Tensor, "b k"],
) -> Shaped[Tensor, "b k t_plus_1"]:
    """The kept prefixes, each with what was added to it."""
    images = torch.arange(len(parent), device=parent.device)[:, None]
    return torch.cat([prefixes[images, parent], last[..., None]], dim=-1)


def beam_steps(
    model: Decoder, context: Context, *, k: int = 5,
    bos: int = 2, eos: int = 3, pad: int = 1, max_len: int = 20,
) -> Iterator[BeamStep]:
    r"""eq:beam: keep the k prefixes of the largest $\ell_b+\log p_\theta(w\mid y^b,I)$ over all prefixes b
    and words w.

    A prefix that has emitted <eos> is frozen: it keeps its score and its place in the beam. No length
    normalisation. The first step expands a single prefix, <bos>; while there are fewer than k prefixes all
    are kept.
    """
    b, device = context.rows, context.device
    tokens = torch.full((b, 1, 1), bos, device=device)           # b m t
    log_probs = torch.zeros(b, 1, 1, device=device)
    total, alive = log_probs[..., 0], tokens[..., 0] == bos      # b m
    with KVCache(model) as cache:
        while tokens.shape[-1] <= max_len and alive.any():
            m = tokens.shape[1]
            last = tokens[..., -1].reshape(-1, 1)                # (b m) 1
            logits = next_logits(model, last, context.repeat(m))
            words, gains = best_words(logits, alive, k, pad)     # b m c
            totals = (total[..., None] + gains).flatten(1)       # b (m c)
            total, best = totals.topk(min(k, totals.shape[1]))   # b k
            parent = best // words.shape[-1]
            word = words.flatten(1).gather(1, best)
            gain = gains.flatten(1).gather(1, best)
            tokens = grow(tokens, parent, word)
            log_probs = grow(log_probs, parent, gain)
            alive = alive.gather(1, parent) & (word != eos) & gain.isfinite()
            first = torch.arange(b, device=device)[:, None] * m
            cache.select((first + parent).flatten())
            totals = totals.view(words.shape)
            yield BeamStep(words, totals, parent, word, total,
                           tokens[..., 1:], log_probs[..., 1:])


def beam(
    model: Decoder, context: Context, *, k: int = 5, bos: int = 2, eos: int = 3, pad: int = 1,
    max_len: int = 20
) -> tuple[Int[Tensor, "b k t"], Float[Tensor, "b k t"]]:
    """What is kept after the last of ``beam_steps``: tokens (b, k, t <= max_len) without <bos>, best first.

    With them the log-probability of each token. After <eos> tokens are ``pad`` and log-probabilities 0. k = 1
    is ``greedy``, and k >= V^(max_len - 1) finds the likeliest text of all. A place in the beam for which no
    text exists (more places than texts) has log-probability -inf. Raises ``ValueError`` for k or ``max_len``
    below 1.
    """
    if k < 1 or max_len < 1:
        raise ValueError(f"beam of {k} with max_len {max_len}; both must be at least 1")
    *_, last = beam_steps(model, context, k=k, bos=bos, eos=eos, pad=pad, max_len=max_len)
    return last.tokens, last.log_probs


@dataclass
class BeamTree:
    """All steps of a beam search, and its result: tokens and log-probabilities (b, k, t)."""

    tokens: Int[Tensor, "b k t"]
    log_probs: Float[Tensor, "b k t"]
    steps: list[BeamStep]


def beam_trace(
    model: Decoder, context: Context, *, k: int = 5, bos: int = 2, eos: int = 3, pad: int = 1,
    max_len: int = 20
) -> BeamTree:
    """A beam search that remembers every step: what each prefix offered, and what was kept."""
    steps = list(beam_steps(model, context, k=k, bos=bos, eos=eos, pad=pad, max_len=max_len))
    return BeamTree(steps[-1].tokens, steps[-1].log_probs, steps)
