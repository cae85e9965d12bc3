"""The public M2 checkpoint is not at hand; a stand-in in its format is, written by a model with its names and
layout.

``Released`` follows the released model's structure, written here from its description, not from ours: four
matrices an attention, three gates by name, pre-computed position table, log-softmax output, inputs of keys
kept in buffers.
"""

import math
import pickle
import random

import numpy as np
import pytest
import torch
from networks import count
from torch import nn

from mmlearn.generate import greedy
from mmlearn.image2text.m2 import BOS, PAD, M2Transformer
from mmlearn.pretrained import load, match
from mmlearn.pretrained.m2 import config_of, official_shapes, weights_of

SIZES = dict(vocab=23, features=12, d=16, h=4, ff=24, slots=5, length=14)


class Attention(nn.Module):
    def __init__(self, d, h, slots=0):
        super().__init__()
        self.fc_q, self.fc_k, self.fc_v, self.fc_o = (nn.Linear(d, d) for _ in range(4))
        self.d, self.h, self.slots = d, h, slots
        if slots:
            self.m_k = nn.Parameter(torch.randn(1, slots, d) * 0.3)
            self.m_v = nn.Parameter(torch.randn(1, slots, d) * 0.3)

    def forward(self, queries, keys, mask=None):
        b, e = len(queries), self.d // self.h
        q, k, v = self.fc_q(queries), self.fc_k(keys), self.fc_v(keys)
        if self.slots:
            k = torch.cat([k, math.sqrt(e) * self.m_k.expand(b, -1, -1)], 1)
            v = torch.cat([v, math.sqrt(self.slots) * self.m_v.expand(b, -1, -1)], 1)
        heads = []
        for a in range(self.h):
            part = slice(a * e, (a + 1) * e)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(e)
            if mask is not None:
                scores = scores.masked_fill(mask, -math.inf)
            heads.append(scores.softmax(-1) @ v[..., part])
        return self.fc_o(torch.cat(heads, -1))


class AttentionBlock(nn.Module):
    def __init__(self, d, h, slots=0, stateful=False):
        super().__init__()
        self.attention = Attention(d, h, slots)
        self.layer_norm = nn.LayerNorm(d)
        if stateful:
            self.register_buffer("running_keys", torch.zeros(0, d))
            self.register_buffer("running_values", torch.zeros(0, d))

    def forward(self, queries, keys, mask=None):
        return self.layer_norm(queries + self.attention(queries, keys, mask))


class Pwff(nn.Module):
    def __init__(self, d, ff):
        super().__init__()
        self.fc1, self.fc2, self.layer_norm = nn.Linear(d, ff), nn.Linear(ff, d), nn.LayerNorm(d)

    def forward(self, x):
        return self.layer_norm(x + self.fc2(torch.relu(self.fc1(x))))


class ReleasedEncoderLayer(nn.Module):
    def __init__(self, d, h, ff, slots):
        super().__init__()
        self.mhatt, self.pwff = AttentionBlock(d, h, slots), Pwff(d, ff)


class ReleasedDecoderLayer(nn.Module):
    def __init__(self, d, h, ff):
        super().__init__()
        self.self_att, self.enc_att = AttentionBlock(d, h, stateful=True), AttentionBlock(d, h)
        self.pwff = Pwff(d, ff)
        self.fc_alpha1, self.fc_alpha2, self.fc_alpha3 = (nn.Linear(2 * d, d) for _ in range(3))

    def forward(self, x, levels, future, words):
        Y = self.self_att(x, x, future) * words
        total = 0
        for level, gate in zip(levels, (self.fc_alpha1, self.fc_alpha2, self.fc_alpha3)):
            E = self.enc_att(Y, level) * words
            total = total + E * torch.sigmoid(gate(torch.cat([Y, E], -1)))
        return self.pwff(total / math.sqrt(3)) * words


