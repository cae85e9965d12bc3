"""The public weights of UniCL, Swin-T and Swin-B with a text tower, as our ``Florence``.

Paper: J. Yang et al. (2022), *Unified Contrastive Learning in Image-Text-Label Space*, arXiv:2204.03610;
weights of github.com/microsoft/UniCL, release v1.0 (MIT).  Survey: 4.4.  Differs from the paper: nothing.

A file holds a state dict, alone or under "model", with the names of that code or with its older ones.
"""

import math
import re
from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from mmlearn.nn.configuration import configured
from mmlearn.nn.modes import blank
from mmlearn.nn.swin import SwinConfig
from mmlearn.pretrained import fitting
from mmlearn.pretrained.clip import BLOCK, renamed
from mmlearn.pretrained.files import layers_of, read_state, shape_of
from mmlearn.text_for_vision.clip import TextConfig
from mmlearn.text_for_vision.florence import Florence, FlorenceConfig
from mmlearn.weights import SUFFIXES

SYSTEM = "UniCL"
CONSTANTS = re.compile(r"image_encoder\.layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)")
OLD = (("visual.", "image_encoder."), ("lang_encoder.", "text_encoder."), ("text.", "text_encoder."))
NAMES = (  # parts of our names, in order, and UniCL's
    ("text.words", "text_encoder.token_embedding"),
    ("text.positions", "text_encoder.positional_embedding"),
    ("text.norm_after", "text_encoder.ln_final"),
    ("text.projection", "text_projection"),
    ("text.layers", "text_encoder.resblocks"),
    ("image.embeddings.0.project", "image_encoder.patch_embed.proj"),
    ("image.embeddings.0.norm", "image_encoder.patch_embed.norm"),
    ("image.norm", "image_encoder.norm"),
)
SWIN_BLOCK = (("attention_norm", "norm1"), ("feed_forward_norm", "norm2"), ("attention.project", "attn.qkv"),
              ("attention.out", "attn.proj"), ("attention.table", "attn.relative_position_bias_table"),
              ("feed_forward.inner", "mlp.fc1"), ("feed_forward.outer", "mlp.fc2"))


def public_name(name: str) -> str:
    """UniCL's name of our tensor ``name``."""
    if name == "projection":
        return "image_projection"
    if block := re.fullmatch(r"image\.stages\.(\d+)\.(\d+)\.(.*)", name):
        return f"image_encoder.layers.{block[1]}.blocks.{block[2]}.{renamed(block[3], SWIN_BLOCK)}"
    if merging := re.fullmatch(r"image\.embeddings\.([1-9])\.(norm|reduce)\.(.*)", name):
        part = {"norm": "norm", "reduce": "reduction"}[merging[2]]
        return f"image_encoder.layers.{int(merging[1]) - 1}.downsample.{part}.{merging[3]}"
    return renamed(name, (*NAMES, *BLOCK))


def weights_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a file under UniCL's present names, without what the model computes by itself."""
    state = {present(name): value for name, value in read_state(path).items()}
    return {name: value for name, value in state.items() if not CONSTANTS.fullmatch(name)}


def present(name: str) -> str:
    """The present name of what an older file calls ``name``."""
    if name == "vision_projection":
        return "image_projection"
    return next((new + name.removeprefix(old) for old, new in OLD if name.startswith(old)), name)


def config_of(state: dict[str, Tensor], where: str) -> FlorenceConfig:
    """The sizes of a model, read off names and shapes; the layers of text have heads of 64."""
    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return shape_of(state, name, dimensions, where)

    stages = layers_of(state, r"image_encoder\.layers\.(\d+)\.")
    tables = [shape(f"image_encoder.layers.{i}.blocks.0.attn.relative_position_bias_table", 2)
              for i in range(stages)]
    if not tables:
        raise ValueError(f"{where} has no image_encoder.layers; give a checkpoint of UniCL with a Swin "
                         f"Transformer")
    small = SwinConfig.swin_t()
    image = configured(SwinConfig, dict(
        size=small.size, width=shape("image_encoder.patch_embed.proj.weight", 4)[0],
        depths=[layers_of(state, rf"image_encoder\.layers\.{i}\.blocks\.(\d+)\.") for i in range(stages)],
        heads=[heads for _, heads in tables], window=(math.isqrt(tables[0][0]) + 1) // 2,
        drop_path=small.drop_path if shape("image_encoder.norm.weight", 1)[0] < 1024 else 0.5), where)
    vocab, width = shape("text_encoder.token_embedding.weight", 2)
    text = configured(TextConfig, dict(
        vocab=vocab, context=shape("text_encoder.positional_embedding", 2)[0], width=width,
        layers=layers_of(state, r"text_encoder\.resblocks\.(\d+)\."), heads=max(1, width // 64),
        eot=vocab - 1, eps=1e-12), where)
    sizes = dict(embed=shape("text_projection", 2)[1], image=image, text=text)
    return configured(FlorenceConfig, sizes, where)


def knows(names: Collection[str]) -> bool:
    """Are these names those of UniCL, present or older ones?"""
    return {"image_projection", "text_projection",
            "image_encoder.patch_embed.proj.weight"} <= {present(name) for name in names}


def recognises(path: Path) -> bool:
    """Is this a file of UniCL?"""
    if not path.is_file() or path.suffix not in SUFFIXES:
        return False
    try:
        return knows(read_state(path))
    except ValueError:
        return False


def load(path: Path | None) -> Florence:
    """The model of a file, in evaluation mode and float32, every name and shape accounted for.

    Raises ``FileNotFoundError`` without a file, ``ValueError`` if it holds something else.
    """
    if path is None:
        raise FileNotFoundError("UniCL's weights are not on a hub; download them from the releases of "
                                "github.com/microsoft/UniCL and load the file by its path")
    state = weights_of(path)
    with blank():
        model = Florence(config_of(state, str(path)))
    ours = {name: public_name(name) for name in model.state_dict()}
    fitting(state, {ours[name]: tuple(value.shape) for name, value in model.state_dict().items()}, str(path))
    model.load_state_dict({name: state[theirs].float().clone() for name, theirs in ours.items()}, assign=True)
    return model.eval()
