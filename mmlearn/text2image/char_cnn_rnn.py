r"""char-CNN-RNN: a sentence read letter by letter, and embedded where its picture's features are.

Papers: S. Reed, Z. Akata, H. Lee and B. Schiele (2016), *Learning Deep Representations of Fine-Grained Visual
Descriptions*, CVPR, arXiv:1605.05395, sec. 3 (structured joint embedding) and 4 (encoders); sizes and
recurrences of github.com/reedscot/cvpr2016 and of reedscot/icml2016, whose encoders GAN-CLS and StackGAN
read.  Survey: 2.1.2.
Differs from the papers: nothing in the encoders. The loss is that of the released code (a sum over
violators); the papers' maximum stands beside it. The survey's $h_t=\mathrm{RNN}(\mathrm{CNN}(x_t))$ treats
each letter alone; see eq:char-encoder.

Training, in the released code: RMSprop at 7e-4, times 0.98 an epoch, 40 pictures of 40 different classes with
one caption each in a batch, all parameters from U(-0.08, 0.08); pictures are frozen 1024-d features of
GoogLeNet (``GoogLeNetFeatures``), one of 10 views drawn at random. On COCO: Adam at 2e-4, $\beta_1$ = 0.5.

Letters of shapes: b captions, t characters, s steps of the recurrence, c its width, e the embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from mmlearn.data.tokenisers import Tokeniser
from mmlearn.nn.configuration import check
from mmlearn.text_for_vision.blockwise import single

# The authors' alphabet. Its 70 places hold 69 symbols: "-" stands at places 37 and 60, and the later one
# counts, so that channel 37 of the input is never on. The space is symbol 70.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
LENGTH = 201                                                # characters that are read
_NUMBER = {symbol: place for place, symbol in enumerate(ALPHABET, start=1)}   # later places overwrite earlier

RECURRENCES = ("rnn", "gru")


def characters(texts: Sequence[str], length: int = LENGTH) -> Int[Tensor, "b t"]:
    """Numbers 1 to 70 of the characters of each text in lower case, 0 for characters that the alphabet lacks
    and behind the end; what is longer than ``length`` is cut off. Raises ``ValueError`` for a text without a
    known character."""
    rows = torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in zip(rows, texts):
        numbers = [_NUMBER.get(symbol, 0) for symbol in text.lower()[:length]]
        if not any(numbers):
            raise ValueError(f"the text {text[:40]!r} has no character of the alphabet; "
                             f"give a text in Latin letters")
        row[:len(numbers)] = torch.tensor(numbers)
    return rows


class CharacterTokeniser(Tokeniser):
    """``characters`` where a tokeniser is wanted: 0 is padding, rows are ``length`` long."""

    pad, bos, eos = 0, -1, -1                               # texts have neither begin nor end

    def __init__(self, length: int = LENGTH) -> None:
        self.length = length

    def __len__(self) -> int:
        return len(ALPHABET) + 1

    def _ids(self, text: str) -> list[int]:
        return characters([text], max(1, len(text)))[0].tolist()

    def _text(self, ids: list[int]) -> str:
        return "".join(ALPHABET[i - 1] for i in ids)

    def batch(self, texts: Sequence[str], max_len: int | None = None) -> Int64[Tensor, "b t"]:
        """Numbers of the characters, at most ``length`` of them, whatever ``max_len`` says of words."""
        return characters(texts, self.length)


def one_hot(numbers: Int[Tensor, "b t"], symbols: int = len(ALPHABET)) -> Float[Tensor, "b n t"]:
    r"""eq:char-one-hot: $x_{i}\in\{0,1\}^{70}$, $x_{ij}=1$ if character i is symbol j; all zero for number
    0. Raises ``ValueError`` for numbers outside 0 to 70."""
    if not numbers.is_meta and numbers.numel():
        low, high = (int(i) for i in numbers.aminmax())
        if low < 0 or high > symbols:
            raise ValueError(f"characters go from {low} to {high}, the alphabet from 0 to {symbols}; make "
                             f"them with characters()")
    return F.one_hot(numbers.long(), symbols + 1)[..., 1:].mT.float()              # b t n -> b n t


@dataclass(frozen=True)
class CharCNNRNNConfig:
    symbols: int = 70                                   # size of the alphabet, with its double hyphen
    length: int = LENGTH                                # characters of a text
    channels: tuple[int, int, int] = (384, 512, 256)    # of the convolutions; the last: the RNN's width
    last_pool: bool = True                              # pooling behind the third one: 8 steps, not 18
    recurrence: str = "rnn"                             # "rnn" (ReLU) or "gru"
    embed: int = 1024                                   # e, size of the picture's features too
    dropout: float | int = 0.0                          # before the last layer

    def __post_init__(self) -> None:
        check(self)
        if self.recurrence not in RECURRENCES:
            raise ValueError(f"recurrence is {self.recurrence!r}; use one of {', '.join(RECURRENCES)}")
        if self.steps < 1:
            raise ValueError(f"{self.length} characters are too few for three convolutions; "
                             f"give at least {66 if self.last_pool else 48}")

    @property
    def steps(self) -> int:
        """Steps of the recurrence: what three convolutions and their pooling leave of the characters."""
        t = self.length
        for _ in range(2):
            t = (t - 3) // 3                                                # convolution 4, pooling 3 of 3
        return (t - 3 - 3) // 2 + 1 if self.last_pool else t - 3            # pooling 3 of stride 2

    @classmethod
    def cvpr(cls) -> "CharCNNRNNConfig":
        """CVPR 2016, birds and flowers: 8 steps of a ReLU RNN, 1,814,144 parameters."""
        return cls()

    @classmethod
    def icml_flowers(cls) -> "CharCNNRNNConfig":
        """ICML 2016, flowers: twice as wide, 2,994,560 parameters."""
        return cls(channels=(384, 512, 512))

    @classmethod
    def icml(cls) -> "CharCNNRNNConfig":
        """ICML 2016, birds and COCO: 18 steps of a GRU, 4,045,184 parameters."""
        return cls(channels=(384, 512, 512), last_pool=False, recurrence="gru")

    @classmethod
    def mini(cls, embed: int = 64, length: int = 96, recurrence: str = "rnn") -> "CharCNNRNNConfig":
        """A miniature for the scene world's captions: 6 steps from 96 characters."""
        return cls(length=length, channels=(48, 64, 32), last_pool=False, recurrence=recurrence, embed=embed)


