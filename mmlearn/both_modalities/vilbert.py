r"""ViLBERT: two BERTs, one for words and one for regions of a picture, that read each other.

Paper: J. Lu, D. Batra, D. Parikh and S. Lee (2019), *ViLBERT: Pretraining Task-Agnostic Visiolinguistic
Representations for Vision-and-Language Tasks*, NeurIPS, arXiv:1908.02265, sec. 2; sizes and order of the
layers of github.com/jiasenlu/vilbert_beta and facebookresearch/vilbert-multi-task.  Survey: 5.2.
Differs from the paper: no dropout on the attention weights; the text is 768 wide, as BERT-base and the code
have it (the paper prints 762). The survey's formula for co-attention is there to be compared
(``co_attention="survey"``); no paper has it.

The text passes some Transformer layers alone. Then layers of co-attention alternate with one Transformer
layer in each stream. Both directions of co-attention are computed from the same states, side by side: each
stream asks with its own queries and reads keys and values of the other. Regions have no order but that of
their boxes; before them stands the whole picture, the mean of its regions.

Letters: $X$ are the states of the regions, $Y$ those of the words, $n$ regions of a picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import Attend, MultiHeadAttention, attention, head_mask
from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.configuration import FieldError, check, check_divides
from mmlearn.nn.transformer import GELU, EncoderLayer

Projected = tuple[Tensor, Tensor, Tensor]       # queries, keys and values of a stream, (b, h, ·, e)
Directions = tuple[Attend, Attend]              # how regions, and how words, attend
PLACE = 5                                       # numbers that say where a region is
WHOLE = (0.0, 0.0, 1.0, 1.0, 1.0)               # the place of the whole picture
CHANCE = 0.02                                   # standard deviation of new weights


@dataclass(frozen=True)
class ViLBERTConfig:
    """Two streams, and where they meet: before text layer ``co_text[k]`` and visual layer ``co_vision[k]``
    stands co-attention layer k."""

    text: BERTConfig = field(default_factory=lambda: BERTConfig(pooler=False))
    features: int = 2048        # f, numbers of a region's feature
    classes: int = 1601         # c, of the detector, background among them
    width: int = 1024           # d of the visual stream; that of the text is text.width
    layers: int = 6             # Transformer layers of the visual stream
    heads: int = 8              # h, of the visual stream
    ff: int = 1024              # inner width of the visual feed-forward networks
    inner: int = 1024           # width of co-attention's queries, keys, values, and of the pooled states
    co_heads: int = 8           # heads of co-attention
    co_text: tuple[int, ...] = (6, 7, 8, 9, 10, 11)     # text layers that come before, for each meeting
    co_vision: tuple[int, ...] = (0, 1, 2, 3, 4, 5)     # visual layers that come before
    dropout: float = 0.1        # of the visual stream and of the pooled product
    co_attention: Literal["paper", "survey"] = "paper"  # the other stream's keys and values, or one's own

    def __post_init__(self) -> None:
        check(self, co_text=(0, 1000), co_vision=(0, 1000))
        check_divides(self, "heads", "width")
        check_divides(self, "co_heads", "inner")
        if self.text.pooler:
            raise FieldError("ViLBERTConfig", "text", "has BERT's pooler, and ViLBERT one of its own; set "
                                                      "pooler=False")
        for name, layers in (("co_text", self.text.layers), ("co_vision", self.layers)):
            places = getattr(self, name)
            if list(places) != sorted(places) or max(places, default=0) > layers:
                raise FieldError("ViLBERTConfig", name, f"is {places}; give numbers from 0 to {layers} that "
                                                        f"do not fall")
        if len(self.co_text) != len(self.co_vision):
            raise FieldError("ViLBERTConfig", "co_text", f"names {len(self.co_text)} meetings and co_vision "
                                                         f"{len(self.co_vision)}; give one place of each")

    @classmethod
    def base(cls) -> "ViLBERTConfig":
        """The released model: 235,705,856 parameters, 239,023,229 with the heads of pre-training."""
        return cls()

    @classmethod
    def depth_2(cls) -> "ViLBERTConfig":
        """Two meetings, the smallest of the paper's ablation of depth: 157,109,373 parameters with heads."""
        return cls(layers=2, co_text=(10, 11), co_vision=(0, 1))

    @classmethod
    def depth_4(cls) -> "ViLBERTConfig":
        """Four meetings: 198,066,301 parameters with heads."""
        return cls(layers=4, co_text=(8, 9, 10, 11), co_vision=(0, 1, 2, 3))

    @classmethod
    def depth_8(cls) -> "ViLBERTConfig":
        """Eight meetings, the first before text layer 4: 279,980,157 parameters with heads."""
        return cls(layers=8, co_text=tuple(range(4, 12)), co_vision=tuple(range(8)))

    @classmethod
    def mini(cls, vocab: int = 400, pad: int = 1, context: int = 32, features: int = 256,
             classes: int = 35) -> "ViLBERTConfig":
        """A miniature for the scene world, with regions and classes of its detector: 856,757 parameters with
        heads."""
        text = BERTConfig(vocab, context, 96, 4, 4, 192, pad=pad, dropout=0.0, pooler=False)
        return cls(text, features, classes, 96, 2, 4, 192, 96, 4, (2, 3), (0, 1), 0.0)

    def schedule(self) -> Iterator[tuple[str, int]]:
        """The layers in the order in which they run: ("text", 0), …, ("co", 0), ("vision", 0), …"""
        text = vision = 0
        for number, (words, regions) in enumerate(zip(self.co_text, self.co_vision)):
            yield from (("text", i) for i in range(text, words))
            yield from (("vision", i) for i in range(vision, regions))
            yield "co", number
            text, vision = words, regions
        yield from (("vision", i) for i in range(vision, self.layers))
        yield from (("text", i) for i in range(text, self.text.layers))


