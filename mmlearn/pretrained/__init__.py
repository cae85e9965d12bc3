"""Public weights in our modules: ``load`` finds the reader that knows a checkpoint, and the reader matches
every name.

Survey: none; see the appendix on scaling up.  A reader is a module of this package that offers ``SYSTEM``,
``recognises(path)``, ``knows(names)`` (of tensors) and ``load(path, **options)``; it is named in ``READERS``,
once for each public name. A reader whose models are on a hub offers ``fetch(name)``, which returns the path.
Nothing is loaded that could run code.
"""

import difflib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmlearn.checkpoints import is_saved
from mmlearn.files import read_json
from mmlearn.weights import SUFFIXES, check_numbers, read_once, read_weights

READERS = {                             # public name -> the module of this package that reads it
    "aimagelab/meshed-memory-transformer": "m2",
    **{f"openai/clip-vit-{size}": "clip"
       for size in ("base-patch32", "base-patch16", "large-patch14", "large-patch14-336")},
    **{f"timm/{size}_clip.openai": "clip"
       for size in ("resnet50", "resnet101", "resnet50x4", "resnet50x16", "resnet50x64")},
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "clip",
    "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": "clip",
    "laion/CLIP-ViT-B-16-laion2B-s34B-b88K": "clip",
    "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K": "clip",
    "microsoft/UniCL": "unicl",
    "kakaobrain/align-base": "align",
    "airsplay/vokenization": "vokenization",         # before BERT: its language models are BERTs with more
    **{f"google-bert/bert-{size}": "bert"
       for size in ("base-uncased", "base-cased", "large-uncased", "large-cased")},
    "sentence-transformers/all-MiniLM-L6-v2": "bert",
    "facebook/data2vec-text-base": "data2vec_text",
    **{f"facebook/data2vec-vision-{size}": "beit" for size in ("base", "large", "base-ft1k", "large-ft1k")},
    **{f"microsoft/beit-{size}-patch16-{kind}": "beit"
       for size in ("base", "large") for kind in ("224", "224-pt22k", "224-pt22k-ft22k", "384")},
    **{f"facebook/data2vec-audio-{size}": "data2vec_speech"
       for size in ("base", "base-960h", "large-960h")},
    **{name: "vilbert" for name in ("jiasenlu/vilbert_beta", "facebookresearch/vilbert-multi-task")},
    **{f"openai-community/gpt2{size}": "causal_lm" for size in ("", "-medium", "-large", "-xl")},
    **{f"facebook/opt-{size}": "causal_lm" for size in ("125m", "1.3b", "2.7b", "6.7b")},
    **{name: "causal_lm" for name in ("mosaicml/mpt-1b-redpajama-200b", "mosaicml/mpt-7b",
                                      "togethercomputer/RedPajama-INCITE-Base-3B-v1",
                                      "togethercomputer/RedPajama-INCITE-Instruct-3B-v1")},
    **{name: "text2image" for name in ("mediasynthesismuseum/attngan-coco", "taoxugit/AttnGAN",
                                       "MinfengZhu/DM-GAN", "hanzhanggit/StackGAN-v2")},
    "tobran/DF-GAN": "dfgan",
    **{name: "latent_diffusion" for name in ("CompVis/stable-diffusion-v1-4",
                                             "CompVis/ldm-text2im-large-256")},
    **{name: "vqgan" for name in ("CompVis/taming-transformers", "CompVis/latent-diffusion",
                                  "stabilityai/sd-vae-ft-mse", "stabilityai/sd-vae-ft-ema")},
    "openai/DALL-E": "dvae",
    "facebook/flava-image-codebook": "dvae",
    **{f"openai/glide-{name}": "glide" for name in ("base", "upsample", "base-inpaint", "upsample-inpaint",
                                                    "clip-image-enc", "clip-text-enc")},
    **{f"google/t5-v1_1-{size}": "t5" for size in ("small", "base", "large", "xl", "xxl")},
    "openai/guided-diffusion": "diffusion",
    **{f"google/ddpm-{data}": "diffusion"
       for data in ("cifar10-32", "celebahq-256", "bedroom-256", "cat-256", "church-256",
                    "ema-church-256")},
    "mseitzer/pytorch-fid": "inception",
    "torchvision/inception_v3": "inception",
    "torchvision/alexnet": "alexnet",
    **{f"openflamingo/OpenFlamingo-{size}": "flamingo"
       for size in ("3B-vitl-mpt1b", "3B-vitl-mpt1b-langinstruct", "4B-vitl-rpj3b",
                    "4B-vitl-rpj3b-langinstruct", "9B-vitl-mpt7b")},
}


