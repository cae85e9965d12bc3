"""The public weights of ALIGN load into our module: names, shapes, numbers, and refusals."""

import json

import pytest
import torch
from networks import count
from safetensors.torch import load_file, save_file

import mmlearn.pretrained
from mmlearn.nn.efficientnet import EfficientNetConfig
from mmlearn.pretrained import align as reader
from mmlearn.text_for_vision.align import ALIGN, ALIGNConfig, align_loss

TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "vocab_size": 99, "max_position_embeddings": 32}
VISION = {"image_size": 64, "width_coefficient": 1.0, "depth_coefficient": 1.5, "depth_divisor": 8,
          "in_channels": [32, 16, 24], "out_channels": [16, 24, 32], "kernel_sizes": [3, 3, 5],
          "strides": [1, 2, 2], "num_block_repeats": [1, 2, 1], "expand_ratios": [1, 6, 6], "hidden_dim": 64,
          "squeeze_expansion_ratio": 0.25}


def reference(**vision):
    """transformers' ALIGN with weights that keep a signal: its own initialisation lets the image fade to
    nothing."""
    import transformers
    torch.manual_seed(0)
    config = transformers.AlignConfig(text_config=TEXT, vision_config={**VISION, **vision}, projection_dim=32)
    model = transformers.AlignModel(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.2)
    with torch.no_grad():
        model.temperature.fill_(0.3)
    return model.eval()


def inputs(size=64):
    torch.manual_seed(1)
    tokens = torch.randint(5, 99, (3, 9))
    tokens[1, 6:] = 0
    return torch.randn(3, 3, size, size), tokens, (tokens != 0).long()


@pytest.mark.parity
@pytest.mark.parametrize("size, padding", [(64, []), (50, []), (50, [1, 3])],
                         ids=["even", "odd", "symmetric"])
def test_a_saved_reference_model_gives_the_same_embeddings_and_logits(tmp_path, size, padding):
    theirs = reference(depthwise_padding=padding)
    theirs.save_pretrained(tmp_path)
    ours = mmlearn.pretrained.load(tmp_path)
    images, tokens, mask = inputs(size)
    with torch.no_grad():
        want = theirs(input_ids=tokens, pixel_values=images, attention_mask=mask, return_loss=True)
        u, v, scale = ours(images, tokens)
    assert torch.isfinite(want.loss) and want.logits_per_image.std() > 0.01
    torch.testing.assert_close(u, want.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(v, want.text_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scale * u @ v.T, want.logits_per_image, atol=1e-5, rtol=1e-5)
    # the paper adds the two directions, the reference averages them
    torch.testing.assert_close(align_loss(u, v, scale), 2 * want.loss, atol=1e-5, rtol=1e-5)


@pytest.fixture
def folder(tmp_path):
    reference().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parity
def test_names_that_differ_are_refused_by_name(folder):
    state = load_file(folder / "model.safetensors")
    state["text_projection.gain"] = state.pop("text_projection.bias").clone()
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing: text_projection\.bias.*not expected: "
                                         r"text_projection\.gain"):
        mmlearn.pretrained.load(folder)


@pytest.mark.parity
def test_a_configuration_that_computes_something_else_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_act"] = "relu"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="hidden_act = 'relu'"):
        mmlearn.pretrained.load(folder)


@pytest.mark.parity
def test_missing_weights_and_broken_files_are_said_in_a_sentence(folder):
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        mmlearn.pretrained.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="has a configuration but none of model.safetensors"):
        mmlearn.pretrained.load(folder)


def test_the_default_configuration_of_the_reference_is_the_public_one():
    config = reader.config_of({"vision_config": {}, "text_config": {}, "projection_dim": 640}, "config.json")
    with torch.device("meta"):
        model = ALIGN(config)
    assert count(model) == 172_117_841
    assert config.image.stages == EfficientNetConfig.b7().stages and config.text == ALIGNConfig.base().text


def test_the_hub_is_asked_by_name_and_its_failure_said(monkeypatch):
    def offline(name, allow_patterns):
        raise OSError("no network")
    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match="kakaobrain/align-base could not be fetched"):
        mmlearn.pretrained.load("kakaobrain/align-base")


@pytest.mark.parity
def test_a_public_name_loads_what_the_hub_holds(monkeypatch, folder):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: str(folder))
    assert isinstance(mmlearn.pretrained.load("kakaobrain/align-base"), ALIGN)
