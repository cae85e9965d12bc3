r"""The public weights of Vokenization, as ours: the token-image matcher and the language models.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775; files of
github.com/airsplay/vokenization (code MIT), whose names are those of its modules.  Survey: 3.5.1.
Differs from the paper: nothing.

A language model is a folder as transformers 3.3 writes it, config.json and weights: ``bert.*``, ``cls.*`` and
``visual_cls_head.*`` (a folder without the last is a BERT, and read as one). The matcher is a folder with
BEST.pth, or that file: ``lang_model.*`` and ``visn_model.*``, the CNN's names being torchvision's, without
its classifier. BEST.pth.model beside it is a pickle of whole modules, which nothing here opens. The names
were taken from the released code; the archives themselves were not at hand.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmlearn.files import read_json
from mmlearn.images_for_language.token_image_matching import MatcherConfig, TokenImageMatcher
from mmlearn.images_for_language.voken_lm import VokenLM, VokenLMConfig
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.modes import blank
from mmlearn.nn.vision import IMAGENET_MEAN, IMAGENET_STD
from mmlearn.pretrained import fitting
from mmlearn.pretrained.bert import (
    BUFFERS,
    config_of,
    expected_shapes,
    joined,
    present,
    untied,
    without,
)
from mmlearn.pretrained.files import HUGGING_FACE, layers_of, read_state, shape_of, weights_in, whole
from mmlearn.weights import SUFFIXES

SYSTEM = "Vokenization"
State = dict[str, Tensor]
ADDRESS = "https://nlp.cs.unc.edu/data/vokenization"
ARCHIVES = ("coco_hinge05_dim64_resxt101_bertl4.zip", "vlm_12L_768H_wiki.zip",
            "vlm_roberta_12L_768H_wiki.zip")
MATCHER_FILE = "BEST.pth"
HEAD = 64                               # width of a head of BERT in all sizes that are published
LM_NAMES = (("words.dense", "cls.predictions.transform.dense"),
            ("words.norm", "cls.predictions.transform.LayerNorm"),
            ("words.bias", "cls.predictions.bias"),
            ("vokens.dense", "visual_cls_head.dense"), ("vokens.norm", "visual_cls_head.layer_norm"),
            ("vokens.decoder", "visual_cls_head.decoder"))
MATCHER_NAMES = (("words", "lang_model.mlp"), ("pictures", "visn_model.mlp"))
COUNTS = "num_batches_tracked"          # of batch normalisation; the released one is frozen and has none


def renamed(name: str, table: tuple[tuple[str, str], ...]) -> str:
    """``name`` with the beginning that a table gives it in a file."""
    for ours, theirs in table:
        if name == ours or name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"{name} is no tensor of Vokenization")


def under(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


# ----------------------------------------------------------------------------------------- the language model


def lm_shapes(model: VokenLM) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a language model, as ``untied`` leaves them."""
    return expected_shapes(model.bert) | {
        renamed(name, LM_NAMES): tuple(value.shape)
        for name, value in model.state_dict().items() if not name.startswith("bert.")}


def load_lm(path: Path) -> VokenLM:
    """The language model of a folder with config.json and weights, in evaluation mode and float32.

    Raises ``FileNotFoundError`` if the weights are missing, ``ValueError`` if names, shapes, numbers or
    settings differ.
    """
    settings, file = path / HUGGING_FACE[0], weights_in(path, HUGGING_FACE[1])
    found, where = read_json(settings), str(file)
    text = config_of(found, str(settings), pooler=False)
    config = VokenLMConfig(text, whole(found, "voken_size", 50_000, str(settings)))
    with blank():
        model = VokenLM(config)
    state = untied(present(read_state(file)), where)
    state = without(state, r"pooler\..*", "which no loss had reached", where)
    state = fitting(state, lm_shapes(model), where)
    ours = {f"bert.{name}": value for name, value in joined(model.bert, state).items()}
    ours |= {name: state[renamed(name, LM_NAMES)].float().clone()
             for name in model.state_dict() if not name.startswith("bert.")}
    model.load_state_dict(ours, assign=True)
    return model.eval()


# ------------------------------------------------------------------------------------------------ the matcher


