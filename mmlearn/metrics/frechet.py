"""The Frechet distance of two sets of pictures: how far apart are the Gaussians that fit their features best?

Paper: M. Heusel et al. (2017), *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium*, arXiv:1706.08500, sec. 4 (FID); M. Chong and D. Forsyth (2020), *Effectively Unbiased FID and
Inception Score and Where to Find Them*, CVPR 2020, arXiv:1911.07023 (extrapolation over the number of
samples).  Survey: 2.1.
Differs from the papers: the trace of the matrix root is a sum of roots of eigenvalues, so that no matrix root
is taken; the extrapolation draws pictures at random instead of noise from a Sobol sequence.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmlearn.files import write_atomically

UNCOUNTED = ("these statistics do not say of how many pictures they are; pictures can only be added to "
             "statistics that mmlearn saved")


class GaussianStatistics:
    """Mean and covariance of features, gathered batch by batch: memory is that of one d x d matrix.

    ``update`` adds features (n, d), ``merge`` another set's statistics (eq:merged-moments); both in float64
    and in place. ``network`` names the network the features come from; statistics of different networks are
    not comparable, and are refused. Raises ``ValueError`` for features of another size or that are not
    finite.
    """

    def __init__(self, size: int, network: str = "") -> None:
        self.network = network
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.scatter = torch.zeros(size, size, dtype=torch.float64)     # sum of (x - mean)(x - mean)^T

    @classmethod
    def of(cls, features: Float[Tensor, "n d"], network: str = "") -> "GaussianStatistics":
        """The statistics of features that are all at hand."""
        found = cls(features.shape[1], network)
        found.update(features)
        return found

    def update(self, features: Float[Tensor, "n d"]) -> None:
        if features.shape[1] != len(self.mean):
            raise ValueError(f"features have size {features.shape[1]}, those before had {len(self.mean)}; "
                             f"use one network for all")
        if not len(features):
            return
        x = features.detach().to("cpu", torch.float64)
        if not bool(x.isfinite().all()):
            raise ValueError("some features are not finite; look for NaN in the pictures")
        mean = x.mean(dim=0)
        x = x - mean
        self._add(len(x), mean, x.T @ x)

    def merge(self, other: "GaussianStatistics") -> None:
        check_comparable(self, other)
        if isinstance(other, _Published) and not other.count:
            raise ValueError(UNCOUNTED)
        self._add(other.count, other.mean, other.scatter)

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if count:
            self.mean, self.scatter = merged_moments(self.count, self.mean, self.scatter, count, mean,
                                                     scatter)
            self.count += count

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """The unbiased covariance, divided by n - 1. Raises ``ValueError`` for fewer than two pictures."""
        if self.count < 2:
            raise ValueError(f"{self.count} pictures have no covariance; give at least 2, better thousands")
        return self.scatter / (self.count - 1)

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file with the keys of pytorch-fid (``mu``, ``sigma``), and count and network."""
        content = io.BytesIO()
        np.savez(content, mu=self.mean.numpy(), sigma=self.covariance.numpy(), count=self.count,
                 network=self.network)
        write_atomically(path, content.getvalue())

    @classmethod
    def load(cls, path: str | Path, network: str = "") -> "GaussianStatistics":
        """What ``save`` wrote, or statistics as pytorch-fid and the authors publish them (``mu``, ``sigma``).

        Those say neither how many pictures nor which network: the count is then 0, which allows distances and
        no merging, and ``network`` is the caller's word. Raises ``FileNotFoundError``, and ``ValueError`` for
        a file that holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no file at {path}; check the path, or compute the statistics anew")
        try:
            with np.load(path, allow_pickle=False) as file:
                mu, sigma = (np.asarray(file[key], dtype=np.float64) for key in ("mu", "sigma"))
                count = int(file["count"]) if "count" in file else 0
                network = str(file["network"]) if "network" in file else network
        except (KeyError, OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no mean and covariance under mu and sigma; give a file of "
                             f"statistics, or compute them anew") from error
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not np.isfinite(sigma).all():
            raise ValueError(f"{path}: a mean of shape {mu.shape} and a covariance of shape {sigma.shape} do "
                             f"not go together; compute the statistics anew")
        return _Published(torch.from_numpy(mu), torch.from_numpy(sigma), count, network)


class _Published(GaussianStatistics):
    """Statistics from a file, whose covariance may come without a count."""

    def __init__(self, mean: Tensor, covariance: Tensor, count: int, network: str) -> None:
        self.network, self.count, self.mean, self._published = network, count, mean, covariance
        self.scatter = covariance * max(count - 1, 0)

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if not self.count:
            raise ValueError(UNCOUNTED)
        super()._add(count, mean, scatter)

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        return super().covariance if self.count else self._published


def check_comparable(a: GaussianStatistics, b: GaussianStatistics) -> None:
    """Refuse statistics of features that were not computed alike."""
    if a.network and b.network and a.network != b.network:
        raise ValueError(f"one set of features is of {a.network}, the other of {b.network}; use one network "
                         f"for both")
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features have sizes {len(a.mean)} and {len(b.mean)}; use one network for both")


def merged_moments(
    n: int, mean: Float[Tensor, " d"], scatter: Float[Tensor, "d d"],
    other_n: int, other_mean: Float[Tensor, " d"], other_scatter: Float[Tensor, "d d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    r"""eq:merged-moments: $\mu=\mu_1+\frac{n_2}{n_1+n_2}\delta$,
    $S=S_1+S_2+\frac{n_1n_2}{n_1+n_2}\delta\delta^\top$, $\delta=\mu_2-\mu_1$: mean and scatter of two sets
    together.

    Nothing large is subtracted from anything large, as it is in $\sum xx^\top-n\mu\mu^\top$.
    """
    delta, total = other_mean - mean, n + other_n
    return (mean + other_n / total * delta,
            scatter + other_scatter + n * other_n / total * torch.outer(delta, delta))


def covariance_factor(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    r"""A matrix $L$ with $LL^\top=\Sigma$: Cholesky's, or where $\Sigma$ has no full rank (fewer pictures
    than features) one of its eigenvectors, with as many columns as the rank."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not int(failed):
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    positive = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return vectors[:, positive] * values[positive].sqrt()


