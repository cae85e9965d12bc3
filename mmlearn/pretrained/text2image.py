r"""The public weights of the text-to-image GANs: names and shapes of the authors' files, turned into ours.

Papers: see the modules of the models.  Files: github.com/taoxugit/AttnGAN (generators, DAMSM's text and image
encoders), github.com/MinfengZhu/DM-GAN, github.com/hanzhanggit/StackGAN-v2 (all MIT),
github.com/tobran/DF-GAN (CC BY-NC-SA).  Survey: 2.1.3.  Differs from the papers: nothing.

A file holds the state dict of one network. Each network has a ``Layout``: what only its files have, how a
configuration is read off names and shapes, and what the authors call each of our tensors. Files of 2018
have no ``num_batches_tracked``; it is not used and starts at 0.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.pretrained import match
from mmlearn.pretrained.files import read_state

State = dict[str, Tensor]
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Layout:
    """The files of one network. ``signature`` are names that its files have, and no other layout's all of
    them.

    ``config`` reads the configuration off the tensors, ``build`` makes the model, ``theirs`` gives the
    authors' name of our tensor. ``ignored`` matches names of the file that the model has no use for.
    """

    name: str
    signature: frozenset[str]
    config: Callable[[State], Any]
    build: Callable[[Any], nn.Module]
    theirs: Callable[[str], str]
    ignored: str = r"(?!)"

    def knows(self, state: State) -> bool:
        """Is this a file of the network?"""
        return self.signature <= state.keys()

    def load(self, state: State, where: str) -> nn.Module:
        """The model with the weights, in evaluation mode and float32, every name and shape accounted for."""
        state = {name: value for name, value in state.items() if not re.fullmatch(self.ignored, name)}
        with torch.device("meta"):
            model = self.build(self.config(state))
        ours = {name: self.theirs(name) for name in model.state_dict()}
        state = {name: torch.tensor(0) for name in ours.values() if name.endswith(COUNTER)} | state
        match({name: tuple(value.shape) for name, value in state.items()},
              {ours[name]: tuple(value.shape) for name, value in model.state_dict().items()}, where)
        values = {name: state[theirs] for name, theirs in ours.items()}
        model.load_state_dict({name: (value.float() if value.is_floating_point() else value).clone()
                               for name, value in values.items()}, assign=True)
        return model.eval()


# ------------------------------------------------------------- AttnGAN, DM-GAN, StackGAN-v2, DAMSM's encoders


# ----------------------------------------------------------------------------------------------------- DF-GAN


LAYOUTS: tuple[Layout, ...] = ()                        # in the order in which a file is tried


def weights_of(path: Path) -> State:
    """The tensors of a file by the authors' names."""
    return read_state(path, ("state_dict", "model"))


def layout_of(state: State) -> Layout | None:
    """The layout that knows these names, or None."""
    return next((layout for layout in LAYOUTS if layout.knows(state)), None)


def recognises(path: Path) -> bool:
    """Is this a file of one of the networks?"""
    return path.is_file() and path.suffix in (".pth", ".pt") and layout_of(weights_of(path)) is not None


def load(path: Path | None) -> nn.Module:
    """The network of a file, in evaluation mode: a generator or an encoder.

    Raises ``FileNotFoundError`` without a file, ``ValueError`` if it holds something else.
    """
    if path is None:
        raise FileNotFoundError("the authors keep these weights on Google Drive; get them by the links in "
                                "the README of the repository and load a file by its path")
    state = weights_of(path)
    layout = layout_of(state)
    if layout is None:
        raise ValueError(f"{path} is none of {', '.join(known.name for known in LAYOUTS)}; "
                         "give a file of weights as the authors published it")
    return layout.load(state, str(path))