def text_config(state: State, where: str, heads: int | None) -> BERTConfig:
    """Sizes of the matcher's BERT, read from the shapes of its tensors under their names in the file."""
    words, context = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position"))
    vocab, width = shape_of(state, words, 2, where)
    ff = shape_of(state, "encoder.layer.0.intermediate.dense.weight", 2, where)[0]
    return BERTConfig(vocab, shape_of(state, context, 2, where)[0], width,
                      layers_of(state, r"encoder\.layer\.(\d+)\."), heads or max(1, width // HEAD), ff,
                      pooler="pooler.dense.weight" in state)


def matcher_shapes(model: TokenImageMatcher) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the file of a matcher has."""
    shapes = {f"lang_model.backbone.{name}": shape for name, shape in expected_shapes(model.bert).items()}
    for name, value in model.state_dict().items():
        if not name.startswith("bert.") and not name.endswith(COUNTS):
            shapes[matcher_name(name)] = tuple(value.shape)
    return shapes


def matcher_name(name: str) -> str:
    """Our name of a tensor beside BERT's, in the file."""
    trunk = "trunk.trunk.resnet."
    if name.startswith(trunk):
        return f"visn_model.backbone.{name.removeprefix(trunk)}"
    return renamed(name, MATCHER_NAMES)


def load_matcher(
    file: Path, trunk: str = "resnext101_32x8d", heads: int | None = None
) -> TokenImageMatcher:
    """The matcher of a file BEST.pth, in evaluation mode and float32.

    ``trunk`` names the CNN as torchvision does, ``heads`` are those of BERT where they are not of 64 numbers:
    neither leaves a trace in the file. Raises ``ValueError`` if names, shapes or numbers differ.
    """
    where = str(file)
    state = {name: value for name, value in read_state(file).items()
             if not name.endswith(COUNTS) and not BUFFERS.fullmatch(name)}
    text = text_config(under("lang_model.backbone.", state), where, heads)
    hidden, into = shape_of(state, "lang_model.mlp.0.weight", 2, where)
    config = MatcherConfig(text, max(1, into // text.width), trunk, hidden,
                           shape_of(state, "lang_model.mlp.3.weight", 2, where)[0])
    with blank():
        model = TokenImageMatcher(config)
    state = fitting(state, matcher_shapes(model), where)
    bert = joined(model.bert, under("lang_model.backbone.", state))
    ours = {f"bert.{name}": value for name, value in bert.items()}
    for name in model.state_dict():
        if name.endswith(COUNTS):
            ours[name] = torch.zeros((), dtype=torch.long)
        elif not name.startswith("bert."):
            ours[name] = state[matcher_name(name)].float().clone()
    model.load_state_dict(ours, assign=True)
    cnn = model.trunk.trunk
    cnn.mean, cnn.std = (torch.tensor(part)[:, None, None] for part in (IMAGENET_MEAN, IMAGENET_STD))
    return model.eval()


# ------------------------------------------------------------------------------------------------- the reader


def knows(names: Collection[str]) -> bool:
    """Are these names those of a file of Vokenization?"""
    return {"visual_cls_head.decoder.weight", "lang_model.mlp.0.weight"} & set(names) != set()


def recognises(path: Path) -> bool:
    """Is this a folder of a language model with vokens or of a matcher, or a matcher's file?"""
    if path.is_file():
        return path.suffix in SUFFIXES and "lang_model.mlp.0.weight" in read_state(path)
    config = path / HUGGING_FACE[0]
    if config.is_file():
        return read_json(config).get("do_voken_cls") is True
    return (path / MATCHER_FILE).is_file()


def load(
    path: Path | None, trunk: str = "resnext101_32x8d", heads: int | None = None
) -> VokenLM | TokenImageMatcher:
    """The language model of a folder, or the matcher of a folder or file, in evaluation mode.

    ``trunk`` and ``heads`` are for a matcher (see ``load_matcher``). Raises ``FileNotFoundError`` without a
    path (the authors' server is the only source), ``ValueError`` if the file holds something else.
    """
    if path is None:
        raise FileNotFoundError(f"the weights of Vokenization are on no hub; get {', '.join(ARCHIVES)} from "
                                f"{ADDRESS}, unpack them, and load the folder by its path")
    if path.is_dir() and (path / HUGGING_FACE[0]).is_file():
        return load_lm(path)
    return load_matcher(path / MATCHER_FILE if path.is_dir() else path, trunk, heads)