def load(source: str | Path, **options: Any) -> nn.Module:
    """The model of a public checkpoint, in evaluation mode: ``source`` is a public name, a file or a folder.

    ``options`` go to the reader (see its ``load``). Raises ``FileNotFoundError`` if there is neither a file
    nor a public name ``source``, ``ValueError`` if no reader knows the file or its names and shapes are not
    those expected.
    """
    if str(source) in READERS:
        found = reader(str(source))
        return found.load(found.fetch(str(source)) if hasattr(found, "fetch") else None, **options).eval()
    path = Path(source)
    if not path.exists():
        near = ", ".join(difflib.get_close_matches(str(source), READERS, 4, 0.5))
        raise FileNotFoundError(f"{source} is neither a file or folder nor one of the public names "
                                f"of mmlearn.pretrained{near and f' (near ones: {near})'}; check the path or "
                                f"the name")
    with read_once():
        unreadable = None
        for module in dict.fromkeys(READERS.values()):
            candidate = importlib.import_module(f"mmlearn.pretrained.{module}")
            try:
                known = candidate.recognises(path)
            except ValueError as error:    # not readable as this reader reads; perhaps as the next does
                unreadable, known = unreadable or error, False
            if known:
                return candidate.load(path, **options).eval()
        raise unreadable or ValueError(f"{path} is none of the checkpoints that can be read "
                                       f"({', '.join(_systems())}): {_what_it_is(path)}")


def _systems() -> dict[str, Any]:
    """The readers by the names of what they read."""
    modules = [importlib.import_module(f"mmlearn.pretrained.{name}")
               for name in dict.fromkeys(READERS.values())]
    return {module.SYSTEM: module for module in modules}


def _what_it_is(path: Path) -> str:
    """What a file or folder that no reader knows holds, and what to do."""
    if is_saved(path):
        return "it is a model trained with this package; open it with mmlearn.checkpoints.load_model"
    if path.is_dir():
        if not (path / "config.json").is_file():
            return "it has neither config.json nor open_clip_config.json; give the whole folder, or a file"
        found = read_json(path / "config.json").get("model_type")
        return f"config.json says model_type {found!r}; give a folder of one of these"
    if path.suffix not in SUFFIXES and not path.name.endswith(".index.json"):
        return f"files of weights end in {', '.join(SUFFIXES)}; give one, or a folder"
    names = read_weights(path).keys()
    prefixes = {name[: i + 1] for name in names for i, letter in enumerate(name) if letter == "."}
    for prefix in sorted(prefixes, key=len)[:1000]:
        part = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        for system, module in _systems().items():
            if module.knows(part):
                return (f"its names that begin with {prefix!r} would be those of {system}; save these "
                        f"tensors alone, without {prefix!r} before their names")
    return f"its names are {shorten(sorted(names), 4)}; give the file of one of these"


def reader(name: str) -> Any:
    """The module that reads the public checkpoint ``name``."""
    return importlib.import_module(f"mmlearn.pretrained.{READERS[name]}")


def match(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuse a checkpoint unless it has exactly the expected names, each of the expected shape.

    Raises ``ValueError`` that lists the names that differ (the first eight of each kind).
    """
    problems = []
    for about, names in (("missing", expected.keys() - found.keys()),
                         ("not expected", found.keys() - expected.keys())):
        if names:
            problems.append(f"{about}: {shorten(sorted(names))}")
    shapes = [f"{name} is {found[name]}, expected {expected[name]}"
              for name in sorted(expected.keys() & found.keys())
              if tuple(found[name]) != tuple(expected[name])]
    if shapes:
        problems.append(f"of another shape: {shorten(shapes)}")
    if problems:
        prefix = prefix_that_fits(found, expected)
        advice = (f"the names that begin with {prefix!r} fit without it: save these tensors alone, and so "
                  "named"
                  if prefix else "load the checkpoint as it was published")
        raise ValueError(f"{where} does not fit the model; {'; '.join(problems)}; {advice}")


def prefix_that_fits(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str:
    """What stands before all ``expected`` names where they are ``found``, with the same shapes; "" if nothing
    does."""
    longest = max(expected, key=len, default="")
    prefixes = [name.removesuffix(longest) for name in found if longest and name.endswith("." + longest)]
    return next((prefix for prefix in prefixes
                 if all(found.get(prefix + name) == shape for name, shape in expected.items())), "")


def fitting(
    state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, Tensor]:
    """The tensors of ``state``, if they are those ``expected``, of these shapes, with finite numbers.

    Whole numbers without a shape that nobody expects are counts of a training program (``epoch``) and are
    left out. Raises ``ValueError`` that lists what differs.
    """
    kept = {name: value for name, value in state.items()
            if name in expected or value.ndim or value.is_floating_point()}
    if stray := sorted(state.keys() - kept.keys()):
        print(f"{where}: left out {shorten(stray, 4)}, counts of a training program", file=sys.stderr)
    match({name: tuple(value.shape) for name, value in kept.items()}, expected, where)
    check_numbers(kept, where)
    return kept


def shorten(names: list[str], most: int = 8) -> str:
    """At most ``most`` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