class ViLBERTStates(NamedTuple):
    """What the last layers of both streams say. The first row of ``vision`` is the whole picture."""

    text: Float[Tensor, "b t d"]
    vision: Float[Tensor, "b rows w"]
    pooled_text: Float[Tensor, "b e"]
    pooled_vision: Float[Tensor, "b e"]


# -------------------------------------------------------------------------------------------------- equations


def box_geometry(
    boxes: Float[Tensor, "*n 4"], width: float | int, height: float | int
) -> Float[Tensor, "*n 5"]:
    r"""eq:vilbert-box: $s_i=\big(\frac{x_1}{w},\frac{y_1}{h},
    \frac{x_2}{w},\frac{y_2}{h},\frac{(x_2-x_1)(y_2-y_1)}{wh}\big)$: corners
    of a box in a picture of w times h pixels, and its share of the area."""
    x_1, y_1, x_2, y_2 = boxes.unbind(-1)
    area = (x_2 - x_1) * (y_2 - y_1) / (width * height)
    return torch.stack([x_1 / width, y_1 / height,
                        x_2 / width, y_2 / height, area], dim=-1)


def image_token(
    f: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, "b 1 f"]:
    r"""eq:vilbert-image: $f_0=\frac1n\sum_{i=1}^nf_i$, $s_0=(0,0,1,1,1)$:
    the whole picture is the mean of its n regions, and no learned vector.

    Rows that ``mask`` leaves out are no regions. A picture without any
    has zeros.
    """
    total = f.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return (total / mask.sum(dim=1).clamp(min=1)[:, None])[:, None]


def region_rows(
    f: Float[Tensor, "b n f"], s: Float[Tensor, "b n 5"],
    W_f: Float[Tensor, "f d"], b_f: Float[Tensor, " d"],
    W_s: Float[Tensor, "5 d"], b_s: Float[Tensor, " d"],
) -> Float[Tensor, "b n d"]:
    r"""eq:vilbert-embed: $x_i=f_iW_f+b_f+s_iW_s+b_s$, to be normalised:
    what is there, and where, each through a map of its own."""
    return F.linear(f, W_f.mT, b_f) + F.linear(s, W_s.mT, b_s)


def co_attention(
    regions: Projected, words: Projected,
    region_mask: Bool[Tensor, "b 1 1 n"] | None = None,
    text_mask: Bool[Tensor, "b 1 1 t"] | None = None,
    attend: Directions = (attention, attention),
) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h t e"]]:
    r"""eq:vilbert-co-attention:
    $C_X=\mathrm{softmax}(Q_XK_Y^\top/\sqrt{d_k})V_Y$ and
    $C_Y=\mathrm{softmax}(Q_YK_X^\top/\sqrt{d_k})V_X$: own queries, keys and
    values of the other, and the mask of whose keys are read."""
    Q_X, K_X, V_X = regions
    Q_Y, K_Y, V_Y = words
    C_X = attend[0](Q_X, K_Y, V_Y, text_mask)
    C_Y = attend[1](Q_Y, K_X, V_X, region_mask)
    return C_X, C_Y


def survey_co_attention(
    regions: Projected, words: Projected,
    region_mask: Bool[Tensor, "b 1 1 n"] | None = None,
    text_mask: Bool[Tensor, "b 1 1 t"] | None = None,
    attend: Directions = (attention, attention),
) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h t e"]]:
    r"""eq:vilbert-survey: $H_v=A_vV_v$ and $H_t=A_tV_t$, values "computed
    from the text and the image respectively": self-attention in each
    stream, and nothing crosses."""
    C_X = attend[0](*regions, region_mask)
    C_Y = attend[1](*words, text_mask)
    return C_X, C_Y


