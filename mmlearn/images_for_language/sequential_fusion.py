r"""Sequential fusion: a text space and a picture space, made apart, mixed by a truncated SVD and joined by
one weight.

Paper: E. Bruni, N.-K. Tran and M. Baroni (2014), *Multimodal Distributional Semantics*, JAIR 49, sec. 3.3
(mixing and the two fusions), 4 (the search), 5 (what was chosen).  Survey: 3.3, which tells the weighted
concatenation alone.
Differs from the paper: nothing. What it leaves open is an option: after the mixing the two blocks are no
longer of unit length, and they are fused as they are (``unit_again`` makes them so first).

Rows are words. Both tables of counts have the same words; how many columns each has is its own affair
(Bruni: 30,000 and 80,000 for 20,525 words).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.data.word_vectors import WordVectors
from mmlearn.images_for_language.counts import WEIGHTS, sums, weigh, window_counts
from mmlearn.images_for_language.visual_words import BagOfVisualWords, VisualWordsConfig
from mmlearn.nn.configuration import check

LEVELS = ("feature", "score")
CELLS = 50_000_000                      # of a table whose SVD is computed whole (400 MB)
RANKS = tuple(2**i for i in range(4, 13))                   # Bruni's grid: 16 to 4,096 dimensions
SHARES = tuple(i / 10 for i in range(11))                   # and 0, 0.1 … 1 for alpha and for beta


@dataclass(frozen=True)
class SequentialFusionConfig:
    weight: str = "lmi"             # of the counts of both sides: "lmi" or "ppmi"
    window: int = 2                 # words to either side
    rank: int | None = 512          # k, dimensions that the mixing keeps; None: no mixing
    level: str = "feature"          # "feature": vectors are joined; "score": similarities are
    share: float | int = 0.5        # alpha of the features, or beta of the scores: 1 is text alone
    unit_again: bool = False        # rows of the mixed blocks to unit length before they are fused
    images: VisualWordsConfig = field(default_factory=VisualWordsConfig.bruni)

    def __post_init__(self) -> None:
        check(self, share=(0, 1), window=(1, 1000))
        for name, known in (("weight", tuple(WEIGHTS)), ("level", LEVELS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(known)}")

    @classmethod
    def bruni_window_2(cls) -> "SequentialFusionConfig":
        """Chosen on MEN's development pairs for a window of 2: 512 dimensions, features, equal weights."""
        return cls()

    @classmethod
    def bruni_window_20(cls) -> "SequentialFusionConfig":
        """Chosen for a window of 20: 1,024 dimensions, features, equal weights."""
        return cls(window=20, rank=1024)

    @classmethod
    def naive_features(cls) -> "SequentialFusionConfig":
        """The paper's NaiveFL: no mixing, equal weights of the features."""
        return cls(rank=None)

    @classmethod
    def naive_scores(cls) -> "SequentialFusionConfig":
        """The paper's NaiveSL: no mixing, equal weights of the similarities."""
        return cls(rank=None, level="score")

    @classmethod
    def mini(cls) -> "SequentialFusionConfig":
        """A miniature for the scene world: 16 dimensions of some tens of words."""
        return cls(rank=16, images=VisualWordsConfig.mini())


class Blocks(NamedTuple):
    """The two sides of a space, a row a word: (w, j) and (w, m)."""

    text: Tensor
    image: Tensor


# -------------------------------------------------------------------------------------------------- equations

def unit_rows(table: Float[Tensor, "*w c"]) -> Float[Tensor, "*w c"]:
    r"""eq:fusion-rows: $N(x)=x/\lVert x\rVert$ for each row: without it a weight says nothing, since the
    longer block wins; a row of zeros stays one."""
    if not table.is_sparse:
        return F.normalize(table, dim=-1, eps=1e-8)
    table = table.coalesce()
    lengths = sums(table * table, 1).sqrt()
    values = table.values() / lengths[table.indices()[0]].clamp(min=1e-8)
    return torch.sparse_coo_tensor(table.indices(), values, table.shape,
                                   is_coalesced=True, check_invariants=False)


def low_rank(
    U: Float[Tensor, "w k"], S: Float[Tensor, " k"], V: Float[Tensor, "c k"]
) -> Float[Tensor, "w c"]:
    r"""eq:fusion-mix: $M_k=U_k\Sigma_kV_k^\top$: of all tables of rank k the nearest to
    $M=[N_t;N_v]$, $\lVert M-M_k\rVert_F^2=\sum_{i>k}\sigma_i^2$ (Eckart and Young)."""
    return (U * S) @ V.mT


