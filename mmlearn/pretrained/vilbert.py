r"""The public weights of ViLBERT as ours: after pre-training, with its three heads, and after a task.

Paper: J. Lu et al. (2019), *ViLBERT*, NeurIPS, arXiv:1908.02265; files of github.com/jiasenlu/vilbert_beta
and of github.com/facebookresearch/vilbert-multi-task (MIT), whose names are those of its modules: in them 1
is the picture, 2 the text, and "v" and "t" say the same.  Survey: 5.2.  Differs from the paper: nothing.

Heads and the order of the layers leave no trace in a shape. They are read from a JSON file of the repository
(``config/bert_base_6layer_6conect.json``) that is given, or lies beside the weights; without one, heads have
64 numbers in the text and 128 in picture and co-attention, and the meetings stand before the last text layers
and the first visual ones, as in all released models. Two linear layers of each meeting (``q_dense1``,
``q_dense2``), 11,020,800 numbers in all, compute nothing and are left out. The 12-in-1 model
(``multi_task_model.bin``) has a token for each task and other heads, and is refused; its pre-training
(``pretrained_model.bin``) is read.
"""

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pooch
import torch
from torch import Tensor, nn

from mmlearn.both_modalities.vilbert import ViLBERTConfig
from mmlearn.both_modalities.vilbert_heads import ViLBERTForTasks
from mmlearn.both_modalities.vilbert_pretraining import ViLBERTForPreTraining
from mmlearn.data.download import Remote, download
from mmlearn.files import read_json
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.modes import blank
from mmlearn.pretrained import bert, fitting, shorten
from mmlearn.pretrained.files import Table, layers_of, read_config, read_state, shape_of
from mmlearn.weights import SUFFIXES

SYSTEM = "ViLBERT"
MULTI_TASK = "facebookresearch/vilbert-multi-task"
ADDRESS = "https://dl.fbaipublicfiles.com/vilbert-multi-task/pretrained_model.bin"
SIGNATURE = "bert.encoder.c_layer.0.biattention.query1.weight"
TASK = "vil_logit.weight"                                   # files of a task have this head
TASK_TOKENS = "bert.embeddings.task_embeddings.weight"      # the 12-in-1 model has them
TEXT_HEAD, OTHER_HEAD = 64, 128                             # numbers of a head in all released models
UNUSED = re.compile(r"bert\.encoder\.c_layer\.\d+\.biOutput\.q_dense[12]\.(weight|bias)")
DECODER, WORDS = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
FIELDS: Table = {
    "features": ("v_feature_size", 2048), "classes": ("v_target_size", 1601), "width": ("v_hidden_size", 768),
    "layers": ("v_num_hidden_layers", 3), "heads": ("v_num_attention_heads", 12),
    "ff": ("v_intermediate_size", 3072), "inner": ("bi_hidden_size", 1024),
    "co_heads": ("bi_num_attention_heads", 16), "co_text": ("t_biattention_id", [10, 11]),
    "co_vision": ("v_biattention_id", [0, 1]), "dropout": ("v_hidden_dropout_prob", 0.1)}
FIXED = {"hidden_act": "gelu", "v_hidden_act": "gelu", "fusion_method": "mul", "dynamic_attention": False,
         "with_coattention": True, "visual_target": 0}
PARTS = (                                   # our names and theirs, outside of the layers
    ("vilbert.regions.features", "bert.v_embeddings.image_embeddings"),
    ("vilbert.regions.places", "bert.v_embeddings.image_location_embeddings"),
    ("vilbert.regions.norm", "bert.v_embeddings.LayerNorm"),
    ("vilbert.text_pooler", "bert.t_pooler.dense"), ("vilbert.vision_pooler", "bert.v_pooler.dense"),
)
HEADS = (
    ("words.dense", "cls.predictions.transform.dense"), ("words.norm", "cls.predictions.transform.LayerNorm"),
    ("words.bias", "cls.predictions.bias"), ("regions.dense", "cls.imagePredictions.transform.dense"),
    ("regions.norm", "cls.imagePredictions.transform.LayerNorm"),
    ("regions.classes", "cls.imagePredictions.decoder"), ("pairs", "cls.bi_seq_relationship"),
)
TASK_HEADS = (
    *((f"answers.{ours}.{part}", f"vil_prediction.main.{number}.{theirs}")
      for ours, number in (("inner", 0), ("outer", 3))
      for part, theirs in (("direction", "weight_v"), ("length", "weight_g"), ("bias", "bias"))),
    ("choice", "vil_logit"), ("regions", "vision_logit"),
)
ELSEWHERE = r"(cls|linguisic_logit)\..*"    # in files of a task, heads that it does not use
CO = (                                      # within a half of a meeting; {n} and {s}: 1, v or 2, t
    ("attention.out", "biOutput.dense{n}"), ("attention_norm", "biOutput.LayerNorm{n}"),
    ("feed_forward.inner", "{s}_intermediate.dense"), ("feed_forward.outer", "{s}_output.dense"),
    ("feed_forward_norm", "{s}_output.LayerNorm"),
)


