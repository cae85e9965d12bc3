"""The public files of Vokenization are not at hand; stand-ins with the released names are.

They are written by plain modules of torch, transformers and torchvision with the attribute names of the
released code, not from our own mapping.
"""

import json

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import stirred
from torch import nn

from mmlearn.images_for_language.token_image_matching import TokenImageMatcher
from mmlearn.images_for_language.voken_lm import VokenLM
from mmlearn.pretrained import READERS, load
from mmlearn.pretrained.vokenization import knows, recognises

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32, "max_position_embeddings": 12}


class Head(nn.Module):
    """The released head of vokens."""

    def __init__(self, width, vokens):
        super().__init__()
        self.dense, self.layer_norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.decoder = nn.Linear(width, vokens)

    def forward(self, x):
        return self.decoder(self.layer_norm(F.gelu(self.dense(x))))


class FrozenNorm(nn.Module):
    """Batch normalisation whose four tensors are buffers, as the released CNN has it."""

    def __init__(self, norm):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def freeze(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenNorm(child))
        else:
            freeze(child)


class Words(nn.Module):
    def __init__(self, dim):
        from transformers import BertConfig, BertModel
        super().__init__()
        self.backbone = BertModel(BertConfig(**SIZES))
        self.mlp = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, dim))

    def forward(self, ids, mask):
        states = self.backbone(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        x = self.mlp(torch.cat([states[-2], states[-1]], -1))
        return x / x.norm(2, dim=-1, keepdim=True)


class Pictures(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.backbone = torchvision.models.resnet18()
        self.backbone.fc = nn.Identity()
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        freeze(self.backbone)
        self.mlp = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, dim))

    def forward(self, images):
        x = self.mlp(self.backbone(images))
        return x / x.norm(2, dim=-1, keepdim=True)


class Joint(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.lang_model, self.visn_model = Words(dim), Pictures(dim)


def tokens():
    ids = torch.randint(1, 40, (3, 8), generator=torch.Generator().manual_seed(0))
    ids[2, 5:] = 0
    return ids


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A folder of a language model, and the modules that wrote it."""
    from transformers import BertConfig, BertForMaskedLM
    torch.manual_seed(0)
    model = stirred(BertForMaskedLM(BertConfig(**SIZES)), seed=None).eval()
    model.visual_cls_head = stirred(Head(16, 9), seed=None)
    folder = tmp_path_factory.mktemp("vlm")
    (folder / "config.json").write_text(json.dumps({
        **SIZES, "architectures": ["CoLwithBert"], "model_type": "bert", "hidden_act": "gelu",
        "voken_size": 9, "voken_dim": None, "do_voken_cls": True, "pad_token_id": 0, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12}))
    state = {**model.state_dict(), "bert.embeddings.position_ids": torch.arange(12)[None],
             "bert.pooler.dense.weight": torch.randn(16, 16), "bert.pooler.dense.bias": torch.randn(16)}
    torch.save(state, folder / "pytorch_model.bin")
    return folder, model


@pytest.mark.parity
@pytest.mark.slow
def test_a_language_model_tells_the_words_and_vokens_that_it_told(language_model, capsys):
    folder, theirs = language_model
    ours = load(folder)
    assert isinstance(ours, VokenLM) and ours.config.vokens == 9 and not ours.training
    assert "left out pooler.dense.bias" in capsys.readouterr().err
    ids = tokens()
    real = ids != 0
    with torch.no_grad():
        want = theirs(input_ids=ids, attention_mask=real.long(), output_hidden_states=True)
        scores = theirs.visual_cls_head(want.hidden_states[-1])
        states = ours(ids)
        torch.testing.assert_close(ours.words(states)[real], want.logits[real], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.vokens(states)[real], scores[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_a_language_model_with_other_names_or_copies_that_differ_is_refused(language_model, tmp_path):
    folder, theirs = language_model
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    state = dict(torch.load(folder / "pytorch_model.bin"))
    file = tmp_path / "pytorch_model.bin"
    head = "visual_cls_head"
    for more, said in (({f"{head}.dense.bias": None}, f"missing: {head}.dense.bias"),
                       ({"visual_reg_head.dense.bias": torch.zeros(16)},
                        "not expected: visual_reg_head.dense.bias"),
                       ({f"{head}.decoder.bias": torch.zeros(8)}, rf"{head}.decoder.bias is \(8,\),"),
                       ({"cls.predictions.decoder.weight": torch.zeros(40, 16)},
                        "cls.predictions.decoder.weight differs from embeddings.word_embeddings.weight")):
        torch.save({name: value for name, value in {**state, **more}.items() if value is not None}, file)
        with pytest.raises(ValueError, match=said):
            load(tmp_path)


@pytest.fixture(scope="module")
def matcher(tmp_path_factory):
    """A file of a matcher, and the modules that wrote it."""
    torch.manual_seed(0)
    model = stirred(Joint(), seed=None, scale=0.05).eval()
    file = tmp_path_factory.mktemp("matcher") / "BEST.pth"
    positions = {"lang_model.backbone.embeddings.position_ids": torch.arange(12)[None]}
    torch.save({**model.state_dict(), **positions}, file)
    return file, model


@pytest.mark.parity
@pytest.mark.slow
def test_a_matcher_places_words_and_pictures_where_it_placed_them(matcher):
    file, theirs = matcher
    ours = load(file, trunk="resnet18", heads=2)
    assert isinstance(ours, TokenImageMatcher) and ours.config.states == 2 and ours.config.hidden == 256
    again = load(file.parent, trunk="resnet18", heads=2)                    # the folder will do
    ids, images = tokens(), torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    real = ids != 0
    mean, std = (torch.tensor(part)[:, None, None] for part in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        f, g = ours(ids, images)
        torch.testing.assert_close(f[real], theirs.lang_model(ids, real.long())[real], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(g, theirs.visn_model((images - mean) / std), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(again(ids, images)[1], g)
    ours.train()
    assert [name for name, p in ours.named_parameters() if p.requires_grad] == [
        f"{net}.{layer}.{kind}" for net in ("words", "pictures") for layer in (0, 3)
        for kind in ("weight", "bias")]


@pytest.mark.parity
def test_a_matcher_of_another_cnn_is_refused(matcher):
    with pytest.raises(ValueError, match="does not fit the model; missing: visn_model.backbone.layer1.2"):
        load(matcher[0], trunk="resnet34", heads=2)


@pytest.mark.parity
def test_files_are_told_apart_by_their_names(matcher, language_model, tmp_path):
    assert recognises(matcher[0]) and recognises(matcher[0].parent) and recognises(language_model[0])
    assert not recognises(tmp_path)
    assert knows(["visual_cls_head.decoder.weight"]) and not knows(["bert.embeddings.word_embeddings.weight"])
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps({**SIZES, "model_type": "bert"}))
    assert not recognises(plain)                                            # a BERT without vokens is a BERT
    order = list(dict.fromkeys(READERS.values()))
    assert order.index("vokenization") < order.index("bert")


def test_without_files_it_is_said_where_they_are():
    with pytest.raises(FileNotFoundError, match="get coco_hinge05_dim64_resxt101_bertl4.zip, .* unpack them"):
        load("airsplay/vokenization")
