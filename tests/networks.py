"""What tests of networks share: numbers in float64, counts of parameters, networks with nothing at rest."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmlearn.nn.modes import blank


def covers(*labels: str) -> Callable[[Callable], Callable]:
    """The equations that a test covers, which no page shows yet."""
    return lambda test: test


def _generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int | None = 0) -> Tensor:
    """Normal numbers in float64; without a seed those that torch draws next, after ``torch.manual_seed``."""
    return torch.randn(*shape, dtype=torch.float64, generator=_generator(seed))


def vectors(*shape: int) -> Tensor:
    """``numbers`` that torch draws next."""
    return numbers(*shape, seed=None)


def lengths_mask(*lengths: int, t: int | None = None) -> Tensor:
    """Which of t places hold a word, (b, t); t is the longest length where nothing else is said."""
    return torch.arange(t or max(lengths)) < torch.tensor(lengths)[:, None]


def far(x: Tensor, y: Tensor) -> Tensor:
    """A distance of pictures that depends on each as a whole, (b,)."""
    return (x.mean(dim=(1, 2)) - y.mean(dim=(1, 2))).square().sum(dim=1)


def count(module: nn.Module) -> int:
    """How many parameters a module has."""
    return sum(p.numel() for p in module.parameters())


def count_blank(kind: Callable[..., nn.Module], *args: object) -> int:
    """How many parameters ``kind(*args)`` has, without memory for them."""
    with blank():
        return count(kind(*args))


@torch.no_grad()
def stirred(module: nn.Module, seed: int | None = 0, scale: float = 0.1) -> nn.Module:
    """The module with noise on every parameter, so that nothing is zero or even and hides a mistake.

    Without a seed it is the noise that torch draws next.
    """
    g = _generator(seed)
    for p in module.parameters():
        p.add_(scale * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return module


@torch.no_grad()
def redrawn(module: nn.Module, seed: int | None = 0, scale: float = 1.5) -> nn.Module:
    """The module with every parameter drawn anew; ``scale`` is the deviation of what a matrix gives.

    Without a seed it is drawn from what torch draws next.
    """
    g = _generator(seed)
    for p in module.parameters():
        p.normal_(0, scale / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.3, generator=g)
    return module
