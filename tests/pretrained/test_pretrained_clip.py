"""Public weights of CLIP are not at hand; the libraries that publish them write stand-ins at random
weights."""

import json
import pickle

import pytest
import torch
from torch import nn

from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.pretrained import READERS, load
from mmlearn.pretrained.clip import OPENAI_NAMES, expected_shapes, fetch, recognises, renamed
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig

VIT = dict(image_size=32, layers=2, width=64, patch_size=8)
RESNET = dict(image_size=64, layers=[1, 1, 2, 1], width=8)
TEXT = dict(context_length=12, vocab_size=50, width=64, heads=1, layers=2)
SCALARS = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(12),
           "vocab_size": torch.tensor(50)}


def open_clip_model(vision=VIT, quick=True):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=TEXT, quick_gelu=quick)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point and name != "logit_scale":
                value.add_(0.1 * torch.rand_like(value))
    return model.eval()


def transformers_model(activation="quick_gelu", eos=49):
    from transformers import CLIPConfig as Config
    from transformers import CLIPModel

    torch.manual_seed(1)
    model = CLIPModel(Config(
        projection_dim=16,
        text_config=dict(vocab_size=50, hidden_size=32, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=12, eos_token_id=eos,
                         hidden_act=activation, layer_norm_eps=1e-3),
        vision_config=dict(image_size=32, patch_size=8, hidden_size=32, intermediate_size=128,
                           num_hidden_layers=2, num_attention_heads=2, hidden_act=activation),
    ))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    return model.eval()


def inputs(size=32):
    torch.manual_seed(2)
    tokens = torch.randint(1, 48, (3, 12))
    for row, end in enumerate((3, 7, 11)):
        tokens[row, end] = 49
        tokens[row, end + 1 :] = 0
    return torch.randn(3, 3, size, size), tokens


def gap(ours, theirs, size=32):
    """Largest difference of embeddings of both sides and of the scale."""
    images, tokens = inputs(size)
    with torch.no_grad():
        mine = ours(images, tokens)
        if hasattr(theirs, "get_logits"):
            other = theirs(images, tokens)
        else:
            out = theirs(input_ids=tokens, pixel_values=images)
            other = (out.image_embeds, out.text_embeds, theirs.logit_scale.exp())
    return max(float((a - b).abs().max()) for a, b in zip(mine, other))


