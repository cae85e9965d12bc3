r"""Multimodal skip-gram: vectors of words that predict the words around them and, where a word has pictures,
lie near those.

Paper: A. Lazaridou, N. T. Pham and M. Baroni (2015), *Combining Language and Vision with a Multimodal
Skip-gram Model*, NAACL-HLT, arXiv:1501.02598, sec. 3 and 4.  Survey: 3.4.  Differs from the paper: the words
of a block of 20 are predicted before their pictures are looked at, not one word at a time. The paper gives
neither its vocabulary nor epochs, learning rate and the start of the mapping: here they are word2vec.c's, and
the mapping starts with orthogonal rows of length 1. The gradient of a cosine grows without bound where a
vector is near zero, as all are at the start; ``clip`` bounds it where it is set, of which the paper says
nothing.

Letters: $v_w$ is the vector of word $w$ that becomes its representation, a row of skip-gram's ``W_in`` (the
paper's $u_w$); $f_w$ is the vector of its pictures, which never changes (the paper's $v_w$); $z_w$ is where
the word lies among pictures. Rows are multiplied from the right, so that $M$ is the paper's $M^{u\to v}$
transposed. Letters of shapes: b tokens, m pairs, p words with pictures, k others, d and f numbers of a word's
and of a picture's vector.
"""

import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from mmlearn.data.vocabulary import Text, Vocabulary, generator_of, numbered
from mmlearn.data.word_vectors import WordVectors
from mmlearn.files import locked
from mmlearn.images_for_language.sequential_fusion import unit_rows
from mmlearn.images_for_language.skip_gram import (
    SkipGram,
    SkipGramConfig,
    SkipGramTraining,
    _Run,
    objective,
)
from mmlearn.images_for_language.zero_shot import nearest_pictures
from mmlearn.nn.configuration import FieldError
from mmlearn.nn.modes import seeded

BLOCK = 20              # words that are predicted before their pictures are looked at


@dataclass(frozen=True)
class MultimodalSkipGramConfig(SkipGramConfig):
    """Skip-gram's configuration and that of its pictures. The defaults are model A's; the paper's vocabulary
    is not stated, so that it is word2vec.c's on text8 (its settings were chosen on text9)."""

    dim: int = 300
    objective: str = "hs"       # no negative words: the text is learnt with the hierarchical softmax
    features: int = 300         # f, numbers of a picture's vector
    others: int = 20            # k, pictures of other words beside a word's own
    margin: float = 0.5         # gamma
    mapped: bool = False        # model B: pictures are reached by a mapping M
    penalty: float = 0.0        # lambda, weight of the mapping's squares
    clip: float = 0.0           # longest gradient at z; 0: any

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("margin", 2), ("penalty", 1e3), ("clip", 1e6)):
            if not 0 <= getattr(self, name) <= most:
                raise FieldError("MultimodalSkipGramConfig", name,
                                 f"is {getattr(self, name)}, expected from 0 to {most:,.0f}")
        if not self.mapped and self.features != self.dim:
            raise FieldError("MultimodalSkipGramConfig", "features", f"is {self.features} and dim {self.dim};"
                             f" without a mapping both are the same, so reduce the pictures or set mapped")
        if not self.mapped and self.penalty:
            raise FieldError("MultimodalSkipGramConfig", "penalty", f"is {self.penalty}, and there is no "
                             f"mapping to penalise; set it to 0, or mapped")

    @classmethod
    def paper_a(cls) -> "MultimodalSkipGramConfig":
        """Model A: pictures and words in one space, 300 numbers each, 20 others."""
        return cls()

    @classmethod
    def paper_b(cls) -> "MultimodalSkipGramConfig":
        """Model B: a mapping of 90,000 numbers to pictures of 300, 5 others, lambda 0.0001."""
        return cls(others=5, mapped=True, penalty=1e-4)

    @classmethod
    def fc7(cls) -> "MultimodalSkipGramConfig":
        """Model B for all 4,096 numbers of AlexNet's last hidden layer, of which the paper took 300 to keep A
        and B comparable: a mapping of 1,228,800."""
        return cls(features=4096, others=5, mapped=True, penalty=1e-4)

    @classmethod
    def mini_a(cls, vocab: int = 600) -> "MultimodalSkipGramConfig":
        """A miniature of A for the word world: 32 numbers."""
        return cls(vocab, 32, "hs", 5, min_count=1, sample=0.0, features=32, others=20)

    @classmethod
    def mini(cls, vocab: int = 600, features: int = 64) -> "MultimodalSkipGramConfig":
        """A miniature of B: words of 32 numbers, pictures of 64."""
        return cls(vocab, 32, "hs", 5, min_count=1, sample=0.0, features=features, others=5, mapped=True,
                   penalty=1e-4)