def add_read(
    x: Float[Tensor, "b n d"], C: Float[Tensor, "b h n e"],
    project: Callable[[Tensor], Tensor], norm: Callable[[Tensor], Tensor],
) -> Float[Tensor, "b n d"]:
    r"""eq:vilbert-add: $X'=\mathrm{LN}(X+C_XW_o+b_o)$ and the same of $Y$,
    with weights of its own; ``project`` joins the heads and multiplies."""
    return norm(x + project(C))


def pooled(
    x_0: Float[Tensor, "b d"], W_p: Float[Tensor, "d e"],
    b_p: Float[Tensor, " e"],
) -> Float[Tensor, "b e"]:
    r"""eq:vilbert-pool: $h=\mathrm{ReLU}(x_0W_p+b_p)$ of the first row of a
    stream, where BERT has a tanh: the whole picture, or [CLS]."""
    return torch.relu(F.linear(x_0, W_p.mT, b_p))


def joint_state(
    h_X: Float[Tensor, "b e"], h_Y: Float[Tensor, "b e"]
) -> Float[Tensor, "b e"]:
    r"""eq:vilbert-joint: $h_X\odot h_Y$, picture and text as one vector."""
    return h_X * h_Y


CO_ATTENTION = {"paper": co_attention, "survey": survey_co_attention}


# ------------------------------------------------------------------------------------------------------ parts


def initialise(module: nn.Module) -> None:
    """Matrices from a normal distribution of width 0.02, biases 0 (released code)."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=CHANCE)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def visual_layer(config: ViLBERTConfig) -> EncoderLayer:
    """A layer of the visual stream, BERT's in other sizes."""
    layer = EncoderLayer(config.width, config.heads, config.ff, config.dropout, activation=GELU,
                         layer_norm=partial(nn.LayerNorm, eps=config.text.eps))
    layer.feed_forward.dropout.p = 0.0
    return layer


