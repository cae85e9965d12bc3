r"""Words with two vectors, one of text and one of pictures, kept to be weighed against each other later.

Papers: E. Bruni, N.-K. Tran and M. Baroni (2014), *Multimodal Distributional Semantics*, JAIR 49, sec. 3.3;
D. Kiela and L. Bottou (2014), EMNLP, sec. 3.  Survey: 3.3.
Differs from the papers: the network is the book's classifier of scenes; its vectors are centred. A word
without pictures has zeros in their place, so that its text alone decides at every weight but 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmlearn.checkpoints import load_model, save_model
from mmlearn.files import package_data
from mmlearn.images_for_language.sequential_fusion import Blocks, FusedSpace, unit_rows
from mmlearn.images_for_language.skip_gram import SkipGramConfig, train_skip_gram
from mmlearn.images_for_language.visual_vectors import prepared, word_vectors
from mmlearn.nn.configuration import check

FILE, KIND = "word-space.safetensors", "word-space"
SHARE = 0.5                     # alpha, the weight of the text, with which a space is opened


@dataclass(frozen=True)
class WordSpaceConfig:
    words: int = 733            # w, with a vector of text
    pictured: int = 190         # n, the first of them, which have one of pictures, too
    text: int = 50              # d, numbers of a vector of text
    image: int = 128            # f, numbers of a vector of pictures

    def __post_init__(self) -> None:
        check(self, pictured=(0, self.words))


class WordSpace(nn.Module):
    """Vectors of text (w, d) and of pictures (n, f) of the first n of w words; nothing in it is trained."""

    text: Tensor
    image: Tensor

    def __init__(self, config: WordSpaceConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("text", torch.zeros(config.words, config.text))
        self.register_buffer("image", torch.zeros(config.pictured, config.image))

    def blocks(self) -> Blocks:
        """Both sides with rows of length 1 (eq:fusion-rows), and zeros where a word has no pictures."""
        none = self.image.new_zeros(self.config.words - self.config.pictured, self.config.image)
        return Blocks(unit_rows(self.text), torch.cat([unit_rows(self.image), none]))


def make_word_space(
    sentences: Sequence[Sequence[str]], pictures: Mapping[str, Tensor], network: Callable[[Tensor], Tensor],
    dim: int = 50, seed: int = 0,
) -> tuple[WordSpace, tuple[str, ...]]:
    """A skip-gram reads the sentences, a network looks at the pictures of words (n, 3, y, x), 0 to 255; the
    space, and its words, those with pictures first.

    Raises ``ValueError`` for a word that has pictures and is in no sentence.
    """
    config = SkipGramConfig(dim=dim, min_count=1, sample=0.0, epochs=10, lr=0.05)
    read = train_skip_gram(sentences, config, seed=seed, progress=False).vectors()
    words = (*pictures, *(word for word in read.words if word not in pictures))
    seen = prepared(word_vectors(network, pictures.values()), "centre-unit")        # eq:visual-mean, -centre
    space = WordSpace(WordSpaceConfig(len(words), len(seen), dim, seen.shape[1]))
    space.text.copy_(read.rows(words).detach())
    space.image.copy_(seen)
    return space, words


def save_word_space(
    path: str | Path, space: WordSpace, words: Sequence[str], about: Mapping[str, Any]
) -> None:
    """Write a space with its words as ``path`` (.safetensors, 16 bits; or a folder) and what is to be known
    of it."""
    save_model(path, space, KIND, {**about, "words": list(words)}, half=True)


def load_word_space(path: str | Path | None = None) -> FusedSpace:
    """A space that ``save_word_space`` wrote, by default the book's; ``with_share`` weighs it otherwise.

    Raises ``FileNotFoundError`` or ``ValueError`` for files that are missing or hold something else.
    """
    path = package_data("checkpoints", FILE) if path is None else path
    remedy = f"make it with `python -m mmlearn.experiments {KIND}`"
    space, about = load_model(path, {KIND: (WordSpaceConfig, WordSpace)}, remedy)
    words, blocks = about.get("words"), cast(WordSpace, space).blocks()
    if not isinstance(words, list) or len(words) != len(blocks.text):
        raise ValueError(f"{path} has {len(blocks.text)} vectors and not as many words; {remedy}")
    return FusedSpace(blocks, share=SHARE, words=tuple(words))
