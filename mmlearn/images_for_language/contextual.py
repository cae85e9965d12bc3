r"""Vectors of words in their sentences, and one vector a word out of them.

Papers: S. Pezzelle, E. Takmaz and R. Fernández (2021), *Word Representation Learning in Multimodal
Pre-Trained Transformers: An Intrinsic Evaluation*, TACL 9 (a word's vector is its mean over several
sentences, each layer for itself); J. Devlin et al. (2019), *BERT*, NAACL, arXiv:1810.04805.  Survey: 3.2.
Differs from the papers: how many sentences a word is averaged over is up to the caller.

A contextual model has no vector of a word: the same word has another state in each sentence. To compare it
with static vectors on pairs of words it has to be made static, and which layer is best is found out on the
pairs themselves: the best of thirteen numbers flatters the model (report all, or choose on other pairs).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.data.word_vectors import WordVectors
from mmlearn.data.wordpiece import WordPiece
from mmlearn.nn.bert import BERT
from mmlearn.nn.modes import eval_mode


def means(
    rows: Float[Tensor, "n *d"], owners: Int[Tensor, " n"], count: int
) -> Float[Tensor, "m *d"]:
    r"""eq:bert-static: $v_w=\frac1{|O_w|}\sum_{o\in O_w}h_o$: the mean of the rows that a word owns.

    The rows are the states of its pieces, or its states in several sentences. An owner without rows has 0.
    """
    sums = rows.new_zeros(count, *rows.shape[1:]).index_add_(0, owners, rows)
    terms = torch.bincount(owners, minlength=count).clamp(min=1).to(rows)
    return sums / terms.view(-1, *[1] * (rows.ndim - 1))


class Occurrences(NamedTuple):
    """Words in their sentences: ``states`` (n, l + 1, d) by layer, 0 being the embeddings; ``sentences`` (n,)
    says in which of the texts."""

    words: list[str]
    sentences: list[int]
    states: Float[Tensor, "n l d"]


class _Row(NamedTuple):
    ids: list[int]
    spans: list[tuple[str, int, int]]           # a word, its first piece, the piece behind its last


def _row(tokeniser: WordPiece, text: str, context: int) -> _Row:
    """A text as BERT reads it, and where its words are; words that do not fit are left out whole."""
    ids, spans = [tokeniser.bos], []
    for word, pieces in tokeniser.split(text):
        if len(ids) + len(pieces) >= context:
            break
        spans.append((word, len(ids), len(ids) + len(pieces)))
        ids += pieces
    return _Row([*ids, tokeniser.eos], spans)


@torch.no_grad()
def word_states(
    model: BERT, tokeniser: WordPiece, texts: Sequence[str], words: Collection[str] | None = None,
    batch: int = 64,
) -> Iterator[Occurrences]:
    """The states of ``words`` (default: of all) wherever they occur, ``batch`` texts at a time, on the CPU.

    A word of several pieces has their mean. Words are spelt as ``basic_words`` gives them.
    """
    wanted = None if words is None else set(words)
    with eval_mode(model) as device:
        for start in range(0, len(texts), batch):
            rows = [_row(tokeniser, text, model.config.context) for text in texts[start : start + batch]]
            tokens = torch.full((len(rows), max(len(row.ids) for row in rows)), model.config.pad)
            found: list[str] = []
            sentences: list[int] = []
            places: list[tuple[int, int, int]] = []                     # a row, a position, whose piece it is
            for i, row in enumerate(rows):
                tokens[i, : len(row.ids)] = torch.tensor(row.ids)
                for word, first, end in row.spans:
                    if wanted is None or word in wanted:
                        places += [(i, j, len(found)) for j in range(first, end)]
                        found.append(word)
                        sentences.append(start + i)
            if not found:
                continue
            real = torch.arange(tokens.shape[1]) < torch.tensor([[len(row.ids)] for row in rows])
            i, j, owner = torch.tensor(places).T.to(device)
            layers = [states[i, j] for states in model.by_layer(tokens.to(device), real.to(device))]
            yield Occurrences(found, sentences, means(torch.stack(layers, dim=1), owner, len(found)).cpu())


def contextual_vectors(
    model: BERT, tokeniser: WordPiece, texts: Sequence[str], words: Collection[str] | None = None,
    most: int = 10, batch: int = 64,
) -> list[WordVectors]:
    """One vector a word (eq:bert-static), its mean over at most ``most`` occurrences: a set of vectors for
    each layer, from the embeddings to the last.

    Words come in the order in which they are met; a word that does not occur has no vector. Raises
    ``ValueError`` if none occurs.
    """
    if most < 1:
        raise ValueError(f"most is {most}; average each word over 1 occurrence or more")
    seen: Counter[str] = Counter()
    sums: dict[str, Tensor] = {}
    for found in word_states(model, tokeniser, texts, words, batch):
        for word, states in zip(found.words, found.states):
            if seen[word] < most:
                seen[word] += 1
                sums[word] = sums[word] + states if word in sums else states
    if not sums:
        raise ValueError("none of the words occurs in the texts; give texts that hold them, spelt alike")
    vectors = torch.stack([total / seen[word] for word, total in sums.items()])
    return [WordVectors(tuple(sums), vectors[:, layer].contiguous()) for layer in range(vectors.shape[1])]


def centroid_accuracy(
    train: Float[Tensor, "n d"], train_senses: Int[Tensor, " n"],
    test: Float[Tensor, "m d"], test_senses: Int[Tensor, " m"],
) -> float:
    """Share of states nearest to the mean state of their own sense: do the senses of a word lie apart?

    Fisher's discriminant: means are those of ``train``, and distances are in units of its spread within the
    senses (a tenth of the mean spread in all directions is added). A word with one vector, whatever its
    sense, has the share of one sense.
    """
    centres = means(train, train_senses, int(train_senses.max()) + 1)
    rest = train - centres[train_senses]
    spread = rest.mT @ rest / len(rest)
    ridge = 0.1 * spread.diagonal().mean() + 1e-6
    root = torch.linalg.cholesky(spread + ridge * torch.eye(len(spread)).to(spread))

    def scaled(x: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(root, x.mT, upper=False).mT

    nearest = torch.cdist(scaled(test), scaled(centres)).argmin(dim=1)
    return float((nearest == test_senses).float().mean())
