"""Public weights of data2vec for speech: folders that transformers writes, and stand-ins of fairseq's files.

The stand-ins are written from the released names and shapes by a module of plain torch, whose attention is
torch's own, and not from our mapping.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from networks import numbers, stirred
from torch import nn

from mmlearn.both_modalities.data2vec_speech import Data2VecSpeech, Data2VecSpeechConfig
from mmlearn.both_modalities.speech_recognition import ALPHABET, SpeechRecogniser
from mmlearn.nn.modes import blank, seeded
from mmlearn.pretrained import READERS, data2vec_speech, load
from mmlearn.pretrained.data2vec_speech import FAIRSEQ, HUGGING, alphabet_of, expected_shapes, open_speech

WIDTH, HEADS, CHANNELS, FF, STRIDES = 12, 3, 8, 20, (3, 2, 2)
SIZES = dict(
    hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=FF,
    conv_dim=[CHANNELS] * 3, conv_kernel=[5, 3, 2], conv_stride=list(STRIDES), num_conv_pos_embeddings=2,
    conv_pos_kernel_size=5, num_conv_pos_embedding_groups=4)


class Swapped(nn.Module):
    """Channels last: a place of fairseq's sequences that has no weights."""

    def forward(self, x):
        return x.transpose(1, 2)


class Block(nn.Module):
    """A layer with fairseq's names."""

    def __init__(self):
        super().__init__()
        self.self_attn = nn.Module()
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self.self_attn, part, nn.Linear(WIDTH, WIDTH))
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, FF), nn.Linear(FF, WIDTH)

    def forward(self, x):
        of, t = self.self_attn, x.shape[1]
        q, k, v = (part(x).view(len(x), t, HEADS, -1).transpose(1, 2)
                   for part in (of.q_proj, of.k_proj, of.v_proj))
        weights = (q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        x = self.self_attn_layer_norm(x + of.out_proj((weights @ v).transpose(1, 2).reshape(x.shape)))
        return self.final_layer_norm(x + self.fc2(F.gelu(self.fc1(x))))


class Fairseq(nn.Module):
    """The encoder with the names of fairseq's files, and the head of pre-training."""

    def __init__(self):
        super().__init__()
        self.mask_emb = nn.Parameter(torch.rand(WIDTH))
        self.feature_extractor = nn.Module()
        self.feature_extractor.conv_layers = nn.ModuleList(
            nn.Sequential(nn.Conv1d(into, CHANNELS, kernel, stride, bias=False), nn.Dropout(0.0),
                          nn.Sequential(Swapped(), nn.LayerNorm(CHANNELS), Swapped()), nn.GELU())
            for into, kernel, stride in zip((1, CHANNELS, CHANNELS), (5, 3, 2), STRIDES))
        self.layer_norm, self.post_extract_proj = nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, WIDTH)
        self.encoder = nn.Module()
        self.encoder.pos_conv = nn.Sequential(*[
            nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 5, padding=2, groups=4), nn.Identity(), Swapped(),
                          nn.LayerNorm(WIDTH, elementwise_affine=False), Swapped(), nn.GELU())
            for _ in range(2)])
        self.encoder.layer_norm = nn.LayerNorm(WIDTH)
        self.encoder.layers = nn.ModuleList(Block() for _ in range(2))
        self.final_proj = nn.Sequential(nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        x = x[:, None]
        for layer in self.feature_extractor.conv_layers:
            x = layer(x)
        x = self.post_extract_proj(self.layer_norm(x.transpose(1, 2)))
        x = x + self.encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        x = self.encoder.layer_norm(x)
        for layer in self.encoder.layers:
            x = layer(x)
        return x


def drawn(kind, *args):
    with seeded(0):
        return stirred(kind(*args), seed=None).eval()


def waves():
    return numbers(2, 200, seed=1).float()


@torch.no_grad()
def test_a_file_of_fairseq_gives_the_states_of_the_stand_in(tmp_path, capsys):
    theirs = drawn(Fairseq)
    teacher = {name: value.clone() for name, value in theirs.encoder.state_dict().items()}
    torch.save({"args": None, "cfg": {"model": {"_name": "data2vec_audio"}}, "best_loss": 1.5,
                "model": {**theirs.state_dict(), "_ema": teacher}}, tmp_path / "audio_tiny.pt")
    ours = load(tmp_path / "audio_tiny.pt", heads=HEADS, strides=STRIDES)
    assert isinstance(ours, Data2VecSpeech) and not ours.training
    assert ours.config == Data2VecSpeechConfig(CHANNELS, (5, 3, 2), STRIDES, WIDTH, 2, HEADS, FF, 2, 5, 4)
    torch.testing.assert_close(ours(waves()), theirs(waves()), atol=1e-5, rtol=1e-5)
    assert torch.equal(ours.mask_vector, theirs.mask_emb)
    said = capsys.readouterr().err
    assert "left out '_ema'" in said and "left out final_proj.0.bias, final_proj.0.weight" in said
    with pytest.raises(ValueError, match="say which strides they have"):
        load(tmp_path / "audio_tiny.pt")


@torch.no_grad()
def test_a_fine_tuned_file_of_fairseq_reads_letters(tmp_path):
    theirs, head = drawn(Fairseq), drawn(nn.Linear, WIDTH, 32)
    state = {f"w2v_encoder.w2v_model.{name}": value for name, value in theirs.state_dict().items()
             if not name.startswith("final_proj")}
    state |= {f"w2v_encoder.proj.{name}": value for name, value in head.state_dict().items()}
    torch.save({"model": state}, tmp_path / "audio_tiny_960h.pt")
    ours = load(tmp_path / "audio_tiny_960h.pt", letters=True, heads=HEADS, strides=STRIDES)
    assert isinstance(ours, SpeechRecogniser)
    torch.testing.assert_close(ours(waves()), head(theirs(waves())), atol=1e-5, rtol=1e-5)
    alone = load(tmp_path / "audio_tiny_960h.pt", heads=HEADS, strides=STRIDES)
    torch.testing.assert_close(alone(waves()), theirs(waves()), atol=1e-5, rtol=1e-5)


def folder_of(kind, path, **more):
    from transformers import Data2VecAudioConfig

    theirs = drawn(kind, Data2VecAudioConfig(**{**SIZES, **more}))
    theirs.save_pretrained(path)
    return theirs


@pytest.mark.parity
@torch.no_grad()
def test_a_folder_that_transformers_writes_gives_its_states(tmp_path):
    from transformers import Data2VecAudioModel

    theirs = folder_of(Data2VecAudioModel, tmp_path)
    ours = load(tmp_path)
    assert isinstance(ours, Data2VecSpeech)
    torch.testing.assert_close(ours(waves()), theirs(waves()).last_hidden_state, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="holds no head that reads letters"):
        load(tmp_path, letters=True)


@pytest.mark.parity
@torch.no_grad()
def test_a_folder_that_was_fine_tuned_is_opened_with_its_alphabet(tmp_path, capsys):
    from transformers import Data2VecAudioForCTC

    theirs = folder_of(Data2VecAudioForCTC, tmp_path, vocab_size=32, mask_time_prob=0.0)
    (tmp_path / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(ALPHABET)}))
    model, alphabet = open_speech(tmp_path)
    assert alphabet == ALPHABET and not model.encoder.mask_vector.any()
    torch.testing.assert_close(model(waves()), theirs(waves()).logits, atol=1e-5, rtol=1e-5)
    ours = load(tmp_path)
    torch.testing.assert_close(ours(waves()), theirs.data2vec_audio(waves()).last_hidden_state, atol=1e-5,
                               rtol=1e-5)
    assert "left out lm_head.bias, lm_head.weight" in capsys.readouterr().err
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "A": 1}))
    with pytest.raises(ValueError, match="alphabet .* has 2 letters, the model 32"):
        open_speech(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "A": 2}))
    with pytest.raises(ValueError, match="does not number its 2 letters"):
        alphabet_of(tmp_path)


