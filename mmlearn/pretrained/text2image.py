r"""The public weights of the text-to-image GANs: names and shapes of the authors' files, turned into ours.

Papers: see the modules of the models.  Files: github.com/taoxugit/AttnGAN (generators, DAMSM's text and image
encoders), github.com/MinfengZhu/DM-GAN, github.com/hanzhanggit/StackGAN-v2 (all MIT);
DF-GAN's are read by ``pretrained.dfgan``.  Survey: 2.1.3.  Differs from the papers: nothing.

A file holds the state dict of one network. Each network has a ``Layout``: what only its files have, how a
configuration is read off names and shapes, and what the authors call each of our tensors. Files of 2018
have no ``num_batches_tracked``; nothing uses it, and it starts at 0.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import download, layers_of, read_state, shape_of
from mmlearn.text2image.attngan import AttnGANConfig, AttnGANGenerator
from mmlearn.text2image.damsm import DAMSMConfig, ImageEncoder, TextEncoder
from mmlearn.text2image.dmgan import DMGANConfig, DMGANGenerator
from mmlearn.text2image.stackgan import StackGANv2Config, StackGANv2Generator
from mmlearn.weights import SUFFIXES

SYSTEM = "AttnGAN, DM-GAN and StackGAN-v2"
State = dict[str, Tensor]
COUNTER = "num_batches_tracked"
NOTHING = r"(?!)"                                       # matches no name


@dataclass(frozen=True)
class Layout:
    """The files of one network. ``signature`` are names that its files have, and no other layout's all of
    them.

    ``config`` reads the configuration off the tensors (and gets the file's name), ``build`` makes the
    model, ``theirs`` gives the authors' name of our tensor. ``pointwise`` matches names of their 1 x 1
    convolutions that are linear layers of ours (the trailing sides of 1 are dropped), ``ignored`` names of
    the file that the model has no use for.
    """

    name: str
    signature: frozenset[str]
    config: Callable[[State, str], Any]
    build: Callable[[Any], nn.Module]
    theirs: Callable[[str], str]
    pointwise: str = NOTHING
    ignored: str = NOTHING

    def knows(self, names: Collection[str]) -> bool:
        """Are these names those of the network?"""
        return self.signature <= set(names)

    def load(self, state: State, where: str) -> nn.Module:
        """The model with the weights, in evaluation mode and float32, every name and shape accounted for."""
        state = {name: value.flatten(1) if re.fullmatch(self.pointwise, name) and value.ndim > 1 else value
                 for name, value in state.items() if not re.fullmatch(self.ignored, name)}
        with blank():
            model = self.build(self.config(state, where))
        ours = {name: self.theirs(name) for name in model.state_dict()}
        expected = {ours[name]: tuple(value.shape) for name, value in model.state_dict().items()
                    if not name.endswith(COUNTER)}
        state = fitting({name: value for name, value in state.items() if not name.endswith(COUNTER)},
                        expected, where)
        model.load_state_dict({name: state[theirs].float().clone() if theirs in expected else torch.tensor(0)
                               for name, theirs in ours.items()}, assign=True)
        return model.eval()


# ------------------------------------------------------------- AttnGAN, DM-GAN, StackGAN-v2, DAMSM's encoders

GENERATOR = (  # patterns of our names, in order, and what the authors of all three generators call them
    (r"condition\.", r"ca_net."),
    (r"first\.fc\.", r"h_net1.fc.0."),
    (r"first\.norm\.", r"h_net1.fc.1."),
    (r"first\.up\.(\d+)\.conv\.", lambda found: f"h_net1.upsample{int(found[1]) + 1}.1."),
    (r"first\.up\.(\d+)\.norm\.", lambda found: f"h_net1.upsample{int(found[1]) + 1}.2."),
    (r"heads\.(\d+)\.0\.", lambda found: f"img_net{int(found[1]) + 1}.img.0."),
    (r"further\.(\d+)\.", lambda found: f"h_net{int(found[1]) + 2}."),
    (r"(residual\.\d+)\.inner\.conv\.", r"\1.block.0."),
    (r"(residual\.\d+)\.inner\.norm\.", r"\1.block.1."),
    (r"(residual\.\d+)\.conv\.", r"\1.block.3."),
    (r"(residual\.\d+)\.norm\.", r"\1.block.4."),
    (r"\.up\.conv\.", r".upsample.1."),
    (r"\.up\.norm\.", r".upsample.2."),
    (r"\.project\.", r".att.conv_context."),          # AttnGAN
    (r"\.join\.conv\.", r".jointConv.0."),           # StackGAN-v2
    (r"\.join\.norm\.", r".jointConv.1."),
    (r"\.from_words\.", r".M_w.0."),                  # DM-GAN
    (r"\.from_places\.", r".M_r.0."),
    (r"\.(key|value)\.", r".\1.0."),
    (r"\.response\.", r".response_gate.0."),
)
IMAGE = ((r"trunk\.", r""), (r"regions\.", r"emb_features."), (r"code\.", r"emb_cnn_code."))
TEXT = ((r"words\.", r"encoder."),)
MIRROR, GENERATOR_FILE = "mediasynthesismuseum/attngan-coco", "coco_AttnGAN2.pth"


def renamed(name: str, patterns: Sequence[tuple[str, Any]]) -> str:
    """``name`` after every pattern that it has was replaced."""
    for pattern, theirs in patterns:
        name = re.sub(pattern, theirs, name)
    return name


def generator_sizes(state: State, where: str) -> dict[str, Any]:
    """What the configurations of the three generators have in common."""
    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return shape_of(state, name, dimensions, where)

    fc, into = shape("ca_net.fc.weight", 2), shape("h_net1.fc.0.weight", 2)
    width, top = shape("img_net1.img.0.weight", 4)[1], shape("h_net1.upsample1.1.weight", 4)[1]
    return dict(text=fc[1], condition=fc[0] // 4, noise=into[1] - fc[0] // 4, width=width,
                size=4 * top // width, residual=layers_of(state, r"h_net2\.residual\.(\d+)\."),
                branches=layers_of(state, r"img_net(\d+)\."))


def text_config(state: State, where: str) -> DAMSMConfig:
    """The sizes of a text encoder."""
    vocab, words = shape_of(state, "encoder.weight", 2, where)
    return replace(DAMSMConfig.coco(), vocab=vocab, words=words,
                   embed=2 * shape_of(state, "rnn.weight_hh_l0", 2, where)[1])


def image_config(state: State, where: str) -> DAMSMConfig:
    """The sizes of an image encoder."""
    return replace(DAMSMConfig.coco(), embed=shape_of(state, "emb_features.weight", 4, where)[0])


ATTNGAN = Layout(
    "AttnGAN's generator", frozenset({"ca_net.fc.weight", "h_net2.att.conv_context.weight"}),
    lambda *file: AttnGANConfig(**generator_sizes(*file)), AttnGANGenerator,
    lambda name: renamed(name, GENERATOR), pointwise=r"h_net\d+\.att\.conv_context\.weight")
DMGAN = Layout(
    "DM-GAN's generator", frozenset({"ca_net.fc.weight", "h_net2.A.weight", "h_net2.response_gate.0.weight"}),
    lambda *file: DMGANConfig(**generator_sizes(*file)), DMGANGenerator,
    lambda name: renamed(name, GENERATOR),
    pointwise=r"h_net\d+\.(M_w|M_r|key|value|response_gate)\.0\.weight")
STACKGAN_V2 = Layout(
    "StackGAN-v2's generator", frozenset({"ca_net.fc.weight", "h_net2.jointConv.0.weight"}),
    lambda *file: StackGANv2Config(**generator_sizes(*file)), StackGANv2Generator,
    lambda name: renamed(name, GENERATOR))
TEXT_ENCODER = Layout(
    "DAMSM's text encoder", frozenset({"encoder.weight", "rnn.weight_hh_l0_reverse"}),
    text_config, TextEncoder, lambda name: renamed(name, TEXT))
IMAGE_ENCODER = Layout(
    "DAMSM's image encoder", frozenset({"emb_features.weight", "emb_cnn_code.weight"}),
    image_config, ImageEncoder, lambda name: renamed(name, IMAGE))


LAYOUTS = (ATTNGAN, DMGAN, STACKGAN_V2, TEXT_ENCODER, IMAGE_ENCODER)    # tried in this order


def layout_of(names: Collection[str]) -> Layout | None:
    """The layout that knows these names, or None."""
    return next((layout for layout in LAYOUTS if layout.knows(names)), None)


def knows(names: Collection[str]) -> bool:
    """Are these names those of one of the networks?"""
    return layout_of(names) is not None


def recognises(path: Path) -> bool:
    """Is this a file of one of the networks?"""
    return path.is_file() and path.suffix in SUFFIXES and knows(read_state(path))


def fetch(name: str, file: str = GENERATOR_FILE) -> Path:
    """A file of AttnGAN's mirror on the hub: the generator, or "text_encoder100.pth".

    Raises ``FileNotFoundError`` for the other names: their authors keep the files on Google Drive.
    """
    if name != MIRROR:
        raise FileNotFoundError(f"the authors of {name} keep the weights on Google Drive; get them by the "
                                f"links in the README of github.com/{name} and load a file by its path")
    return download(name, [file], lambda folder: []) / file


def load(path: Path) -> nn.Module:
    """The network of a file, in evaluation mode: a generator or an encoder. Raises ``ValueError`` if the file
    holds something else."""
    state = read_state(path)
    layout = layout_of(state)
    if layout is None:
        raise ValueError(f"{path} is none of {', '.join(known.name for known in LAYOUTS)}; "
                         "give a file of weights as the authors published it")
    return layout.load(state, str(path))
