r"""A stacked autoencoder for two modalities, whose innermost code is the vector of a word.

Paper: C. Silberer and M. Lapata (2014), *Learning Grounded Meaning Representations with Autoencoders*, ACL,
sec. 3.2 (the model), 4.2 (its sizes).  Survey: beyond it; it stands between the concatenation of 3.3 and the
joint training of 3.4.
Differs from the paper: nothing that it says. What it leaves open is decided here: its "entropic loss" of
hyperbolic tangents is the cross-entropy of numbers in [-1, 1] read as probabilities; a denoised target, the
sum of a picture's vector and the mean of the word's other pictures, is cut to [-1, 1]; the weight of the
squared weights is 1e-5; each layer is pre-trained with the same number of steps of Adam.

Both inputs are vectors of attributes in [-1, 1]: of a word, and of a picture of it. All layers are tied: what
decodes is the transpose of what codes. Letters of shapes: n numbers of an input, h of a code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text_for_vision.blockwise import single


@dataclass(frozen=True)
class BimodalAutoencoderConfig:
    text: int = 2362                            # attributes of a word in text
    image: int = 414                            # visual attributes
    text_codes: tuple[int, int] = (700, 500)    # units of the two codes of the text
    image_codes: tuple[int, int] = (170, 100)   # of the picture
    width: int = 500                            # units of the code of both
    labels: int = 541                           # O, words that the softmax tells apart
    text_noise: float | int = 0.1               # share of a text masked while its layers are pre-trained
    noise: float | int = 0.2                    # v, share of the text's code masked before the joint code
    reconstruction: float | int = 0.8           # delta_r
    classification: float | int = 1.0           # delta_c
    decay: float | int = 1e-5                         # lambda, weight of the squared weights

    def __post_init__(self) -> None:
        check(self, text_noise=(0, 1), noise=(0, 1), reconstruction=(0, 1000), classification=(0, 1000),
              decay=(0, 1))

    @classmethod
    def paper(cls) -> "BimodalAutoencoderConfig":
        """The one of the paper, for 541 nouns."""
        return cls()

    @classmethod
    def mini(cls) -> "BimodalAutoencoderConfig":
        """A miniature for some tens of words."""
        return cls(24, 16, (20, 12), (12, 8), 10, 12)


class Unfolded(NamedTuple):
    """What the whole stack makes of a batch: ``code`` (b, width), the logits of the reconstructed ``text``
    and ``image``, the logits of the ``labels``."""

    code: Tensor
    text: Tensor
    image: Tensor
    labels: Tensor


# -------------------------------------------------------------------------------------------------- equations

def encode(
    x: Float[Tensor, "b n"], W: Float[Tensor, "h n"], b: Float[Tensor, " h"]
) -> Float[Tensor, "b h"]:
    r"""eq:autoencoder-code: $y=\tanh(xW^\top+b)$."""
    return torch.tanh(x @ W.mT + b)


def decode_logits(
    y: Float[Tensor, "b h"], W: Float[Tensor, "h n"], b: Float[Tensor, " n"]
) -> Float[Tensor, "b n"]:
    r"""eq:autoencoder-decode: $\hat x=\tanh(a)$ with $a=yW+b'$, the same $W$: given are the $2a$, for
    $(1+\tanh a)/2=\sigma(2a)$."""
    return 2 * (y @ W + b)


def masked(
    x: Float[Tensor, "b n"], keep: Bool[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    r"""eq:autoencoder-noise: $\tilde x_i=x_i$ with probability $1-v$, else 0: what is masked has to be
    guessed from the rest."""
    return x * keep


def denoised_target(
    x: Float[Tensor, "b n"], mean_of_others: Float[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    r"""eq:autoencoder-target: $x+\frac1{m-1}\sum_{j\ne i}x_j$, cut to [-1, 1]: one picture counts as a noisy
    view of its word."""
    return (x + mean_of_others).clamp(-1, 1)


def entropic_error(
    logits: Float[Tensor, "b n"], x: Float[Tensor, "b n"]
) -> Float[Tensor, ""]:
    r"""eq:autoencoder-error: $-\frac1n\sum_i\big(p_i\log q_i+(1-p_i)\log(1-q_i)\big)$ with $p=(x+1)/2$ and
    $q=(\hat x+1)/2$, the mean over numbers and batch."""
    p = single(x + 1) / 2
    return F.binary_cross_entropy_with_logits(single(logits), p)


def stacked_loss(
    error: Float[Tensor, ""], labelling: Float[Tensor, ""],
    squares: Float[Tensor, ""], config: BimodalAutoencoderConfig
) -> Float[Tensor, ""]:
    r"""eq:autoencoder-loss: $\delta_rL_r+\delta_cL_c+\lambda R$: the reconstruction of both inputs, the word
    that the code is of, and the squared weights."""
    return (config.reconstruction * error + config.classification * labelling
            + config.decay * squares)


def squared_weights(
    tied: list[Tensor], labels: Float[Tensor, "o d"]
) -> Float[Tensor, ""]:
    r"""eq:autoencoder-squares: $R=\sum_{j=1}^52\lVert W_j\rVert^2+\lVert W_6\rVert^2$: a tied matrix codes
    and decodes, so it counts twice; $W_6$ is that of the labels."""
    return torch.stack([2 * W.square().sum() for W in tied]
                       + [labels.square().sum()]).sum()


# ------------------------------------------------------------------------------------------------------ model

class TiedLayer(nn.Module):
    """An autoencoder of one layer (eq:autoencoder-code, eq:autoencoder-decode)."""

    def __init__(self, numbers: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, numbers))
        nn.init.xavier_uniform_(self.weight)
        self.bias = nn.Parameter(torch.zeros(units))
        self.back_bias = nn.Parameter(torch.zeros(numbers))

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b h"]:
        return encode(x, self.weight, self.bias)

    def back(self, y: Float[Tensor, "b h"]) -> Float[Tensor, "b n"]:
        """The logits of the input, 2a; the input itself is tanh(a)."""
        return decode_logits(y, self.weight, self.back_bias)


class BimodalAutoencoder(nn.Module):
    """Two stacks of two layers, and a layer over both (eq:autoencoder-loss trains it).

    ``forward``: texts (b, text) and pictures (b, image) in [-1, 1] -> codes (b, width), the vectors of words;
    ``unfolded`` gives what the loss needs. Raises ``ValueError`` for inputs of another width.
    """

    def __init__(self, config: BimodalAutoencoderConfig) -> None:
        super().__init__()
        self.config = c = config
        self.text = nn.ModuleList([TiedLayer(c.text, c.text_codes[0]),
                                   TiedLayer(*c.text_codes)])
        self.image = nn.ModuleList([TiedLayer(c.image, c.image_codes[0]),
                                    TiedLayer(*c.image_codes)])
        self.both = TiedLayer(c.text_codes[1] + c.image_codes[1], c.width)
        self.labels = nn.Linear(c.width, c.labels)

    def codes(
        self, text: Float[Tensor, "b n"], image: Float[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b g"]]:
        """The second codes of both modalities, at unit length."""
        for name, x in (("text", text), ("image", image)):
            if x.shape[1] != (wanted := getattr(self.config, name)):
                raise ValueError(f"{name} vectors have {x.shape[1]} numbers, the model wants {wanted}; give "
                                 f"those it was made for")
        for layer in self.text:
            text = layer(text)
        for layer in self.image:
            image = layer(image)
        return F.normalize(text, dim=1), F.normalize(image, dim=1)

    def forward(
        self, text: Float[Tensor, "b n"], image: Float[Tensor, "b m"]
    ) -> Float[Tensor, "b d"]:
        return self.both(torch.cat(self.codes(text, image), dim=1))

    def unfolded(
        self, text: Float[Tensor, "b n"], image: Float[Tensor, "b m"],
        keep: Bool[Tensor, "b h"] | None = None
    ) -> Unfolded:
        """The code and what it is decoded into; ``keep`` says which units of the text's code are seen."""
        text, image = self.codes(text, image)
        if keep is not None:
            text = masked(text, keep)
        code = self.both(torch.cat([text, image], dim=1))
        parts = torch.tanh(self.both.back(code) / 2).split(
            [text.shape[1], image.shape[1]], dim=1)
        return Unfolded(code, decoded(self.text, parts[0]),
                        decoded(self.image, parts[1]), self.labels(code))

    def squares(self) -> Float[Tensor, ""]:
        """eq:autoencoder-squares of all weights; no bias."""
        tied = [*self.text, *self.image, self.both]
        return squared_weights([layer.weight for layer in tied], self.labels.weight)   # type: ignore[misc]

    def loss(
        self, text: Float[Tensor, "b n"], image: Float[Tensor, "b m"],
        target: Float[Tensor, "b m"], words: Int[Tensor, " b"],
        keep: Bool[Tensor, "b h"] | None = None
    ) -> Float[Tensor, ""]:
        """eq:autoencoder-loss of a batch; ``target`` are the pictures' denoised vectors, ``words`` numbers of
        the words."""
        out = self.unfolded(text, image, keep)
        error = entropic_error(torch.cat([out.text, out.image], dim=1),
                               torch.cat([text, target], dim=1))
        return stacked_loss(error, F.cross_entropy(out.labels, words),
                            self.squares(), self.config)