def write_open_clip(folder, model, vision, quick, suffix, **fields):
    from safetensors.torch import save_file

    config = {"embed_dim": 16, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": TEXT, **fields}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    state = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    if suffix == "safetensors":
        save_file(state, folder / "open_clip_model.safetensors")
    else:
        torch.save(state, folder / "open_clip_pytorch_model.bin")


# ---------------------------------------------------------------------------------------------------- formats

@pytest.mark.parity
@pytest.mark.parametrize("vision, size", [(VIT, 32), (RESNET, 64)])
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_folder_of_openclip_gives_openclips_embeddings(tmp_path, vision, size, quick, suffix):
    model = open_clip_model(vision, quick)
    write_open_clip(tmp_path, model, vision, quick, suffix)
    ours = load(tmp_path)
    assert isinstance(ours, CLIP) and not ours.training
    assert ours.config.activation == ("quick_gelu" if quick else "gelu")
    assert gap(ours, model, size) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_of_transformers_gives_its_embeddings(tmp_path, activation, safe):
    model = transformers_model(activation)
    model.save_pretrained(tmp_path)
    if not safe:
        (tmp_path / "model.safetensors").unlink()
        # old files hold this buffer
        position_ids = {"text_model.embeddings.position_ids": torch.arange(12)[None]}
        torch.save({**model.state_dict(), **position_ids}, tmp_path / "pytorch_model.bin")
    ours = load(tmp_path)
    assert (
        ours.config.activation == activation
        and ours.config.text.eps == 1e-3
        and ours.config.image.eps == 1e-5
    )
    assert gap(ours, model) < 1e-5


@pytest.mark.parity
def test_the_wrong_end_of_text_id_of_old_configurations_is_read_as_transformers_does(tmp_path):
    model = transformers_model(eos=2)
    model.save_pretrained(tmp_path)
    ours = load(tmp_path)
    assert ours.config.eot == 49
    assert gap(ours, model) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("eos", [None, [49], 49])
def test_an_end_of_text_id_that_is_null_or_a_list_of_one_is_settled_at_loading(tmp_path, eos):
    model = transformers_model()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["eos_token_id"] = eos
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = load(tmp_path)
    assert ours.config.eot == 49 and gap(ours, model) < 1e-5
    config["text_config"]["eos_token_id"] = [49, 50]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"text_config: eos_token_id is \(49, 50\), expected a whole number"):
        load(tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("wrap", [
    lambda state: {"model": {f"module.{n}": v for n, v in state.items()}},
    lambda state: {**state, "epoch": 3},
    lambda state: {f"_orig_mod.module.{n}": v for n, v in state.items()} | {"n_averaged": torch.tensor(3)}])
def test_what_a_training_program_wraps_around_clip_is_taken_off(tmp_path, wrap):
    model = open_clip_model()
    torch.save(wrap(dict(model.state_dict())), tmp_path / "run.pth.tar")
    assert gap(load(tmp_path / "run.pth.tar", activation="quick_gelu"), model) < 1e-5


def test_an_unknown_prefix_is_named_with_what_would_fit(tmp_path):
    state = {f"student.{name}": value for name, value in open_clip_model().state_dict().items()}
    torch.save(state, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="begin with 'student.' would be those of CLIP; save these"):
        load(tmp_path / "run.pt")


@pytest.mark.parity
def test_an_unknown_prefix_beside_a_configuration_is_named_too(tmp_path):
    transformers_model().save_pretrained(tmp_path)
    state = {f"student.{name}": value for name, value in transformers_model().state_dict().items()}
    (tmp_path / "model.safetensors").unlink()
    torch.save({**state, "head.weight": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="the names that begin with 'student.' fit without it"):
        load(tmp_path)


def test_what_no_reader_knows_is_said_to_be_what_it_is(tmp_path):
    from mmlearn.checkpoints import save_model
    from mmlearn.nn.bert import BERT, BERTConfig
    with pytest.raises(ValueError, match="it has neither config.json nor open_clip_config.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="config.json says model_type 'llama'"):
        load(tmp_path)
    save_model(tmp_path / "own", BERT(BERTConfig.mini()), "bert", {})
    with pytest.raises(ValueError, match="a model trained with this package; open it with mmlearn"):
        load(tmp_path / "own")


@pytest.mark.parity
def test_openais_own_state_dict_says_quick_gelu_by_the_buffers_it_holds(tmp_path):
    model = open_clip_model()
    torch.save({**model.state_dict(), **SCALARS}, tmp_path / "ViT.pt")
    ours = load(tmp_path / "ViT.pt")
    assert ours.config.activation == "quick_gelu" and gap(ours, model) < 1e-5


@pytest.mark.parity
def test_half_precision_becomes_float32(tmp_path):
    model = open_clip_model()
    torch.save({**model.half().state_dict(), **SCALARS}, tmp_path / "half.pt")
    ours = load(tmp_path / "half.pt")
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in ours.parameters())
    assert gap(ours, model.float()) < 1e-5


@pytest.mark.parity
def test_a_training_checkpoint_is_opened_and_must_be_told_its_activation(tmp_path):
    model = open_clip_model(quick=False)
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state}, tmp_path / "epoch_3.pt")
    with pytest.raises(ValueError, match="does not say which activation.*activation='gelu' for OpenCLIP's"):
        load(tmp_path / "epoch_3.pt")
    assert gap(load(tmp_path / "epoch_3.pt", activation="gelu"), model) < 1e-5
    assert gap(load(tmp_path / "epoch_3.pt", activation="quick_gelu"), model) > 1e-4


