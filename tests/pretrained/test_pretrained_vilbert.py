"""The public files of ViLBERT are not at hand; stand-ins in their format are.

Names, shapes and what is computed are written here from the released layout, as functions of a table of
tensors, and not from our own modules: in the names 1 is the picture and 2 the text.
"""

import json
import math

import pytest
import torch

from mmlearn.both_modalities.vilbert import ViLBERTConfig, box_geometry
from mmlearn.both_modalities.vilbert_heads import ViLBERTForTasks
from mmlearn.both_modalities.vilbert_pretraining import ViLBERTForPreTraining
from mmlearn.pretrained import READERS, load, vilbert
from mmlearn.pretrained.vilbert import UNUSED, config_from, config_of, fetch, recognises

JSON = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 12,
    "initializer_range": 0.02, "intermediate_size": 16, "max_position_embeddings": 8,
    "num_attention_heads": 3, "num_hidden_layers": 4, "type_vocab_size": 2, "vocab_size": 20,
    "v_feature_size": 6, "v_target_size": 5, "v_hidden_size": 8, "v_num_hidden_layers": 2,
    "v_num_attention_heads": 2, "v_intermediate_size": 10, "bi_hidden_size": 9, "bi_num_attention_heads": 3,
    "bi_intermediate_size": 9, "bi_attention_type": 1, "v_attention_probs_dropout_prob": 0.1,
    "v_hidden_act": "gelu", "v_hidden_dropout_prob": 0.1, "v_initializer_range": 0.02,
    "v_biattention_id": [0, 1], "t_biattention_id": [2, 3], "pooling_method": "mul"}
# heads of 64 and 128 numbers, which can be told from shapes
WIDE = {**JSON, "hidden_size": 128, "num_attention_heads": 2, "v_hidden_size": 256, "bi_hidden_size": 128,
        "v_num_attention_heads": 2, "bi_num_attention_heads": 1}


def tensors(sizes, task=0, unused=True):
    """A state dict in the released layout: after pre-training, or of a task with so many answers."""
    d, v, bi = sizes["hidden_size"], sizes["v_hidden_size"], sizes["bi_hidden_size"]
    dice, state = torch.Generator().manual_seed(0), {}

    def draw(*shape):
        return torch.randn(*shape, generator=dice) * 0.4

    def linear(name, into, out):
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(out, into), draw(out)

    def norm(name, width):
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(width), draw(width)

    for name, rows in (("word", "vocab_size"), ("position", "max_position_embeddings"),
                       ("token_type", "type_vocab_size")):
        state[f"bert.embeddings.{name}_embeddings.weight"] = draw(sizes[rows], d)
    norm("bert.embeddings.LayerNorm", d)
    linear("bert.v_embeddings.image_embeddings", sizes["v_feature_size"], v)
    linear("bert.v_embeddings.image_location_embeddings", 5, v)
    norm("bert.v_embeddings.LayerNorm", v)
    for stream, layers, width, ff in (
            ("layer", sizes["num_hidden_layers"], d, sizes["intermediate_size"]),
            ("v_layer", sizes["v_num_hidden_layers"], v, sizes["v_intermediate_size"])):
        for i in range(layers):
            head = f"bert.encoder.{stream}.{i}"
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                linear(f"{head}.attention.{part}", width, width)
            norm(f"{head}.attention.output.LayerNorm", width)
            linear(f"{head}.intermediate.dense", width, ff)
            linear(f"{head}.output.dense", ff, width)
            norm(f"{head}.output.LayerNorm", width)
    for i in range(len(sizes["v_biattention_id"])):
        head = f"bert.encoder.c_layer.{i}"
        for n, s, width, ff in (("1", "v", v, sizes["v_intermediate_size"]),
                                ("2", "t", d, sizes["intermediate_size"])):
            for part in ("query", "key", "value"):
                linear(f"{head}.biattention.{part}{n}", width, bi)
            linear(f"{head}.biOutput.dense{n}", bi, width)
            norm(f"{head}.biOutput.LayerNorm{n}", width)
            if unused:
                linear(f"{head}.biOutput.q_dense{n}", bi, width)
            linear(f"{head}.{s}_intermediate.dense", width, ff)
            linear(f"{head}.{s}_output.dense", ff, width)
            norm(f"{head}.{s}_output.LayerNorm", width)
    linear("bert.t_pooler.dense", d, bi)
    linear("bert.v_pooler.dense", v, bi)
    state["cls.predictions.bias"] = draw(sizes["vocab_size"])
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
    linear("cls.predictions.transform.dense", d, d)
    norm("cls.predictions.transform.LayerNorm", d)
    linear("cls.bi_seq_relationship", bi, 2)
    linear("cls.imagePredictions.transform.dense", v, v)
    norm("cls.imagePredictions.transform.LayerNorm", v)
    linear("cls.imagePredictions.decoder", v, sizes["v_target_size"])
    if task:
        for number, into, out in ((0, bi, 2 * bi), (3, 2 * bi, task)):
            name = f"vil_prediction.main.{number}"
            linear(name, into, out)
            state[f"{name}.weight_v"] = state.pop(f"{name}.weight")
            state[f"{name}.weight_g"] = torch.tensor(3.0 + number)
        linear("vil_logit", bi, 1)
        linear("vision_logit", v, 1)
        linear("linguisic_logit", d, 1)
    return state