def replaced(name: str, table: Collection[tuple[str, str]]) -> str | None:
    """``name`` with the first of our beginnings that it has exchanged for theirs."""
    return next((theirs + name.removeprefix(ours) for ours, theirs in table
                 if name == ours or name.startswith(ours + ".")), None)


def sources(name: str, task: bool) -> list[str]:
    """The tensors of a file that, joined, are our tensor ``name``. Raises ``ValueError`` for another name."""
    if name.startswith("vilbert.text."):
        return ["bert." + their for their in bert.sources(name.removeprefix("vilbert.text."))]
    if name.startswith("vilbert.vision_layers."):
        return ["bert." + their.replace("encoder.layer.", "encoder.v_layer.")
                for their in bert.sources(name.removeprefix("vilbert.vision_"))]
    if half := re.fullmatch(r"vilbert\.co_layers\.(\d+)\.(vision|text)\.(.+)", name):
        layer, stream, rest = half.groups()
        n, s = ("1", "v") if stream == "vision" else ("2", "t")
        head = f"bert.encoder.c_layer.{layer}."
        if third := re.fullmatch(r"attention\.in_(weight|bias)", rest):
            return [f"{head}biattention.{kind}{n}.{third[1]}" for kind in ("query", "key", "value")]
        their = replaced(rest, [(ours, theirs.format(n=n, s=s)) for ours, theirs in CO])
        found = None if their is None else head + their
    else:
        found = replaced(name, (*PARTS, *(TASK_HEADS if task else HEADS)))
    if found is None:
        raise ValueError(f"{name} is no tensor of ViLBERT")
    return [found]


def expected_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything of a file that this model is made of."""
    task = isinstance(model, ViLBERTForTasks)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in model.state_dict().items():
        theirs = sources(name, task)
        shapes |= {their: (value.shape[0] // len(theirs), *value.shape[1:]) if value.ndim else ()
                   for their in theirs}
    return shapes


def joined(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file in float32 under our names."""
    task = isinstance(model, ViLBERTForTasks)
    weights = {}
    for name, value in model.state_dict().items():
        parts = [state[their].float() for their in sources(name, task)]
        weights[name] = (torch.cat(parts) if value.ndim else parts[0].reshape(())).clone()
    return weights


# --------------------------------------------------------------------------------------------- configurations


def config_of(found: Mapping[str, Any], where: str) -> ViLBERTConfig:
    """Our configuration from a JSON file of the repository; what it leaves out has the code's defaults.

    Raises ``ValueError`` for what cannot be, and for settings that compute something else.
    """
    for name, known in FIXED.items():
        if found.get(name, known) != known:
            raise ValueError(f"{where} says {name} = {found[name]!r}, this reader knows {known!r} only; give "
                             f"a model made for it")
    text = read_config(BERTConfig, found, bert.FIELDS, where, pooler=False)
    return read_config(ViLBERTConfig, found, FIELDS, where, text=text)