class Released(nn.Module):
    def __init__(self, vocab, features, d, h, ff, slots, length):
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.fc, self.encoder.layer_norm = nn.Linear(features, d), nn.LayerNorm(d)
        self.encoder.layers = nn.ModuleList(ReleasedEncoderLayer(d, h, ff, slots) for _ in range(3))
        self.decoder.word_emb = nn.Embedding(vocab, d, padding_idx=1)
        self.decoder.pos_emb = nn.Embedding(length + 1, d)
        self.decoder.layers = nn.ModuleList(ReleasedDecoderLayer(d, h, ff) for _ in range(3))
        self.decoder.fc = nn.Linear(d, vocab, bias=False)
        self.decoder.register_buffer("running_mask_self_attention", torch.zeros(1, 1, 0).byte())
        self.decoder.register_buffer("running_seq", torch.zeros(1).long())
        self.decoder.pos_emb.weight.requires_grad_(False)
        for parameter in self.parameters():  # no bias, norm or padding row stays at rest
            nn.init.normal_(parameter, std=0.3)

    def forward(self, features, tokens):
        x = self.encoder.layer_norm(torch.relu(self.encoder.fc(features)))
        levels = []
        for layer in self.encoder.layers:
            x = layer.pwff(layer.mhatt(x, x))
            levels.append(x)
        t = tokens.shape[1]
        words = (tokens != 1)[..., None].float()
        places = torch.arange(1, t + 1).expand_as(tokens).masked_fill(tokens == 1, 0)
        y = self.decoder.word_emb(tokens) + self.decoder.pos_emb(places)
        future = torch.triu(torch.ones(t, t, dtype=torch.bool), 1) | (tokens == 1)[:, None, :]
        for layer in self.decoder.layers:
            y = layer(y, levels, future, words)
        return self.decoder.fc(y).log_softmax(-1)


def checkpoint(model):
    """What the released training script saves: weights, the state of every random generator, and numbers."""
    optimizer = torch.optim.Adam(model.parameters())
    return {
        "torch_rng_state": torch.get_rng_state(), "numpy_rng_state": np.random.get_state(),  # noqa: NPY002
        "random_rng_state": random.getstate(), "epoch": 27, "val_loss": 3.1, "val_cider": np.float64(1.13),
        "best_cider": np.float64(1.31), "patience": 4, "use_rl": True, "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


@pytest.fixture()
def released(tmp_path):
    torch.manual_seed(0)
    model = Released(**SIZES).eval()
    torch.save(checkpoint(model), tmp_path / "meshed_memory_transformer.pth")
    return model, tmp_path / "meshed_memory_transformer.pth"


def batch():
    g = torch.Generator().manual_seed(1)
    features = torch.randn(3, 6, 12, generator=g)
    features[1, 4:] = 0  # padding, which the released model reads
    tokens = torch.randint(4, 23, (3, 8), generator=g)
    tokens[:, 0] = BOS
    tokens[2, 5:] = PAD
    return features, tokens


@pytest.mark.parity
@pytest.mark.equation("eq:m2-decoder-code")
def test_the_loaded_model_says_what_the_released_one_says(released):
    theirs, path = released
    ours = load(path, heads=4)
    features, tokens = batch()
    with torch.no_grad():
        want, got = theirs(features, tokens), ours(features, tokens).log_softmax(-1)
    real = tokens != PAD
    torch.testing.assert_close(got[real], want[real], atol=1e-5, rtol=1e-5)
    assert not ours.training
    assert ours.config.padding == "off" and ours.config.norm == "code"


@pytest.mark.parity
def test_the_loaded_model_writes_what_the_released_one_writes(released):
    theirs, path = released
    ours = load(path, heads=4)
    features, _ = batch()
    written, _ = greedy(ours, ours.encode(features), max_len=10)
    for i in range(3):
        words = [BOS]
        for _ in range(written.shape[1]):
            with torch.no_grad():
                words.append(theirs(features[i : i + 1], torch.tensor([words]))[0, -1].argmax().item())
            if words[-1] == 3:
                break
        assert written[i, : len(words) - 1].tolist() == words[1:]


@pytest.mark.parametrize("zipped", [True, False])
def test_old_and_new_files_are_read_with_their_random_states(released, tmp_path, zipped):
    model, _ = released
    path = tmp_path / "old.pth"
    torch.save(checkpoint(model), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):  # the reason for the list of harmless types
        torch.load(path, weights_only=True)
    state = weights_of(path)
    assert not any("running" in name for name in state)
    assert torch.equal(state["decoder.fc.weight"], model.decoder.fc.weight)


def test_positions_come_from_the_file_and_are_not_recomputed(released):
    theirs, path = released
    ours = load(path, heads=4)
    assert torch.equal(ours.embed.positions.table, theirs.decoder.pos_emb.weight)
    # its row of <pad> is not zero
    assert torch.equal(ours.embed.words.weight, theirs.decoder.word_emb.weight)
    assert "embed.positions.table" not in dict(ours.named_parameters())


def test_the_sizes_are_read_off_the_file(released):
    config = config_of(weights_of(released[1]), heads=4)
    assert (config.vocab, config.width, config.ff, config.memory, config.features, config.max_len,
            config.layers) == (
        23, 16, 24, 5, 12, 14, 3)


def test_the_paper_model_has_the_names_and_numbers_of_the_released_one():
    with torch.device("meta"):
        theirs = Released(10_201, 2048, 512, 8, 2048, 40, 54)
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()
              if "running" not in name}
    from mmlearn.image2text.m2 import M2Config
    assert official_shapes(M2Config.released()) == shapes
    with torch.device("meta"):
        ours = M2Transformer(M2Config.released())
    frozen = theirs.decoder.pos_emb.weight.numel()
    assert count(theirs) - frozen == count(ours) == 38_411_264


