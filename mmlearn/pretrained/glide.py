r"""The public weights of GLIDE (filtered): base model, upsampler, both for holes, and the two towers of its
noised CLIP, as ours.

Paper: A. Nichol et al. (2021), *GLIDE*, arXiv:2112.10741; files of github.com/openai/glide-text2im (code
MIT), whose names are those of its modules, in 16 bits.  Survey: 2.3.  Differs from the paper: nothing.

What leaves no trace in a shape is taken from the released configurations: heads of 64 channels, an upsampler
that is given a quarter of its side, a smallest map of 8 x 8 (which says how many pixels a model draws).
"""

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pooch
import torch
from torch import Tensor, nn

from mmlearn.data.download import Remote, download
from mmlearn.nn.modes import blank
from mmlearn.nn.vit import ViTConfig
from mmlearn.pretrained import fitting
from mmlearn.pretrained.diffusion import by_kind, guided_shapes, guided_weights
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

TEXT_NAMES = (                          # parts of our names of what reads, in order, and theirs
    (r"^words", "token_embedding"), (r"^positions", "positional_embedding"),
    (r"^padding", "padding_embedding"), (r"^norm", "final_ln"), (r"^summary", "transformer_proj"),
    (r"^layers", "transformer.resblocks"), (r"\.attention\.in_", ".attn.c_qkv."),
    (r"\.attention\.out", ".attn.c_proj"), (r"\.attention_norm", ".ln_1"),
    (r"\.feed_forward_norm", ".ln_2"), (r"\.feed_forward\.inner", ".mlp.c_fc"),
    (r"\.feed_forward\.outer", ".mlp.c_proj"),
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


def renamed(name: str, patterns: Any) -> str:
    """``name`` after every pattern that it has was replaced."""
    for pattern, theirs in patterns:
        name = re.sub(pattern, theirs, name)
    return name


def model_shapes(model: GLIDE) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the file of a model has."""
    text = {renamed(name, TEXT_NAMES): tuple(value.shape) for name, value in model.text.state_dict().items()}
    return text | guided_shapes(model.unet)


def model_weights(model: GLIDE, state: State) -> State:
    """The tensors of a file as a model holds them, in float32; rows of projections stand by head there."""
    def of(name: str) -> Tensor:
        value = state[renamed(name, TEXT_NAMES)].float()
        return by_kind(value, model.config.text.heads) if ".attention.in_" in name else value

    text = {f"text.{name}": of(name).contiguous().clone() for name in model.text.state_dict()}
    return text | {f"unet.{name}": value for name, value in guided_weights(model.unet, state, False).items()}


def clip_names(tower: nn.Module) -> dict[str, list[str]]:
    """Names in a file, of which each tensor of a tower is made: queries, keys and values are three there."""
    found = {}
    for name in tower.state_dict():
        stem, joined, kind = name.partition(".attention.in_")
        theirs = f"blocks.{renamed(stem if joined else name, CLIP_NAMES)}"
        letters = "qkv" if kind == "weight" else "qv"                   # keys have no bias
        found[name] = [f"{theirs}.f_attn.f_{letter}.{kind[0]}" for letter in letters] if joined else [theirs]
    return found


def clip_shapes(tower: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the file of a tower has."""
    shapes: dict[str, tuple[int, ...]] = {}
    state = tower.state_dict()
    for name, theirs in clip_names(tower).items():
        rows, *rest = state[name].shape
        shape = tuple(state[name].shape)[::-1] if name == "projection" else (rows // len(theirs), *rest)
        shapes |= dict.fromkeys(theirs, shape)
    return shapes


def clip_weights(tower: nn.Module, state: State) -> State:
    """The tensors of a file as a tower holds them, in float32."""
    joined = {name: torch.cat([state[one].float() for one in theirs])
              for name, theirs in clip_names(tower).items()}
    joined["projection"] = joined["projection"].mT
    return {name: value.contiguous().clone() for name, value in joined.items()}


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
    if kind == "model":
        with blank():
            model = GLIDE(model_config(state, where, head, size))
        state = fitting(state, model_shapes(model), where)
        model.load_state_dict(model_weights(model, state), assign=True)
        return model.eval()
    with blank():
        tower = (NoisedVisionTransformer(*image_config(state, where, head)) if kind == "clip image"
                 else NoisedTextTransformer(*text_config(state, where, head)))
    state = fitting(state, clip_shapes(tower), where)
    tower.load_state_dict(clip_weights(tower, state), assign=True)
    return tower.eval()


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
