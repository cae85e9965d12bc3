"""Ours against OpenCLIP and transformers: the same random weights, tiny sizes, the same embeddings, logits
and gradients."""

import json

import pytest
import torch

from mmlearn.catalog import count_parameters, published
from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.nn.vit import ViTConfig
from mmlearn.pretrained.clip import fill
from mmlearn.text_for_vision.clip import CLIPConfig, TextConfig

pytestmark = pytest.mark.parity
TEXT = dict(context_length=16, vocab_size=100, width=64, heads=1, layers=2)
OURS = TextConfig(vocab=100, context=16, width=64, layers=2, heads=1, eot=99)
VIT = dict(image_size=32, layers=2, width=128, patch_size=8)
RESNET = dict(image_size=64, layers=[1, 2, 1, 1], width=16)


def shaken(model):
    """Random biases, gains, batch statistics: nothing stays at 0 or 1, where a mistake would not show."""
    torch.manual_seed(3)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.dtype.is_floating_point and value.ndim == 1:
                value.add_(0.2 * torch.rand_like(value))
    return model


def inputs(size):
    images = torch.randn(3, 3, size, size)
    tokens = torch.randint(1, 98, (3, 16))
    for row, end in enumerate((4, 9, 15)):
        tokens[row, end] = 99
        tokens[row, end + 1 :] = 0
    return images, tokens


@pytest.fixture(params=["vit, quick_gelu", "vit, gelu", "resnet, quick_gelu"])
def pair(request):
    """OpenCLIP's model and ours with its weights."""
    import open_clip

    family, activation = request.param.split(", ")
    torch.manual_seed(0)
    theirs = shaken(open_clip.CLIP(embed_dim=32, vision_cfg=VIT if family == "vit" else RESNET, text_cfg=TEXT,
                                   quick_gelu=activation == "quick_gelu"))
    image = ViTConfig(32, 8, 128, 2, 2) if family == "vit" else ResNetConfig(64, (1, 2, 1, 1), 16, 8)
    ours = fill(CLIPConfig(32, image, OURS, activation), theirs.state_dict(), "openai", "OpenCLIP's model")
    return theirs.eval(), ours


def test_both_towers_give_openclips_embeddings(pair):
    theirs, ours = pair
    images, tokens = inputs(ours.config.size)
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), atol=1e-5,
                                   rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-5, rtol=1e-5)


def test_vectors_scale_and_logits_are_openclips(pair):
    theirs, ours = pair
    images, tokens = inputs(ours.config.size)
    with torch.no_grad():
        u, v, scale = ours(images, tokens)
        for mine, other in zip((u, v, scale), theirs(images, tokens)):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scale * u @ v.T, theirs.get_logits(images, tokens)[0], atol=1e-5,
                                   rtol=1e-5)


def test_gradients_of_a_training_step_are_openclips(pair):
    theirs, ours = pair
    theirs.double().train(), ours.double().train()
    images, tokens = inputs(ours.config.size)
    images = images.double()
    labels = torch.arange(3)
    for model in (theirs, ours):
        u, v, scale = model(images, tokens)
        torch.nn.functional.cross_entropy(scale * u @ v.T, labels).backward()
    for mine, other in ((ours.logit_scale, theirs.logit_scale),
                        (ours.text.words.weight, theirs.token_embedding.weight),
                        (ours.text.layers[0].attention.in_weight,
                         theirs.transformer.resblocks[0].attn.in_proj_weight)):
        torch.testing.assert_close(mine.grad, other.grad)
    first = (
        ours.image.stem[0][0] if isinstance(ours.config.image, ResNetConfig) else ours.image.patches.project
    )
    torch.testing.assert_close(first.weight.grad, theirs.visual.conv1.weight.grad)


def transformers_model(activation="quick_gelu", eos=99):
    from transformers import CLIPConfig as Config
    from transformers import CLIPModel

    torch.manual_seed(1)
    return shaken(CLIPModel(Config(
        projection_dim=32,
        text_config=dict(vocab_size=100, hidden_size=64, intermediate_size=256, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=16, eos_token_id=eos,
                         hidden_act=activation, projection_dim=32),
        vision_config=dict(image_size=32, patch_size=8, hidden_size=64, intermediate_size=256,
                           num_hidden_layers=3, num_attention_heads=4, hidden_act=activation,
                           projection_dim=32),
    ))).eval()


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_towers_and_logits_are_those_of_transformers(activation):
    theirs = transformers_model(activation)
    config = CLIPConfig(32, ViTConfig(32, 8, 64, 3, 4), TextConfig(100, 16, 64, 2, 2, 99), activation)
    ours = fill(config, theirs.state_dict(), "hugging-face", "transformers' model")
    images, tokens = inputs(32)
    with torch.no_grad():
        out = theirs(input_ids=tokens, pixel_values=images)
        u, v, scale = ours(images, tokens)
    torch.testing.assert_close(u, out.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(v, out.text_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scale * u @ v.T, out.logits_per_image, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name, ours", [
    ("RN50", "rn50"), ("RN101", "rn101"), ("RN50x4", "rn50x4"), ("RN50x16", "rn50x16"),
    ("RN50x64", "rn50x64"), ("ViT-B-32", "vit_b32"), ("ViT-B-16", "vit_b16"), ("ViT-L-14", "vit_l14"),
    ("ViT-L-14-336", "vit_l14_336"),
])
def test_openclips_nine_configurations_are_ours(name, ours):
    import open_clip

    from mmlearn.pretrained.clip import config_of_open_clip

    found = open_clip.get_model_config(f"{name}-quickgelu")
    assert config_of_open_clip(json.loads(json.dumps(found)), name) == getattr(CLIPConfig, ours)()


@pytest.mark.slow
@pytest.mark.parametrize("name, ours", [("ViT-B-32", "vit_b32"), ("RN50", "rn50")])
def test_a_model_of_full_size_is_openclips_to_the_last_parameter(name, ours):
    import open_clip

    torch.manual_seed(0)
    theirs = shaken(open_clip.create_model(f"{name}-quickgelu", pretrained=None)).eval()
    config = getattr(CLIPConfig, ours)()
    mine = fill(config, theirs.state_dict(), "openai", "OpenCLIP's model").eval()
    assert count_parameters(mine) == sum(p.numel() for p in theirs.parameters())
    assert count_parameters(mine) == published("CLIP")[ours]
    images = torch.randn(2, 3, config.size, config.size)
    tokens = torch.zeros(2, config.context, dtype=torch.long)
    tokens[:, 0] = config.vocab - 2                             # start of text
    tokens[0, 1:6], tokens[0, 6] = torch.randint(1, 49_000, (5,)), config.eot
    tokens[1, 1:-1], tokens[1, -1] = torch.randint(1, 49_000, (config.context - 2,)), config.eot
    with torch.no_grad():
        for mine_, theirs_ in zip(mine(images, tokens), theirs(images, tokens)):
            torch.testing.assert_close(mine_, theirs_, atol=1e-5, rtol=1e-5)