class Released:
    """What the released model computes, from its tensors; rows of the picture first, -10000 on padding."""

    def __init__(self, state, sizes):
        self.state, self.sizes = state, sizes

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x):
        mean = x.mean(-1, keepdim=True)
        spread = ((x - mean) ** 2).mean(-1, keepdim=True)
        x = (x - mean) / (spread + 1e-12).sqrt()
        return self.state[f"{name}.weight"] * x + self.state[f"{name}.bias"]

    def gelu(self, x):
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def attend(self, q, k, v, heads, minus):
        q, k, v = (part.reshape(*part.shape[:2], heads, -1) for part in (q, k, v))
        scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(q.shape[-1]) + minus[:, None, None]
        return torch.einsum("bhqk,bkhc->bqhc", scores.softmax(-1), v).flatten(2)

    def feed(self, x, inner, outer, norm):
        return self.norm(norm, x + self.linear(outer, self.gelu(self.linear(inner, x))))

    def block(self, head, x, heads, minus):
        q, k, v = (self.linear(f"{head}.attention.self.{part}", x) for part in ("query", "key", "value"))
        read = self.linear(f"{head}.attention.output.dense", self.attend(q, k, v, heads, minus))
        x = self.norm(f"{head}.attention.output.LayerNorm", x + read)
        return self.feed(x, f"{head}.intermediate.dense", f"{head}.output.dense", f"{head}.output.LayerNorm")

    def meet(self, head, x, y, seen, read):
        heads, att, out = self.sizes["bi_num_attention_heads"], f"{head}.biattention", f"{head}.biOutput"
        q1, k1, v1 = (self.linear(f"{att}.{part}1", x) for part in ("query", "key", "value"))
        q2, k2, v2 = (self.linear(f"{att}.{part}2", y) for part in ("query", "key", "value"))
        for_text, for_picture = self.attend(q2, k1, v1, heads, seen), self.attend(q1, k2, v2, heads, read)
        x = self.norm(f"{out}.LayerNorm1", x + self.linear(f"{out}.dense1", for_picture))
        y = self.norm(f"{out}.LayerNorm2", y + self.linear(f"{out}.dense2", for_text))
        names = [[f"{head}.{s}_{part}" for part in ("intermediate.dense", "output.dense", "output.LayerNorm")]
                 for s in "vt"]
        return self.feed(x, *names[0]), self.feed(y, *names[1])

    def states(self, tokens, kinds, text_mask, features, places, region_mask):
        """``features`` and ``places`` begin with the row of the whole picture, as the released data do."""
        e, v, sizes = "bert.embeddings", "bert.v_embeddings", self.sizes
        y = (self.state[f"{e}.word_embeddings.weight"][tokens]
             + self.state[f"{e}.position_embeddings.weight"][:tokens.shape[1]]
             + self.state[f"{e}.token_type_embeddings.weight"][kinds])
        y = self.norm(f"{e}.LayerNorm", y)
        x = self.norm(f"{v}.LayerNorm", self.linear(f"{v}.image_embeddings", features)
                      + self.linear(f"{v}.image_location_embeddings", places))
        read, seen = -10000.0 * (1 - text_mask), -10000.0 * (1 - region_mask)
        t = u = 0
        for k, (stop_u, stop_t) in enumerate(zip(sizes["v_biattention_id"], sizes["t_biattention_id"])):
            for i in range(t, stop_t):
                y = self.block(f"bert.encoder.layer.{i}", y, sizes["num_attention_heads"], read)
            for i in range(u, stop_u):
                x = self.block(f"bert.encoder.v_layer.{i}", x, sizes["v_num_attention_heads"], seen)
            x, y = self.meet(f"bert.encoder.c_layer.{k}", x, y, seen, read)
            t, u = stop_t, stop_u
        for i in range(u, sizes["v_num_hidden_layers"]):
            x = self.block(f"bert.encoder.v_layer.{i}", x, sizes["v_num_attention_heads"], seen)
        for i in range(t, sizes["num_hidden_layers"]):
            y = self.block(f"bert.encoder.layer.{i}", y, sizes["num_attention_heads"], read)
        product = (self.linear("bert.t_pooler.dense", y[:, 0]).relu()
                   * self.linear("bert.v_pooler.dense", x[:, 0]).relu())
        return x, y, product

    def pretraining(self, *inputs):
        x, y, product = self.states(*inputs)

        def transformed(name, h):
            h = self.gelu(self.linear(f"{name}.transform.dense", h))
            return self.norm(f"{name}.transform.LayerNorm", h)

        words = transformed("cls.predictions", y) @ self.state["cls.predictions.decoder.weight"].T
        regions = self.linear("cls.imagePredictions.decoder", transformed("cls.imagePredictions", x))
        return (words + self.state["cls.predictions.bias"], regions[:, 1:],
                self.linear("cls.bi_seq_relationship", product))

    def tasks(self, *inputs):
        x, _, h = self.states(*inputs)
        choice = self.linear("vil_logit", h)[:, 0]
        for number in (0, 3):
            name = f"vil_prediction.main.{number}"
            direction = self.state[f"{name}.weight_v"]
            weight = self.state[f"{name}.weight_g"] * direction / (direction ** 2).sum().sqrt()
            h = h @ weight.T + self.state[f"{name}.bias"]
            h = h.relu() if number == 0 else h
        return h, choice, self.linear("vision_logit", x)[:, 1:, 0]


