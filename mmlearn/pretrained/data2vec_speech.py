"""Public weights of data2vec for speech: folders that ``transformers`` has written, and files of fairseq.

Paper: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555; weights facebook/data2vec-audio-base and
others (Apache-2.0 on their pages of the hub), audio_base_ls.pt and others of github.com/facebookresearch/
fairseq, examples/data2vec.  Survey: 5.1.  Differs from the paper: nothing.

A folder holds config.json, weights (one file, or an index and its parts) and, where the model was fine-tuned
with text, vocab.json. Names are those of ``transformers.Data2VecAudioModel``, with or without
``data2vec_audio.`` before them, or fairseq's, with or without ``w2v_encoder.w2v_model.``. No convolution of
data2vec has weight norm; a file with weight_g and weight_v is one of wav2vec 2.0. Heads for other tasks and
the head of pre-training are left out, and said; with ``letters`` the head that reads letters is read too.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.both_modalities.data2vec_speech import Data2VecSpeech, Data2VecSpeechConfig
from mmlearn.both_modalities.speech_recognition import ALPHABET, SpeechRecogniser
from mmlearn.files import read_json
from mmlearn.nn.configuration import shown
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.bert import without
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    fetch_hugging_face,
    layers_of,
    read_config,
    read_state,
    shape_of,
    weights_in,
)
from mmlearn.weights import SUFFIXES

SYSTEM = "data2vec speech"
State = dict[str, Tensor]
FIELDS: Table = {
    "kernels": ("conv_kernel", list(Data2VecSpeechConfig.kernels)),
    "strides": ("conv_stride", list(Data2VecSpeechConfig.strides)),
    "width": ("hidden_size", 768), "layers": ("num_hidden_layers", 12), "heads": ("num_attention_heads", 12),
    "ff": ("intermediate_size", 3072), "position_layers": ("num_conv_pos_embeddings", 5),
    "position_kernel": ("conv_pos_kernel_size", 19), "groups": ("num_conv_pos_embedding_groups", 16),
    "eps": ("layer_norm_eps", 1e-5), "dropout": ("hidden_dropout", 0.1), "layerdrop": ("layerdrop", 0.1)}
FIXED: dict[str, Any] = {"conv_bias": False, "hidden_act": "gelu", "feat_extract_activation": "gelu",
                         "add_adapter": False}
HEAD = 64                               # width of a head of attention, in all released models
PREFIXES = {"data2vec_audio.": "", "w2v_encoder.w2v_model.": "", "w2v_encoder.proj.": "proj."}
OTHERS = (r"(projector|classifier|tdnn|objective|final_proj)\..*|layer_weights|feature_extractor\.(weight|"
          "bias)")
LETTERS = r"(lm_head|proj)\..*"
MASK = "masked_spec_embed"

HUGGING = (                             # parts of our names, in order, and theirs
    (r"^features\.convs\.(\d+)", r"feature_extractor.conv_layers.\1.conv"),
    (r"^features\.norms\.(\d+)", r"feature_extractor.conv_layers.\1.layer_norm"),
    (r"^norm\.", "feature_projection.layer_norm."), (r"^project\.", "feature_projection.projection."),
    (r"^mask_vector$", MASK), (r"^positions\.convs\.(\d+)", r"encoder.pos_conv_embed.layers.\1.conv"),
    (r"^first_norm\.", "encoder.layer_norm."), (r"^blocks\.", "encoder.layers."),
    (r"\.attention\.out\.", ".attention.out_proj."), (r"\.attention_norm\.", ".layer_norm."),
    (r"\.feed_forward_norm\.", ".final_layer_norm."),
    (r"\.feed_forward\.inner\.", ".feed_forward.intermediate_dense."),
    (r"\.feed_forward\.outer\.", ".feed_forward.output_dense."), (r"^letters\.", "lm_head."),
)
FAIRSEQ = (
    (r"^features\.convs\.(\d+)", r"feature_extractor.conv_layers.\1.0"),
    (r"^features\.norms\.(\d+)", r"feature_extractor.conv_layers.\1.2.1"),
    (r"^norm\.", "layer_norm."), (r"^project\.", "post_extract_proj."), (r"^mask_vector$", "mask_emb"),
    (r"^positions\.convs\.(\d+)", r"encoder.pos_conv.\1.0"), (r"^first_norm\.", "encoder.layer_norm."),
    (r"^blocks\.", "encoder.layers."), (r"\.attention\.", ".self_attn."), (r"\.self_attn\.out\.",
                                                                          ".self_attn.out_proj."),
    (r"\.attention_norm\.", ".self_attn_layer_norm."), (r"\.feed_forward_norm\.", ".final_layer_norm."),
    (r"\.feed_forward\.inner\.", ".fc1."), (r"\.feed_forward\.outer\.", ".fc2."), (r"^letters\.", "proj."),
)
SIGNATURES = {"encoder.pos_conv_embed.layers.0.conv.weight": HUGGING, "encoder.pos_conv.0.0.weight": FAIRSEQ}


# ------------------------------------------------------------------------------------------------------ names

def sources(name: str, patterns: Any = HUGGING) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name``: queries, keys and values are three."""
    name = name.removeprefix("encoder.")
    for pattern, theirs in patterns:
        name = re.sub(pattern, theirs, name)
    stem, joined, kind = name.partition(".in_")
    return [f"{stem}.{one}_proj.{kind}" for one in "qkv"] if joined else [name]