class Archived(nn.Module):
    """Tensors under OpenAI's names, to be put into a TorchScript archive."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            module = self
            *path, leaf = name.split(".")
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            module.register_buffer(leaf, value)

    def forward(self, x):
        return x


@pytest.mark.parity
def test_a_torchscript_archive_is_read_only_if_its_code_may_run(tmp_path):
    model = open_clip_model()
    path = tmp_path / "ViT-tiny.pt"
    torch.jit.trace(Archived({**model.state_dict(), **SCALARS}), torch.zeros(1)).save(str(path))
    with pytest.raises(ValueError, match="TorchScript archive.*it holds code.*trust=True"):
        load(path)
    ours = load(path, trust=True)
    assert ours.config.activation == "quick_gelu" and gap(ours, model) < 1e-5


@pytest.mark.parity
def test_a_model_with_siglips_bias_keeps_it(tmp_path):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(16, VIT, TEXT, quick_gelu=True, init_logit_bias=-7.5).eval()
    write_open_clip(tmp_path, model, VIT, True, "safetensors", init_logit_bias=-10)
    assert float(load(tmp_path).logit_bias.detach()) == -7.5


# --------------------------------------------------------------------------------------------------- refusals

def save_changed(tmp_path, change):
    state = dict(open_clip_model().state_dict()) | SCALARS
    change(state)
    torch.save(state, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


def rename(state):
    state["visual.ln_before.weight"] = state.pop("visual.ln_pre.weight")


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("ln_final.bias"), r"missing: ln_final\.bias; load"),
    (lambda s: s.update({"visual.extra": torch.zeros(2)}), r"not expected: visual\.extra; load"),
    (rename, r"missing: visual\.ln_pre\.weight; not expected: visual\.ln_before\.weight"),
    (lambda s: s.update({"ln_final.bias": torch.zeros(7)}),
     r"of another shape: ln_final\.bias is \(7,\), expected \(64,\)"),
    (lambda s: s.pop("positional_embedding"), "has no positional_embedding"),
])
def test_a_missing_renamed_extra_or_misshapen_tensor_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load(save_changed(tmp_path, change))


def test_another_activation_or_another_head_is_refused(tmp_path):
    model = transformers_model()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["hidden_act"] = config["vision_config"]["hidden_act"] = "gelu_new"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="activation is 'gelu_new'; use one of quick_gelu, gelu"):
        load(tmp_path)
    config["text_config"]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="activations gelu and gelu_new; CLIP has the same in both"):
        load(tmp_path)


@pytest.mark.parametrize("place, fields, message", [
    ("vision_cfg", {"timm_model_name": "vit_tiny"}, "vision_cfg sets timm_model_name"),
    ("embed", {}, "open_clip_config.json has no embed_dim"),
    ("text_cfg", {"no_causal_mask": True}, "text_cfg sets no_causal_mask"),
    ("text_cfg", {"pool_type": "last"}, "reads a caption at 'last'"),
])
def test_a_configuration_of_another_model_is_refused(tmp_path, place, fields, message):
    changed = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT}
    if place == "embed":
        del changed["embed_dim"]
    else:
        changed[place] = {**changed[place], **fields}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": changed}))
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_folder_without_weights_and_broken_files_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(FileNotFoundError, match="none of model.safetensors, pytorch_model.bin"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        load(tmp_path)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code of the file ran')",))

    for name, write in (("a.pt", lambda path: torch.save({"x": Trap()}, path)),
                        ("b.bin", lambda path: path.write_bytes(pickle.dumps(Trap())))):
        write(tmp_path / name)
        assert not recognises(tmp_path / name)


def test_other_files_and_folders_are_not_taken_for_clip(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert not recognises(tmp_path / "other.pt") and not recognises(tmp_path)
    with pytest.raises(ValueError, match="none of the checkpoints that can be read"):
        load(tmp_path / "other.pt")


# ---------------------------------------------------------------------------------------------------- the hub

@pytest.mark.parity
def test_a_name_of_the_hub_is_fetched_configuration_first_and_safetensors_before_pickles(
    tmp_path, monkeypatch
):
    import huggingface_hub

    model = transformers_model()
    model.save_pretrained(tmp_path)
    asked = []

    def snapshot(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    name = "openai/clip-vit-base-patch32"
    assert gap(load(name), model) < 1e-5
    assert asked == [(name, ["config.json", "*open_clip_config.json"]), (name, ["model.safetensors"])]
    (tmp_path / "model.safetensors").rename(tmp_path / "elsewhere")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert gap(load(name), model) < 1e-5
    assert asked[-1] == (name, ["pytorch_model.bin"])


def test_without_a_network_one_sentence_says_what_to_do(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(name, allow_patterns):
        raise LocalEntryNotFoundError("a page of advice")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(FileNotFoundError, match="openai/clip-vit-large-patch14 could not be fetched.*load it "
                                                "by its path"):
        fetch("openai/clip-vit-large-patch14")
    with pytest.raises(FileNotFoundError, match="openai/clip-vit-huge is neither a file or folder nor one "
                                                "of .*near ones: openai/clip-vit-") as error:
        load("openai/clip-vit-huge")
    assert "bert" not in str(error.value)


def test_the_four_vision_transformers_and_five_resnets_of_the_paper_have_public_names():
    names = [name for name, module in READERS.items() if module == "clip"]
    assert len([name for name in names if name.startswith("openai/")]) == 4
    assert len([name for name in names if name.startswith("timm/resnet")]) == 5


# ------------------------------------------------------------------------------------------------------ names

def test_our_names_become_openais():
    for ours, theirs in (("image.stem.2.0.weight", "visual.conv3.weight"),
                         ("image.stem.0.1.bias", "visual.bn1.bias"),
                         ("image.stages.3.1.third.1.running_var", "visual.layer4.1.bn3.running_var"),
                         ("image.stages.0.0.shortcut.0.weight", "visual.layer1.0.downsample.0.weight"),
                         ("text.layers.11.feed_forward.outer.bias",
                          "transformer.resblocks.11.mlp.c_proj.bias"),
                          ("image.layers.10.attention_norm.weight",
                           "visual.transformer.resblocks.10.ln_1.weight"),
                         ("text.words.weight", "token_embedding.weight"), ("logit_scale", "logit_scale")):
        assert renamed(ours, OPENAI_NAMES) == theirs


@pytest.mark.parity
@pytest.mark.parametrize("name, theirs", [("rn50", "RN50"), ("vit_b32", "ViT-B-32")])
def test_at_paper_size_names_and_shapes_are_those_of_openclip(name, theirs):
    import open_clip

    with torch.device("meta"):
        model = CLIP(getattr(CLIPConfig, name)())
        config = open_clip.get_model_config(f"{theirs}-quickgelu")
        peer = open_clip.CLIP(**config)
    want = {key: tuple(value.shape) for key, value in peer.state_dict().items()
            if "num_batches_tracked" not in key}
    assert expected_shapes(model, "openai") == want


def test_a_resnets_convolutions_stay_channels_last(tmp_path):
    torch.save({**open_clip_model(RESNET).state_dict(), **SCALARS}, tmp_path / "rn.pt")
    ours = load(tmp_path / "rn.pt")
    assert isinstance(ours.config.image, ResNetConfig)
    assert ours.image.stages[0][0].second[0].weight.is_contiguous(memory_format=torch.channels_last)
