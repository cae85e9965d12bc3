r"""The public weights of VQGAN, of the autoencoders of latent diffusion and of the taming transformers: names
and shapes of the released files, turned into ours.

Files: github.com/CompVis/taming-transformers (MIT) and CompVis/latent-diffusion (MIT), ``last.ckpt`` with
``state_dict`` inside; Stable Diffusion's whole checkpoints, where the autoencoder stands behind
``first_stage_model.``; folders of diffusers' ``VQModel`` and ``AutoencoderKL``, such as
stabilityai/sd-vae-ft-mse (MIT).  Survey: 2.2, 2.3.1.  Differs from the papers: nothing.

Their three projections of an attention are one matrix of ours, their 1 x 1 convolutions there are linear
layers, and the levels of a decoder are counted from the picture, ours from the latents. What a file holds
beside the autoencoder is left out with a line that says what, and who reads it: ``load_discriminator``,
``load_lpips``, ``load_transformer``.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.files import read_json
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import download, layers_of, read_state, shape_of, weights_in, whole
from mmlearn.text2image.autoencoder import AutoencoderConfig
from mmlearn.text2image.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from mmlearn.text2image.perceptual import LPIPS
from mmlearn.text2image.taming_transformer import TamingTransformer, TamingTransformerConfig
from mmlearn.text2image.vqgan import VQGAN, PatchConfig, PatchDiscriminator, VQGANConfig
from mmlearn.weights import SUFFIXES

SYSTEM = "VQGAN and the autoencoders of latent diffusion"
State = dict[str, Tensor]
Names = Callable[[str], tuple[str, ...]]                    # our name -> theirs, several where ours joins
CLASSES = ("VQModel", "AutoencoderKL")                      # of diffusers
FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
FIRST_STAGE = "first_stage_model."
SIGNATURES = ("encoder.down.0.block.0.norm1.weight", "encoder.down_blocks.0.resnets.0.norm1.weight")
BESIDE = r"(loss|model_ema)\.|colorize$"                    # what trained a first stage
HEADS = {1024: 16, 1664: 16, 1536: 24}                      # of the released transformers, by their width
SD_SCALE = 0.18215                                          # of latents with four channels

ENDS = ((r"to_codes|to_moments", "quant_conv"), (r"from_codes|from_latents", "post_quant_conv"),
        (r"codebook\.weight", "quantize.embedding.weight"))
COMPVIS = (                                                  # patterns of our names, in order
    (r"\.levels\.(\d+)\.blocks\.", r".LEVEL.\1.block."),
    (r"\.levels\.(\d+)\.attentions\.", r".LEVEL.\1.attn."),
    (r"encoder\.levels\.(\d+)\.resample\.", r"encoder.LEVEL.\1.downsample."),
    (r"decoder\.levels\.(\d+)\.resample\.", r"decoder.LEVEL.\1.upsample."),
    (r"\.middle\.first\.", ".mid.block_1."), (r"\.middle\.second\.", ".mid.block_2."),
    (r"\.middle\.attention\.", ".mid.attn_1."), (r"\.shortcut\.", ".nin_shortcut."),
    (r"\.out\.", ".proj_out."), (r"coder\.enter\.", "coder.conv_in."), (r"coder\.leave\.", "coder.conv_out."),
    (r"coder\.norm\.", "coder.norm_out."), *ENDS,
)
DIFFUSERS = (
    (r"encoder\.levels\.", "encoder.down_blocks."), (r"decoder\.levels\.", "decoder.up_blocks."),
    (r"\.attentions\.(\d+)\.norm\.", r".attentions.\1.group_norm."), (r"\.blocks\.", ".resnets."),
    (r"(down_blocks\.\d+)\.resample\.", r"\1.downsamplers.0."),
    (r"(up_blocks\.\d+)\.resample\.", r"\1.upsamplers.0."),
    (r"\.middle\.first\.", ".mid_block.resnets.0."), (r"\.middle\.second\.", ".mid_block.resnets.1."),
    (r"\.middle\.attention\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.middle\.attention\.", ".mid_block.attentions.0."), (r"\.shortcut\.", ".conv_shortcut."),
    (r"\.out\.", ".to_out.0."), (r"coder\.enter\.", "coder.conv_in."), (r"coder\.leave\.", "coder.conv_out."),
    (r"coder\.norm\.", "coder.conv_norm_out."), *ENDS,
)
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}      # diffusers before 0.15


def renamed(ours: str, patterns: tuple[tuple[str, str], ...]) -> str:
    """``ours`` after every pattern that it has was replaced."""
    for pattern, theirs in patterns:
        ours = re.sub(pattern, theirs, ours)
    return ours


def compvis_names(config: AutoencoderConfig, gumbel: bool) -> Names:
    """Names in the authors' files of VQGAN and latent diffusion."""
    def names(ours: str) -> tuple[str, ...]:
        if gumbel and ours.startswith("codebook."):
            return (ours.replace("codebook.logits", "quantize.proj").replace("codebook.weight",
                                                                             "quantize.embed.weight"),)
        name = renamed(ours, COMPVIS).replace("encoder.LEVEL", "encoder.down")
        top = len(config.multipliers) - 1
        name = re.sub(r"decoder\.LEVEL\.(\d+)", lambda found: f"decoder.up.{top - int(found[1])}", name)
        return tuple(name.replace(".qkv.", f".{part}.") for part in "qkv") if ".qkv." in name else (name,)

    return names


