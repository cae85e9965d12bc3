"""The public weights of DF-GAN: names and shapes of the authors' checkpoints of 2022, turned into ours.

Paper: M. Tao et al. (2022), *DF-GAN*, CVPR 2022, arXiv:2008.05865; files ``state_epoch_1220.pth`` (CUB) and
``state_epoch_290.pth`` (COCO), to which the README of github.com/tobran/DF-GAN links (CC BY-NC-SA 4.0,
academic use only).  Survey: 2.1.3.  Differs from the paper: nothing.

A file holds three nets under "model": ``netG``, ``netD`` and ``netC``, the last being the output of our
discriminator. The sentences must come from the text encoder they were trained with, AttnGAN's of the same
data set. The shortcuts that the authors' discriminator never uses must be there and are dropped.
"""

import re
from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import read_state
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig
from mmlearn.weights import SUFFIXES

SYSTEM = "DF-GAN"
SIGNATURE = "netG.GBlocks.0.fuse1.affine0.fc_gamma.linear1.weight"
NAMES = (                                                               # ours -> theirs
    (r"generator\.start", "netG.fc"), (r"generator\.to_rgb", "netG.to_rgb.1"),
    (r"generator\.blocks\.(\d+)\.conv(\d)", r"netG.GBlocks.\1.c\2"),
    (r"generator\.blocks\.(\d+)\.shortcut", r"netG.GBlocks.\1.c_sc"),
    (r"generator\.blocks\.(\d+)\.fuse(\d)\.affines\.(\d)", r"netG.GBlocks.\1.fuse\2.affine\3"),
    (r"(affine\d)\.gamma", r"\1.fc_gamma"), (r"(affine\d)\.theta", r"\1.fc_beta"),
    (r"(fc_gamma|fc_beta)\.0", r"\1.linear1"), (r"(fc_gamma|fc_beta)\.2", r"\1.linear2"),
    (r"discriminator\.from_rgb", "netD.conv_img"),
    (r"discriminator\.blocks\.(\d+)\.gain", r"netD.DBlocks.\1.gamma"),
    (r"discriminator\.blocks\.(\d+)\.conv1", r"netD.DBlocks.\1.conv_r.0"),
    (r"discriminator\.blocks\.(\d+)\.conv2", r"netD.DBlocks.\1.conv_r.2"),
    (r"discriminator\.blocks\.(\d+)\.shortcut", r"netD.DBlocks.\1.conv_s"),
    (r"discriminator\.matching\.conv1", "netC.joint_conv.0"),
    (r"discriminator\.matching\.conv2", "netC.joint_conv.2"),
)


def public_name(ours: str) -> str:
    """The authors' name of our tensor ``ours``, with that of the net before it."""
    for pattern, theirs in NAMES:
        ours = re.sub(pattern, theirs, ours)
    return ours


def knows(names: Collection[str]) -> bool:
    """Are these names those of the DF-GAN code of 2022?"""
    return SIGNATURE in names


def recognises(path: Path) -> bool:
    """Is this a checkpoint of the DF-GAN code of 2022?"""
    if not path.is_file() or path.suffix not in SUFFIXES:
        return False
    return knows(read_state(path))


def config_of(state: dict[str, Tensor], where: str) -> DFGANConfig:
    """The sizes of a model, read off names and shapes."""
    def shape(name: str) -> tuple[int, ...]:
        if name not in state:
            raise ValueError(f"{where} has no {name}; give a checkpoint of the DF-GAN code of 2022 with all "
                             f"three nets")
        return tuple(state[name].shape)

    noise, condition = shape("netG.fc.weight")[1], shape(SIGNATURE)[1]
    blocks = len({name.split(".")[2] for name in state if name.startswith("netG.GBlocks.")})
    return DFGANConfig(4 * 2**blocks, shape("netG.to_rgb.1.weight")[1], noise, condition - noise)


def unused_shortcuts(config: DFGANConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of what the authors' discriminator holds and never uses."""
    channels = config.discriminator_channels
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (before, after) in enumerate(zip(channels, channels[1:])):
        if before == after:
            shapes[f"netD.DBlocks.{i}.conv_s.weight"] = (after, before, 1, 1)
            shapes[f"netD.DBlocks.{i}.conv_s.bias"] = (after,)
    return shapes


def load(path: Path | None) -> DFGAN:
    """Generator and discriminator of a checkpoint, in evaluation mode and float32, every name and shape
    accounted for.

    Raises ``FileNotFoundError`` without a path (there is no hub with these weights), ``ValueError`` if a name
    or a shape differs from what the authors' code saves.
    """
    if path is None:
        raise FileNotFoundError("the weights of DF-GAN are on no hub; get state_epoch_290.pth or "
                                "state_epoch_1220.pth by the links in the README of github.com/tobran/DF-GAN "
                                "and load it by its path")
    state = read_state(path)
    config = config_of(state, str(path))
    with blank():
        model = DFGAN(config)
    ours = {name: public_name(name) for name in model.state_dict()}
    expected = {ours[name]: tuple(value.shape) for name, value in model.state_dict().items()}
    state = fitting(state, expected | unused_shortcuts(config), str(path))
    model.load_state_dict({name: state[theirs].float().clone() for name, theirs in ours.items()}, assign=True)
    return model.eval()
