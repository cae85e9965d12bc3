r"""Imagined vectors: a map from text to pictures, learnt on the words that have both, and then asked for
every word.

Paper: G. Collell, T. Zhang and M.-F. Moens (2017), *Imagined Visual Representations as Multimodal
Embeddings*, AAAI (MAP-C).  Survey: beyond it; a baseline of 3.3 and 3.4.
Differs from the paper: the sizes of ``glove_*`` (300 numbers of GloVe, 128 of a VGG network, 300 hidden
units) and the dropout could not be checked; both parts are joined at unit length, which the paper may or may
not do.

Letters of shapes: w words, d numbers of a text vector, f of a picture's.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.images_for_language.sequential_fusion import fuse_features, unit_rows
from mmlearn.nn.configuration import check


@dataclass(frozen=True)
class ImaginedConfig:
    text: int = 300             # d, numbers of a text vector
    image: int = 128            # f, numbers of a picture vector
    hidden: int = 0             # units between them; 0: the map is linear
    dropout: float | int = 0.1        # of the input, and of the hidden units

    def __post_init__(self) -> None:
        check(self, hidden=(0, 1_000_000))

    @classmethod
    def glove_linear(cls) -> "ImaginedConfig":
        """MAP-C with a linear map, from GloVe's 300 numbers to 128 of a picture."""
        return cls()

    @classmethod
    def glove_network(cls) -> "ImaginedConfig":
        """MAP-C with one hidden layer of 300."""
        return cls(hidden=300, dropout=0.25)

    @classmethod
    def mini(cls) -> "ImaginedConfig":
        """A miniature for vectors of the scene world."""
        return cls(32, 128, 32, 0.0)


# -------------------------------------------------------------------------------------------------- equations

def imagined_error(
    guess: Float[Tensor, "w f"], image: Float[Tensor, "w f"]
) -> Float[Tensor, ""]:
    r"""eq:imagined-error: $\frac1{\lvert W\rvert}\sum_w\lVert f(t_w)-v_w\rVert^2$ over the words W that have
    pictures."""
    return (guess - image).square().sum(dim=1).mean()


def imagined_vectors(
    text: Float[Tensor, "w d"], guess: Float[Tensor, "w f"],
    alpha: float | int = 0.5
) -> Float[Tensor, "w c"]:
    r"""eq:imagined-join: $\alpha\frac{t_w}{\lVert t_w\rVert}\oplus(1-\alpha)\frac{f(t_w)}{\lVert f(t_w)
    \rVert}$ for every word: the second part is imagined also where a picture exists, so that all words are
    alike."""
    return fuse_features(unit_rows(text), unit_rows(guess), alpha)


class ImaginedVectors(nn.Module):
    """The map from text to pictures, linear or with a hidden layer of hyperbolic tangents.

    ``forward``: text vectors (w, d) -> picture vectors (w, f) (eq:imagined-error trains it); ``vectors``
    joins both (eq:imagined-join).
    """

    def __init__(self, config: ImaginedConfig) -> None:
        super().__init__()
        self.config = c = config
        between = [nn.Linear(c.text, c.hidden), nn.Tanh(), nn.Dropout(c.dropout)] if c.hidden else []
        self.map = nn.Sequential(nn.Dropout(c.dropout), *between,
                                 nn.Linear(c.hidden or c.text, c.image))

    def forward(self, text: Float[Tensor, "w d"]) -> Float[Tensor, "w f"]:
        if text.shape[1] != self.config.text:
            raise ValueError(f"text vectors have {text.shape[1]} numbers, the map wants {self.config.text}; "
                             f"give those it was made for")
        return self.map(text)

    @torch.no_grad()
    def vectors(self, text: Float[Tensor, "w d"], alpha: float | int = 0.5) -> Float[Tensor, "w c"]:
        """eq:imagined-join of every word."""
        return imagined_vectors(text, self(text), alpha)


def train_imagined(
    model: ImaginedVectors, text: Float[Tensor, "w d"], image: Float[Tensor, "w f"],
    generator: torch.Generator, steps: int = 500, batch: int = 64, lr: float = 1e-2
) -> list[float]:
    """The errors of the steps of Adam; rows are the words that have both vectors.

    Dropout draws from torch's own generator: put the call into ``mmlearn.nn.modes.seeded`` where it is used.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr)
    errors = []
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(text), (min(batch, len(text)),), generator=generator)
        error = imagined_error(model(text[rows]), image[rows])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    model.eval()
    return errors