@pytest.mark.parity
def test_folders_with_other_settings_names_or_shapes_are_refused(tmp_path):
    from transformers import Data2VecAudioModel

    folder_of(Data2VecAudioModel, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
            ({"conv_bias": True}, "conv_bias = True"), ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
            ({"add_adapter": True}, "add_adapter"), ({"conv_dim": [8, 8, 9]}, "conv_dim is"),
            ({"conv_stride": [3, 2]}, "3 kernels and 2 strides"),
            ({"num_attention_heads": 5}, "does not divide"),
            ({"num_hidden_layers": 3}, "does not fit the model; missing: encoder.layers.2"),
            ({"intermediate_size": 24}, "of another shape")):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            data2vec_speech.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="none of the checkpoints"):
        load(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="none of model.safetensors"):
        load(tmp_path)


def test_every_tensor_of_the_released_models_has_a_name_in_both_layouts():
    with blank():
        model, fairseq = SpeechRecogniser(Data2VecSpeechConfig.base()), Fairseq()
    for patterns in (HUGGING, FAIRSEQ):
        shapes = expected_shapes(model, patterns)
        assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 93_164_288 + 769 * 32
    assert expected_shapes(model)["encoder.layers.11.attention.k_proj.weight"] == (768, 768)
    assert expected_shapes(model)["encoder.pos_conv_embed.layers.4.conv.weight"] == (768, 48, 19)
    with blank():
        tiny = Data2VecSpeech(Data2VecSpeechConfig(CHANNELS, (5, 3, 2), STRIDES, WIDTH, 2, HEADS, FF, 2, 5,
                                                   4))
    theirs = {name: tuple(value.shape) for name, value in fairseq.state_dict().items()
              if not name.startswith("final_proj")}
    assert expected_shapes(tiny, FAIRSEQ) == theirs


def test_public_names_lead_to_this_reader():
    names = [name for name, module in READERS.items() if module == "data2vec_speech"]
    assert names == [f"facebook/data2vec-audio-{size}" for size in ("base", "base-960h", "large-960h")]