def root_trace(
    factor: Float[Tensor, "d r"], covariance: Float[Tensor, "d d"]
) -> Float[Tensor, ""]:
    r"""eq:frechet-trace: $\operatorname{Tr}(\Sigma_1\Sigma_2)^{1/2}=\operatorname{Tr}(L^\top\Sigma_2L)^{1/2}
    =\sum_i\sqrt{\lambda_i(L^\top\Sigma_2L)}$ for $\Sigma_1=LL^\top$.

    $LL^\top\Sigma_2$ and $L^\top\Sigma_2L$ have the same eigenvalues apart from zeros; the second is
    symmetric, so that its eigenvalues are real, cheap and exact, and no matrix root is taken.
    """
    squares = torch.linalg.eigvalsh(factor.T @ covariance @ factor)
    return squares.clamp(min=0).sqrt().sum()


def frechet_distance(real: GaussianStatistics, fake: GaussianStatistics) -> float:
    r"""eq:frechet-distance: $d^2=\lVert\mu_r-\mu_g\rVert^2+\operatorname{Tr}\big(\Sigma_r+\Sigma_g
    -2(\Sigma_r\Sigma_g)^{1/2}\big)$, the squared 2-Wasserstein distance of two Gaussians.

    With features of Inception-v3's last pooling it is the FID. It is too high for few pictures
    (``frechet_infinity``): compare at one number only. Raises ``ValueError`` for statistics of different
    networks.
    """
    check_comparable(real, fake)
    # the side of fewer pictures has the lower rank
    fewer, more = sorted((real, fake), key=lambda side: side.count or math.inf)
    return _distance(fewer, covariance_factor(fewer.covariance), more)


def _distance(one: GaussianStatistics, factor: Tensor, other: GaussianStatistics) -> float:
    """The distance, from a factor of the covariance of ``one``."""
    traces = factor.square().sum() + other.covariance.trace()
    overlap = root_trace(factor, other.covariance)
    return max(0.0, float((one.mean - other.mean).square().sum() + traces - 2 * overlap))


@dataclass(frozen=True)
class Extrapolation:
    """A line through a metric over 1/n: ``at_infinity`` where it meets n = infinity, and the points."""

    at_infinity: float
    slope: float                            # of the metric over 1/n
    sizes: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, count: int) -> float:
        """What the line expects for ``count`` pictures."""
        return self.at_infinity + self.slope / count


def extrapolate(
    metric: Callable[[Tensor], float], count: int, sizes: Sequence[int] | None = None, repeats: int = 1,
    generator: torch.Generator | None = None,
) -> Extrapolation:
    r"""eq:sample-bias: $d^2_n\approx d^2_\infty+\frac an$, a least-squares line over $\frac1n$.

    ``metric`` gets numbers of pictures (a tensor of indices below ``count``), drawn without replacement,
    ``repeats`` times for each of ``sizes`` (default: ten from a tenth of ``count`` to all). Raises
    ``ValueError`` for fewer than two different sizes or sizes that cannot be drawn.
    """
    if sizes is None:
        sizes = sorted({max(2, round(count * share / 10)) for share in range(1, 11)})
    if len(set(sizes)) < 2 or min(sizes) < 2 or max(sizes) > count:
        raise ValueError(f"sizes are {list(sizes)} of {count} pictures; give two or more different numbers "
                         f"between 2 and {count}")
    drawn, values = [], []
    for n in sizes:
        for _ in range(repeats):
            drawn.append(n)
            values.append(metric(torch.randperm(count, generator=generator)[:n]))
    x, y = 1 / torch.tensor(drawn, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return Extrapolation(float(y.mean()) - slope * float(x.mean()), slope, tuple(drawn), tuple(values))


def frechet_infinity(
    real: GaussianStatistics, fake: Float[Tensor, "n d"], sizes: Sequence[int] | None = None,
    repeats: int = 1, generator: torch.Generator | None = None,
) -> Extrapolation:
    """The Frechet distance to ``real`` for ever more of the generated pictures, of which ``fake`` are
    features (eq:sample-bias).

    The real side keeps its own bias; give it as many pictures as there are. Raises ``ValueError`` as
    ``extrapolate`` and ``frechet_distance`` do.
    """
    fake = fake.detach().to("cpu", torch.float64)

    def distance(indices: Tensor) -> float:
        x = fake[indices]
        if len(x) > x.shape[1]:
            return frechet_distance(real, GaussianStatistics.of(x, real.network))
        drawn = GaussianStatistics.of(x, real.network)
        check_comparable(real, drawn)
        factor = (x - drawn.mean).T / math.sqrt(len(x) - 1)         # few pictures are a factor themselves
        return _distance(drawn, factor, real)

    return extrapolate(distance, len(fake), sizes, repeats, generator)


def gather(batches: Iterable[Tensor], network: str = "") -> GaussianStatistics:
    """Statistics of features (n, d) that come batch by batch. Raises ``ValueError`` if none comes."""
    found: GaussianStatistics | None = None
    for features in batches:
        if found is None:
            found = GaussianStatistics(features.shape[1], network)
        found.update(features)
    if found is None:
        raise ValueError("no features came; give at least one batch")
    return found