def decoded(layers: nn.ModuleList, code: Float[Tensor, "b h"]) -> Float[Tensor, "b n"]:
    """The logits of the input of two layers, from their code."""
    first, second = layers
    return first.back(torch.tanh(second.back(code) / 2))        # type: ignore[operator]


# --------------------------------------------------------------------------------------------------- training

class WordPictures(NamedTuple):
    """Training data, a row a picture: the ``text`` vector of its word, its own ``image`` vector, and the
    number of its ``word``."""

    text: Tensor
    image: Tensor
    word: Tensor


def mean_of_others(image: Float[Tensor, "b m"], word: Int[Tensor, " b"]) -> Float[Tensor, "b m"]:
    """For each picture the mean of the other pictures of its word; of a word with one picture, itself."""
    _, place, counts = word.unique(return_inverse=True, return_counts=True)
    sums = image.new_zeros(len(counts), image.shape[1]).index_add_(0, place, image)
    others = (counts[place] - 1)[:, None]
    return torch.where(others > 0, (sums[place] - image) / others.clamp(min=1), image)


def train_bimodal(
    model: BimodalAutoencoder, data: WordPictures, generator: torch.Generator, steps: int = 200,
    fine_steps: int = 400, batch: int = 64, lr: float = 1e-3
) -> list[float]:
    """Each layer alone, then the whole stack: the losses of the last phase.

    The text's layers learn to undo masking, the pictures' first to make the denoised target of one picture,
    the joint layer to undo masking of the text's code.
    """
    c, count = model.config, len(data.word)
    target = denoised_target(data.image, mean_of_others(data.image, data.word))

    def phase(parameters: list[nn.Parameter], loss: Callable[[Tensor], Tensor], number: int) -> list[float]:
        optimizer = torch.optim.Adam(parameters, lr)
        losses = []
        for _ in range(number):
            value = loss(torch.randint(count, (min(batch, count),), generator=generator))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(float(value.detach()))
        return losses

    def layer_phase(layer: TiedLayer, x: Tensor, wanted: Tensor, noise: float,
                    part: int | None = None) -> Tensor:
        """Train one layer on all its inputs; what it makes of them."""
        part = x.shape[1] if part is None else part

        def loss(rows: Tensor) -> Tensor:
            keep = torch.ones(len(rows), x.shape[1], dtype=torch.bool)
            keep[:, :part] = torch.rand(len(rows), part, generator=generator) >= noise
            return entropic_error(layer.back(layer(masked(x[rows], keep))), wanted[rows])

        phase(list(layer.parameters()), loss, steps)
        with torch.no_grad():
            return layer(x)

    text: Tensor = data.text
    image: Tensor = data.image
    for layer in model.text:
        text = layer_phase(layer, text, text, c.text_noise)                         # type: ignore[arg-type]
    for number, layer in enumerate(model.image):
        image = layer_phase(layer, image, image if number else target, 0.0)         # type: ignore[arg-type]
    both = torch.cat([F.normalize(text, dim=1), F.normalize(image, dim=1)], dim=1)
    layer_phase(model.both, both, both, c.noise, text.shape[1])

    def whole(rows: Tensor) -> Tensor:
        keep = torch.rand(len(rows), c.text_codes[1], generator=generator) >= c.noise
        return model.loss(data.text[rows], data.image[rows], target[rows], data.word[rows], keep)

    return phase(list(model.parameters()), whole, fine_steps)
