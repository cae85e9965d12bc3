"""Training Flamingo on scenes: what a step adds up, what is judged, what is kept."""

import pytest
import torch

from mmlearn.both_modalities.flamingo import interleaved_loss
from mmlearn.both_modalities.flamingo_training import (
    answers_by_kind,
    binding_episodes,
    caption_losses,
    encode_pictures,
    load_flamingo,
    mini_config,
    mixture_objective,
    named_support,
    new_flamingo,
    prior_by_kind,
    save_flamingo,
    scene_batches,
    scene_encoder,
    train_flamingo,
    with_first_shots,
    with_swapped_words,
)
from mmlearn.both_modalities.interleaved import Example, look_at_features
from mmlearn.both_modalities.language_model import all_examples, lm_tokeniser, save_lm
from mmlearn.data.pairs import class_pictures, scene_pairs
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import seeded


def small():
    """Scenes and things as four random cells, a language model of one layer, and a Flamingo over it."""
    data, things = scene_pairs(12), class_pictures(150, "train")
    of = lm_tokeniser(data)
    with seeded(0):
        lm = CausalLM(CausalLMConfig(len(of), 128, 16, 1, 4, 32, "rotary", "gelu"))
    g = torch.Generator().manual_seed(0)
    looks = [look_at_features(torch.randn(len(d), 4, 8, generator=g)) for d in (data, things)]
    model = new_flamingo(mini_config(lm, 8), lm, seed=1)
    return data, things, of, looks, model


def test_a_step_adds_the_losses_of_both_sets_by_their_weights():
    data, things, of, looks, model = small()
    batches = scene_batches(all_examples(data), looks[0], things, looks[1], of, batch=3, binding=2)
    batch = batches[5]
    loss, told = mixture_objective({"pages": 1.0, "bindings": 0.25})(model, batch)
    want = [interleaved_loss(model(part.tokens, features=part.pictures, media=part.media), part.tokens,
                             part.scored) for part in batch.values()]
    torch.testing.assert_close(loss, want[0] + 0.25 * want[1])
    assert list(told) == ["pages", "bindings"] and float(told["bindings"]) == pytest.approx(float(want[1]))
    alone = scene_batches(all_examples(data), looks[0], things, looks[1], of, batch=3, most=1)
    assert list(alone[0]) == ["pages"] and alone[0]["pages"].pictures.shape[1] == 1


def test_training_moves_the_adapter_alone_and_opens_gates():
    data, things, of, looks, model = small()
    frozen = {name: value.clone() for name, value in model.language.state_dict().items()}
    batches = scene_batches(all_examples(data), looks[0], things, looks[1], of, batch=3, binding=2)
    history = train_flamingo(model, batches, steps=3, lr=1e-2, progress=False)
    assert all(torch.equal(value, model.language.state_dict()[name]) for name, value in frozen.items())
    assert history.scalars["gate"][0] == 0.0 < history.scalars["gate"][-1]


def test_untrained_every_picture_is_none():
    data, _, of, looks, model = small()
    losses = caption_losses(model, data, of, looks[0])
    assert torch.equal(losses["own"], losses["none"]) and torch.equal(losses["own"], losses["other"])
    with torch.no_grad():
        for block in model.adapter.blocks.values():
            block.gate_read.fill_(1.0)
    changed = caption_losses(model, data, of, looks[0])
    assert torch.equal(changed["none"], losses["none"]) and not torch.equal(changed["own"], changed["other"])


def test_answers_are_compared_word_for_word_and_the_prior_knows_kinds():
    data, _, of, looks, model = small()
    asked = [Example("Question: x? Answer:", "red", 0, "colour"),
             Example("Question: y? Answer:", "2", 1, "n")]
    told = answers_by_kind(model, asked, of, looks[0])
    assert set(told) == {"all", "colour", "n"} and told["all"] == (told["colour"] + told["n"]) / 2
    train = [*[Example("", "red", 0, "colour")] * 2, Example("", "blue", 0, "colour"),
             Example("", "3", 0, "n")]
    assert prior_by_kind(train, asked) == {"all": 0.5, "colour": 1.0, "n": 0.0}


def test_shots_are_counted_for_each_word_and_swapped_words_leave_the_query():
    (episode,) = binding_episodes(class_pictures(150, "train"), 1, shots=2, seed=3)
    assert len(episode.words) == 2 and len(episode.page) == 5
    one = with_first_shots(episode, 1)
    assert sorted(e.answer for e in one[:-1]) == episode.words and one[-1] == episode.page[-1]
    assert with_first_shots(episode, 0) == [episode.page[-1]]
    swapped = with_swapped_words(episode.page, episode.words)
    assert swapped[-1] == episode.page[-1]
    assert all(a.answer != b.answer and a.picture == b.picture
               for a, b in zip(swapped[:-1], episode.page[:-1]))


def test_named_things_keep_one_word_each():
    things = class_pictures(150, "train")
    support = named_support(things, ["cat", "car"], 2)
    assert [e.answer for e in support] == ["dax", "dax", "blicket", "blicket"]
    assert [things.classes[things.labels[e.picture]] for e in support] == ["cat", "cat", "car", "car"]
    with pytest.raises(ValueError, match="there are .* pictures of cat, asked for are 999"):
        named_support(things, ["cat"], 999)
    with pytest.raises(ValueError, match="give a word for each class"):
        named_support(things, ["cat"] * 3, 1, words=("dax",))


@pytest.mark.slow
@pytest.mark.parametrize("kind, cells, numbers", [("resnet", 4, 512), ("vit", 64, 96)])
def test_the_adapter_opens_over_its_frozen_parts(kind, cells, numbers, tmp_path):
    data = scene_pairs(3)
    encoder = scene_encoder(kind)
    features = encode_pictures(encoder, data.images)
    assert features.shape == (3, cells, numbers)
    assert not any(p.requires_grad for p in encoder.parameters())
    of = lm_tokeniser(data)
    with seeded(0):
        lm = CausalLM(CausalLMConfig(len(of), 128, 16, 1, 4, 32, "rotary", "gelu"))
    save_lm(tmp_path / "scene-lm.safetensors", lm, of, {})
    model = new_flamingo(mini_config(lm, numbers), lm)
    with torch.no_grad():
        model.adapter.blocks["0"].gate_read.fill_(0.5)
    save_flamingo(tmp_path / "f.safetensors", model.adapter, kind, {"settings": {}})
    saved = load_flamingo(tmp_path / "f.safetensors")
    assert saved.about["encoder"] == kind and len(saved.tokeniser) == len(of)
    tokens = torch.tensor([of.encode("<image>output: a cat", add_special=True)])
    one, two = (m.eval()(tokens, features=features[:1, None]) for m in (model, saved.model))
    torch.testing.assert_close(one, two, atol=0.02, rtol=0.02)           # 16 bits
    with pytest.raises(ValueError, match="the encoder is 'cnn'"):
        scene_encoder("cnn")
