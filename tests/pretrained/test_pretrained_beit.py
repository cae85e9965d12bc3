"""The public weights of BEiT and of data2vec for images are not at hand; stand-ins in their formats are.

The authors' layout is written here as a plain module with the released names, not from our own mapping; the
layout of transformers is tried with its models in tests/both_modalities/test_data2vec_vision.py.
"""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from networks import stirred
from safetensors.torch import load_file, save_file
from torch import nn

from mmlearn.nn.beit import BEiT, BEiTClassifier, MaskedBEiT
from mmlearn.pretrained import READERS, load
from mmlearn.pretrained.beit import config_of, knows

D, HEADS, FF, PATCH, GRID, LAYERS = 16, 2, 24, 4, 3, 2
ROWS = (2 * GRID - 1) ** 2 + 3


def index():
    """Rows of a table for every pair of places, as a released file holds them."""
    place = [(y, x) for y in range(GRID) for x in range(GRID)]
    out = torch.zeros(GRID**2 + 1, GRID**2 + 1, dtype=torch.long)
    for i, (a, b) in enumerate(place):
        for j, (c, d) in enumerate(place):
            out[i + 1, j + 1] = (a - c + GRID - 1) * (2 * GRID - 1) + b - d + GRID - 1
    out[0, :] = ROWS - 3
    out[:, 0] = ROWS - 2
    out[0, 0] = ROWS - 1
    return out


class Bias(nn.Module):
    def __init__(self):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(ROWS, HEADS))
        self.register_buffer("relative_position_index", index())

    def forward(self):
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class Attn(Bias):
    """Released attention: one matrix, two biases, and a table in fine-tuned files."""

    def __init__(self, own):
        super().__init__()
        if not own:
            del self.relative_position_bias_table, self.relative_position_index
        self.own = own
        self.qkv = nn.Linear(D, 3 * D, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(D))
        self.proj = nn.Linear(D, D)

    def forward(self, x, shared):
        b, t, _ = x.shape
        q, k, v = (self.qkv(x) + torch.cat([self.q_bias, 0 * self.q_bias, self.v_bias])).chunk(3, -1)
        q, k, v = (part.view(b, t, HEADS, -1) for part in (q, k, v))
        scores = torch.einsum("bihc,bjhc->bhij", q, k) / math.sqrt(D // HEADS)
        scores = scores + (Bias.forward(self) if self.own else shared)
        return self.proj(torch.einsum("bhij,bjhc->bihc", scores.softmax(-1), v).flatten(2))


class Block(nn.Module):
    def __init__(self, own):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D, eps=1e-6), nn.LayerNorm(D, eps=1e-6)
        self.attn = Attn(own)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(D, FF), nn.Linear(FF, D)
        self.gamma_1, self.gamma_2 = nn.Parameter(torch.full((D,), 0.1)), nn.Parameter(torch.full((D,), 0.1))

    def forward(self, x, shared):
        x = x + self.gamma_1 * self.attn(self.norm1(x), shared)
        return x + self.gamma_2 * self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class Released(nn.Module):
    """A file of pre-training (``out`` of lm_head), or with ``classes`` a fine-tuned one."""

    def __init__(self, out=D, classes=0):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, D, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.blocks = nn.ModuleList(Block(classes > 0) for _ in range(LAYERS))
        if classes:
            self.fc_norm, self.head = nn.LayerNorm(D, eps=1e-6), nn.Linear(D, classes)
        else:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, D))
            self.rel_pos_bias = Bias()
            self.norm, self.lm_head = nn.LayerNorm(D, eps=1e-6), nn.Linear(D, out)
        self.classes = classes

    def forward(self, x, hidden=None):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        if hidden is not None:
            w = hidden[..., None].to(x)
            x = x * (1 - w) + self.mask_token * w
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        shared = None if self.classes else self.rel_pos_bias()
        for block in self.blocks:
            x = block(x, shared)
        if self.classes:
            return self.head(self.fc_norm(x[:, 1:].mean(1)))
        return self.lm_head(self.norm(x)[:, 1:])