def split(
    U: Float[Tensor, "w k"], S: Float[Tensor, " k"],
    V: Float[Tensor, "c k"], columns: int
) -> Blocks:
    r"""eq:fusion-split: $M_k=[F_t;F_v]$, cut after the $j$ text columns: $F_t=U_k\Sigma_kV_{1:j}^\top$ and
    $F_v=U_k\Sigma_kV_{j+1:}^\top$ have their old widths, and each is built of what both modalities share."""
    return Blocks(low_rank(U, S, V[:columns]), low_rank(U, S, V[columns:]))


def compact(
    U: Float[Tensor, "w k"], S: Float[Tensor, " k"],
    V: Float[Tensor, "c k"], columns: int
) -> Blocks:
    r"""eq:fusion-compact: $V_{1:j}=QR$ with $Q^\top Q=I$, so $F_tF_t^\top=(U\Sigma R^\top)(U\Sigma
    R^\top)^\top$: k numbers a word have the inner products of the block of $j$ columns. For the whole of
    $M_k$, $R=I$; for a block it is not, which is why the two blocks carry two similarities."""
    parts = (V[:columns], V[columns:])
    return Blocks(*((U * S) @ torch.linalg.qr(part).R.mT for part in parts))


def fuse_features(
    text: Float[Tensor, "w j"], image: Float[Tensor, "w m"],
    alpha: float | int
) -> Float[Tensor, "w c"]:
    r"""eq:fusion-features: $F=\alpha F_t\oplus(1-\alpha)F_v$."""
    return torch.cat([alpha * text, (1 - alpha) * image], dim=1)


def fuse_scores(
    text: Float[Tensor, "*s"], image: Float[Tensor, "*s"], beta: float | int
) -> Float[Tensor, "*s"]:
    r"""eq:fusion-scores: $S=\beta S_t+(1-\beta)S_v$, each a cosine."""
    return beta * text + (1 - beta) * image


def score_weight(alpha: float | int) -> float:
    r"""eq:fusion-weight: $\beta=\frac{\alpha^2}{\alpha^2+(1-\alpha)^2}$: with unit blocks the cosine of
    features fused with $\alpha$ is the score fused with $\beta$, so the weight counts squared: $\alpha=0.8$
    leaves pictures 6 %."""
    return alpha**2 / (alpha**2 + (1 - alpha)**2)


def inner_cosines(
    text: Float[Tensor, "3 q"], image: Float[Tensor, "3 q"], alpha: float | int
) -> Float[Tensor, " q"]:
    r"""eq:fusion-cosine: $\frac{\alpha^2\langle t_i,t_j\rangle+(1-\alpha)^2\langle v_i,v_j\rangle}{\sqrt{
    \alpha^2\lVert t_i\rVert^2+(1-\alpha)^2\lVert v_i\rVert^2}\sqrt{\alpha^2\lVert t_j\rVert^2+(1-\alpha)^2
    \lVert v_j\rVert^2}}$, the cosine of fused features, without fusing them: rows are $\langle x_i,x_j
    \rangle$, $\lVert x_i\rVert^2$, $\lVert x_j\rVert^2$ of each pair."""
    both = alpha**2 * text + (1 - alpha)**2 * image
    lengths = (both[1] * both[2]).sqrt()
    return torch.where(lengths > 0, both[0] / lengths.clamp(min=1e-300), 0)


# -------------------------------------------------------------------------------------------------------- SVD

