r"""The vokenizer: every token of a text gets the picture that fits it best, its voken.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775, sec. 3;
github.com/airsplay/vokenization (MIT); J. Johnson, M. Douze and H. Jegou (2019), *Billion-scale Similarity
Search with GPUs*, arXiv:1702.08734 (the index that the authors use).  Survey: 3.5.1, 3.6 (its formula 3.6 is
this section's identity, with an equals sign that does not hold; E1).
Differs from the paper: long texts are cut in parts whose lengths differ by one at most; the released code
cuts 257 tokens in parts of 85, 85, 85 and 2. Vokens are looked up in blocks of bounded memory, without an
index.

Letters: $f$ is the embedding of a token, $g(x)$ that of a picture $x$ of the set $X$, $v(w_i;s)$ the voken.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mmlearn.images_for_language.token_image_matching import TokenImageMatcher
from mmlearn.nn.modes import eval_mode

PAPER_IMAGES = 50_000       # the first of Visual Genome's that are not in COCO
LIMIT = 128                 # most tokens that are read together
QUERIES, KEYS = 4096, 512   # of a block: scores of 8 MB, the best of each block beside them
END = frozenset(".!?…。！？")


# ------------------------------------------------------------------------------------------ equations


def squared_distance(
    f: Float[Tensor, "n e"], g: Float[Tensor, "k e"]
) -> Float[Tensor, "n k"]:
    r"""eq:voken-distance: $\|f-g\|^2=\|f\|^2+\|g\|^2-2f^\top g$, for vectors of any length."""
    squares = f.square().sum(dim=1)[:, None] + g.square().sum(dim=1)
    return squares - 2 * f @ g.mT


def distance_on_sphere(
    f: Float[Tensor, "n e"], g: Float[Tensor, "k e"]
) -> Float[Tensor, "n k"]:
    r"""eq:voken-unit: $\|f-g\|^2=2(1-f^\top g)$ where $\|f\|=\|g\|=1$: the picture of largest
    relevance is the nearest one. The square belongs to it, and the unit length."""
    return 2 * (1 - f @ g.mT)


def voken_of(
    f: Float[Tensor, "n e"], g: Float[Tensor, "k e"]
) -> Int[Tensor, " n"]:
    r"""eq:voken-argmax: $v(w_i;s)=\arg\max_{x\in X}r(w_i,x;s)$, from all relevances at once.

    ``nearest_images`` finds the same in blocks.
    """
    return (f @ g.mT).argmax(dim=1)


# ------------------------------------------------------------------------------------------- retrieval


@torch.no_grad()
def nearest_images(
    f: Float[Tensor, "n e"], g: Float[Tensor, "k e"],
    queries: int = QUERIES, keys: int = KEYS,
) -> Int[Tensor, " n"]:
    """The picture of largest relevance for each token (eq:voken-argmax), all
    pictures being compared.

    An optimisation of ``voken_of``: only the largest relevance of each block of
    pictures is kept (a maximum without its place is nearly free beside the
    product), and the place is looked for in the block that wins. Memory is
    that of ``queries`` x ``keys`` relevances, whatever n and k.
    """
    found = torch.empty(len(f), dtype=torch.long, device=f.device)
    blocks = g.split(keys)
    for start in range(0, len(f), queries):
        part, place = f[start:start + queries], found[start:start + queries]
        best = part.new_empty(len(part), len(blocks))
        scores = part.new_empty(len(part), min(keys, len(g)))
        for j, block in enumerate(blocks):
            out = scores if len(block) == scores.shape[1] else None
            best[:, j] = torch.mm(part, block.mT, out=out).amax(dim=1)
        winner = best.argmax(dim=1)
        for j in winner.unique().tolist():
            rows = (winner == j).nonzero()[:, 0]
            place[rows] = j * keys + voken_of(part[rows], blocks[j])
    return found


@torch.no_grad()
def top_images(
    f: Float[Tensor, "n e"], g: Float[Tensor, "k e"], count: int, queries: int = 1024, keys: int = 4096
) -> tuple[Float[Tensor, "n c"], Int[Tensor, "n c"]]:
    """The ``count`` largest relevances of each token and their pictures, the largest first, in blocks.

    Raises ``ValueError`` for more pictures than there are.
    """
    if not 1 <= count <= len(g):
        raise ValueError(f"count is {count}, there are {len(g)} pictures; ask for 1 to {len(g)}")
    scores, places = [], []
    for part in f.split(queries):
        best = part.new_empty(len(part), 0)
        where = torch.empty(len(part), 0, dtype=torch.long, device=f.device)
        for start in range(0, len(g), keys):
            now = part @ g[start:start + keys].mT
            now, at = now.topk(min(count, now.shape[1]), dim=1)
            best, order = torch.cat([best, now], 1).topk(min(count, best.shape[1] + now.shape[1]), dim=1)
            where = torch.cat([where, at + start], 1).gather(1, order)
        scores.append(best)
        places.append(where)
    return torch.cat(scores), torch.cat(places)


@torch.no_grad()
def image_keys(
    model: TokenImageMatcher, images: UInt8[Tensor, "n 3 y x"], batch: int = 64
) -> Float[Tensor, "n e"]:
    """Embeddings of pictures of bytes, the keys of the search, a batch at a time."""
    with eval_mode(model) as device:
        return torch.cat([model.embed_images(model.image_features(part.to(device).float() / 255))
                          for part in images.split(batch)])


# ----------------------------------------------------------------------------------- texts and their vokens


def near_equal_parts(length: int, limit: int = LIMIT) -> list[int]:
    """Lengths of as few parts of at most ``limit`` tokens as hold ``length`` tokens; they differ by one at
    most."""
    if limit < 1:
        raise ValueError(f"limit is {limit}; a part has at least 1 token")
    count = math.ceil(length / limit)
    return [length // count + (i < length % count) for i in range(count)]


def sentences_of(pieces: Sequence[str]) -> list[int]:
    """Lengths of the sentences of a list of tokens: one ends after a run of full stops, exclamation and
    question marks."""
    starts = [i + 1 for i, (piece, after) in enumerate(zip(pieces, pieces[1:]))
              if END.issuperset(piece) and not END.issuperset(after)]
    ends = [*starts, len(pieces)]
    return [end - start for start, end in zip([0, *starts], ends) if end > start]


class Vokenizer:
    """Texts as lists of token ids -> a voken a token, the number of a picture.

    ``keys`` (k, e) are the embeddings of the pictures (``image_keys``),
    ``bos`` and ``eos`` the ids put around a text ([CLS] and [SEP]), which get no
    voken. A text of more than ``limit`` tokens is read in near-equal parts.
    Raises ``ValueError`` for keys that are not of length 1 (the nearest and the
    most relevant picture would differ) and for an empty set of pictures.
    """

    def __init__(
        self, model: TokenImageMatcher, keys: Float[Tensor, "k e"], bos: int, eos: int, limit: int = LIMIT
    ) -> None:
        if not len(keys) or keys.shape[1] != model.config.embed:
            raise ValueError(f"keys have the shape {tuple(keys.shape)}, expected 1 or more of "
                             f"{model.config.embed} numbers; make them with image_keys")
        norms = keys.norm(dim=1)
        if not torch.allclose(norms, torch.ones_like(norms), atol=1e-3):
            raise ValueError(f"keys have lengths from {float(norms.min()):.3g} to {float(norms.max()):.3g}, "
                             "expected 1; divide each by its length")
        most = model.config.text.context - 2
        if not 1 <= limit <= most:
            raise ValueError(f"limit is {limit}, BERT reads up to {most} tokens and two special ones; choose "
                             f"from 1 to {most}")
        self.model, self.keys, self.bos, self.eos, self.limit = model, keys, bos, eos, limit

    @torch.no_grad()
    def embed(self, texts: Sequence[Sequence[int]], batch: int = 32) -> list[Float[Tensor, "t e"]]:
        """Embeddings of the tokens of each text, each read with its neighbours."""
        pieces = [(i, part) for i, text in enumerate(texts) for part in
                  torch.tensor(list(text)).split(near_equal_parts(len(text), self.limit)) if len(part)]
        order = sorted(range(len(pieces)), key=lambda i: len(pieces[i][1]))
        rows: dict[int, Tensor] = {}
        with eval_mode(self.model) as device:
            for start in range(0, len(order), batch):
                chosen = order[start:start + batch]
                longest = max(len(pieces[i][1]) for i in chosen) + 2
                ids = torch.full((len(chosen), longest), self.model.config.text.pad)
                for row, i in enumerate(chosen):
                    part = pieces[i][1]
                    ids[row, 0], ids[row, len(part) + 1] = self.bos, self.eos
                    ids[row, 1:len(part) + 1] = part
                lengths = torch.tensor([len(pieces[i][1]) + 2 for i in chosen])
                mask = torch.arange(longest) < lengths[:, None]
                f = self.model.embed_words(self.model.text_features(ids.to(device), mask.to(device)))
                rows |= {i: f[row, 1:int(lengths[row]) - 1] for row, i in enumerate(chosen)}
        found: list[list[Tensor]] = [[] for _ in texts]
        for i, (text, _) in enumerate(pieces):
            found[text].append(rows[i])
        return [torch.cat(parts) if parts else self.keys[:0] for parts in found]

    def vokenise(self, texts: Sequence[Sequence[int]], batch: int = 32) -> list[list[int]]:
        """The voken of each token of each text, in the order of the texts."""
        found: list[list[int]] = []
        span = 64 * batch                                       # texts whose rows are held at a time
        for start in range(0, len(texts), span):
            embedded = self.embed(texts[start:start + span], batch)
            vokens = nearest_images(torch.cat([self.keys[:0], *embedded]), self.keys)
            found += [part.tolist() for part in vokens.split([len(one) for one in embedded])]
        return found

    def top(self, text: Sequence[int], count: int = 5) -> tuple[Tensor, Tensor]:
        """Relevances (t, count) and numbers of the pictures that fit each token of one text best."""
        return top_images(self.embed([text])[0], self.keys, count)