def released(seed=0, **kind):
    torch.manual_seed(seed)
    return stirred(Released(**kind), seed, 0.3).eval()


def pictures(size=PATCH * GRID):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("out", [D, 11])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_pre_training_gives_encoder_and_head(tmp_path, out, suffix):
    theirs = released(out=out)
    file = tmp_path / f"checkpoint{suffix}"
    if suffix == ".pt":
        torch.save({"model": theirs.state_dict(), "epoch": 799}, file)
    else:
        save_file(theirs.state_dict(), file)
    ours = load(file)
    assert isinstance(ours, MaskedBEiT) and not ours.training
    assert (ours.config.size, ours.config.patch, ours.config.eps) == (12, 4, 1e-6)
    hidden = torch.rand(2, 9, generator=torch.Generator().manual_seed(2)) < 0.5
    with torch.no_grad():
        for mask in (None, hidden):
            torch.testing.assert_close(ours(pictures(), mask), theirs(pictures(), mask), atol=1e-5, rtol=1e-5)


def test_a_fine_tuned_file_gives_a_classifier(tmp_path, capsys):
    theirs = released(classes=7)
    torch.save({"module": theirs.state_dict()}, tmp_path / "finetuned.pt")
    ours = load(tmp_path / "finetuned.pt")
    assert isinstance(ours, BEiTClassifier) and ours.config.bias == "layer"
    with torch.no_grad():
        torch.testing.assert_close(ours(pictures()), theirs(pictures()), atol=1e-5, rtol=1e-5)
    assert "hidden patches" not in capsys.readouterr().err


@pytest.mark.parity
def test_a_file_of_timms_beit_gives_the_same_classes(tmp_path):
    from timm.models.beit import Beit

    torch.manual_seed(0)
    theirs = Beit(img_size=12, patch_size=4, num_classes=7, embed_dim=D, depth=LAYERS, num_heads=HEADS,
                  mlp_ratio=1.5, init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=True)
    theirs = stirred(theirs, 1, 0.3).eval()
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    ours = load(tmp_path / "timm.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(ours(pictures()), theirs(pictures()), atol=1e-5, rtol=1e-5)


# --------------------------------------------------------------------------------------- what is refused

NAMES = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "intermediate.dense",
         "mlp.fc2": "output.dense", "attn.proj": "attention.output.dense", "gamma_1": "lambda_1",
         "gamma_2": "lambda_2", "attn.q_bias": "attention.attention.query.bias",
         "attn.v_bias": "attention.attention.value.bias"}


def folder_of(theirs, path, model_type="data2vec-vision", prefix="", mask=True, **changes):
    """A folder as transformers converts the stand-in of pre-training, name by name."""
    state, out = theirs.state_dict(), {}
    for name, value in state.items():
        if name.startswith("blocks."):
            _, i, rest = name.split(".", 2)
            to = f"encoder.layer.{i}."
            if rest == "attn.qkv.weight":
                for kind, part in zip(("query", "key", "value"), value.chunk(3)):
                    out[f"{to}attention.attention.{kind}.weight"] = part.clone()
                continue
            key = next(key for key in NAMES if rest.startswith(key))
            out[to + NAMES[key] + rest.removeprefix(key)] = value
        elif name.startswith("rel_pos_bias."):
            out["encoder.relative_position_bias." + name.removeprefix("rel_pos_bias.")] = value
        elif name.startswith("patch_embed.proj."):
            out["embeddings.patch_embeddings.projection." + name.rpartition(".")[2]] = value
        elif name in ("cls_token", "mask_token"):
            if mask or name == "cls_token":
                out[f"embeddings.{name}"] = value
        elif name.startswith("norm."):
            out["layernorm." + name.removeprefix("norm.")] = value
    path.mkdir(exist_ok=True)
    save_file({prefix + name: value for name, value in out.items()}, path / "model.safetensors")
    config = {"model_type": model_type, "hidden_size": D, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "intermediate_size": FF, "image_size": PATCH * GRID,
              "patch_size": PATCH, "use_shared_relative_position_bias": True, "use_mean_pooling": False,
              "layer_norm_eps": 1e-6, **changes}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("model_type, prefix", [
    ("data2vec-vision", ""), ("data2vec-vision", "data2vec_vision."), ("beit", "beit.")])
