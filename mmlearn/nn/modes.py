"""Evaluation mode for the length of a block, and random weights that leave the global random state alone.

Survey: none.  Dropout is off and batch statistics are fixed in evaluation mode; each module gets back the mode it had.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[torch.device]:
    """``model`` and all its parts in evaluation mode; yields the device of its weights ("cpu" if it has none).

    Afterwards every part is in the mode it was in before, whatever happens in the block.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield next((p.device for p in model.parameters()), torch.device("cpu"))
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers drawn in the block are a function of ``seed``; the global state is afterwards as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