class RegionEmbeddings(nn.Module):
    """Regions (b, n, f) and their places (b, n, 5) to rows (b, n + 1, d), the whole picture first
    (eq:vilbert-image, eq:vilbert-embed), normalised and dropped out; and which of the rows are real."""

    def __init__(self, config: ViLBERTConfig) -> None:
        super().__init__()
        self.features = nn.Linear(config.features, config.width)
        self.places = nn.Linear(PLACE, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.text.eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, regions: Float[Tensor, "b n f"], boxes: Float[Tensor, "b n 5"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n+1 d"], Bool[Tensor, "b n+1"]]:
        whole = boxes.new_tensor(WHOLE).expand(len(boxes), 1, PLACE)
        f = torch.cat([image_token(regions, mask), regions], dim=1)
        s = torch.cat([whole, boxes], dim=1)
        rows = region_rows(f, s, self.features.weight.mT, self.features.bias,
                           self.places.weight.mT, self.places.bias)
        return self.dropout(self.norm(rows)), F.pad(mask, (1, 0), value=True)


class CoProjections(MultiHeadAttention):
    """A stream's queries, keys and values for co-attention, of ``inner`` numbers; ``out`` leads back to its
    width. ``record_attention`` gets what this stream's queries attend to, (b, h, own rows, other's rows)."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        nn.Module.__init__(self)
        self.width, self.heads = inner, heads
        self.causal = self.keeps_past = False
        self.in_weight = nn.Parameter(torch.empty(3 * inner, width))      # rows: queries, keys, values
        self.in_bias = nn.Parameter(torch.zeros(3 * inner))
        self.out = nn.Linear(inner, width)
        nn.init.normal_(self.in_weight, std=CHANCE)


class CoStream(EncoderLayer):
    """One stream's half of a co-attention layer: adds what was read (eq:vilbert-add), then a feed-forward net
    of its own."""

    def __init__(self, width: int, ff: int, dropout: float, config: ViLBERTConfig) -> None:
        super().__init__(width, config.co_heads, ff, dropout, activation=GELU,
                         attention=CoProjections(width, config.inner, config.co_heads),
                         layer_norm=partial(nn.LayerNorm, eps=config.text.eps))
        self.feed_forward.dropout.p = 0.0

    def project(self, C: Float[Tensor, "b h n e"]) -> Float[Tensor, "b n d"]:
        """What all heads have read, in the width of the stream."""
        return self.dropout(self.attention.out(self.attention.join(C)))

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b n d"], C: Float[Tensor, "b h n e"]
    ) -> Float[Tensor, "b n d"]:
        x = add_read(x, C, self.project, self.attention_norm)
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class CoAttentionLayer(nn.Module):
    """Regions (b, n, d) and words (b, t, e) read each other at the same
    time (eq:vilbert-co-attention) and keep their shapes."""

    def __init__(self, config: ViLBERTConfig) -> None:
        super().__init__()
        text = config.text
        self.vision = CoStream(
            config.width, config.ff, config.dropout, config)
        self.text = CoStream(text.width, text.ff, text.dropout, config)
        self.exchange = CO_ATTENTION[config.co_attention]

    def forward(
        self, x: Float[Tensor, "b n d"], y: Float[Tensor, "b t e"],
        region_mask: Bool[Tensor, "b n"], text_mask: Bool[Tensor, "b t"],
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b t e"]]:
        X, Y = self.vision.attention, self.text.attention
        seen, read = (head_mask(m, 0, 0, False, x.device)
                      for m in (region_mask, text_mask))
        C_X, C_Y = self.exchange(X.project_all(x), Y.project_all(y),
                                 seen, read, (X.attend, Y.attend))
        return self.vision(x, C_X), self.text(y, C_Y)


# ------------------------------------------------------------------------------------------------------ model


class ViLBERT(nn.Module):
    """Tokens (b, t), regions (b, n, f) and their places (b, n, 5) ->
    ``ViLBERTStates``.

    ``segments`` (b, t) are sentence kinds (default: all 0). ``text_mask``
    (b, t) and ``region_mask`` (b, n) say what is real (default: all but
    padding; all). Places are those of ``box_geometry``; the whole picture
    is put before the regions here. ``record_attention`` has the weights of
    "co_layers.k.vision.attention" (b, h, n + 1, t) and of
    "co_layers.k.text.attention" (b, h, t, n + 1). Raises ``ValueError`` for
    sizes that the model was not made for.
    """

    def __init__(self, config: ViLBERTConfig) -> None:
        super().__init__()
        self.config = config
        self.text = BERT(config.text)
        self.regions = RegionEmbeddings(config)
        self.vision_layers = nn.ModuleList(
            visual_layer(config) for _ in range(config.layers))
        self.co_layers = nn.ModuleList(
            CoAttentionLayer(config) for _ in config.co_text)
        self.text_pooler = nn.Linear(config.text.width, config.inner)
        self.vision_pooler = nn.Linear(config.width, config.inner)
        initialise(self)

    def forward(
        self, tokens: Int[Tensor, "b t"],
        segments: Int[Tensor, "b t"] | None,
        text_mask: Bool[Tensor, "b t"] | None,
        regions: Float[Tensor, "b n f"], boxes: Float[Tensor, "b n 5"],
        region_mask: Bool[Tensor, "b n"] | None = None,
    ) -> ViLBERTStates:
        read, seen = self.masks(tokens, text_mask, regions, region_mask)
        y = self.text.embed(tokens, segments)
        x, seen = self.regions(regions, boxes, seen)
        for kind, i in self.config.schedule():
            if kind == "co":
                x, y = self.co_layers[i](x, y, seen, read)
            elif kind == "vision":
                x = self.vision_layers[i](x, seen)
            else:
                y = self.text.layers[i](y, read)
        return ViLBERTStates(y, x, self.pool(y, self.text_pooler),
                             self.pool(x, self.vision_pooler))

    def pool(self, states: Float[Tensor, "b n d"], pooler: nn.Linear) -> Float[Tensor, "b e"]:
        """The first state of a stream through its pooler (eq:vilbert-pool)."""
        return pooled(states[:, 0], pooler.weight.mT, pooler.bias)

    def masks(
        self, tokens: Int[Tensor, "b t"], text_mask: Bool[Tensor, "b t"] | None,
        regions: Float[Tensor, "b n f"], region_mask: Bool[Tensor, "b n"] | None,
    ) -> tuple[Bool[Tensor, "b t"], Bool[Tensor, "b n"]]:
        """Which tokens and which regions are real; refuses what would be misread."""
        self.text.check(tokens)
        if regions.shape[-1] != self.config.features:
            raise ValueError(f"regions have {regions.shape[-1]} numbers, the model reads "
                             f"{self.config.features}; use the detector that it was made for")
        read = tokens != self.config.text.pad if text_mask is None else text_mask
        if region_mask is None:
            region_mask = torch.ones(regions.shape[:2], dtype=torch.bool, device=regions.device)
        return read, region_mask


def start_from_bert(model: ViLBERT, bert: BERT) -> None:
    """Copy a trained BERT into the text stream, as the paper starts; the pooler, which ViLBERT has not, is
    left out.

    Raises ``ValueError`` if the sizes differ.
    """
    ours = model.text.state_dict()
    theirs = {name: value for name, value in bert.state_dict().items() if not name.startswith("pooler.")}
    if {n: v.shape for n, v in ours.items()} != {n: v.shape for n, v in theirs.items()}:
        raise ValueError(f"the text stream has {model.config.text}, the BERT {bert.config}; build ViLBERT "
                         f"with the sizes of the BERT and pooler=False")
    model.text.load_state_dict(theirs)
