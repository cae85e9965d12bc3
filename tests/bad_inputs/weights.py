"""Bad weights, configurations, tokenisers, checkpoint folders, archives and answers of servers, made of good
ones: each a function of its number.

``case(i, folder)`` writes the files of case i and returns what opens them; ``judge`` runs it and says "clean"
(an error of one sentence that names a file, or a right result), "traceback" or "silent". At scale:
``MMLEARN_BAD_INPUTS=3600 python tests/bad_inputs/weights.py`` under a limit of memory.
"""

import gzip
import io
import json
import os
import random
import shutil
import stat
import sys
import tarfile
import tempfile
import threading
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from mmlearn.checkpoints import load_model, save_model
from mmlearn.data.clip_tokeniser import CLIPTokeniser
from mmlearn.data.download import Remote, download, unpack
from mmlearn.data.tokenisers import BPETokeniser, WordPieceTokeniser, WordTokeniser
from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.modes import blank
from mmlearn.nn.swin import SwinConfig
from mmlearn.nn.vit import ViTConfig
from mmlearn.pretrained import align, bert, clip, load, m2, unicl
from mmlearn.pretrained.dual_encoders import recipe_for
from mmlearn.text_for_vision.align import ALIGN
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig
from mmlearn.text_for_vision.florence import Florence, FlorenceConfig
from mmlearn.text_for_vision.training import load_mini

Open = Callable[[], Any]


class Case(NamedTuple):
    what: str
    open: Open
    bad: bool  # must it be refused? Else it may be read, if the result is sound
    sound: Callable[[Any], bool] = lambda result: True


# ------------------------------------------------------------------------------------------------- good files

BERT_JSON = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
}
TOWER = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "layer_norm_eps": 1e-5}
CLIP_JSON = {
    "model_type": "clip",
    "projection_dim": 4,
    "text_config": {**TOWER, "vocab_size": 30, "max_position_embeddings": 10, "eos_token_id": 29},
    "vision_config": {**TOWER, "image_size": 16, "patch_size": 8},
}
OPEN_CLIP_JSON = {
    "embed_dim": 4,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 1, "width": 8, "head_width": 4},
    "text_cfg": {"context_length": 10, "vocab_size": 30, "width": 8, "heads": 2, "layers": 1},
}
ALIGN_JSON = {
    "model_type": "align",
    "projection_dim": 24,
    "text_config": {name: value for name, value in BERT_JSON.items() if name != "model_type"},
    "vision_config": {
        "image_size": 64,
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "depth_divisor": 8,
        "in_channels": [32, 16],
        "out_channels": [16, 24],
        "kernel_sizes": [3, 3],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 2],
        "squeeze_expansion_ratio": 0.25,
        "batch_norm_eps": 1e-3,
        "drop_connect_rate": 0.2,
    },
}
RECIPE_JSON = {
    "size": {"shortest_edge": 24},
    "crop_size": 24,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.5, 0.6, 0.7],
    "rescale_factor": 1 / 255,
    "resample": 3,
}


def tensors_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=g, device="cpu") * 0.1 for name, shape in shapes.items()}