def examples():
    """Inputs as we take them, and as the released model does."""
    dice = torch.Generator().manual_seed(1)
    tokens = torch.tensor([[2, 7, 8, 9, 3], [2, 5, 3, 0, 0]])
    kinds = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    features = torch.randn(2, 3, 6, generator=dice) * mask[..., None]
    places = box_geometry(torch.rand(2, 3, 4, generator=dice).sort(-1).values, 1, 1) * mask[..., None]
    whole = features.sum(1) / mask.sum(1, keepdim=True)
    theirs = (tokens, kinds, (tokens != 0).float(), torch.cat([whole[:, None], features], 1),
              torch.cat([torch.tensor([[[0, 0, 1, 1, 1.0]]] * 2), places], 1),
              torch.cat([torch.ones(2, 1), mask], 1))
    return (tokens, kinds, tokens != 0, features, places, mask.bool()), theirs


def written(folder, state, sizes=None, name="pytorch_model_9.bin"):
    torch.save(state, folder / name)
    if sizes is not None:
        (folder / "bert_base_6layer_6conect.json").write_text(json.dumps(sizes))
    return folder / name


def agree(ours, theirs, mask):
    for one, other in zip(ours, theirs):
        real = mask if one.shape[:2] == mask.shape else torch.ones(one.shape[:1], dtype=torch.bool)
        torch.testing.assert_close(one[real], other[real], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("unused", [True, False])
def test_a_file_after_pre_training_gives_the_released_scores(tmp_path, capsys, unused):
    state = tensors(JSON, unused=unused)
    file = written(tmp_path, state, JSON)
    model = load(file)
    assert isinstance(model, ViLBERTForPreTraining) and not model.training and recognises(tmp_path)
    ours, theirs = examples()
    scores, want = model(*ours), Released(state, JSON).pretraining(*theirs)
    agree((scores.words,), want[:1], ours[2])
    agree((scores.regions,), want[1:2], ours[5])
    agree((scores.pairs,), want[2:], ours[2])
    said = capsys.readouterr().err
    assert ("q_dense1" in said) == unused and "state_dict" not in said
    used = sum(value.numel() for name, value in state.items()
               if not UNUSED.fullmatch(name) and name != "cls.predictions.decoder.weight")
    assert sum(p.numel() for p in model.parameters()) == used           # every number has a place


@torch.no_grad()
def test_a_file_of_a_task_gives_the_released_scores(tmp_path, capsys):
    state = tensors(JSON, task=7)
    written(tmp_path, {f"module.{name}": value for name, value in state.items()}, JSON)
    model = load(tmp_path)                                      # the folder; names as DataParallel has them
    assert isinstance(model, ViLBERTForTasks) and model.answers.outer.bias.shape == (7,)
    ours, theirs = examples()
    scores, want = model(*ours), Released(state, JSON).tasks(*theirs)
    agree((scores.answers, scores.choice), want[:2], ours[2])
    agree((scores.regions,), want[2:], ours[5])
    assert "heads that no task uses" in capsys.readouterr().err


@torch.no_grad()
def test_without_the_json_file_heads_have_the_released_numbers(tmp_path):
    old = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    state = {name.replace(*old[0]).replace(*old[1]): value for name, value in tensors(WIDE).items()}
    model = load(written(tmp_path, state))
    assert (model.config.text.heads, model.config.heads, model.config.co_heads) == (2, 2, 1)
    assert model.config.co_text == (2, 3) and model.config.co_vision == (0, 1) and model.config.classes == 5
    ours, theirs = examples()
    want = Released({name: value.double() for name, value in tensors(WIDE).items()}, WIDE).pretraining(
        *(part.double() if part.is_floating_point() else part for part in theirs))
    scores = model.double()(*(part.double() if part.is_floating_point() else part for part in ours))
    agree((scores.words,), want[:1], ours[2])
    agree((scores.regions,), want[1:2], ours[5])
    assert load(tmp_path / "pytorch_model_9.bin", config=model.config).config == model.config


def test_the_released_sizes_are_those_of_the_json_file_and_of_shapes():
    released = {**JSON, "hidden_size": 768, "intermediate_size": 3072, "max_position_embeddings": 512,
                "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 30522,
                "v_feature_size": 2048, "v_target_size": 1601, "v_hidden_size": 1024,
                "v_num_hidden_layers": 6,
                "v_num_attention_heads": 8, "v_intermediate_size": 1024, "bi_hidden_size": 1024,
                "bi_num_attention_heads": 8, "v_biattention_id": [0, 1, 2, 3, 4, 5],
                "t_biattention_id": [6, 7, 8, 9, 10, 11]}
    assert config_of(released, "here") == ViLBERTConfig.base()
    with torch.device("meta"):
        model = ViLBERTForPreTraining(ViLBERTConfig.base())
    shapes = vilbert.expected_shapes(model)
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
    assert config_from(state, "here") == ViLBERTConfig.base()
    assert sum(math.prod(shape) for shape in shapes.values()) == 239_023_229


@pytest.mark.parametrize("change, words", [
    (lambda s: s.pop("bert.v_pooler.dense.bias"), "missing: bert.v_pooler.dense.bias"),
    (lambda s: s.update({"bert.extra.weight": torch.zeros(2)}), "not expected: bert.extra.weight"),
    (lambda s: s.update({"bert.v_pooler.dense.bias": torch.zeros(4)}), "of another shape: bert.v_pooler"),
    (lambda s: s["bert.v_pooler.dense.bias"].fill_(torch.nan), "holds nan"),
    (lambda s: s["cls.predictions.decoder.weight"].add_(1), "differs from bert.embeddings.word_embeddings"),
    (lambda s: s.update({vilbert.TASK_TOKENS: torch.zeros(20, 12)}), "is the 12-in-1 model"),
])
def test_a_file_that_does_not_fit_is_refused_with_the_names(tmp_path, change, words):
    state = tensors(JSON)
    change(state)
    with pytest.raises(ValueError, match=words):
        load(written(tmp_path, state, JSON))


@pytest.mark.parametrize("change, words", [
    ({"hidden_act": "relu"}, "says hidden_act = 'relu'"), ({"fusion_method": "sum"}, "fusion_method = 'sum'"),
    ({"bi_num_attention_heads": 2}, "does not divide inner 9"), ({"v_num_hidden_layers": 3}, "missing:"),
    ({"v_biattention_id": [0]}, "names 2 meetings and co_vision 1"),
    ({"v_hidden_size": "8"}, "v_hidden_size is '8'"),
])
def test_settings_that_do_not_fit_are_refused_with_their_names(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        load(written(tmp_path, tensors(JSON), {**JSON, **change}))


def test_public_names_say_where_their_files_are(tmp_path, monkeypatch):
    assert READERS["jiasenlu/vilbert_beta"] == READERS["facebookresearch/vilbert-multi-task"] == "vilbert"
    with pytest.raises(FileNotFoundError, match="Google Drive"):
        load("jiasenlu/vilbert_beta")
    fetched = []
    monkeypatch.setattr(vilbert, "download", lambda remote, path: fetched.append(remote.url) or path)
    place = tmp_path / "vilbert" / "pretrained_model.bin"
    assert fetch("facebookresearch/vilbert-multi-task", tmp_path) == place
    assert fetched == ["https://dl.fbaipublicfiles.com/vilbert-multi-task/pretrained_model.bin"]
    with pytest.raises(FileNotFoundError, match="nor a folder with one"):
        vilbert.load(tmp_path)
