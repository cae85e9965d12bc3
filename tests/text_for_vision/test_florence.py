from dataclasses import replace

import pytest
import torch

from mmlearn.catalog import count_parameters
from mmlearn.nn.swin import SwinConfig
from mmlearn.pretrained import load
from mmlearn.pretrained.unicl import public_name
from mmlearn.text_for_vision.clip import TextConfig
from mmlearn.text_for_vision.florence import Florence, FlorenceConfig
from mmlearn.text_for_vision.unicl import unicl_loss

TINY = FlorenceConfig(24, SwinConfig(56, 16, (2, 2), (2, 4), 7), TextConfig(50, 10, 64, 2, 1, 49, 1e-12))


def mini(**changes):
    torch.manual_seed(0)
    return Florence(replace(FlorenceConfig.mini(vocab=20, context=10), **changes))


def pairs(b=4):
    torch.manual_seed(1)
    tokens = torch.randint(4, 20, (b, 10))
    tokens[:, 6] = 3
    return torch.randn(b, 3, 64, 64), tokens


def test_the_reconstruction_has_the_published_size_to_half_a_percent():
    with torch.device("meta"):
        model = Florence(FlorenceConfig.paper())
        u, v, scale = model(torch.empty(2, 3, 224, 224), torch.empty(2, 76, dtype=torch.long))
    assert count_parameters(model) == 889_089_073
    assert abs(count_parameters(model) / 893e6 - 1) < 0.005
    assert abs(count_parameters(model.image) / 637e6 - 1) < 0.001
    assert abs(count_parameters(model.text) / 256e6 - 1) < 0.03
    assert u.shape == v.shape == (2, 1024) and scale.shape == ()


@pytest.mark.parametrize(
    "name, image, total",
    [("unicl_swin_t", 27_519_354, 91_340_667), ("unicl_swin_b", 86_743_224, 150_695_609)],
)
def test_unicls_sizes(name, image, total):
    """Swin without its classifier, the text tower of CLIP ViT-B/32 with its projection, one matrix, one
    scale."""
    with torch.device("meta"):
        model = Florence(getattr(FlorenceConfig, name)())
    channels = model.config.image.channels
    assert count_parameters(model.image) == image
    assert count_parameters(model) == image + 63_428_096 + channels * 512 + 1 == total