def truncated_svd(
    table: Float[Tensor, "w c"], rank: int
) -> tuple[Float[Tensor, "w k"], Float[Tensor, " k"], Float[Tensor, "c k"]]:
    """The ``rank`` largest singular values S of a table, and their vectors U and V; fewer where the table has
    fewer rows or columns. The table is not centred.

    Up to ``CELLS`` cells the whole SVD is computed and cut; a larger table stays sparse (``krylov_svd``).
    Raises ``ValueError`` for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; keep at least 1 dimension")
    rank = min(rank, *table.shape)
    if table.numel() <= CELLS:
        U, S, Vh = torch.linalg.svd(table.to_dense(), full_matrices=False)
        return U[:, :rank], S[:rank], Vh[:rank].mT
    return krylov_svd(table, rank)


def krylov_svd(
    table: Float[Tensor, "w c"], rank: int, tolerance: float = 1e-12
) -> tuple[Float[Tensor, "w k"], Float[Tensor, " k"], Float[Tensor, "c k"]]:
    """The ``rank`` largest singular values and vectors from products with the table alone (block Krylov).

    A basis of the span of $MX, (MM^\\top)MX, \\dots$ grows by ``rank`` + 10 columns at a time, until no
    singular value moves by more than ``tolerance`` of the largest; it is exact when it spans all rows.
    """
    rows, turned = len(table), table.transpose(0, 1)
    width = min(rank + 10, *table.shape)
    start = torch.randn(table.shape[1], width, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(table @ start.to(table.device, table.dtype)).Q
    seen = turned @ basis                                       # M^T Q, (c, columns of the basis)
    before = basis.new_zeros(rank)
    while True:
        now = torch.linalg.eigvalsh(seen.mT @ seen).flip(0)[:rank].clamp(min=0).sqrt()
        if float((now - before).abs().max()) <= tolerance * float(now[0]) or basis.shape[1] == rows:
            break
        before, new = now, table @ seen[:, -width:]
        for _ in range(3):                                      # once is not enough in floating point
            new = torch.linalg.qr(new - basis @ (basis.mT @ new)).Q
        new = new[:, :rows - basis.shape[1]]
        basis, seen = torch.cat([basis, new], dim=1), torch.cat([seen, turned @ new], dim=1)
    U, S, Vh = torch.linalg.svd(seen.mT, full_matrices=False)
    return (basis @ U)[:, :rank], S[:rank], Vh[:rank].mT


# ----------------------------------------------------------------------------------------------------- fusion

def joined(text: Float[Tensor, "w j"], image: Float[Tensor, "n m"], weight: str = "lmi") -> Blocks:
    """Both tables of counts, weighed and with unit rows (eq:fusion-rows).

    Raises ``ValueError`` if they do not have the same number of words.
    """
    if len(text) != len(image):
        raise ValueError(f"the text counts have {len(text)} rows, those of pictures {len(image)}; give both "
                         f"the same words in the same order")
    return Blocks(unit_rows(weigh(text, weight)), unit_rows(weigh(image, weight)))


def mixed(blocks: Blocks, rank: int | None) -> Blocks:
    """The blocks after the mixing (eq:fusion-mix, -compact), rank numbers a word and side; as they were for
    ``None``."""
    if rank is None:
        return blocks
    whole = truncated_svd(torch.cat(list(blocks), dim=1), rank)
    return compact(*whole, columns=blocks.text.shape[1])


@dataclass(frozen=True)
class FusedSpace:
    """Two blocks of vectors and how they are fused; ``cosines`` of pairs of rows, ``vectors`` of all
    words."""

    blocks: Blocks
    level: str = "feature"
    share: float | int = 0.5
    words: tuple[str, ...] = ()         # of the rows, where they are named

    def with_share(self, share: float | int, level: str | None = None) -> "FusedSpace":
        """The same blocks, weighted otherwise."""
        return replace(self, share=share, level=level or self.level)

    def vectors(self) -> Float[Tensor, "w c"]:
        """eq:fusion-features of all words. Raises ``ValueError`` where similarities are fused."""
        if self.level == "score":
            raise ValueError("scores are fused, and these have no vectors; ask for cosines(first, second), "
                             "or fuse features")
        return fuse_features(self.blocks.text.to_dense(), self.blocks.image.to_dense(), self.share)

    def word_vectors(self) -> WordVectors:
        """``vectors`` by their words. Raises ``ValueError`` where rows have no names or no vectors."""
        return WordVectors(self.words, self.vectors())

    def likeness(self, a: Sequence[str], b: Sequence[str]) -> Float[Tensor, " q"]:
        """``cosines`` of pairs of words, not a number where one is unknown: what
        ``mmlearn.metrics.similarity`` judges, also where scores are fused."""
        rows = {word: row for row, word in enumerate(self.words)}
        first, second = (torch.tensor([rows.get(word, -1) for word in words], dtype=torch.long)
                         for words in (a, b))
        found = torch.full((len(first),), math.nan, dtype=torch.float64)
        known = (first >= 0) & (second >= 0)
        found[known] = self.cosines(first[known], second[known]).double()
        return found

    def cosines(self, first: Int[Tensor, " q"], second: Int[Tensor, " q"]) -> Float[Tensor, " q"]:
        """The similarity of the words of each pair of rows; 0 where a word has nothing."""
        text, image = (inner(block, first, second) for block in self.blocks)
        return fused_cosines(text, image, self.level, self.share)


def inner(
    block: Float[Tensor, "w c"], first: Int[Tensor, " q"], second: Int[Tensor, " q"]
) -> Float[Tensor, "3 q"]:
    """The inner product of each pair of rows, and the squared lengths of both."""
    rows, place = torch.cat([first, second]).unique(return_inverse=True)
    a, b = block.index_select(0, rows).to_dense()[place].chunk(2)
    return torch.stack([(a * b).sum(dim=1), a.square().sum(dim=1), b.square().sum(dim=1)])


def fused_cosines(
    text: Float[Tensor, "3 q"], image: Float[Tensor, "3 q"], level: str, share: float | int
) -> Float[Tensor, " q"]:
    """Similarities of pairs from the inner products of both sides (``inner``), fused at a level."""
    if level == "feature":
        return inner_cosines(text, image, share)
    return fuse_scores(inner_cosines(text, image, 1), inner_cosines(text, image, 0), share)


def fuse(
    text: Float[Tensor, "w j"], image: Float[Tensor, "n m"], config: SequentialFusionConfig,
    words: Iterable[str] = ()
) -> FusedSpace:
    """The whole fusion of two tables of counts: weigh, unit rows, mix, split, fuse; ``words`` name
    the rows."""
    blocks = mixed(joined(text, image, config.weight), config.rank)
    if config.unit_again:
        blocks = Blocks(*map(unit_rows, blocks))
    return FusedSpace(blocks, config.level, config.share, tuple(words))


def multimodal_space(
    sentences: Sequence[Sequence[str]], pictures: Mapping[str, Tensor], config: SequentialFusionConfig,
    generator: torch.Generator, contexts: Sequence[str] | None = None
) -> FusedSpace:
    """The pipeline from a corpus and the pictures of words (n, 3, y, x), 0 to 255: a row a word of
    ``pictures``.

    ``contexts`` are the words that count as context (default: all of the corpus). The visual words are learnt
    on all pictures. Raises ``ValueError`` for a word that the corpus lacks.
    """
    contexts = contexts or list(dict.fromkeys(word for sentence in sentences for word in sentence))
    ids = {word: number for number, word in enumerate(dict.fromkeys([*contexts, *pictures]))}
    encoded = [[ids[word] for word in sentence if word in ids] for sentence in sentences]
    counts = window_counts(encoded, len(ids), config.window)
    rows, columns = (torch.tensor([ids[word] for word in words]) for words in (pictures, contexts))
    text = counts.index_select(0, rows).index_select(1, columns)
    if absent := [word for word, total in zip(pictures, sums(text, 1)) if not total]:
        raise ValueError(f"{absent[0]!r} has pictures and no context in the corpus (so have {len(absent)} "
                         f"words of {len(pictures)}); leave them out")
    bag = BagOfVisualWords(config.images).learn(torch.cat(list(pictures.values())), generator)
    return fuse(text, bag.of_words(pictures.values()), config, pictures)


# ----------------------------------------------------------------------------------------------------- search

class Setting(NamedTuple):
    """A point of the search and what it reached on the development pairs."""

    rank: int | None
    level: str
    share: float
    correlation: float


def settings(
    blocks: Blocks, first: Int[Tensor, " q"], second: Int[Tensor, " q"], judge: Callable[[Tensor], float],
    ranks: Sequence[int | None] = RANKS, shares: Sequence[float] = SHARES, unit_again: bool = False
) -> Iterator[Setting]:
    """Every setting of Bruni's search, 9 ranks times (11 weights of features and 11 of scores), with what
    ``judge`` says of its similarities of the pairs of rows ``first`` and ``second``.

    ``blocks`` are those of ``joined``. One SVD serves all ranks, and inner products of the pairs all weights.
    A rank of None is no mixing.
    """
    largest = max((rank for rank in ranks if rank is not None), default=0)
    if largest:
        U, S, V = truncated_svd(torch.cat(list(blocks), dim=1), largest)
    for rank in ranks:
        now = blocks if rank is None else compact(U[:, :rank], S[:rank], V[:, :rank], blocks.text.shape[1])
        if unit_again:
            now = Blocks(*map(unit_rows, now))
        text, image = (inner(block, first, second) for block in now)
        for level in LEVELS:
            for share in shares:
                yield Setting(rank, level, share, judge(fused_cosines(text, image, level, share)))


def tuned(config: SequentialFusionConfig, found: Sequence[Setting]) -> SequentialFusionConfig:
    """The configuration with the setting that reached most; of equal ones the first. Raises ``ValueError`` if
    none reached a number."""
    rated = [setting for setting in found if not math.isnan(setting.correlation)]
    if not rated:
        raise ValueError(f"none of {len(found)} settings has a correlation; give pairs whose ratings differ")
    best = max(rated, key=lambda setting: setting.correlation)
    return replace(config, rank=best.rank, level=best.level, share=best.share)
