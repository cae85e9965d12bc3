"""The Vision Transformer: its published sizes, its parts, and the same numbers as elsewhere."""

import re

import pytest
import torch
import torch.nn.functional as F
from networks import count_blank, numbers, stirred

from mmlearn.both_modalities.vit import ViT, ViTClassifierConfig
from mmlearn.nn.vit import resize_positions

TINY = ViTClassifierConfig(size=16, patch=4, width=12, layers=2, heads=2)


def model_of(classes=0):
    torch.manual_seed(0)
    return stirred(ViT(TINY, classes).double(), 0, 0.3).eval()


@pytest.mark.parametrize("name, size", [("base_16", 85_798_656), ("large_16", 303_301_632)])
def test_the_published_sizes_are_ours(name, size):
    assert count_blank(ViT, getattr(ViTClassifierConfig, name)()) == size


def test_with_a_head_of_a_thousand_classes_the_base_size_is_the_known_one():
    assert count_blank(ViT, ViTClassifierConfig.base_16(), 1000) == 86_567_656
    assert round(count_blank(ViT, ViTClassifierConfig.huge_14()) / 1e6) in (631, 632)


def test_a_patch_is_cut_flattened_by_channel_row_and_column_and_projected():
    model, images = model_of(), numbers(2, 3, 16, 16)
    rows = F.unfold(images, 4, stride=4).mT
    project = model.patches.project
    want = rows @ project.weight.reshape(12, -1).T + project.bias + model.positions[1:]
    torch.testing.assert_close(model.embed(images)[:, 1:], want)
    torch.testing.assert_close(model.embed(images)[:, 0], (model.cls + model.positions[0]).expand(2, -1))


def test_without_positions_patches_are_a_bag():
    model, images = model_of(), numbers(1, 3, 16, 16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    cut = images.unflatten(2, (4, 4)).unflatten(4, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    mixed = cut[:, order].unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
    assert not torch.allclose(model(mixed), model(images), atol=1e-3)
    with torch.no_grad():
        model.positions[1:] = 0
    torch.testing.assert_close(model(mixed), model(images))
    torch.testing.assert_close(model.tokens(mixed)[:, 1:], model.tokens(images)[:, 1:][:, order])


def test_logits_start_at_zero_do_not_depend_on_the_batch_and_reach_every_parameter():
    assert (ViT(TINY, 5)(numbers(2, 3, 16, 16).float()) == 0).all()
    model, images = model_of(5), numbers(3, 3, 16, 16)
    got = model(images)
    assert got.shape == (3, 5)
    torch.testing.assert_close(model(images[1:2]), got[1:2])
    torch.testing.assert_close(model.train()(images), got)              # nothing is random in training
    got.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with pytest.raises(ValueError, match="crop them to squares"):
        model(numbers(1, 3, 16, 12))


@pytest.mark.parity
def test_states_are_those_of_transformers_where_the_epsilon_is_the_same():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
                       image_size=16, patch_size=4, layer_norm_eps=1e-6)
    assert ViTConfig().layer_norm_eps == 1e-12                          # the default is not the paper's
    theirs = stirred(ViTModel(config, add_pooling_layer=False), 1, 0.3).double().eval()
    state, ours = theirs.state_dict(), model_of()
    names = {"cls": "embeddings.cls_token", "positions": "embeddings.position_embeddings",
             "patches.project": "embeddings.patch_embeddings.projection", "norm_after": "layernorm"}
    parts = {"attention.out": "attention.o_proj", "attention_norm": "layernorm_before",
             "feed_forward_norm": "layernorm_after", "feed_forward.inner": "mlp.fc1",
             "feed_forward.outer": "mlp.fc2"}
    used, mapped = set(), {}
    for name, value in ours.state_dict().items():
        if third := re.fullmatch(r"(layers\.\d+\.attention\.)in_(weight|bias)", name):
            theirs_of = [f"{third[1]}{letter}_proj.{third[2]}" for letter in "qkv"]
        else:
            other = name
            for mine, their in (parts if name.startswith("layers.") else names).items():
                other = re.sub(rf"(^|\.){re.escape(mine)}(?=\.|$)", rf"\g<1>{their}", other)
            theirs_of = [other]
        used |= {*theirs_of}
        mapped[name] = torch.cat([state[one] for one in theirs_of]).reshape(value.shape)
    assert used == state.keys()
    ours.load_state_dict(mapped)
    images = numbers(2, 3, 16, 16)
    with torch.no_grad():
        want = theirs(images).last_hidden_state
        torch.testing.assert_close(ours.tokens(images), want, atol=1e-9, rtol=1e-9)


@pytest.mark.parity
def test_positions_of_another_size_are_those_of_timm():
    from timm.layers.pos_embed import resample_abs_pos_embed

    model = model_of()
    want = resample_abs_pos_embed(model.positions.float()[None], new_size=(6, 6))[0]
    torch.testing.assert_close(resize_positions(model.positions.float(), 6), want)
    images = numbers(1, 3, 24, 24)
    assert model.tokens(images).shape == (1, 37, 12)
    patches = model.patches(images)
    torch.testing.assert_close(model.embed(images)[:, 1:].float(), (patches + want[1:].double()).float())