def spoil(path, change):
    file = torch.load(path, weights_only=False)                           # our own file
    change(file["state_dict"])
    torch.save(file, path)
    return path


def test_a_missing_name_is_named(released):
    path = spoil(released[1], lambda state: state.pop("decoder.layers.1.fc_alpha2.bias"))
    with pytest.raises(ValueError, match=r"missing: decoder\.layers\.1\.fc_alpha2\.bias"):
        load(path, heads=4)


def test_a_name_too_many_is_named(released):
    path = spoil(released[1], lambda state: state.update({"decoder.fc.bias": torch.zeros(23)}))
    with pytest.raises(ValueError, match=r"not expected: decoder\.fc\.bias"):
        load(path, heads=4)


def test_another_shape_is_named(released):
    path = spoil(
        released[1], lambda state: state.update({"encoder.layers.2.pwff.fc1.weight": torch.zeros(25, 16)})
    )
    with pytest.raises(ValueError, match=r"encoder\.layers\.2\.pwff\.fc1\.weight is \(25, 16\), expected "
                                         r"\(24, 16\)"):
        load(path, heads=4)


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (mark.write_text, ("yes",))

    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"encoder.layers.0.mhatt.attention.m_k": Evil()}}, path)
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 a broken archive"])
def test_a_broken_file_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.pth cannot be read as weights"):
        load(path)


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        load(tmp_path / "list.pth")


def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="none of the checkpoints that can be read"):
        load(tmp_path / "other.pth")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="none of the checkpoints"):
        load(tmp_path / "notes.txt")


def test_what_is_not_there_is_said_so():
    with pytest.raises(FileNotFoundError, match="nowhere.pth is neither a file or folder nor one of the "
                                                "public names"):
        load("nowhere.pth")
    with pytest.raises(FileNotFoundError, match="github.com/aimagelab/meshed-memory-transformer"):
        load("aimagelab/meshed-memory-transformer")


def test_many_differences_are_cut_short():
    with pytest.raises(ValueError, match="missing: n00, n01, .*n07 and 12 more"):
        match({}, {f"n{i:02d}": (1,) for i in range(20)}, "file")
    match({"a": (2, 3)}, {"a": (2, 3)}, "file")