# ------------------------------------------------------------------------------------------ equations


def cosine(
    z: Float[Tensor, "*b f"], f: Float[Tensor, "*#b f"]
) -> Float[Tensor, "*b"]:
    r"""eq:mmskipgram-cosine: $\cos(z,f)=zf^\top/(\|z\|\,\|f\|)$, and 0 where one of the
    two is 0."""
    return (unit_rows(z) * unit_rows(f)).sum(dim=-1)


def cosine_gradient(
    z: Float[Tensor, "*b f"], f: Float[Tensor, "*b f"]
) -> Float[Tensor, "*b f"]:
    r"""eq:mmskipgram-cosine-gradient: $\dfrac{\partial\cos(z,f)}{\partial z}
    =\dfrac{\hat f-\cos(z,f)\,\hat z}{\|z\|}$ with $\hat z=z/\|z\|$: at right angles to
    $z$, so that no step along it changes the length of $z$ at first."""
    length = z.norm(dim=-1, keepdim=True)
    return (unit_rows(f) - cosine(z, f)[..., None] * unit_rows(z)) / length


def mapped(
    v: Float[Tensor, "*b d"], M: Float[Tensor, "d f"]
) -> Float[Tensor, "*b f"]:
    r"""eq:mmskipgram-map: $z_w=v_wM$ (model B; in model A $z_w=v_w$)."""
    return v @ M


def vision_objective(
    z: Float[Tensor, "b f"], own: Float[Tensor, "b f"],
    others: Float[Tensor, "b k f"], margin: float | int,
) -> Float[Tensor, " b"]:
    r"""eq:mmskipgram-vision: $L_{vision}(w)
    =-\sum_{w'}\max\big(0,\gamma-\cos(z_w,f_w)+\cos(z_w,f_{w'})\big)$ over $k$
    words $w'$ with other pictures: at most 0, and to be made large."""
    right = cosine(z, own)[:, None]                             # b 1
    wrong = cosine(z[:, None].expand_as(others), others)        # b k
    return -(margin - right + wrong).clamp(min=0).sum(dim=1)


def vision_gradient(
    z: Float[Tensor, "b f"], own: Float[Tensor, "b f"],
    others: Float[Tensor, "b k f"], margin: float | int,
) -> Float[Tensor, "b f"]:
    r"""eq:mmskipgram-vision-gradient: $\dfrac{\partial L_{vision}}{\partial z}
    =\sum_{w'}\dfrac{(\hat f_w-\hat f_{w'})-(c_w-c_{w'})\,\hat z}{\|z\|}$
    over the $w'$ with $\gamma-c_w+c_{w'}>0$, where $c$ are the cosines."""
    many = z[:, None].expand_as(others)
    right, wrong = cosine(z, own)[:, None], cosine(many, others)
    pull = unit_rows(own)[:, None] - unit_rows(others)          # b k f
    pull = pull - (right - wrong)[..., None] * unit_rows(many)
    active = (margin - right + wrong > 0)[..., None]
    return (active * pull).sum(dim=1) / z.norm(dim=1, keepdim=True)


def map_penalty(M: Float[Tensor, "d f"], lam: float | int) -> Float[Tensor, ""]:
    r"""eq:mmskipgram-penalty: $-\lambda\|M\|^2$, added to what model B makes large."""
    return -lam * M.square().sum()


def map_gradients(
    v: Float[Tensor, "b d"], M: Float[Tensor, "d f"],
    dz: Float[Tensor, "b f"], lam: float | int,
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "d f"]]:
    r"""eq:mmskipgram-map-gradient: $\dfrac{\partial L}{\partial v}
    =\dfrac{\partial L}{\partial z}M^\top$ and $\dfrac{\partial L}{\partial M}
    =v^\top\dfrac{\partial L}{\partial z}-2\lambda M$."""
    return dz @ M.mT, v.mT @ dz - 2 * lam * M