def test_it_is_a_dual_encoder_whose_rows_do_not_mix():
    model, (images, tokens) = mini().eval(), pairs()
    with torch.no_grad():
        u, v, scale = model(images, tokens)
        torch.testing.assert_close(u.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(v.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(model.encode_image(images[2:3], True)[0], u[2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.encode_text(tokens[1:2], True)[0], v[1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.encode_image(images), model.image(images) @ model.projection)
    assert float(scale.log()) == pytest.approx(1.0)                     # kappa starts at e
    assert (model.config.size, model.config.context, model.config.vocab, model.config.eot) == (64, 10, 20, 3)


def test_it_takes_images_of_another_size():
    assert mini().eval().encode_image(torch.randn(1, 3, 96, 80)).shape == (1, 64)


def test_gradients_of_the_unified_loss_reach_every_parameter():
    model, (images, tokens) = mini(), pairs()
    u, v, scale = model(images, tokens)
    unicl_loss(u, v, scale, torch.tensor([0, 1, 0, 2])).backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert unused == []


def test_a_handful_of_pairs_is_learnt_by_heart():
    model, (images, tokens) = mini().train(), pairs(6)
    keys = torch.arange(6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first = None
    for _ in range(30):
        loss = unicl_loss(*model(images, tokens), keys)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


# --------------------------------------------------------------------------------------------- public weights

def published(model):
    """The state dict of a model under UniCL's names, with the constants that its file has besides."""
    state = {public_name(name): value for name, value in model.state_dict().items()}
    state["image_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    state["image_encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(
        49, 49, dtype=torch.long
    )
    return state


def test_names_are_those_of_the_published_code():
    model = Florence(TINY)
    names = {public_name(name) for name in model.state_dict()}
    assert len(names) == len(model.state_dict())
    assert {"image_projection", "text_projection", "logit_scale", "image_encoder.patch_embed.proj.weight",
            "image_encoder.norm.bias", "image_encoder.patch_embed.norm.weight",
            "image_encoder.layers.0.downsample.reduction.weight",
            "image_encoder.layers.0.downsample.norm.bias", "image_encoder.layers.1.blocks.0.attn.qkv.bias",
            "image_encoder.layers.1.blocks.1.attn.relative_position_bias_table",
            "image_encoder.layers.0.blocks.0.mlp.fc2.weight", "image_encoder.layers.0.blocks.0.norm2.weight",
            "text_encoder.token_embedding.weight", "text_encoder.positional_embedding",
            "text_encoder.resblocks.1.attn.in_proj_weight", "text_encoder.resblocks.0.attn.out_proj.bias",
            "text_encoder.resblocks.0.mlp.c_fc.weight", "text_encoder.resblocks.0.ln_2.bias",
            "text_encoder.ln_final.weight"} <= names


@pytest.mark.parametrize("old, wrapped", [(False, False), (True, True)])
def test_a_checkpoint_of_either_age_is_recognised_and_gives_the_same_embeddings(tmp_path, old, wrapped):
    torch.manual_seed(0)
    model = Florence(TINY).eval()
    state = published(model)
    if old:
        state = {name.replace("image_encoder.", "visual.").replace("text_encoder.", "text.").replace(
            "image_projection", "vision_projection"): value for name, value in state.items()}
    path = tmp_path / "unicl.pth"
    torch.save({"model": state} if wrapped else state, path)
    loaded = load(path)
    assert isinstance(loaded, Florence) and loaded.config.text == TINY.text
    images, tokens = torch.randn(2, 3, 56, 56), torch.randint(1, 49, (2, 10))
    tokens[:, 5] = 49
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_image(images), model.encode_image(images))
        torch.testing.assert_close(loaded.encode_text(tokens), model.encode_text(tokens))


def test_other_files_are_refused_with_a_reason(tmp_path):
    state = published(Florence(TINY))
    del state["text_encoder.ln_final.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="missing: text_encoder.ln_final.bias"):
        load(tmp_path / "cut.pth")
    with pytest.raises(FileNotFoundError, match="releases of"):
        load("microsoft/UniCL")


@pytest.mark.parity
def test_windows_and_text_are_those_of_independent_implementations_put_together():
    """Swin of timm, CLIP's text tower of OpenCLIP, two matrices: the model of the public code, built from
    other parts."""
    import open_clip
    from timm.models.swin_transformer import SwinTransformer
    from torch import nn

    torch.manual_seed(0)
    swin = SwinTransformer(img_size=56, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=7,
                           num_classes=0).eval()
    clip = open_clip.CLIP(embed_dim=24, vision_cfg=dict(image_size=32, layers=1, width=64, patch_size=16),
                          text_cfg=dict(context_length=10, vocab_size=50, width=64, heads=1, layers=2),
                          quick_gelu=True).eval()
    for module in clip.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-12
    projection = torch.randn(32, 24)
    state = {"image_projection": projection, "text_projection": clip.text_projection.detach(),
             "logit_scale": torch.tensor(1.0)}
    for name, value in swin.state_dict().items():
        if name.startswith("layers.1.downsample"):  # timm counts a merging to the stage after it
            name = name.replace("layers.1", "layers.0")
        state[f"image_encoder.{name}"] = value
    for name, value in clip.state_dict().items():
        if name.startswith(("token_embedding", "positional_embedding", "ln_final")):
            state[f"text_encoder.{name}"] = value
        elif name.startswith("transformer.resblocks"):
            state[f"text_encoder.{name.removeprefix('transformer.')}"] = value
    from mmlearn.pretrained.unicl import CONSTANTS, config_of
    state = {name: value for name, value in state.items() if not CONSTANTS.fullmatch(name)}
    ours = Florence(config_of(state, "put together")).eval()
    ours.load_state_dict({name: state[public_name(name)] for name in ours.state_dict()})
    assert set(state) == {public_name(name) for name in ours.state_dict()}
    images, tokens = torch.randn(2, 3, 56, 56), torch.randint(1, 49, (2, 10))
    tokens[:, 7] = 49
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(images), swin(images) @ projection, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), clip.encode_text(tokens), atol=1e-5, rtol=1e-5)
