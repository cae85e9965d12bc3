r"""The public weights of GLIDE (filtered): base model, upsampler, both for holes, and the two towers of its
noised CLIP, as ours.

Paper: A. Nichol et al. (2021), *GLIDE*, arXiv:2112.10741; files of github.com/openai/glide-text2im (code
MIT), whose names are those of its modules, in 16 bits.  Survey: 2.3.  Differs from the paper: nothing.

What leaves no trace in a shape is taken from the released configurations: heads of 64 channels, an upsampler
that is given a quarter of its side, a smallest map of 8 x 8 (which says how many pixels a model draws).
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pooch
import torch
from torch import Tensor, nn

from mmlearn.data.download import Remote, download
from mmlearn.nn.modes import blank
from mmlearn.nn.vit import ViTConfig
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import layers_of, read_state, shape_of
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.glide import GLIDE, GLIDEConfig, GLIDETextConfig, fitted
from mmlearn.text2image.noised_clip import (
    NoisedCLIP,
    NoisedCLIPConfig,
    NoisedTextTransformer,
    NoisedVisionTransformer,
)
from mmlearn.text_for_vision.clip import TextConfig
from mmlearn.weights import SUFFIXES

SYSTEM = "GLIDE"
State = dict[str, Tensor]
ADDRESS = "https://openaipublic.blob.core.windows.net/diffusion/dec-2021"
FILES = {f"openai/glide-{name.replace('_', '-')}": f"{name}.pt" for name in (
    "base", "upsample", "base_inpaint", "upsample_inpaint", "clip_image_enc", "clip_text_enc")}
SMALLEST, HEAD = 8, 64                  # side of the smallest map; channels of a head, in all networks
# channels that the U-Net reads: is there a hole, is it an upsampler?
KINDS = {3: (False, False), 7: (True, False), 6: (False, True), 10: (True, True)}
SIGNATURES = {                          # names that only files of this kind have
    "model": {"token_embedding.weight", "transformer_proj.weight", "input_blocks.0.0.weight"},
    "clip image": {"blocks.input.w_t", "blocks.input.patch_proj", "blocks.output.f.w"},
    "clip text": {"blocks.input.w_voc", "blocks.input.w_pos", "blocks.output.f.w"},
}

MODEL_NAMES = (                         # parts of our names, in order, and theirs
    (r"^text\.words", "token_embedding"), (r"^text\.positions", "positional_embedding"),
    (r"^text\.padding", "padding_embedding"), (r"^text\.norm", "final_ln"),
    (r"^text\.summary", "transformer_proj"), (r"^text\.layers", "transformer.resblocks"),
    (r"\.attention\.in_", ".attn.c_qkv."), (r"\.attention\.out", ".attn.c_proj"),
    (r"\.attention_norm", ".ln_1"), (r"\.feed_forward_norm", ".ln_2"),
    (r"\.feed_forward\.inner", ".mlp.c_fc"), (r"\.feed_forward\.outer", ".mlp.c_proj"),
    (r"^unet\.time\.linear1", "time_embed.0"), (r"^unet\.time\.linear2", "time_embed.2"),
    (r"^unet\.conv_in", "input_blocks.0.0"), (r"^unet\.norm", "out.0"), (r"^unet\.conv_out", "out.2"),
    (r"^unet\.down\.(\d+)", lambda found: f"input_blocks.{int(found[1]) + 1}"),
    (r"^unet\.middle", "middle_block"), (r"^unet\.up", "output_blocks"),
    (r"\.norm1", ".in_layers.0"), (r"\.conv1", ".in_layers.2"), (r"\.condition", ".emb_layers.1"),
    (r"\.norm2", ".out_layers.0"), (r"\.conv2", ".out_layers.3"), (r"\.shortcut", ".skip_connection"),
    (r"\.in_(weight|bias)$", r".qkv.\1"), (r"\.context\.", ".encoder_kv."),
    (r"^((?:input|middle|output)_block.*)\.out\.", r"\1.proj_out."),
)
CLIP_NAMES = (
    (r"^words\.weight", "input.w_voc"), (r"^times", "input.w_t"), (r"^positions", "input.w_pos"),
    (r"^patches\.project\.weight", "input.patch_proj"), (r"^norm_before", "input.ln"),
    (r"^norm_after", "output.ln"), (r"^projection", "output.f.w"), (r"^layers\.(\d+)", r"block_\1"),
    (r"\.attention_norm", ".f_attn.ln"), (r"\.feed_forward_norm", ".f_mlp.ln"),
    (r"\.attention\.out", ".f_attn.f_c"), (r"\.feed_forward\.inner", ".f_mlp.f_1"),
    (r"\.feed_forward\.outer", ".f_mlp.f_2"),
    (r"ln\.weight$", "ln.g"), (r"ln\.bias$", "ln.b"), (r"\.weight$", ".w"), (r"\.bias$", ".b"),
)


@dataclass(frozen=True)
class Source:
    """Where a tensor of ours comes from: the names and shapes of theirs, and how it is made of them."""

    shapes: dict[str, tuple[int, ...]]
    make: Callable[..., Tensor]


def renamed(name: str, patterns: Any) -> str:
    """``name`` after every pattern that it has was replaced."""
    for pattern, theirs in patterns:
        name = re.sub(pattern, theirs, name)
    return name


def by_parts(rows: Tensor, heads: int, parts: int) -> Tensor:
    """Rows that stand by head and within it by part (queries, keys, values), by part and within it by
    head."""
    return rows.unflatten(0, (heads, parts, -1)).transpose(0, 1).flatten(0, 2)


def model_sources(model: GLIDE) -> dict[str, Source]:
    """Where the tensors of a model come from. Projections of attention are 1 x 1 convolutions there, and
    their rows stand by head."""
    config, out = model.config, {}
    for name, value in model.state_dict().items():
        theirs, shape = renamed(name, MODEL_NAMES), tuple(value.shape)
        parts = 3 if re.search(r"\.in_(weight|bias)$", name) else 2 if ".context." in name else 1
        pointwise = name.startswith("unet.") and name.endswith("weight") and len(shape) == 2 and (
            parts > 1 or ".proj_out." in theirs)
        heads = (config.text.heads if name.startswith("text.")
                 else config.unet.heads_of(shape[0] // parts))

        def make(rows: Tensor, heads: int = heads, parts: int = parts, pointwise: bool = pointwise) -> Tensor:
            rows = rows.squeeze(-1) if pointwise else rows
            return by_parts(rows, heads, parts) if parts > 1 else rows

        out[name] = Source({theirs: (*shape, 1) if pointwise else shape}, make)
    return out


def clip_sources(tower: nn.Module) -> dict[str, Source]:
    """Where the tensors of a tower of the noised CLIP come from: queries, keys and values are three there."""
    out = {}
    for name, value in tower.state_dict().items():
        shape, theirs = tuple(value.shape), f"blocks.{renamed(name, CLIP_NAMES)}"
        if name.endswith(("in_weight", "in_bias")):
            stem = theirs.partition(".attention.in_")[0]
            bias = name.endswith("bias")
            letters, part = ("qv", (shape[0] // 2,)) if bias else ("qkv", (shape[0] // 3, shape[1]))
            last = "b" if bias else "w"
            out[name] = Source({f"{stem}.f_attn.f_{letter}.{last}": part for letter in letters},
                               lambda *rows: torch.cat(rows))
        elif name == "projection":
            out[name] = Source({theirs: shape[::-1]}, lambda rows: rows.mT)
        else:
            out[name] = Source({theirs: shape}, lambda rows: rows)
    return out


def filled(model: nn.Module, sources: dict[str, Source], state: State, where: str) -> nn.Module:
    """A blank model with the weights of a file, in float32, every name and shape accounted for."""
    expected = {name: shape for source in sources.values() for name, shape in source.shapes.items()}
    state = fitting(state, expected, where)
    ours = {name: source.make(*(state[theirs].float() for theirs in source.shapes))
            for name, source in sources.items()}
    model.load_state_dict({name: value.contiguous().clone() for name, value in ours.items()}, assign=True)
    return model.eval()


# --------------------------------------------------------------------------------------------- configurations

def model_config(state: State, where: str, head: int = HEAD, size: int | None = None) -> GLIDEConfig:
    """The configuration of a base model or an upsampler, read off names and shapes. Raises ``ValueError`` for
    what none of the released files is."""
    width = shape_of(state, "time_embed.0.weight", 2, where)[1]
    channels = shape_of(state, "input_blocks.0.0.weight", 4, where)[1]
    if channels not in KINDS:
        raise ValueError(f"{where}: input_blocks.0.0.weight reads {channels} channels; the released models "
                         f"read {', '.join(map(str, KINDS))}, give one of their files")
    hole, upsampler = KINDS[channels]
    blocks = layers_of(state, r"output_blocks\.(\d+)\.")
    levels = 1 + layers_of(state, r"output_blocks\.(\d+)\.[12]\.in_layers\.0\.weight")
    if blocks % levels or blocks == levels:
        raise ValueError(f"{where} has {blocks} output_blocks on {levels} levels; the file is not whole, "
                         f"take it as it was published")
    each = blocks // levels                             # blocks of a level on the way up, one more than down
    firsts = [1 + level * each for level in range(levels)]
    widths = [shape_of(state, f"input_blocks.{i}.0.out_layers.3.weight", 4, where)[0] for i in firsts]
    size = SMALLEST << (levels - 1) if size is None else size
    vocab, text = shape_of(state, "token_embedding.weight", 2, where)
    unet = ADMConfig(
        size, width, tuple(w / width for w in widths), each - 1,
        tuple(size >> level for level, i in enumerate(firsts) if f"input_blocks.{i}.1.qkv.weight" in state),
        dropout=0.1, out_channels=shape_of(state, "out.2.weight", 4, where)[0], head_channels=head)
    words = GLIDETextConfig(vocab, shape_of(state, "positional_embedding", 2, where)[0], text,
                            layers_of(state, r"transformer\.resblocks\.(\d+)\."), max(1, text // head))
    config = fitted(unet, words, size // 4 if upsampler else 0, "linear" if upsampler else "cosine")
    return config.with_hole() if hole else config


def image_config(state: State, where: str, head: int = HEAD) -> tuple[ViTConfig, int, int]:
    """Sizes of the tower that sees: those of the transformer, of the joint embedding, and how many
    timesteps."""
    width, _, patch, _ = shape_of(state, "blocks.input.patch_proj", 4, where)
    places = shape_of(state, "blocks.input.w_pos", 2, where)[0] - 1
    vit = ViTConfig(round(places**0.5) * patch, patch, width, layers_of(state, r"blocks\.block_(\d+)\."),
                    max(1, width // head))
    embed, steps = (shape_of(state, f"blocks.{name}", 2, where)[0] for name in ("output.f.w", "input.w_t"))
    return vit, embed, steps


def text_config(state: State, where: str, head: int = HEAD) -> tuple[TextConfig, int]:
    """Sizes of the tower that reads, and of the joint embedding. Its captions end as CLIP's do."""
    vocab, width = shape_of(state, "blocks.input.w_voc", 2, where)
    text = TextConfig(vocab, shape_of(state, "blocks.input.w_pos", 2, where)[0], width,
                      layers_of(state, r"blocks\.block_(\d+)\."), max(1, width // head),
                      min(TextConfig().eot, vocab - 1))
    return text, shape_of(state, "blocks.output.f.w", 2, where)[0]


# ------------------------------------------------------------------------------------------------- the reader

def kind_of(names: Collection[str]) -> str | None:
    """Which of the three kinds of files has these names, or None."""
    return next((kind for kind, known in SIGNATURES.items() if known <= set(names)), None)


def knows(names: Collection[str]) -> bool:
    """Are these names those of a file of GLIDE?"""
    return kind_of(names) is not None


def recognises(path: Path) -> bool:
    """Is this a file of GLIDE?"""
    return path.is_file() and path.suffix in SUFFIXES and knows(read_state(path))


def fetch(name: str, folder: str | Path | None = None) -> Path:
    """The file of a public name, downloaded once into ``folder`` (by default the user's cache). Raises
    ``OSError`` if it cannot be reached."""
    file = FILES[name]
    return download(Remote(f"{ADDRESS}/{file}"), Path(folder or pooch.os_cache("mmlearn")) / "glide" / file)


def load(path: Path, head: int = HEAD, size: int | None = None) -> nn.Module:
    """The network of a file, in evaluation mode: a ``GLIDE``, or a tower of the noised CLIP (``load_clip``
    makes one of both).

    ``head`` are the channels of a head, ``size`` the pixels a side that it draws, where they are not those of
    the released files. Raises ``ValueError`` if the file holds something else.
    """
    state, where = read_state(path), str(path)
    kind = kind_of(state)
    if kind is None:
        raise ValueError(f"{path} is none of {', '.join(FILES.values())}; give one as it was published")
    with blank():
        if kind == "model":
            model: nn.Module = GLIDE(model_config(state, where, head, size))
            sources = model_sources(model)
        else:
            model = (NoisedVisionTransformer(*image_config(state, where, head)) if kind == "clip image"
                     else NoisedTextTransformer(*text_config(state, where, head)))
            sources = clip_sources(model)
    return filled(model, sources, state, where)


def load_clip(image: Path, text: Path, head: int = HEAD) -> NoisedCLIP:
    """The noised CLIP of two files, ``clip_image_enc.pt`` and ``clip_text_enc.pt``. Raises ``ValueError`` if
    one is something else, or they do not belong together."""
    seen, read = load(image, head), load(text, head)
    if not isinstance(seen, NoisedVisionTransformer) or not isinstance(read, NoisedTextTransformer):
        raise ValueError(f"{image} holds a {type(seen).__name__} and {text} a {type(read).__name__}; give "
                         f"clip_image_enc.pt and clip_text_enc.pt, in this order")
    if seen.projection.shape[1] != read.projection.shape[1]:
        raise ValueError(f"{image} embeds in {seen.projection.shape[1]} numbers and {text} in "
                         f"{read.projection.shape[1]}; give two files that belong together")
    config = replace(NoisedCLIPConfig.released(), embed=seen.projection.shape[1], image=seen.config,
                     text=read.config, steps=seen.steps)
    with blank():
        model = NoisedCLIP(config)
    model.image, model.text = seen, read
    model.logit_scale = nn.Parameter(torch.tensor(config.scale).log(), requires_grad=False)
    return model.eval()