def expected_shapes(model: nn.Module, patterns: Any = HUGGING) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of the model holds."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in model.state_dict().items():
        theirs = sources(name, patterns)
        shapes |= {their: (value.shape[0] // len(theirs), *value.shape[1:]) for their in theirs}
    return shapes


def joined(model: nn.Module, state: Mapping[str, Tensor], patterns: Any = HUGGING) -> State:
    """The tensors of a checkpoint as the model holds them, in float32."""
    return {name: torch.cat([state[their].float() for their in sources(name, patterns)]).clone()
            for name in model.state_dict()}


def present(state: Mapping[str, Tensor]) -> State:
    """The tensors without the model's name before them."""
    found = {}
    for name, value in state.items():
        for prefix, short in PREFIXES.items():
            if name.startswith(prefix):
                name = short + name.removeprefix(prefix)
        found[name] = value
    return found


def layout(names: Collection[str]) -> Any:
    """Whose names these are (``HUGGING`` or ``FAIRSEQ``), or None."""
    prefixes = ("", *PREFIXES)
    return next((patterns for name, patterns in SIGNATURES.items()
                 if any(prefix + name in names for prefix in prefixes)), None)


# --------------------------------------------------------------------------------------------- configurations

def config_of(found: Mapping[str, Any], where: str) -> Data2VecSpeechConfig:
    """Our configuration from the fields of config.json; what it leaves out has ``transformers``' defaults.

    Raises ``ValueError`` for what cannot be, and for fields that compute something else.
    ``do_stable_layer_norm`` is not read, as ``transformers`` does not.
    """
    for name, known in FIXED.items():
        if found.get(name, known) != known:
            raise ValueError(f"{where} says {name} = {shown(found[name])}, this reader knows {known!r} only; "
                             f"give a checkpoint made for it")
    channels, kernels = found.get("conv_dim", [512] * 7), found.get("conv_kernel", [0] * 7)
    if not isinstance(channels, list) or len(set(map(str, channels))) != 1 \
            or (isinstance(kernels, list) and len(channels) != len(kernels)):
        raise ValueError(f"{where}: conv_dim is {shown(channels)}, expected the same number for every "
                         f"convolution; give a checkpoint made for it")
    return read_config(Data2VecSpeechConfig, found, FIELDS, where, channels=channels[0])


def config_from(state: State, where: str, heads: int | None, strides: tuple[int, ...] | None
                ) -> Data2VecSpeechConfig:
    """Our configuration read off the shapes of fairseq's tensors. Raises ``ValueError`` for a file that is
    not whole, and for kernels whose strides are not known."""
    convs = layers_of(state, r"feature_extractor\.conv_layers\.(\d+)\.")
    shapes = [shape_of(state, f"feature_extractor.conv_layers.{i}.0.weight", 3, where) for i in range(convs)]
    kernels, base = tuple(shape[2] for shape in shapes), Data2VecSpeechConfig.base()
    if strides is None and kernels != base.kernels:
        raise ValueError(f"{where} has convolutions of {kernels}, those of the released models are "
                         f"{base.kernels}; say which strides they have, strides=(…)")
    width = shape_of(state, "post_extract_proj.weight", 2, where)[0]
    _, part, kernel = shape_of(state, "encoder.pos_conv.0.0.weight", 3, where)
    return Data2VecSpeechConfig(
        shapes[0][0], kernels, base.strides if strides is None else strides, width,
        layers_of(state, r"encoder\.layers\.(\d+)\."), heads or max(1, width // HEAD),
        shape_of(state, "encoder.layers.0.fc1.weight", 2, where)[0],
        layers_of(state, r"encoder\.pos_conv\.(\d+)\."), kernel, max(1, width // max(1, part)))


# ------------------------------------------------------------------------------------------------- the reader

def knows(names: Collection[str]) -> bool:
    """Are these names those of data2vec for speech, of ``transformers`` or of fairseq?"""
    return layout(names) is not None


def recognises(path: Path) -> bool:
    """Is this a folder that a data2vec for speech in ``transformers`` has saved, or a file of fairseq's?"""
    config = path / HUGGING_FACE[0]
    if config.is_file():
        return read_json(config).get("model_type") == "data2vec-audio"
    return path.is_file() and path.suffix in SUFFIXES and layout(read_state(path)) is FAIRSEQ


def fetch(name: str) -> Path:
    """The folder of a public model, downloaded (once) from the hub."""
    return fetch_hugging_face(name, ["vocab.json"])


def load(path: Path, letters: bool = False, heads: int | None = None,
         strides: tuple[int, ...] | None = None) -> Data2VecSpeech | SpeechRecogniser:
    """The encoder from a folder or a file of fairseq's, in evaluation mode and float32.

    With ``letters`` it is a ``SpeechRecogniser`` with its head. ``heads`` and ``strides`` are those of a
    fairseq file that is none of the released ones. Raises ``FileNotFoundError`` if the weights are missing,
    ``ValueError`` if names, shapes, numbers or settings differ.
    """
    config, weights = HUGGING_FACE
    if path.is_dir() and not (path / config).is_file():
        raise FileNotFoundError(f"{path} has no {config}; give a folder with {config} and the weights")
    file = weights_in(path, weights) if path.is_dir() else path
    where = str(file)
    state = present(read_state(file))
    patterns = layout(state)
    if patterns is None or (path.is_dir() and patterns is not HUGGING):
        raise ValueError(f"{where} has no {next(iter(SIGNATURES))}, as data2vec for speech has; give its "
                         f"weights as they were published")
    if patterns is HUGGING and not path.is_dir():
        raise ValueError(f"{where} says nothing of heads and strides; give the folder in which it lies, with "
                         f"its {config}")
    head = [name for name in state if re.fullmatch(LETTERS, name)]
    if letters and not head:
        raise ValueError(f"{where} holds no head that reads letters (lm_head); load it without letters, or "
                         "give weights that were fine-tuned")
    left = OTHERS if letters else f"{OTHERS}|{LETTERS}"
    state = without(state, left, "which the encoder does not have", where)
    if patterns is HUGGING:
        found = read_json(path / config)
        sizes = config_of(found, str(path / config))
        if MASK not in state and found.get("mask_time_prob") == found.get("mask_feature_prob", 0.0) == 0:
            state[MASK] = torch.zeros(sizes.width)       # a model that masks nothing has no vector for it
    else:
        sizes = config_from(state, where, heads, strides)
    with blank():
        model: Data2VecSpeech | SpeechRecogniser = Data2VecSpeech(sizes)
        if letters:
            (name,) = sources("letters.weight", patterns)
            model = SpeechRecogniser(sizes, shape_of(state, name, 2, where)[0])
    state = fitting(state, expected_shapes(model, patterns), where)
    model.load_state_dict(joined(model, state, patterns), assign=True)
    return model.eval()


def alphabet_of(folder: Path) -> tuple[str, ...]:
    """The letters of a folder's vocab.json, in the order of their numbers.

    Raises ``FileNotFoundError`` if there is none, ``ValueError`` for one that leaves numbers out.
    """
    found = read_json(folder / "vocab.json")
    numbers = {i: letter for letter, i in found.items() if isinstance(i, int) and not isinstance(i, bool)}
    if not found or len(numbers) != len(found) or sorted(numbers) != list(range(len(numbers))):
        raise ValueError(f"{folder / 'vocab.json'} does not number its {len(found)} letters from 0 on; take "
                         "the file as it was published")
    return tuple(numbers[i] for i in range(len(numbers)))


def open_speech(source: str | Path = "facebook/data2vec-audio-base-960h"
                ) -> tuple[SpeechRecogniser, tuple[str, ...]]:
    """A public model that reads letters, and its alphabet, by its name or folder.

    ``transcribe(model, normalised_waveform(waves), alphabet=alphabet)`` are the texts of waveforms of 16,000
    samples a second. Raises ``FileNotFoundError`` or ``ValueError``, also if alphabet and model differ.
    """
    folder = Path(source) if Path(source).exists() else fetch(str(source))
    model = load(folder, letters=True)
    if not isinstance(model, SpeechRecogniser):
        raise ValueError(f"{source} reads no letters; give weights that were fine-tuned")
    alphabet = alphabet_of(folder) if (folder / "vocab.json").is_file() else ALPHABET
    if len(alphabet) != model.letters.out_features:
        raise ValueError(f"the alphabet in {folder} has {len(alphabet)} letters, the model "
                         f"{model.letters.out_features}; the files do not belong together")
    return model, alphabet