def test_a_converted_folder_gives_normalised_states_with_or_without_a_hidden_vector(
        tmp_path, capsys, model_type, prefix):
    theirs = released()
    theirs.lm_head = nn.Identity()
    for mask in (True, False):
        ours = load(folder_of(theirs, tmp_path / str(mask), model_type, prefix, mask))
        assert isinstance(ours, MaskedBEiT)
        with torch.no_grad():
            torch.testing.assert_close(ours(pictures()), theirs(pictures()), atol=1e-5, rtol=1e-5)
        said = "has no embeddings.mask_token; hidden patches are zeros" in capsys.readouterr().err
        assert said == (not mask) and (ours.encoder.mask_token.abs().sum() > 0) == mask


def test_an_encoder_alone_is_a_beit(tmp_path):
    folder = folder_of(released(), tmp_path)
    state = {name: value for name, value in load_file(folder / "model.safetensors").items()
             if not name.startswith("layernorm.")}
    save_file(state, folder / "model.safetensors")
    assert type(load(folder)) is BEiT


@pytest.mark.parametrize("change, words", [
    ({"use_shared_relative_position_bias": False}, "switches on 0 of"),
    ({"use_relative_position_bias": True}, "switches on 2 of"),
    ({"use_absolute_position_embeddings": True}, "this reader knows False only"),
    ({"hidden_act": "relu"}, "this reader knows 'gelu' only"),
    ({"patch_size": 5}, "choose a patch that divides it"),
    ({"num_attention_heads": "two"}, "num_attention_heads is 'two'"),
    ({"image_size": 16}, "of another shape"),
])
def test_a_folder_that_computes_something_else_is_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        load(folder_of(released(), tmp_path, **change))


def test_a_file_with_other_names_shapes_or_numbers_is_refused(tmp_path):
    state = released().state_dict()

    def refused(words, **changes):
        new = {**state, **changes}
        torch.save({name: value for name, value in new.items() if value is not None}, tmp_path / "file.pt")
        with pytest.raises(ValueError, match=words):
            load(tmp_path / "file.pt")

    refused("missing: blocks.1.norm2.weight", **{"blocks.1.norm2.weight": None})
    refused("not expected: pos_embed", pos_embed=torch.zeros(1, 10, D))
    refused("of another shape: blocks.0.gamma_2", **{"blocks.0.gamma_2": torch.zeros(D + 1)})
    refused("holds nan", **{"blocks.0.gamma_2": torch.full((D,), math.nan)})
    table = "rel_pos_bias.relative_position_bias_table"
    refused("expected .2G - 1.² . 3", **{table: torch.zeros(30, HEADS)})


def test_two_encoders_in_a_folder_and_weights_without_their_folder_are_refused(tmp_path):
    folder = folder_of(released(), tmp_path / "folder")
    state = load_file(folder / "model.safetensors")
    save_file(state, tmp_path / "alone.safetensors")
    with pytest.raises(ValueError, match="none of the checkpoints"):
        load(tmp_path / "alone.safetensors")
    save_file({**state, "beit.layernorm.weight": torch.ones(D)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="with and without a prefix"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="download the weights too"):
        load(folder)


def test_booklet_b6_code_and_weights_are_public_and_their_names_lead_here():
    names = [name for name, module in READERS.items() if module == "beit"]
    sizes = ("base", "large", "base-ft1k", "large-ft1k")
    assert {f"facebook/data2vec-vision-{size}" for size in sizes} <= {*names}
    assert "microsoft/beit-large-patch16-224" in names


def test_the_names_of_both_layouts_are_known_and_an_epsilon_is_taken_from_the_settings():
    assert knows(released().state_dict()) and not knows(["cls_token", "pos_embed"])
    found = {"use_shared_relative_position_bias": True}
    assert config_of(found, "config.json").eps == 1e-12                 # transformers' default, not 1e-6