# ------------------------------------------------------------------------------------------------ recurrences


def fixed_rnn(
    x: Float[Tensor, "b s c"],
    W_i: Float[Tensor, "c c"], b_i: Float[Tensor, " c"],
    W_h: Float[Tensor, "c c"], b_h: Float[Tensor, " c"],
) -> Float[Tensor, "b s c"]:
    r"""eq:char-rnn: $h_1=\mathrm{relu}(x_1W_i+b_i)$,
    $h_t=\mathrm{relu}(x_tW_i+b_i+h_{t-1}W_h+b_h)$: all states. Unlike ``nn.RNN`` the first step has no $b_h$;
    matrices are stored transposed, as ``nn.Linear`` does."""
    read = F.linear(x, W_i, b_i).unbind(dim=1)           # all steps at once
    h = read[0].relu()
    states = [h]
    for x_t in read[1:]:
        h = (x_t + F.linear(h, W_h, b_h)).relu()
        states.append(h)
    return torch.stack(states, dim=1)


def fixed_gru(
    x: Float[Tensor, "b s c"],
    W: Float[Tensor, "3*c c"], b: Float[Tensor, " 3*c"],
    U: Float[Tensor, "3*c c"], u: Float[Tensor, " 3*c"],
) -> Float[Tensor, "b s c"]:
    r"""eq:char-gru: $h_1=\tanh(x_1W+b)$, then
    $z_t=\sigma(x_tW_z+h_{t-1}U_z)$, $r_t=\sigma(x_tW_r+h_{t-1}U_r)$,
    $n_t=\tanh(x_tW+(r_t\odot h_{t-1})U)$, $h_t=z_t\odot n_t+(1-z_t)\odot h_{t-1}$, with a bias beside every
    matrix: all states. Unlike ``nn.GRU`` it resets before U, and z says how much is new. Rows of ``W`` and
    ``U``: z, r, n."""
    c = x.shape[2]
    read = F.linear(x, W, b).unbind(dim=1)               # s times b 3c
    h = read[0][:, 2 * c:].tanh()
    states = [h]
    for x_t in read[1:]:
        gates = x_t[:, :2 * c] + F.linear(h, U[:2 * c], u[:2 * c])
        z, r = gates.sigmoid().chunk(2, dim=1)
        new = (x_t[:, 2 * c:] + F.linear(r * h, U[2 * c:], u[2 * c:])).tanh()
        h = z * new + (1 - z) * h
        states.append(h)
    return torch.stack(states, dim=1)