@cache
def good(kind: str) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The weights' file, the configuration (empty: there is none) and the tensors of a good checkpoint."""
    with blank():
        if kind == "bert":
            return (
                "model.safetensors",
                BERT_JSON,
                tensors_of(bert.expected_shapes(BERT(bert.config_of(BERT_JSON, "")))),
            )
        if kind == "clip":
            shapes = clip.expected_shapes(CLIP(clip.config_of_hugging_face(CLIP_JSON, "")), "hugging-face")
            return "pytorch_model.bin", CLIP_JSON, tensors_of(shapes)
        if kind == "open_clip":
            shapes = clip.expected_shapes(CLIP(clip.config_of_open_clip(OPEN_CLIP_JSON, "")), "openai")
            return "open_clip_model.safetensors", OPEN_CLIP_JSON, tensors_of(shapes)
        if kind == "openai":
            shapes = clip.expected_shapes(CLIP(clip.config_of_open_clip(OPEN_CLIP_JSON, "")), "openai")
            scalars = {
                name: torch.tensor(i, device="cpu")
                for i, name in enumerate(("input_resolution", "context_length", "vocab_size"))
            }
            return "ViT.pt", {}, tensors_of(shapes) | scalars
        if kind == "align":
            shapes: dict[str, tuple[int, ...]] = {}
            for name, value in ALIGN(align.config_of(ALIGN_JSON, "")).state_dict().items():
                theirs = align.sources(name)
                if not align.BUFFERS.fullmatch(name):
                    shapes |= {
                        their: (value.shape[0] // len(theirs), *value.shape[1:]) if value.ndim else ()
                        for their in theirs
                    }
            return "model.safetensors", ALIGN_JSON, tensors_of(shapes)
        if kind == "m2":
            sizes = dict(vocab=23, width=8, heads=8, layers=2, ff=12, memory=3, features=6, max_len=9)
            return "m2.pth", {}, tensors_of(m2.official_shapes(m2.M2Config(**sizes)))
        config = FlorenceConfig(4, SwinConfig(32, 8, (1, 1), (2, 4), 4), TextConfig(30, 10, 64, 1, 1, 29))
        florence = Florence(config).state_dict()
        return (
            "unicl.pth",
            {},
            tensors_of({unicl.public_name(n): tuple(v.shape) for n, v in florence.items()}),
        )


KINDS = ("bert", "clip", "open_clip", "openai", "align", "m2", "unicl")


def write(
    folder: Path, kind: str, config: Any = None, tensors: Any = None, file: bytes | None = None
) -> Open:
    """The files of a checkpoint, with what is given in place of the good parts; returns what opens it."""
    name, values, state = good(kind)
    path = folder / name
    if file is not None:
        path.write_bytes(file)
    elif tensors is None or (
        name.endswith(".safetensors") and all(isinstance(v, Tensor) for v in tensors.values())
    ):
        content = state if tensors is None else tensors
        if name.endswith(".safetensors"):
            safetensors.torch.save_file({n: v.contiguous() for n, v in content.items()}, path)
        else:
            torch.save(content, path)
    else:
        path = path.with_name({"open_clip": "open_clip_pytorch_model.bin"}.get(kind, "pytorch_model.bin"))
        torch.save(tensors, path)
    if values:
        text = config if isinstance(config, str) else json.dumps(values if config is None else config)
        where = "open_clip_config.json" if kind == "open_clip" else "config.json"
        (folder / where).write_text(text)
    return lambda: load(folder if values else path)


def finite(model: Any) -> bool:
    return all(bool(v.isfinite().all()) for v in model.state_dict().values()) and all(
        v.device.type == "cpu" and v.dtype != torch.bool for v in model.state_dict().values()
    )


# ------------------------------------------------------------------------------------------------- mutations

WRONG = (-1, 10**30, "7", "x" * 2000, [], {}, True, float("nan"), 1e308, [[[]]], -0.5, float("-inf"))
ODD = (None, 0, 1.5, "missing", 1)  # perhaps right, perhaps not


def fields_of(values: Any, path: tuple = ()) -> list[tuple]:
    """The paths to all values that stand within objects."""
    found = []
    for name, value in values.items():
        found += [(*path, name)] + (fields_of(value, (*path, name)) if isinstance(value, dict) else [])
    return found


def changed(values: dict, path: tuple, value: Any) -> dict:
    values = json.loads(json.dumps(values))
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    if value == "missing":
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return values


def config_defect(
    rng: random.Random, values: dict, allowed: Callable[[tuple, Any], bool] = lambda p, v: False
) -> tuple[str, dict, bool]:
    path = rng.choice(fields_of(values))
    value = rng.choice(WRONG + ODD)
    bad = any(value is one for one in WRONG) and not allowed(path, value)
    return f"{'.'.join(path)} = {str(value)[:20]}", changed(values, path, value), bad


def damaged(rng: random.Random, content: bytes) -> tuple[str, bytes, bool]:
    """A file as a broken disk, line or program leaves it."""
    kind = rng.choice(
        (
            "cut",
            "flip",
            "random",
            "hello",
            "empty",
            "html",
            "gzip",
            "zip",
            "tar",
            "zeros",
            "twice",
            "pickle",
            "head",
            "deep",
        )
    )
    if kind == "cut":
        return kind, content[: rng.randrange(len(content))], True
    if kind == "flip":
        flipped = bytearray(content)
        for _ in range(rng.choice((1, 3, 30))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return kind, bytes(flipped), False
    if kind == "head":  # where the lengths stand
        flipped = bytearray(content)
        flipped[rng.randrange(min(200, len(flipped)))] = rng.randrange(256)
        return kind, bytes(flipped), False
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("big", bytes(rng.choice((0, 90 << 20))))
    elif kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("pickle"))
    elif kind == "pickle":
        torch.save(
            rng.choice(("hello", 7, [1], None, {"a": 1}, {3: torch.ones(2)}, torch.ones(2), {"a": {"b": 1}})),
            out,
        )
    whole = {
        "random": rng.randbytes(rng.randrange(1, 3000)),
        "hello": b"hello",
        "empty": b"",
        "html": b"<!DOCTYPE html><html>404</html>",
        "gzip": gzip.compress(content),
        "zeros": bytes(4096),
        "twice": content + content,
        "deep": b"[" * 100_000,
    }
    return kind, out.getvalue() if kind in ("zip", "tar", "pickle") else whole[kind], kind != "twice"


def tensor_defect(rng: random.Random, state: dict[str, Tensor]) -> tuple[str, dict[Any, Any], bool]:
    """A state dict as programs and accidents make it."""
    state = dict(state)
    name = rng.choice([n for n, v in state.items() if v.is_floating_point()])
    value = state[name]
    kind = rng.choice(
        (
            "missing",
            "extra",
            "renamed",
            "shape",
            "nan",
            "inf",
            "bool",
            "complex",
            "int8",
            "scalar",
            "empty",
            "wrapped",
            "double",
            "nested",
            "stray",
            "deep",
            "two",
            "half",
            "float64",
            "number",
            "expanded",
            "sparse",
            "prefix",
            "count",
            "none",
            "text",
        )
    )
    bad = kind not in ("wrapped", "double", "nested", "stray", "deep", "half", "float64", "count", "text")
    if kind == "missing":
        del state[name]
    elif kind in ("extra", "renamed"):
        state[name + "2"] = state.pop(name) if kind == "renamed" else value.clone()
    elif kind in ("nan", "inf"):
        state[name] = value.clone()
        state[name].view(-1)[rng.randrange(value.numel())] = float(kind)
    elif kind == "shape":
        state[name] = torch.zeros(*value.shape, 2)
    elif kind in ("bool", "complex", "int8"):
        state[name] = value.to({"bool": torch.bool, "complex": torch.complex64, "int8": torch.int8}[kind])
    elif kind == "scalar":
        state[name] = torch.tensor(1) if value.ndim else torch.ones(2, 2)
    elif kind == "empty":
        state[name] = torch.zeros(0)
    elif kind in ("wrapped", "double"):
        prefix = rng.choice(("module.", "_orig_mod.", "model.")) + ("module." if kind == "double" else "")
        return kind, {prefix + n: v for n, v in state.items()}, bad
    elif kind == "nested":
        return kind, {rng.choice(("model", "state_dict")): state, "epoch": 3, "best": 0.5}, bad
    elif kind == "deep":
        return kind, {"state_dict": {"model": {f"module.{n}": v for n, v in state.items()}}}, bad
    elif kind == "two":
        return kind, {"generator": state, "average": state}, bad
    elif kind in ("half", "float64"):
        state = {
            n: v.to(torch.float16 if kind == "half" else torch.float64) if v.is_floating_point() else v
            for n, v in state.items()
        }
    elif kind in ("stray", "number", "none", "text"):
        state["epoch" if kind in ("stray", "text") else name] = {
            "stray": 7,
            "number": 0.5,
            "none": None,
            "text": "x",
        }[kind]
    elif kind == "count":
        state["n_averaged"] = torch.tensor(7)
    elif kind == "expanded":
        state[name] = (
            torch.zeros(1).expand(value.shape) if value.numel() > 1 else torch.zeros(1).expand(10**9)
        )
    elif kind == "sparse":
        state[name] = value.to_sparse() if value.ndim else torch.ones(2).to_sparse()
    elif kind == "prefix":
        return kind, {f"student.{n}": v for n, v in state.items()}, bad
    return kind, state, bad


# ----------------------------------------------------------------------------------------------------- cases


def weights_case(rng: random.Random, folder: Path) -> Case:
    kind = rng.choice(KINDS)
    if rng.random() < 0.55:
        what, state, bad = tensor_defect(rng, good(kind)[2])
        unnamed = any(not isinstance(v, Tensor) for v in state.values()) or what in ("expanded", "sparse")
        name = good(kind)[0]
        if name.endswith(".safetensors") and unnamed:
            path = folder / {"open_clip": "open_clip_pytorch_model.bin"}.get(kind, "pytorch_model.bin")
            opened = write(folder, kind)
            (folder / name).unlink()
            torch.save(state, path)
        else:
            opened = write(folder, kind, tensors=state)
        return Case(f"{kind}: {what}", opened, bad, finite)
    write(folder, kind)
    what, content, bad = damaged(rng, (folder / good(kind)[0]).read_bytes())
    return Case(f"{kind}: file {what}", write(folder, kind, file=content), bad, finite)


def fine(path: tuple, value: Any) -> bool:
    """Values of the list of wrong ones that a field may have."""
    return (
        path[-1] in ("quick_gelu", "model_type")
        or (value == {} and path[-1] in ("vision_config", "text_config"))
        or (value == [] and path[-1] == "depthwise_padding")
    )


def config_case(rng: random.Random, folder: Path) -> Case:
    kind = rng.choice(("bert", "clip", "open_clip", "align", "recipe"))
    if kind == "recipe":
        what, values, bad = config_defect(rng, RECIPE_JSON)
        (folder / "preprocessor_config.json").write_text(json.dumps(values))
        return Case(f"recipe: {what}", lambda: recipe_for(folder, 24), bad)
    if rng.random() < 0.15:
        what, content, _ = damaged(rng, json.dumps(good(kind)[1]).encode())
        opened = write(folder, kind)
        (folder / ("open_clip_config.json" if kind == "open_clip" else "config.json")).write_bytes(content)
        return Case(f"{kind}: configuration {what}", opened, what not in ("flip", "head"), finite)
    what, values, bad = config_defect(rng, good(kind)[1], fine)
    return Case(f"{kind}: {what}", write(folder, kind, config=values), bad, finite)


TEXTS = ["A red cat sits on the mat.", "The dog isn't near the cat!", "two dogs, one cat; a well-lit house"]


@cache
def tokeniser_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        WordTokeniser.train(TEXTS, splitter="simple").save(folder / "words.json")
        WordPieceTokeniser.train(TEXTS * 3, size=60).save(folder / "pieces.json")
        BPETokeniser.train(TEXTS * 3, size=300).save(folder / "bytes.json")
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["vocab.txt"] = "\n".join(json.loads(files["pieces.json"])["model"]["vocab"]).encode()
    model = json.loads(files["bytes.json"])["model"]
    files["vocab.json"] = json.dumps(model["vocab"]).encode()
    files["merges.txt"] = "\n".join(" ".join(pair) for pair in model["merges"]).encode()
    lines = "\n".join(" ".join(pair) for pair in CLIPTokeniser.find().ranks)
    files["clip.txt.gz"] = gzip.compress(lines.encode(), 1)
    return files


def reads_text(tokeniser: Any) -> bool:
    ids = tokeniser.encode("a red dog")
    tokeniser.decode(ids)
    return all(0 <= i < len(tokeniser) for i in ids)


def tokeniser_case(rng: random.Random, folder: Path) -> Case:
    files = tokeniser_files()
    name = rng.choice([n for n in files if n != "clip.txt.gz" or rng.random() < 0.3])
    for other in ("vocab.json", "merges.txt"):
        (folder / other).write_bytes(files[other])
    path = folder / name
    content = files[name]
    if name.endswith(".json") and rng.random() < 0.5:
        values = json.loads(content)
        inside = values["model"]["vocab"] if "model" in values else values
        where = (
            ([p for p in fields_of(values) if len(p) < 3] or fields_of(values))
            if rng.random() < 0.6
            else None
        )
        if where:
            what, values, _ = config_defect(rng, {k: v for k, v in values.items()})
        else:
            token, what = rng.choice(list(inside)), "an id"
            inside[token] = rng.choice(WRONG)
        path.write_text(json.dumps(values))
        bad = False
    elif rng.random() < 0.3 and not name.endswith(".gz"):
        lines = content.split(b"\n")
        what = rng.choice(("dropped", "doubled", "empty", "latin", "long"))
        i = rng.randrange(len(lines))
        lines[i : i + 1] = {
            "dropped": [],
            "doubled": [lines[i]] * 2,
            "empty": [b""],
            "latin": [b"\xe9\xff"],
            "long": [b"x" * 100_000],
        }[what]
        path.write_bytes(b"\n".join(lines))
        bad = what == "latin" or (name == "vocab.txt" and what == "doubled")
    else:
        what, out, bad = damaged(rng, content)
        bad = (bad and (what != "cut" or name != "vocab.txt")) or name == "clip.txt.gz"
        if name == "clip.txt.gz" and what == "zeros":
            out = gzip.compress(bytes(200 << 20), 1)
        path.write_bytes(out)
        bad = bad and not (name == "clip.txt.gz" and what in ("flip", "head"))
    opened: dict[str, Open] = {
        "words.json": lambda: WordTokeniser.load(path),
        "pieces.json": lambda: WordPieceTokeniser.load(path),
        "bytes.json": lambda: BPETokeniser.load(path),
        "vocab.txt": lambda: WordPieceTokeniser.from_vocab(path),
        "clip.txt.gz": lambda: CLIPTokeniser.load(path),
    }
    pair = lambda: BPETokeniser.from_files(folder / "vocab.json", folder / "merges.txt")  # noqa: E731
    return Case(f"{name}: {what}", opened.get(name, pair), bad, reads_text)


@cache
def saved_files() -> dict[str, dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        torch.manual_seed(0)
        save_model(folder / "bert", BERT(BERTConfig(30, 10, 8, 1, 2, 12)), "bert", {"steps": 3})
        words = ["<unk>", "<pad>", "<bos>", "<eos>", *(f"w{i}" for i in range(26))]
        model = CLIP(CLIPConfig(4, ViTConfig(16, 8, 8, 1, 2), TextConfig(30, 10, 8, 1, 2, 3)))
        save_model(folder / "clip", model, "clip", {"words": words, "splitter": "simple"})
        return {
            kind: {p.name: p.read_bytes() for p in (folder / kind).iterdir()} for kind in ("bert", "clip")
        }


def folder_case(rng: random.Random, folder: Path) -> Case:
    kind = rng.choice(("bert", "clip"))
    files = dict(saved_files()[kind])
    name = rng.choice(sorted(files))
    bad = False
    if name == "config.json" and rng.random() < 0.7:
        values = json.loads(files[name])
        what, values, bad = config_defect(
            rng, values, lambda path, value: path[0] == "steps" or path[-1] == "words"
        )
        bad = bad and path_matters(what)
        files[name] = json.dumps(values).encode()
    elif rng.random() < 0.1:
        what = "gone"
        bad = True
        del files[name]
    elif name == "model.safetensors" and rng.random() < 0.5:
        what, state, bad = tensor_defect(rng, safetensors.torch.load(files[name]))
        if not all(isinstance(v, Tensor) and v.layout == torch.strided for v in state.values()):
            what, bad, state = (
                "half",
                False,
                {n: v.half() for n, v in safetensors.torch.load(files[name]).items()},
            )
        bad = bad and what != "expanded"  # written out here: plain zeros
        files[name] = safetensors.torch.save(
            {n: v.clone().contiguous() for n, v in state.items() if v.numel() < 10**6}
        )
    else:
        what, files[name], bad = damaged(rng, files[name])
        bad = bad and not (name == "config.json" and what == "cut")
    for file, content in files.items():
        (folder / file).write_bytes(content)
    opened = (
        (lambda: load_mini(folder).model)
        if kind == "clip"
        else (lambda: load_model(folder, {"bert": (BERTConfig, BERT)})[0])
    )
    return Case(f"saved {kind}: {name} {what}", opened, bad, finite)


def path_matters(what: str) -> bool:
    """Fields of a description of which any value may stand there."""
    return not what.startswith(("config.logit_bias = ", "config.pooler = True"))


def archive_case(rng: random.Random, folder: Path) -> Case:
    what = rng.choice(
        ("damaged", "name", "link", "in the way", "bomb", "locked", "double", "file and folder")
    )
    out = io.BytesIO()
    bad = True
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/1.jpg", rng.randbytes(500))
        archive.writestr("annotations/a.json", b"{}" * 300)
        if what == "name":
            archive.writestr(
                rng.choice(("../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil", "x" * 300)), b"evil"
            )
        elif what == "link":
            info = zipfile.ZipInfo("link")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        elif what == "bomb":
            archive.writestr("big", bytes(100 << 20))
        elif what == "double":
            info = zipfile.ZipInfo("images//1.jpg")
            archive.writestr(info, b"two")
        elif what == "file and folder":
            archive.writestr("images", b"file")
    content = out.getvalue()
    target = folder / "out"
    if what == "damaged":
        what, content, bad = damaged(rng, content)
        bad = bad and what not in ("zip", "pickle")          # these are archives
    elif what == "locked":
        content = content.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    elif what == "in the way":
        target.mkdir()
        (folder / "elsewhere").mkdir()
        what = rng.choice(("link", "dangling", "file", "folder"))
        if what == "file":
            (target / "images").write_text("mine")
        elif what == "folder":
            (target / "images" / "1.jpg").mkdir(parents=True)
        else:
            (target / "images").symlink_to(folder / ("elsewhere" if what == "link" else "nowhere"))
    (folder / "a.zip").write_bytes(content)
    before = sorted(str(p) for p in folder.rglob("*") if not p.is_relative_to(target))

    def sound(_: Any) -> bool:
        return before == sorted(str(p) for p in folder.rglob("*") if not p.is_relative_to(target))

    return Case(f"archive: {what}", lambda: unpack(folder / "a.zip", target), bad, sound)


class Liar(BaseHTTPRequestHandler):
    """A server that answers with what the address asks for: status, headers and body, as JSON in hex."""

    def do_GET(self) -> None:
        status, headers, body = json.loads(bytes.fromhex(self.path.strip("/").split("/")[0]))
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@cache
def liar() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def answer_case(rng: random.Random, folder: Path) -> Case:
    body = "x" * 100
    length = rng.choice(("100", "50", "200", "-1", "many", "1" + "0" * 30, None))
    headers = {} if length is None else {"Content-Length": length}
    status = rng.choice((200, 200, 200, 206, 302, 404, 416, 500, 204))
    extra = rng.choice(
        (
            {},
            {
                "Location": rng.choice(
                    ("http://example.org/a", "ftp://a/b", "file:///etc/passwd", "//[", "http://[::1", "")
                ),
            },
            {"Content-Encoding": "gzip"},
            {"Content-Range": rng.choice(("bytes 0-99/100", "bytes 7-9/10", "x"))},
            {"Transfer-Encoding": "chunked"},
            {"ETag": '"a\x01b"'},
        )
    )
    known = rng.choice(({}, {"size": 100}, {"md5": "0" * 32}))
    if rng.random() < 0.3:
        (folder / "data.bin.part").write_bytes(rng.randbytes(rng.choice((0, 10, 100, 150))))
        (folder / "data.bin.part.etag").write_bytes(rng.choice((b'"one"', b"\xff\xfe", b"a\nb: c")))
    url = f"{liar()}/{json.dumps([status, headers | extra, body]).encode().hex()}/data.bin"
    right = (
        status == 200
        and length == "100"
        and "md5" not in known
        and not extra.keys() & {"Content-Encoding", "Transfer-Encoding"}
    )

    def sound(path: Path) -> bool:
        return len(path.read_bytes()) == 100 or (status == 200 and length == str(path.stat().st_size))

    return Case(
        f"answer {status} {headers | extra} {known}",
        lambda: download(Remote(url, **known), folder / "data.bin", attempts=1, timeout=5.0),
        not right and "md5" in known,
        sound,
    )


AREAS = (
    weights_case,
    config_case,
    tokeniser_case,
    folder_case,
    archive_case,
    weights_case,
    config_case,
    tokeniser_case,
    folder_case,
    answer_case,
)


def judge(i: int, seed: int = 9) -> tuple[str, str]:
    """The verdict on case ``i`` and what it was."""
    rng = random.Random(f"{seed} {i}")
    folder = Path(tempfile.mkdtemp(prefix="bad-inputs-"))
    try:
        case = AREAS[i % len(AREAS)](rng, folder)
        with open(os.devnull, "w") as null:
            stderr, sys.stderr = sys.stderr, null
            try:
                result = case.open()
            except (ValueError, OSError) as error:
                text = str(error)
                named = str(folder) in text or "127.0.0.1" in text or "the server" in text
                one = "\n" not in text.strip() and len(text) < 3000
                verdict = "clean" if named and one else "unclear"
                return verdict, f"{case.what}: {type(error).__name__} {text[:300]}"
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                where = traceback.extract_tb(error.__traceback__)[-1]
                return "traceback", f"{case.what}: {type(error).__name__} {str(error)[:200]} in {where}"
            finally:
                sys.stderr = stderr
        if case.bad or not case.sound(result):
            return "silent", case.what
        return "clean", f"{case.what}: read"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Try ``MMLEARN_BAD_INPUTS`` cases with at most 6 GB of memory, and print what was not clean."""
    import resource
    import time

    count, start = (
        int(os.environ.get("MMLEARN_BAD_INPUTS", "500")),
        int(os.environ.get("MMLEARN_BAD_START", "0")),
    )
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    found: Counter[str] = Counter()
    began = time.process_time()
    for i in range(start, start + count):
        verdict, what = judge(i)
        found[verdict] += 1
        if verdict != "clean":
            print(verdict, i, what, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(dict(found), f"peak {peak:.0f} MB, {time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