def multimodal_objective(
    log_p: Float[Tensor, " m"], vision: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:mmskipgram-objective: $\frac1T\sum_t\big(L_{ling}(w_t)+L_{vision}(w_t)\big)$ with
    $L_{ling}(w_t)=\sum_{-c\le j\le c,\,j\ne0}\log p_\theta(w_{t+j}\mid w_t)$ over $T$ tokens:
    to be made large; a training makes its negative small."""
    return objective(log_p, len(vision)) + vision.mean()


# ------------------------------------------------------------------------------------------ model


class MultimodalSkipGram(SkipGram):
    """Skip-gram whose words also lie near their pictures (eq:mmskipgram-objective).

    ``W_in`` (v, d) and ``W_out`` are skip-gram's own; model B has a mapping ``M`` (d, f), model A none. The
    vectors of ``pictures``, one a word, are not trained; words that are not in the vocabulary are left out.
    Raises ``ValueError`` for vectors of another width than the configuration's, for one of zeros, and for
    fewer than two words with pictures: a word is told from another.
    """

    M: nn.Parameter | None
    row: Tensor
    pictures: Tensor

    def __init__(self, config: MultimodalSkipGramConfig, vocabulary: Vocabulary | None = None,
                 pictures: WordVectors | None = None) -> None:
        super().__init__(config, vocabulary)
        self.config: MultimodalSkipGramConfig
        M = nn.Parameter(torch.empty(config.dim, config.features)) if config.mapped else None
        self.register_parameter("M", M)
        if M is not None and not M.is_meta:
            nn.init.orthogonal_(M)
        ids = {} if vocabulary is None else vocabulary.ids
        known = [word for word in (pictures.words if pictures is not None else ()) if word in ids]
        vectors, row = torch.zeros(0, config.features), torch.full((self.config.vocab,), -1)
        if pictures is not None:
            vectors = pictures.rows(known).float()
            check_pictures(known, vectors, config.features)
            row[[ids[word] for word in known]] = torch.arange(len(known))
        self.register_buffer("row", row, persistent=False)                  # v: of pictures, -1 for none
        self.register_buffer("pictures", unit_rows(vectors), persistent=False)  # p f

    def placed(self, words: Int64[Tensor, " b"]) -> Float[Tensor, "b f"]:
        """Where words lie among pictures: z."""
        v = self.W_in[words]
        return v if self.M is None else mapped(v, self.M)

    def vision(
        self, words: Int64[Tensor, " b"], others: Int64[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        """L_vision of each token: eq:mmskipgram-vision, in model B with eq:mmskipgram-penalty, and exactly 0
        for words without pictures. ``others`` are rows of ``pictures``."""
        has = self.row[words] >= 0
        found = torch.zeros(len(words), device=words.device)
        if not bool(has.any()):
            return found
        own = self.pictures[self.row[words[has]]]
        seen = vision_objective(self.placed(words[has]), own, self.pictures[others[has]],
                                self.config.margin)
        if self.M is not None:
            seen = seen + map_penalty(self.M, self.config.penalty)
        return found.to(seen).masked_scatter(has, seen)

    def objective(
        self, inputs: Int64[Tensor, " m"], targets: Int64[Tensor, " m"],
        words: Int64[Tensor, " b"], others: Int64[Tensor, "b k"]
    ) -> Float[Tensor, ""]:
        """eq:mmskipgram-objective of some tokens ``words`` and the pairs around them; a loss is its
        negative."""
        return multimodal_objective(-self.losses(inputs, targets), self.vision(words, others))

    def draw_others(
        self, words: Int64[Tensor, " b"], generator: torch.Generator | None = None
    ) -> Int64[Tensor, "b k"]:
        """Rows of the pictures of other words for each token (eq:mmskipgram-others)."""
        shape = (len(words), self.config.others)
        drawn = torch.randint(max(1, len(self.pictures) - 1), shape, generator=generator)
        return another(drawn.to(self.row.device), self.row[words])

    @torch.no_grad()
    def word_pictures(self) -> WordVectors:
        """Where all words lie among pictures, those without pictures, too: z as vectors with their words."""
        words = self.vectors().words
        return WordVectors(words, self.placed(torch.arange(len(words), device=self.row.device)).cpu())

    def imagine(self, word: str, pictures: Float[Tensor, "n f"], k: int = 5) -> tuple[Tensor, Tensor]:
        """Numbers (k) of the pictures nearest to where a word lies, and their cosines (k): what a word looks
        like that was only read. Raises ``ValueError`` for a word that was not."""
        return nearest_pictures(self.word_pictures()[word], pictures, k)


def another(
    drawn: Int[Tensor, "b k"], own: Int[Tensor, " b"]
) -> Int[Tensor, "b k"]:
    r"""eq:mmskipgram-others: $w'\sim\mathrm{Uniform}(\{1,\dots,p\}\setminus\{w\})$ over the words with
    pictures: of $p-1$ numbers those from a word's own on are moved up by one."""
    return drawn + (drawn >= own[:, None]).long()


def check_pictures(words: Sequence[str], vectors: Float[Tensor, "p f"], features: int) -> None:
    """Refuse vectors of pictures that cannot be learnt from."""
    if vectors.shape[1] != features:
        raise ValueError(f"the vectors of pictures have {vectors.shape[1]} numbers, the configuration says "
                         f"{features}; set features to it")
    if len(words) < 2:
        raise ValueError(f"of the words of the corpus {len(words)} have pictures "
                         f"({', '.join(words) or 'none'}); give those of two or more, so that there is "
                         f"another to be told from")
    zero = (vectors.norm(dim=1) == 0).nonzero()
    if len(zero):
        raise ValueError(f"the vector of the pictures of {words[int(zero[0])]!r} is all zeros, which points "
                         f"nowhere; leave the word out")


# ------------------------------------------------------------------------------------------ training


def train_multimodal_skip_gram(
    sentences: Sequence[Sequence[str]], pictures: WordVectors | None = None,
    config: MultimodalSkipGramConfig | None = None, *, vocabulary: Vocabulary | None = None,
    model: MultimodalSkipGram | None = None, seed: int = 0, folder: str | Path | None = None,
    save_every: int | None = None, progress: Any = True,
) -> SkipGramTraining:
    """Train on a corpus and the vectors of its words' pictures, one update a pair and one a token with
    pictures, as ``train_skip_gram`` does it, with the same arguments; without pictures the result is its own.

    ``config`` is ``MultimodalSkipGramConfig.mini()`` unless given; with ``model`` training begins from its
    weights, and a mapping that needs no gradient stays. The history's scalar "vision" is the mean L_vision of
    the tokens with pictures in each part of 10,000 words, without the penalty. ``result.model`` is the
    ``MultimodalSkipGram``, ``result.vectors()`` are its words (E6: in model B, too, they are not mapped).

    Raises ``ValueError`` as ``train_skip_gram`` does, and for another objective than the hierarchical
    softmax.
    """
    if model is not None and (config is not None or vocabulary is not None or pictures is not None):
        raise ValueError("a model is given, and a configuration, a vocabulary or pictures, too; it has its "
                         "own, so give it alone")
    config = model.config if model is not None else config or MultimodalSkipGramConfig.mini()
    if config.objective != "hs":
        raise ValueError(f"objective is {config.objective!r}; multimodal skip-gram learns its text with the "
                         f"hierarchical softmax, 'hs'")
    if model is None:
        vocabulary = vocabulary or Vocabulary.of(sentences, config.min_count)
        with seeded(seed):
            model = MultimodalSkipGram(config, vocabulary, pictures)
    if model.vocabulary is None:
        raise ValueError("the model knows no words; make it with the vocabulary of the corpus")
    run = _MultimodalRun(model, numbered(sentences, model.vocabulary), seed)
    with locked(folder) if folder is not None else nullcontext():
        return run(folder, save_every, progress)


class _MultimodalRun(_Run):
    """The passes of skip-gram over a corpus; after each block of words its pictures."""

    def __init__(self, model: MultimodalSkipGram, text: Text, seed: int) -> None:
        from mmlearn.images_for_language.multimodal_skip_gram_updates import vision_updates

        super().__init__(model, text, seed, 1, False)
        self.look, self.multimodal, self.read = vision_updates, model, self.update
        self.update = self.read_and_look
        M = np.zeros((0, 0), np.float32) if model.M is None else model.M.detach().numpy()
        config = model.config
        self.fixed_sight = (model.row.int().numpy(), model.pictures.numpy())
        self.M, self.is_learnt = M, model.M is None or model.M.requires_grad
        self.numbers = tuple(np.float32(x) for x in (config.margin, config.penalty, config.clip))
        self.seen: tuple[float, int] = (0.0, 0)
        self.about["pictures"] = f"{len(model.pictures)}, {zlib.crc32(self.fixed_sight[1].tobytes()):08x}"

    def read_and_look(self, W_in: np.ndarray, W_out: np.ndarray, ids: np.ndarray, sentence: np.ndarray,
                      width: np.ndarray, begin: int, end: int, *rest: Any) -> tuple[float, int]:
        """Updates of the words ``begin`` … ``end`` - 1, block after block."""
        lr = rest[3]
        others = self.multimodal.draw_others(torch.from_numpy(ids[begin:end]).long(),
                                             generator_of(self.seed, self.drawn[0], begin, 1)).int().numpy()
        loss, pairs, seen, tokens = 0.0, 0, 0.0, 0
        for first in range(begin, end, BLOCK):
            last = min(first + BLOCK, end)
            more = self.read(W_in, W_out, ids, sentence, width, first, last, *rest)
            loss, pairs = loss + more[0], pairs + more[1]
            if len(self.multimodal.pictures):
                more = self.look(W_in, self.M, ids[first:last], *self.fixed_sight,
                                 others[first - begin:last - begin], *self.numbers[:2], lr,
                                 lr * self.is_learnt, self.numbers[2])
                seen, tokens = seen + more[0], tokens + more[1]
        self.seen = seen, tokens
        return loss, pairs

    def record(self, step: int, loss: float, pairs: int) -> None:
        """Note what a part was worth, and its L_vision."""
        super().record(step, loss, pairs)
        if pairs:
            self.history.scalars.setdefault("vision", []).append(self.seen[0] / max(1, self.seen[1]))