class Recurrence(nn.Module):
    """States of all steps (b, s, c) -> (b, s, c): eq:char-rnn or eq:char-gru, with its weights."""

    def __init__(self, width: int, kind: str = "rnn") -> None:
        super().__init__()
        self.kind = kind
        rows = 3 * width if kind == "gru" else width
        self.input = nn.Linear(width, rows)
        self.hidden = nn.Linear(width, rows)

    def forward(self, x: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
        step = fixed_gru if self.kind == "gru" else fixed_rnn
        return step(x, self.input.weight, self.input.bias, self.hidden.weight, self.hidden.bias)


class CharCNNRNN(nn.Module):
    r"""eq:char-encoder: $c_{1:s}=\mathrm{CNN}(x_{1:201})$, $h_t=f(c_t,h_{t-1})$,
    $\varphi=\big(\frac1s\sum_th_t\big)W+b$: captions as ``characters`` (b, t) -> embeddings (b, e), not
    normalised.

    Three convolutions of width 4 without padding, each with ReLU, run over the whole text; pooling shortens
    it to ``config.steps``, 8 or 18. Texts have ``config.length`` characters, short ones with zeros behind
    them. Raises ``ValueError`` for other lengths.
    """

    def __init__(self, config: CharCNNRNNConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.channels
        self.convolutions = nn.Sequential(
            nn.Conv1d(config.symbols, a, 4), nn.ReLU(), nn.MaxPool1d(3, 3),
            nn.Conv1d(a, b, 4), nn.ReLU(), nn.MaxPool1d(3, 3),
            nn.Conv1d(b, c, 4), nn.ReLU(), *([nn.MaxPool1d(3, 2)] if config.last_pool else []))
        self.recurrence = Recurrence(c, config.recurrence)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(c, config.embed)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08)

    def states(self, text: Int[Tensor, "b t"]) -> Float[Tensor, "b s c"]:
        """The hidden state of every step."""
        x = one_hot(self.checked(text), self.config.symbols)
        c = self.convolutions(x.to(self.output.weight.dtype))
        return self.recurrence(c.mT)                            # b c s -> b s c

    def checked(self, text: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        """Texts of the length that is read."""
        if text.shape[1] != self.config.length:
            raise ValueError(f"texts have {text.shape[1]} characters, the encoder reads {self.config.length}"
                             f"; make them with characters(texts, {self.config.length})")
        return text

    def forward(self, text: Int[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        return self.output(self.dropout(self.states(text).mean(dim=1)))


class GoogLeNetFeatures(nn.Module):
    """Standardised pixels (b, 3, s, s), 224 a side in the paper -> (b, 1024): GoogLeNet's average over
    places.

    torchvision's architecture without its classifiers, frozen and always in evaluation mode. ``weights`` is a
    state dict of torchvision's GoogLeNet, from which heads and auxiliary classifiers are left out; None
    leaves it untrained.
    """

    def __init__(self, weights: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        trunk = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
        trunk.fc = nn.Identity()
        trunk.dropout = nn.Identity()
        if weights is not None:
            trunk.load_state_dict({name: tensor for name, tensor in weights.items()
                                   if not name.startswith(("fc.", "aux1.", "aux2."))})
        self.trunk = trunk.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "GoogLeNetFeatures":
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b 1024"]:
        return self.trunk(images)


# --------------------------------------------------------------------------------- structured joint embedding


def compatibility(theta: Float[Tensor, "n e"], phi: Float[Tensor, "m e"]) -> Float[Tensor, "n m"]:
    r"""eq:sje-compatibility: $F(v,t)=\theta(v)^\top\varphi(t)$ of all pictures with all texts: raw inner
    products, neither normalised nor scaled, in single precision or better."""
    with torch.autocast(theta.device.type, enabled=False):
        return single(theta) @ single(phi).mT


def class_compatibility(
    F_vt: Float[Tensor, "n m"], classes: Int[Tensor, " m"], count: int
) -> Float[Tensor, "n k"]:
    r"""eq:sje-class-score: $\mathbb E_{t\sim\mathcal T(y)}F(v,t)$: a picture's mean score with the texts of
    each of ``count`` classes. For a text and the pictures of a class, give the transposed scores. Raises
    ``ValueError`` if a class has no text."""
    belongs = F.one_hot(classes.long(), count).to(F_vt)                                     # m k
    members = belongs.sum(dim=0)
    if bool((members == 0).any()):
        raise ValueError(f"class {int((members == 0).nonzero()[0])} has no example; number the classes that "
                         f"occur from 0")
    return F_vt @ (belongs / members)


def classify(F_vt: Float[Tensor, "n m"], classes: Int[Tensor, " m"], count: int) -> Int[Tensor, " n"]:
    r"""eq:sje-classifier: $f_v(v)=\arg\max_y\mathbb E_{t\sim\mathcal T(y)}F(v,t)$, zero-shot if no picture of
    the classes was seen in training; $f_t$ with the transposed scores."""
    return class_compatibility(F_vt, classes, count).argmax(dim=1)


def sje_goal(
    F_vt: Float[Tensor, "b b"], image_classes: Int[Tensor, " b"], text_classes: Int[Tensor, " b"], count: int
) -> Float[Tensor, ""]:
    r"""eq:sje-goal: $\frac1N\sum_n\Delta(y_n,f_v(v_n))+\Delta(y_n,f_t(t_n))$ with the 0-1 loss $\Delta$: what
    one would like to minimise, and cannot by gradients."""
    wrong_v = classify(F_vt, text_classes, count) != image_classes
    wrong_t = classify(F_vt.mT, image_classes, count) != text_classes
    return wrong_v.float().mean() + wrong_t.float().mean()


def sje_max_rows(
    F_vt: Float[Tensor, "b b"], classes: Int[Tensor, " b"], count: int
) -> Float[Tensor, " b"]:
    r"""eq:sje-max: $\ell_v(v_n,t_n,y_n)=\max_y\Big(0,\Delta(y_n,y)+\mathbb E_{t\sim\mathcal
    T(y)}[F(v_n,t)-F(v_n,t_n)]\Big)$: the paper's surrogate, which only the worst class enters. Text n belongs
    to picture n, and both to class $y_n$; $\ell_t$ with the transposed scores."""
    delta = 1 - F.one_hot(classes.long(), count).to(F_vt)
    ahead = class_compatibility(F_vt, classes, count) - F_vt.diagonal()[:, None]
    return (delta + ahead).amax(dim=1).clamp(min=0)


def sje_max_loss(F_vt: Float[Tensor, "b b"], classes: Int[Tensor, " b"], count: int) -> Float[Tensor, ""]:
    r"""eq:sje-max-loss: $\frac1b\sum_n\ell_v(v_n,t_n,y_n)+\ell_t(v_n,t_n,y_n)$, DS-SJE of the paper; without
    the second term it is DA-SJE."""
    return (sje_max_rows(F_vt, classes, count) + sje_max_rows(F_vt.mT, classes, count)).mean()


def sje_rows(S: Float[Tensor, "b b"]) -> Float[Tensor, " b"]:
    r"""eq:sje-hinge: $\frac1b\sum_{j\ne i}(1+S_{ij}-S_{ii})_+$: every wrong text that comes closer than 1 to
    the right one costs something. It is ``F.multi_margin_loss`` of row i."""
    return F.multi_margin_loss(S, torch.arange(len(S), device=S.device), reduction="none")


def sje_loss(theta: Float[Tensor, "b e"], phi: Float[Tensor, "c d"]) -> Float[Tensor, ""]:
    r"""eq:sje-loss: $\frac1{b^2}\sum_i\sum_{j\ne i}(1+S_{ij}-S_{ii})_++\frac1{b^2}\sum_i\sum_{j\ne
    i}(1+S_{ji}-S_{ii})_+$ with $S=\Theta\Phi^\top$: the released code's loss, for one picture and one text of
    each of b different classes. Nothing is drawn to a distance of 0. Raises ``ValueError`` unless they are
    pairs, two at least."""
    if theta.shape != phi.shape or len(theta) < 2:
        raise ValueError(f"pictures have shape {tuple(theta.shape)}, texts {tuple(phi.shape)}; give two "
                         f"pairs or more, row i of both being a pair")
    S = compatibility(theta, phi)
    return sje_rows(S).mean() + sje_rows(S.mT).mean()


def precision_at(
    F_tv: Float[Tensor, "k n"], image_classes: Int[Tensor, " n"], most: int = 50
) -> Float[Tensor, ""]:
    r"""eq:sje-ap: $\mathrm{AP@50}=\frac1k\sum_y\frac{\#\{\text{pictures of class }y\text{ among the 50
    best}\}}{50}$: each of k classes looks for its pictures with the mean embedding of its texts, row y of the
    scores. Raises ``ValueError`` for fewer than ``most`` pictures."""
    if not 0 < most <= F_tv.shape[1]:
        raise ValueError(f"the best {most} of {F_tv.shape[1]} pictures; give a number from 1 to "
                         f"{F_tv.shape[1]}")
    best = F_tv.topk(most, dim=1).indices
    own = torch.arange(len(F_tv), device=F_tv.device)[:, None]
    return (image_classes[best] == own).float().mean()
