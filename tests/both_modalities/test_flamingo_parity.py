"""Resampler and gated blocks beside three reference implementations, at tiny sizes and drawn weights.

flamingo-pytorch and open_flamingo activate by GELU; a squared ReLU in its place makes them the paper's.
Idefics has blocks of its own kind (RMS normalisation, a gated net); with the paper's parts in their place its
attention, masks and gates remain.
"""

import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from mmlearn.both_modalities.flamingo import (
    FlamingoConfig,
    GatedCrossAttention,
    PerceiverResampler,
    SquaredReLU,
    last_picture,
    media_mask,
)

pytestmark = pytest.mark.parity
CONFIG = FlamingoConfig(layers=2, width=16, heads=2, every=1, features=8, visual=8, resampler_layers=2,
                        resampler_heads=3, latents=3, frames=0, head=4)


@cache
def open_flamingo():
    """The helpers of open_flamingo, by their file: the package imports much more."""
    found = importlib.util.find_spec("open_flamingo")
    if found is None:
        pytest.skip("open_flamingo is not installed")
    pytest.importorskip("einops_exts")
    file = Path(found.submodule_search_locations[0]) / "src" / "helpers.py"
    spec = importlib.util.spec_from_file_location("open_flamingo_helpers", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flamingo_pytorch():
    return pytest.importorskip("flamingo_pytorch")


def stirred(module, seed=0):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(0.5 * torch.randn(value.shape, generator=g))
    return module.eval()


def squared(module):
    """The module with a squared ReLU for each GELU or ReLU."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.GELU | nn.ReLU):
                setattr(part, name, SquaredReLU())
    return module


def net(state, theirs, ours):
    """A feed-forward net in lucidrains' names as ours."""
    return {f"{ours}.{a}": state.pop(f"{theirs}.{b}") for a, b in (
        ("norm.weight", "0.weight"), ("norm.bias", "0.bias"), ("inner.weight", "1.weight"),
        ("outer.weight", "3.weight"))}


def resampler_state(theirs, times=None):
    """Their weights as ours, each key used once."""
    state = dict(theirs.state_dict())
    ours = {"latents": state.pop("latents"), "norm.weight": state.pop("norm.weight"),
            "norm.bias": state.pop("norm.bias")}
    if times is not None:
        ours["times"] = state.pop(times).flatten(0, -2)
    for i in range(CONFIG.resampler_layers):
        a = f"layers.{i}.attention"
        ours[f"{a}.in_weight"] = torch.cat([state.pop(f"layers.{i}.0.to_{part}.weight")
                                            for part in ("q", "kv")])
        ours[f"{a}.out.weight"] = state.pop(f"layers.{i}.0.to_out.weight")
        for mine, other in (("norm_features", "norm_media"), ("norm_latents", "norm_latents")):
            for kind in ("weight", "bias"):
                ours[f"{a}.{mine}.{kind}"] = state.pop(f"layers.{i}.0.{other}.{kind}")
        ours |= net(state, f"layers.{i}.1", f"layers.{i}.dense")
    assert not state
    return ours


def block_state(theirs):
    state = dict(theirs.state_dict())
    ours = {"gate_read": state.pop("attn_gate"), "gate_dense": state.pop("ff_gate")}
    for mine, other in (("norm.weight", "norm.weight"), ("norm.bias", "norm.bias"),
                        ("queries.weight", "to_q.weight"), ("sources.weight", "to_kv.weight"),
                        ("out.weight", "to_out.weight")):
        ours[f"attention.{mine}"] = state.pop(f"attn.{other}")
    ours |= net(state, "ff", "dense")
    assert not state
    return ours


def filled(module, state):
    module.load_state_dict(state)
    return module.eval()


@pytest.mark.parametrize("activation", ["gelu", "squared relu"])
def test_the_resampler_of_flamingo_pytorch(activation):
    theirs = stirred(flamingo_pytorch().PerceiverResampler(
        dim=8, depth=2, dim_head=4, heads=3, num_latents=3, num_media_embeds=3))
    with torch.no_grad():
        theirs.media_pos_emb.copy_(theirs.media_pos_emb[:1].clone().expand(3, -1, -1))   # by picture there
    theirs = theirs if activation == "gelu" else squared(theirs)
    state = resampler_state(theirs, "media_pos_emb")
    state["times"] = state["times"][:1]                                    # ours: by frame, and one is there
    ours = filled(PerceiverResampler(replace(CONFIG, activation=activation, frames=1)), state)
    for places in (7, 60):                                                 # with keys of features, without
        x = torch.randn(2, 3, places, 8)
        got = ours(x.flatten(0, 1)[:, None]).unflatten(0, (2, 3))
        torch.testing.assert_close(got, theirs(x), atol=1e-5, rtol=1e-5)


def test_the_resampler_of_open_flamingo_frames_included():
    theirs = stirred(open_flamingo().PerceiverResampler(
        dim=8, depth=2, dim_head=4, heads=3, num_latents=3, max_num_frames=4))
    ours = filled(PerceiverResampler(replace(CONFIG, activation="gelu", frames=4)),
                  resampler_state(theirs, "frame_embs"))
    x = torch.randn(2, 3, 4, 6, 8)
    torch.testing.assert_close(ours(x.flatten(0, 1)).unflatten(0, (2, 3)), theirs(x), atol=1e-5, rtol=1e-5)


def case(places=((2, 5), (0, 4))):
    g = torch.Generator().manual_seed(1)
    at = torch.zeros(2, 8, dtype=torch.bool)
    for row, those in enumerate(places):
        at[row, list(those)] = True
    return torch.randn(2, 8, 16, generator=g), torch.randn(2, 2, 3, 8, generator=g), at


@pytest.mark.parametrize("sees, many", [("last", 1), ("last", 32), ("all", 32)])
def test_the_gated_block_of_open_flamingo(sees, many, monkeypatch):
    monkeypatch.setattr("mmlearn.both_modalities.flamingo.MANY", many)          # tokens are sorted, or not
    theirs = stirred(open_flamingo().GatedCrossAttentionBlock(
        dim=16, dim_visual=8, dim_head=4, heads=2, only_attend_immediate_media=sees == "last"))
    ours = filled(GatedCrossAttention(replace(CONFIG, activation="gelu")), block_state(theirs))
    x, visual, at = case()
    phi = last_picture(at)
    got = ours(x, visual, media_mask(phi, 2, sees))
    want = theirs(x, visual, media_locations=at)
    shown = phi > 0
    torch.testing.assert_close(got[shown], want[shown], atol=1e-5, rtol=1e-5)
    if sees == "last":
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        step = theirs(x[:, -1:], visual, media_locations=at, use_cached_media=True)
        torch.testing.assert_close(ours(x[:, -1:], visual, media_mask(phi[:, -1:], 2)), step, atol=1e-5,
                                   rtol=1e-5)
    else:                       # theirs reads a mean of all pictures before the first one, ours nothing
        assert not torch.allclose(got[~shown], want[~shown], atol=1e-3)


@pytest.mark.parametrize("activation", ["gelu", "squared relu"])
def test_the_gated_block_of_flamingo_pytorch(activation):
    config = replace(CONFIG, activation=activation, width=8)
    theirs = stirred(flamingo_pytorch().GatedCrossAttentionBlock(dim=8, dim_head=4, heads=2))
    theirs = theirs if activation == "gelu" else squared(theirs)
    ours = filled(GatedCrossAttention(config), block_state(theirs))
    x, visual, at = case()
    want = theirs(x[..., :8], visual, media_locations=at)
    got = ours(x[..., :8].contiguous(), visual, media_mask(last_picture(at), 2))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def idefics(**more):
    from transformers import IdeficsConfig

    config = IdeficsConfig(
        hidden_size=16, num_attention_heads=2, intermediate_size=64, vocab_size=20, dropout=0.0,
        vision_config={"embed_dim": 8, "image_size": 8, "patch_size": 4, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "intermediate_size": 16},
        perceiver_config={"qk_layer_norms_perceiver": False}, qk_layer_norms=False, **more)
    config._attn_implementation = "eager"
    return config


def test_the_resampler_of_idefics():
    from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

    theirs = stirred(IdeficsPerceiverResampler(idefics(), 8, 2, 3, 4, 3))
    state = dict(theirs.state_dict())
    ours = {"latents": state.pop("latents"), "norm.weight": state.pop("layer_norm.weight"),
            "norm.bias": state.pop("layer_norm.bias")}
    for i in range(2):
        a, d = f"layers.{i}.attention", f"layers.{i}.dense"
        ours[f"{a}.in_weight"] = torch.cat([state.pop(f"blocks.{i}.0.{k}_proj.weight") for k in "qkv"])
        ours[f"{a}.out.weight"] = state.pop(f"blocks.{i}.0.output_proj.weight")
        for mine, other in ((f"{a}.norm_features", "0.context_layer_norm"),
                            (f"{a}.norm_latents", "0.latents_layer_norm"), (f"{d}.norm", "1.ln")):
            for kind in ("weight", "bias"):
                ours[f"{mine}.{kind}"] = state.pop(f"blocks.{i}.{other}.{kind}")
        for mine, other in (("inner", "fc"), ("outer", "c_proj")):
            ours[f"{d}.{mine}.weight"] = state.pop(f"blocks.{i}.1.{other}.weight")
    assert not state
    resampler = filled(PerceiverResampler(replace(CONFIG, activation="relu")), ours)
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(resampler(x[:, None]), theirs(x), atol=1e-5, rtol=1e-5)


def test_attention_masks_and_gates_of_idefics():
    from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

    theirs = IdeficsGatedCrossAttentionLayer(idefics(), layer_idx=0)
    theirs.input_layernorm, theirs.post_attention_layernorm = nn.LayerNorm(16), nn.LayerNorm(16)
    theirs.mlp = nn.Sequential(nn.Linear(16, 64, bias=False), nn.ReLU(), nn.Linear(64, 16, bias=False))
    stirred(theirs)
    state = dict(theirs.state_dict())
    cross = "cross_attn."
    ours = {"gate_read": state.pop("alpha_cross_attn"), "gate_dense": state.pop("alpha_dense"),
            "attention.queries.weight": state.pop(f"{cross}q_proj.weight"),
            "attention.sources.weight": torch.cat([state.pop(f"{cross}{k}_proj.weight") for k in "kv"]),
            "attention.out.weight": state.pop(f"{cross}o_proj.weight"),
            "dense.inner.weight": state.pop("mlp.0.weight"), "dense.outer.weight": state.pop("mlp.2.weight")}
    for mine, other in (("attention", "input_layernorm"), ("dense", "post_attention_layernorm")):
        for kind in ("weight", "bias"):
            ours[f"{mine}.norm.{kind}"] = state.pop(f"{other}.{kind}")
    assert not state
    block = filled(GatedCrossAttention(replace(CONFIG, activation="relu", head=8)), ours)
    x, visual, at = case()
    phi = last_picture(at)
    seen = media_mask(phi, 2)
    mask = seen.repeat_interleave(3, -1)[:, None]
    hidden = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    want = theirs(x, image_hidden_states=visual.flatten(1, 2), image_attention_mask=hidden,
                  cross_attention_gate=(phi > 0).float())
    torch.testing.assert_close(block(x, visual, seen), want, atol=1e-5, rtol=1e-5)