def config_from(state: Mapping[str, Tensor], where: str) -> ViLBERTConfig:
    """The configuration that names and shapes of a file speak of, with the released sizes of heads."""
    vocab, text_width = shape_of(state, WORDS, 2, where)
    width, features = shape_of(state, "bert.v_embeddings.image_embeddings.weight", 2, where)
    inner = shape_of(state, SIGNATURE, 2, where)[0]
    text_layers = layers_of(state, r"bert\.encoder\.layer\.(\d+)\.")
    layers = layers_of(state, r"bert\.encoder\.v_layer\.(\d+)\.")
    meetings = layers_of(state, r"bert\.encoder\.c_layer\.(\d+)\.")
    if meetings > min(text_layers, layers):
        raise ValueError(f"{where} has {meetings} layers of co-attention for {text_layers} of text and "
                         f"{layers} of regions; give the JSON file of its configuration")
    classes = "cls.imagePredictions.decoder.weight"
    text = BERTConfig(
        vocab, shape_of(state, "bert.embeddings.position_embeddings.weight", 2, where)[0], text_width,
        text_layers, max(1, text_width // TEXT_HEAD),
        shape_of(state, "bert.encoder.layer.0.intermediate.dense.weight", 2, where)[0],
        shape_of(state, "bert.embeddings.token_type_embeddings.weight", 2, where)[0], pooler=False)
    return ViLBERTConfig(
        text, features, shape_of(state, classes, 2, where)[0] if classes in state else 1601, width, layers,
        max(1, width // OTHER_HEAD), shape_of(state, "bert.encoder.v_layer.0.intermediate.dense.weight", 2,
                                              where)[0],
        inner, max(1, inner // OTHER_HEAD), tuple(range(text_layers - meetings, text_layers)),
        tuple(range(meetings)))


def beside(path: Path) -> Path | None:
    """The one JSON file in the folder of a file of weights that describes a ViLBERT, if there is one."""
    fitting_files = []
    for file in sorted(path.parent.glob("*.json")):
        try:
            if "v_biattention_id" in read_json(file):
                fitting_files.append(file)
        except ValueError:                      # of something else
            continue
    return fitting_files[0] if len(fitting_files) == 1 else None


# ------------------------------------------------------------------------------------------------- the reader


def knows(names: Collection[str]) -> bool:
    """Are these names those of a ViLBERT?"""
    return SIGNATURE in names


def weights_of(path: Path) -> Path | None:
    """The file of weights that ``path`` is, or the only one in the folder that it is."""
    if path.is_file():
        return path if path.suffix in SUFFIXES else None
    files = [file for file in sorted(path.glob("*")) if file.suffix in SUFFIXES]
    return files[0] if len(files) == 1 and beside(files[0]) is not None else None


def recognises(path: Path) -> bool:
    """Is this a file of ViLBERT, or a folder with one and its JSON file?"""
    file = weights_of(path)
    return file is not None and knows(read_state(file))


def fetch(name: str, folder: str | Path | None = None) -> Path:
    """The file of a public name, downloaded once into ``folder`` (by default the user's cache).

    The first models lie in folders of Google Drive, to be fetched by hand. Raises ``OSError`` if a file
    cannot be reached.
    """
    if name != MULTI_TASK:
        raise FileNotFoundError(f"the files of {name} lie in folders of Google Drive that its README links; "
                                f"download one and give its path, or take {MULTI_TASK}")
    place = Path(folder or pooch.os_cache("mmlearn")) / "vilbert" / "pretrained_model.bin"
    return download(Remote(ADDRESS), place)


def prepared(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors under their present names, each once, without what computes nothing.

    Raises ``ValueError`` for the 12-in-1 model, and where words are not told by the matrix that they enter
    by.
    """
    if TASK_TOKENS in state:
        raise ValueError(f"{where} is the 12-in-1 model, which reads a token for its task and has other "
                         f"heads; give a ViLBERT after pre-training (pretrained_model.bin) or after one task")
    renamed = {}
    for name, value in state.items():
        for old, new in bert.OLD:
            name = name.replace(old, new)
        renamed[name] = value
    if left := sorted(name for name in renamed if UNUSED.fullmatch(name)):
        print(f"{where}: left out {shorten(left, 2)}, which compute nothing", file=sys.stderr)
    kept = {name: value for name, value in renamed.items() if name not in set(left)}
    if DECODER in kept:
        value = kept.pop(DECODER)
        if WORDS in kept and not torch.equal(value, kept[WORDS]):
            raise ValueError(f"{where}: {DECODER} differs from {WORDS}, where ViLBERT has one tensor; give a "
                             f"model whose words are tied")
    return kept


def load(
    path: Path, config: str | Path | ViLBERTConfig | None = None
) -> ViLBERTForPreTraining | ViLBERTForTasks:
    """ViLBERT from a file of weights (or a folder with one and its JSON file), in evaluation mode and
    float32.

    A file after pre-training gives ``ViLBERTForPreTraining``, one of a task ``ViLBERTForTasks``, whose other
    heads are left out and said. ``config`` is the JSON file of the repository, or a configuration; by default
    the one beside the weights, else names, shapes and the released sizes of heads. Raises
    ``FileNotFoundError`` if there is no such file, ``ValueError`` if names, shapes, numbers or settings
    differ.
    """
    file = weights_of(path)
    if file is None:
        raise FileNotFoundError(f"{path} is no file of weights, nor a folder with one and its JSON file; "
                                f"give the file as it was published")
    where = str(file)
    state = prepared(read_state(file), where)
    if not knows(state):
        raise ValueError(f"{where} holds no ViLBERT ({SIGNATURE} is missing); give the file as it was "
                         f"published")
    config = beside(file) if config is None else config
    if isinstance(config, (str, Path)):
        sizes = config_of(read_json(Path(config)), str(config))
    else:
        sizes = config_from(state, where) if config is None else config
    task = TASK in state
    if task:
        state = bert.without(state, ELSEWHERE, "heads that no task uses", where)
    with blank():
        model: ViLBERTForPreTraining | ViLBERTForTasks = ViLBERTForPreTraining(sizes) if not task else (
            ViLBERTForTasks(sizes, shape_of(state, "vil_prediction.main.3.bias", 1, where)[0]))
    state = fitting(state, expected_shapes(model), where)
    model.load_state_dict(joined(model, state), assign=True)
    return model.eval()
