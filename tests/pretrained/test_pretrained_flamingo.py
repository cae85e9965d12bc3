"""The public files of OpenFlamingo are not at hand; stand-ins in their format are.

They are written here from the released names and shapes, in plain torch, not from our own mapping: a language
model whose blocks are pairs of a gated block and a decoder layer, both also in lists of their own.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmlearn.both_modalities.flamingo import Flamingo, FlamingoAdapter, FlamingoConfig
from mmlearn.nn.modes import blank
from mmlearn.pretrained import READERS, flamingo, load
from mmlearn.pretrained.flamingo import BLOCK, config_of, expected_shapes, fetch, file_of, knows, recognises

HEADS, HEAD, WIDTH, VISUAL, LATENTS, VOCAB, IMAGE, EOC = 2, 8, 16, 12, 3, 20, 19, 18


def net(d):
    return nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 4 * d, bias=False), nn.GELU(),
                         nn.Linear(4 * d, d, bias=False))


def heads(x):
    return x.unflatten(-1, (HEADS, HEAD)).transpose(-3, -2)


class Reads(nn.Module):
    def __init__(self, d, e, latent):
        super().__init__()
        if latent:
            self.norm_media, self.norm_latents = nn.LayerNorm(d), nn.LayerNorm(d)
        else:
            self.norm = nn.LayerNorm(d)
        self.to_q = nn.Linear(d, HEADS * HEAD, bias=False)
        self.to_kv = nn.Linear(e, 2 * HEADS * HEAD, bias=False)
        self.to_out = nn.Linear(HEADS * HEAD, d, bias=False)

    def attend(self, x, source, mask=None):
        k, v = self.to_kv(source).chunk(2, -1)
        scores = heads(self.to_q(x)) @ heads(k).transpose(-1, -2) * HEAD**-0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e30)
        weights = scores.softmax(-1)
        if mask is not None:
            weights = weights * mask.any(-1, keepdim=True)
        return self.to_out((weights @ heads(v)).transpose(-3, -2).flatten(-2))


class Perceiver(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        self.latents = nn.Parameter(torch.empty(LATENTS, VISUAL))
        self.layers = nn.ModuleList(nn.ModuleList([Reads(VISUAL, VISUAL, True), net(VISUAL)])
                                    for _ in range(depth))
        self.norm = nn.LayerNorm(VISUAL)

    def forward(self, x):                                                # (b m) p e
        z = self.latents.expand(len(x), -1, -1)
        for reads, ff in self.layers:
            both = torch.cat([reads.norm_media(x), reads.norm_latents(z)], 1)
            z = z + reads.attend(reads.norm_latents(z), both)
            z = z + ff(z)
        return self.norm(z)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.ff = Reads(WIDTH, VISUAL, False), net(WIDTH)
        self.attn_gate, self.ff_gate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x, visual, mask):
        x = x + self.attn_gate.tanh() * self.attn.attend(self.attn.norm(x), visual.flatten(1, 2), mask)
        return x + self.ff_gate.tanh() * self.ff(x)


class Causal(nn.Module):
    """A layer of the frozen language model."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x, mask=None):
        q, k, v = self.qkv(self.norm_1(x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Language(nn.Module):
    """The same language model with the parts that ours ask for."""

    def __init__(self, layers=4, vocab=VOCAB):
        super().__init__()
        self.words = nn.Embedding(vocab, WIDTH)
        self.layers = nn.ModuleList(Causal() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)

    def embed(self, tokens, mask=None):
        return self.words(tokens)

    def logits(self, z):
        return z @ self.words.weight.T


class Pair(nn.Module):
    def __init__(self, gated, layer):
        super().__init__()
        self.gated_cross_attn_layer, self.decoder_layer = gated, layer


class Released(nn.Module):
    """The model of the authors: ``lang_encoder`` holds blocks twice."""

    def __init__(self, language, every):
        super().__init__()
        self.perceiver = Perceiver()
        self.lang_encoder = nn.Module()
        gated = [Gated() if (i + 1) % every == 0 else None for i in range(len(language.layers))]
        self.lang_encoder.transformer = nn.Module()
        self.lang_encoder.transformer.wte = nn.Embedding(VOCAB, WIDTH)
        self.lang_encoder.transformer.blocks = nn.ModuleList(
            Pair(one, layer) for one, layer in zip(gated, language.layers))
        self.lang_encoder.gated_cross_attn_layers = nn.ModuleList(gated)
        self.lang_encoder.transformer.norm_f = language.norm

    def forward(self, tokens, features):
        b, m = features.shape[:2]
        visual = self.perceiver(features.flatten(0, 1)).unflatten(0, (b, m))
        phi = (tokens == IMAGE).cumsum(1)
        mask = (phi[..., None] == torch.arange(1, m + 1)).repeat_interleave(LATENTS, -1)[:, None]
        words = self.lang_encoder.transformer.wte.weight
        x = F.embedding(tokens, words)
        for pair in self.lang_encoder.transformer.blocks:
            if pair.gated_cross_attn_layer is not None:
                x = pair.gated_cross_attn_layer(x, visual, mask)
            x = pair.decoder_layer(x)
        return self.lang_encoder.transformer.norm_f(x) @ words.T

    def saved(self, copies):
        """What a file holds: the trained parts; of the blocks the list, the places, or both."""
        left = {"list": ("blocks",), "places": ("gated_cross_attn_layers",), "both": ()}[copies]
        return {name: value for name, value in self.state_dict().items()
                if "decoder_layer" not in name and "norm_f" not in name
                and not any(part in name for part in left)}


def stirred(module, seed=0):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(0.4 * torch.randn(value.shape, generator=g))
    return module.eval()


@pytest.mark.parametrize("every, copies", [(1, "places"), (2, "list"), (2, "both")])
def test_a_released_model_says_the_same_in_our_modules(every, copies, tmp_path):
    language = Language()
    theirs = stirred(Released(language, every))
    torch.save(theirs.saved(copies), tmp_path / "checkpoint.pt")
    assert recognises(tmp_path) and recognises(tmp_path / "checkpoint.pt")
    ours = load(tmp_path, language=language, head=HEAD, image=IMAGE, eoc=EOC)
    assert isinstance(ours, Flamingo) and not ours.training
    assert list(ours.adapter.blocks) == [str(i) for i in range(every - 1, 4, every)]
    assert (ours.config.heads, ours.config.visual, ours.config.sees) == (HEADS, VISUAL, "last")
    tokens = torch.tensor([[1, IMAGE, 2, 3, IMAGE, 4, EOC], [1, 5, 6, IMAGE, 7, 8, EOC]])
    features = torch.randn(2, 2, 5, VISUAL)
    want = theirs(tokens, features)
    torch.testing.assert_close(ours(tokens, features=features), want, atol=1e-5, rtol=1e-5)
    assert torch.equal(language.words.weight, theirs.lang_encoder.transformer.wte.weight)


def test_without_a_language_model_the_trained_parts_are_opened(tmp_path, capsys):
    theirs = stirred(Released(Language(), 2))
    torch.save(theirs.saved("both"), tmp_path / "any.pt")
    adapter = load(tmp_path / "any.pt", head=HEAD)
    assert isinstance(adapter, FlamingoAdapter) and adapter.end is None
    trained = sum(p.numel() for p in theirs.perceiver.parameters()) + sum(
        p.numel() for one in theirs.lang_encoder.gated_cross_attn_layers if one is not None
        for p in one.parameters())
    assert sum(p.numel() for p in adapter.parameters()) == trained
    assert "left out words" in capsys.readouterr().err


def test_a_file_with_other_names_shapes_or_copies_is_refused(tmp_path):
    state = stirred(Released(Language(), 2)).saved("both")
    file, block = tmp_path / "checkpoint.pt", "lang_encoder.transformer.blocks.1.gated_cross_attn_layer"
    torch.save({**state, f"{block}.attn_gate": torch.ones(1)}, file)
    with pytest.raises(ValueError, match="two copies of blocks.1.attn_gate that differ"):
        load(file, head=HEAD)
    torch.save({**state, "lang_encoder.transformer.ln_f.weight": torch.ones(2)}, file)
    with pytest.raises(ValueError, match=r"not expected: lang_encoder\.transformer\.ln_f\.weight"):
        load(file, head=HEAD)
    torch.save({name: value for name, value in state.items() if name != "perceiver.norm.bias"}, file)
    with pytest.raises(ValueError, match=r"missing: perceiver\.norm\.bias"):
        load(file, head=HEAD)
    torch.save(state, file)
    with pytest.raises(ValueError, match="no multiple of heads of 64"):
        load(file)
    with pytest.raises(ValueError, match="make it with vocab=20"):
        load(file, language=Language(vocab=VOCAB + 1), head=HEAD)
    with pytest.raises(ValueError, match="has 5 layers, the configuration 4"):
        load(file, language=Language(5), head=HEAD)
    assert not knows({"perceiver.latents", "perceiver.norm.weight"}) and file_of(tmp_path) == file


@pytest.mark.parametrize("name", ["openflamingo_3b", "openflamingo_4b", "openflamingo_9b"])
def test_released_sizes_are_read_off_the_shapes(name):
    config = getattr(FlamingoConfig, name)()
    with blank():
        adapter = FlamingoAdapter(config)
    shapes = expected_shapes(adapter)
    state = {theirs: torch.empty(shape, device="meta") for theirs, shape in shapes.items()}
    assert config_of(state, "checkpoint.pt") == config
    last = config.places[-1]
    assert {"perceiver.layers.5.0.to_kv.weight", "perceiver.layers.5.1.3.weight", "perceiver.norm.bias",
            f"blocks.{last}.attn_gate", f"blocks.{last}.ff.1.weight",
            f"blocks.{last}.attn.norm.bias"} <= set(shapes)
    assert BLOCK.fullmatch(f"lang_encoder.gpt_neox.layers.{last}.gated_cross_attn_layer.attn.to_q.weight")
    assert sum(p.numel() for p in adapter.parameters()) == sum(torch.Size(s).numel() for s in shapes.values())


def test_public_names_are_fetched_from_the_hub(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(flamingo, "download", lambda name, wanted, files: (
        asked.append((name, files(tmp_path))), tmp_path)[1])
    names = [name for name, module in READERS.items() if module == "flamingo"]
    assert len(names) == 5
    for name in names:
        assert fetch(name) == tmp_path
    assert asked[0] == ("openflamingo/OpenFlamingo-3B-vitl-mpt1b", ["checkpoint.pt"])
