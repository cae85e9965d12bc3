"""Decoding: from scores of the next word to whole texts.  One set of methods for every autoregressive system."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.nn.attention import KVCache
from mmlearn.nn.transformer import Context


@runtime_checkable
class Decoder(Protocol):
    """What a model must offer: logits (r, t, v) of the token after each of ``tokens`` (r, t)."""

    def decode(self, tokens: Tensor, context: Context, cache: KVCache | None = None) -> Tensor: ...


@torch.no_grad()
def greedy(
    model: Decoder, context: Context, *, bos: int = 2, eos: int = 3, pad: int = 1, max_len: int = 20
) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t"]]:
    """The likeliest word at each step: tokens (b, t <= max_len) without <bos>, and their log-probabilities.

    After <eos> tokens are ``pad`` and log-probabilities 0.
    """
    rows = context.rows
    device = context.levels.device
    cache = KVCache()
    token = torch.full((rows, 1), bos, dtype=torch.long, device=device)
    alive = torch.ones(rows, dtype=torch.bool, device=device)
    tokens, scores = [], []
    for _ in range(max_len):
        log_probs = model.decode(token, context, cache)[:, -1].float().log_softmax(dim=-1)
        score, word = log_probs.max(dim=-1)
        tokens.append(torch.where(alive, word, pad))
        scores.append(torch.where(alive, score, 0.0))
        alive = alive & (word != eos)
        if not alive.any():
            break
        token = tokens[-1][:, None]
    return torch.stack(tokens, dim=1), torch.stack(scores, dim=1)