def diffusers_names(ours: str) -> tuple[str, ...]:
    """Names in the files of diffusers."""
    name = renamed(ours, DIFFUSERS)
    return tuple(name.replace(".qkv.", f".to_{part}.") for part in "qkv") if ".qkv." in name else (name,)


def filled(model: nn.Module, state: Mapping[str, Tensor], names: Names, where: str) -> Any:
    """``model`` with the tensors of ``state``, in float32 and evaluation mode, every name and shape accounted
    for on both sides. Raises ``ValueError`` that lists what differs."""
    expected: dict[str, tuple[int, ...]] = {}
    ours = {name: names(name) for name in model.state_dict()}
    for name, value in model.state_dict().items():
        rows, *rest = value.shape
        expected |= {theirs: (rows // len(ours[name]), *rest) for theirs in ours[name]}
    found = fitting(state, expected, where)
    model.load_state_dict({name: torch.cat([found[one].float() for one in theirs])
                           for name, theirs in ours.items()}, assign=True)
    return model.eval()


def flat(state: Mapping[str, Tensor], pattern: str) -> State:
    """``state`` with the 1 x 1 kernels whose names match as matrices."""
    return {name: value.flatten(1) if value.ndim == 4 and re.search(pattern, name) else value
            for name, value in state.items()}


def say(where: str, names: Collection[str], who: str = "") -> None:
    """One line on stderr about tensors that are left out, by the first two parts of their names."""
    if names:
        parts = Counter(".".join(name.split(".")[:2]) for name in names)
        listed = ", ".join(f"{part} ({count})" for part, count in sorted(parts.items())[:6])
        more = f" and {len(parts) - 6} more parts" if len(parts) > 6 else ""
        print(f"{where}: left out {len(names)} tensors that are not the autoencoder's: {listed}{more}{who}",
              file=sys.stderr)


# ------------------------------------------------------------------------------------ which file, which size

def knows(names: Collection[str]) -> bool:
    """Are these names those of one of the autoencoders?"""
    return any(prefix + one in names for one in SIGNATURES for prefix in ("", FIRST_STAGE))


def recognises(path: Path) -> bool:
    """Is this a file or a folder of one of the autoencoders?"""
    if path.is_dir():
        file = path / "config.json"
        return file.is_file() and read_json(file).get("_class_name") in CLASSES
    return path.is_file() and path.suffix in SUFFIXES and knows(read_state(path))


def first_stage(state: Mapping[str, Tensor], where: str) -> State:
    """The tensors of the autoencoder alone; what else there is is said."""
    if any(name.startswith(FIRST_STAGE) for name in state):
        inner = {name.removeprefix(FIRST_STAGE): value for name, value in state.items()
                 if name.startswith(FIRST_STAGE)}
        others = [name for name in state if not name.startswith(FIRST_STAGE)]
        who = "; load_transformer reads the transformer" if "transformer.tok_emb.weight" in state else ""
        say(where, others, who)
        state = inner
    beside = [name for name in state if re.match(BESIDE, name)]
    say(where, beside, "; load_discriminator and load_lpips read them" if any(
        name.startswith("loss.") for name in beside) else "")
    return {name: value for name, value in state.items() if name not in beside}


def sizes(state: Mapping[str, Tensor], where: str, groups: int) -> dict[str, Any]:
    """The fields of ``AutoencoderConfig`` by names and shapes, of either layout."""
    new = SIGNATURES[1] in state
    level, block, attention = (("down_blocks", "resnets", "attentions") if new else ("down", "block", "attn"))

    def shape(name: str) -> tuple[int, ...]:
        return shape_of(state, name, 4, where)

    width, channels = shape("encoder.conv_in.weight")[:2]
    levels = layers_of(state, rf"encoder\.{level}\.(\d+)\.")
    widths = [shape(f"encoder.{level}.{i}.{block}.0.conv1.weight")[0] for i in range(levels)]
    if any(w % width for w in widths):
        raise ValueError(f"{where}: the levels have {', '.join(map(str, widths))} channels, no multiples of "
                         f"the {width} of the first map; take the file as it was published")
    latent = shape("decoder.conv_in.weight")[1]
    return dict(
        width=width, multipliers=tuple(w // width for w in widths), channels=channels, latent=latent,
        blocks=layers_of(state, rf"encoder\.{level}\.0\.{block}\.(\d+)\."), groups=groups,
        attention=tuple(2**i for i in range(levels)
                        if any(name.startswith(f"encoder.{level}.{i}.{attention}.") for name in state)),
        double=shape("encoder.conv_out.weight")[0] == 2 * latent)


# ---------------------------------------------------------------------------------------------------- reading


def load(path: Path, groups: int = 32, scale: float | None = None) -> VQGAN | KLAutoencoder:
    """The autoencoder of a file or a folder: a ``VQGAN`` where it has codes, else a ``KLAutoencoder``.

    ``groups`` of the normalisations and ``scale`` of the latents stand in no file of CompVis: 32 always, and
    0.18215 for Stable Diffusion's four channels (else 1); in a folder of diffusers they are read.
    """
    where = str(path)
    if path.is_dir():
        settings = read_json(path / "config.json")
        groups = whole(settings, "norm_num_groups", 32, where)
        found = settings.get("scaling_factor") if scale is None else scale
        scale = float(found) if isinstance(found, int | float) else None
        where = str(weights_in(path, FILES))
        state = modern(read_state(Path(where)))
    else:
        state = modern(first_stage(read_state(path), where))
    config = AutoencoderConfig(**sizes(state, where, groups))
    gumbel = "quantize.embed.weight" in state
    names = diffusers_names if SIGNATURES[1] in state else compvis_names(config, gumbel)
    embed = shape_of(state, "post_quant_conv.weight", 4, where)[1]
    state = flat(state, r"\.(q|k|v|proj_out)\.weight$")
    table = next((state[name] for name in ("quantize.embedding.weight", "quantize.embed.weight")
                  if name in state), None)
    with blank():
        model: nn.Module
        if table is None:
            scale = (SD_SCALE if embed == 4 else 1.0) if scale is None else scale
            model = KLAutoencoder(KLAutoencoderConfig(config, embed, scale))
        else:
            model = VQGAN(VQGANConfig(config, len(table), embed, "gumbel" if gumbel else "nearest"))
    return filled(model, state, names, where)


def modern(state: Mapping[str, Tensor]) -> State:
    """The names of attentions as diffusers writes them today."""
    return {re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.",
                   lambda found: f"{found[1]}.{OLD[found[2]]}.", name): value
            for name, value in state.items()}


def fetch(name: str) -> Path:
    """The folder of an autoencoder on the hub. Raises ``FileNotFoundError`` for the authors' own files, which
    are on their university's server."""
    if name.startswith("CompVis/"):
        raise FileNotFoundError(f"the weights of {name} are on the authors' server; get them by the links in "
                                f"the README of github.com/{name} and load last.ckpt by its path")
    return download(name, ["config.json"], lambda folder: FILES)


def load_discriminator(path: Path) -> PatchDiscriminator:
    """The discriminator that a file of VQGAN was trained against, in evaluation mode."""
    prefix, where = "loss.discriminator.main.", str(path)
    state = {name.removeprefix(prefix): value for name, value in read_state(path).items()
             if name.startswith(prefix)}
    width, channels = shape_of(state, "0.weight", 4, where)[:2]
    layers = sum(name.endswith("running_mean") for name in state)
    model = PatchDiscriminator(PatchConfig(width, layers, channels))
    counters = {name: value for name, value in model.state_dict().items()
                if name.endswith("num_batches_tracked")}
    found = fitting({name: value for name, value in state.items() if name not in counters},
                    {name: tuple(value.shape) for name, value in model.state_dict().items()
                     if name not in counters}, where)
    model.load_state_dict({name: value.float() for name, value in found.items()}
                          | {name: state.get(name, value) for name, value in counters.items()})
    return model.eval()


def load_lpips(network: Path, heads: Path | None = None) -> LPIPS:
    """LPIPS with its weights: from a file of VQGAN, which holds them all, or from torchvision's
    ``vgg16-397923af.pth`` and the ``vgg.pth`` of the authors' package (version 0.1, BSD-2-Clause).

    Raises ``ValueError`` if ``network`` holds no heads and no file of ``heads`` is given.
    """
    where, state = str(network), read_state(network)
    inside = {name: value for name, value in state.items() if "perceptual_loss." in name}
    state = {name.rpartition("perceptual_loss.")[2]: value for name, value in (inside or state).items()}
    state = {re.sub(r"^(net\.slice\d|features)\.", "features.", name): value for name, value in state.items()
             if not re.match(r"classifier\.|scaling_layer\.|lins\.", name)}
    if heads is not None:
        state |= {name: value for name, value in read_state(heads).items() if not name.startswith("lins.")}
    if not any(name.startswith("lin0.") for name in state):
        raise ValueError(f"{where} holds a network but no heads; give the authors' vgg.pth as heads, too")
    state = {re.sub(r"^lin(\d)\.model\.[01]\.weight", r"heads.\1", name): value.flatten() if
             name.startswith("lin") else value for name, value in state.items()}
    model = LPIPS()
    return filled(model, state, lambda name: (name.removeprefix("maps."),), where).requires_grad_(False)


# ----------------------------------------------------------------------------------------------- transformers

GPT = (
    (r"^layers\.", "blocks."), (r"\.attention_norm\.", ".ln1."), (r"\.feed_forward_norm\.", ".ln2."),
    (r"\.feed_forward\.inner\.", ".mlp.0."), (r"\.feed_forward\.outer\.", ".mlp.2."),
    (r"\.attention\.out\.", ".attn.proj."), (r"^tokens\.", "tok_emb."), (r"^positions\.table", "pos_emb"),
    (r"^norm\.", "ln_f."),
)


def gpt_names(ours: str) -> tuple[str, ...]:
    """Names of a taming transformer in the authors' files."""
    name = renamed(ours, GPT)
    found = re.fullmatch(r"(.*)\.attention\.in_(weight|bias)", name)
    return tuple(f"{found[1]}.attn.{part}.{found[2]}" for part in ("query", "key", "value")) if found else (
        name,)


def load_transformer(path: Path, heads: int | None = None) -> TamingTransformer:
    """The transformer of a file of VQGAN's second stage, in evaluation mode; ``heads`` stand in no file and
    are those of the released models by default. Raises ``ValueError`` for another width without them."""
    prefix, where = "transformer.", str(path)
    state = {name.removeprefix(prefix): value for name, value in read_state(path).items()
             if name.startswith(prefix) and not name.endswith(".attn.mask")}
    vocab, width = shape_of(state, "tok_emb.weight", 2, where)
    positions = shape_of(state, "pos_emb", 3, where)[1]
    heads = heads or HEADS.get(width)
    if heads is None:
        raise ValueError(f"{where} has a transformer of width {width}, which no released model has; say how "
                         f"many heads it has")
    state["pos_emb"] = state["pos_emb"][0]
    with blank():
        model = TamingTransformer(TamingTransformerConfig(
            vocab, positions, width, layers_of(state, r"blocks\.(\d+)\."), heads))
    return filled(model, state, gpt_names, where)
