"""Public weights of data2vec for text: folders that ``transformers`` has written, heads for a class as well.

Paper: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555; weights facebook/data2vec-text-base (MIT
on its page of the hub).  Survey: 5.1.  Differs from the paper: nothing.

A folder holds config.json and weights (one file, or an index and its parts); a tokeniser is read from
vocab.json and merges.txt. Names are those of ``transformers.Data2VecTextModel``, with or without
``data2vec_text.`` before them. A pooler, which pre-training does not train, and heads for other tasks are
left out, and said; with ``classes`` the head of ``Data2VecTextForSequenceClassification`` is read too.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as _Tokenizer
from torch import Tensor

from mmlearn.both_modalities.data2vec_text import Data2VecText, Data2VecTextClassifier, Data2VecTextConfig
from mmlearn.data.tokenisers import BPETokeniser, _Subwords
from mmlearn.files import read_json
from mmlearn.nn.configuration import shown
from mmlearn.nn.modes import blank
from mmlearn.pretrained import bert, fitting
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    fetch_hugging_face,
    read_config,
    read_state,
    shape_of,
    weights_in,
    whole,
)

SYSTEM = "data2vec text"
PREFIX = "data2vec_text."
FIELDS: Table = {
    "vocab": ("vocab_size", 30_522), "width": ("hidden_size", 768), "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12), "ff": ("intermediate_size", 3072), "pad": ("pad_token_id", 1),
    "eps": ("layer_norm_eps", 1e-12), "dropout": ("hidden_dropout_prob", 0.1)}
FIXED: dict[str, Any] = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
                         "add_cross_attention": False, "type_vocab_size": 1}
OTHER = r"(pooler|lm_head|qa_outputs)\..*"                          # what pre-training does not train
HEAD = {"dense": "classifier.dense", "out": "classifier.out_proj"}


class RoBERTaTokeniser(BPETokeniser):
    """RoBERTa's tokeniser: GPT-2's byte pairs, and ``<unk> <pad> <s> </s>``; a text reads ``<s> … </s>``."""

    END = "</s>"

    def __init__(self, inner: _Tokenizer) -> None:
        _Subwords.__init__(self, inner, ("<unk>", "<pad>", "<s>", "</s>"))


def config_of(found: Mapping[str, Any], where: str) -> Data2VecTextConfig:
    """Our configuration from the fields of config.json; what it leaves out has ``transformers``' defaults.

    ``<mask>`` is ``mask_token_id``, elsewhere the last id. Raises ``ValueError`` for what cannot be, and for
    fields that compute something else.
    """
    for name, known in FIXED.items():
        default = 2 if name == "type_vocab_size" else known
        if found.get(name, default) != known:
            raise ValueError(f"{where} says {name} = {shown(found.get(name, default))}, this reader knows "
                             f"{known!r} only; give a checkpoint made for it")
    vocab = whole(found, "vocab_size", 30_522, where)
    positions = whole(found, "max_position_embeddings", 512, where)
    pad = found.get("pad_token_id", 1)
    if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad < min(vocab, positions - 1):
        raise ValueError(f"{where}: pad_token_id is {shown(pad)}, expected a whole number below the "
                         f"{vocab:,} tokens and {positions:,} positions; take the file as it was published")
    mask = found.get("mask_token_id")
    return read_config(Data2VecTextConfig, found, FIELDS, where, context=positions - pad - 1,
                       mask=vocab - 1 if mask is None else mask)


def sources(name: str) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name`` of an encoder, or of a classifier."""
    for ours, theirs in HEAD.items():
        if name.startswith(ours + "."):
            return [theirs + name.removeprefix(ours)]
    return bert.sources(name.removeprefix("encoder."))


def present(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the model's name before them, and without buffers that count positions."""
    named = {name.removeprefix(PREFIX): value for name, value in state.items()}
    return {name: value for name, value in named.items() if not bert.BUFFERS.fullmatch(name)}


def knows(names: Collection[str]) -> bool:
    """Are these names those of ``transformers.Data2VecTextModel`` under a head? Alone they are BERT's."""
    return f"{PREFIX}embeddings.word_embeddings.weight" in names


def recognises(path: Path) -> bool:
    """Is this a folder that a data2vec for text in ``transformers`` has saved?"""
    config = path / HUGGING_FACE[0]
    return config.is_file() and read_json(config).get("model_type") == "data2vec-text"


def fetch(name: str) -> Path:
    """The folder of a public model, downloaded (once) from the hub."""
    return fetch_hugging_face(name, ["vocab.json", "merges.txt"])


def load(path: Path, classes: bool = False) -> Data2VecText | Data2VecTextClassifier:
    """The encoder from a folder with config.json and weights, in evaluation mode and float32.

    With ``classes`` it is a classifier with its head. Raises ``FileNotFoundError`` if the weights are
    missing, ``ValueError`` if names, shapes, numbers or settings differ.
    """
    config, weights = HUGGING_FACE
    if not (path / config).is_file():
        raise FileNotFoundError(f"{path} has no {config}; give a folder with {config} and the weights")
    file = weights_in(path, weights)
    where = str(file)
    state = present(read_state(file))
    left = OTHER if classes else OTHER.replace("(", r"(classifier|", 1)
    state = bert.without(state, left, "which the encoder does not have", where)
    sizes = config_of(read_json(path / config), str(path / config))
    with blank():
        encoder = Data2VecText(sizes)
        model: Data2VecText | Data2VecTextClassifier = encoder
        if classes:
            count = shape_of(state, "classifier.out_proj.weight", 2, where)[0]
            model = Data2VecTextClassifier(encoder, count)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in model.state_dict().items():
        theirs = sources(name)
        shapes |= {their: (value.shape[0] // len(theirs), *value.shape[1:]) for their in theirs}
    state = fitting(state, shapes, where)
    model.load_state_dict({name: joined([state[their] for their in sources(name)])
                           for name in model.state_dict()}, assign=True)
    return model.eval()


def joined(parts: list[Tensor]) -> Tensor:
    """Tensors one under the other, in float32 and in memory of their own."""
    return torch.cat([part.float() for part in parts]).clone()


def tokeniser_of(folder: str | Path) -> RoBERTaTokeniser:
    """RoBERTa's tokeniser from a folder with vocab.json and merges.txt. Raises ``FileNotFoundError`` if there
    are none, ``ValueError`` for files that are damaged."""
    folder = Path(folder)
    return RoBERTaTokeniser.from_files(folder / "vocab.json", folder / "merges.txt")  # type: ignore[return-value]


def open_data2vec_text(
    source: str | Path = "facebook/data2vec-text-base", classes: bool = False
) -> tuple[Data2VecText | Data2VecTextClassifier, RoBERTaTokeniser]:
    """A public data2vec for text and its tokeniser, by its name or folder.

    ``model(tokeniser.batch(texts, 512))`` are the states of all tokens (b, t, d). Raises
    ``FileNotFoundError`` or ``ValueError``, also if the tokeniser has more tokens than the model.
    """
    folder = Path(source) if Path(source).exists() else fetch(str(source))
    model, tokeniser = load(folder, classes), tokeniser_of(folder)
    encoder = model.encoder if isinstance(model, Data2VecTextClassifier) else model
    if len(tokeniser) > encoder.config.vocab:
        raise ValueError(f"the tokeniser in {folder} has {len(tokeniser)} tokens, the model "
                         f"{encoder.config.vocab}; the files do not belong together")
    return model, tokeniser
