"""Captioning: batches that are a function of the step, scores, both phases of training, checkpoints on
disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmlearn.data.images import PictureFiles, TensorInputs
from mmlearn.data.pairs import short_captions
from mmlearn.data.scenes import captions, sample_scene
from mmlearn.data.scenes.export import export_coco
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.image2text.saved import FeatureExtractor, load_captioner, look_at, save_captioner
from mmlearn.image2text.training import (
    CaptionBatches,
    CaptionData,
    CaptionReward,
    bad_endings,
    coco_data,
    cross_entropy_loss,
    describe,
    evaluate_captioner,
    scene_data,
    score_captions,
    self_critical_step,
    train_cross_entropy,
    train_self_critical,
)

SIZES = {"width": 32, "heads": 4, "layers": 2, "ff": 48, "max_len": 30, "dropout": 0.0}


@pytest.fixture(scope="module")
def data() -> CaptionData:
    """Eight scenes whose "regions" are random vectors: enough to learn by heart."""
    scenes = [sample_scene(0, i) for i in range(8)]
    mask = torch.ones(8, 5, dtype=torch.bool)
    mask[::2, 3:] = False
    values = torch.randn(8, 5, 12, generator=torch.Generator().manual_seed(0)) * mask[..., None]
    return CaptionData(TensorInputs(values, mask), [short_captions(s, 10) for s in scenes], range(8), scenes)


@pytest.fixture(scope="module")
def words(data):
    return data.vocabulary()


def tiny(words, **change) -> M2Transformer:
    torch.manual_seed(0)
    return M2Transformer(M2Config(vocab=len(words), features=12, memory=4, **{**SIZES, **change}))


@pytest.fixture(scope="module")
def trained(data, words):
    """A model that knows the eight scenes by heart."""
    model = tiny(words)
    history = train_cross_entropy(model, data, words, steps=120, images=8, captions=2, lr=4e-3, warmup=10,
                                  progress=False)
    assert history.loss[-1] < 0.4 * history.loss[0]
    return model


def test_some_rows_are_the_same_images_with_their_captions(data):
    some = data.rows([5, 2])
    assert list(some.ids) == [5, 2] and some.scenes == [data.scenes[5], data.scenes[2]]
    assert some.captions == [data.captions[5], data.captions[2]]
    for ours, theirs in zip(some.inputs.rows([0, 1]), data.inputs.rows([5, 2])):
        assert torch.equal(ours, theirs)


def test_a_batch_holds_captions_of_its_own_images(data, words):
    batch = CaptionBatches(data, words, images=3, captions=2)(5)
    assert batch.inputs.shape == (3, 5, 12) and batch.tokens.shape[0] == 6
    for row, ids in enumerate(batch.tokens):
        image = int(batch.which[row // 2])
        assert words.decode(ids) in {" ".join(said) for said in data.words[image]}
        assert torch.equal(batch.inputs[row // 2], data.inputs.values[image])


def test_captions_of_an_image_in_a_batch_are_different_ones_while_there_are_enough(data, words):
    batch = CaptionBatches(data, words, images=8, captions=2)(0)
    for image, pair in zip(batch.which, batch.tokens.unflatten(0, (8, 2))):
        if len({" ".join(said) for said in data.words[int(image)]}) == len(data.words[int(image)]) > 1:
            assert not torch.equal(pair[0], pair[1])


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(data, words):
    batches = CaptionBatches(data, words, images=4)
    first = torch.cat([batches(0).which, batches(1).which])
    second = torch.cat([batches(2).which, batches(3).which])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(8))
    assert first.tolist() != second.tolist()


def test_a_batch_depends_on_its_number_and_not_on_those_before(data, words):
    one, other = CaptionBatches(data, words, images=4, seed=3), CaptionBatches(data, words, images=4, seed=3)
    for step in (0, 1, 2, 6):
        one(step)
    assert torch.equal(one(7).tokens, other(7).tokens) and torch.equal(one(7).which, other(7).which)


def test_the_loss_is_the_mean_over_words_of_all_captions(data, words):
    model = tiny(words).eval()
    batch = CaptionBatches(data, words, images=4, captions=2)(0)
    loss, scalars = cross_entropy_loss(model, batch)
    total = count = 0.0
    for row, ids in enumerate(batch.tokens):
        logits = model(batch.inputs[row // 2:row // 2 + 1], ids[None, :-1],
                       batch.mask[row // 2:row // 2 + 1])[0]
        for place, word in enumerate(ids[1:].tolist()):
            if word != words.pad:
                total, count = total - logits[place].log_softmax(-1)[word].item(), count + 1
    assert loss.item() == pytest.approx(total / count, rel=1e-4)
    assert scalars["weight"] == count


def test_a_handful_of_scenes_is_learnt_by_heart(trained, data, words):
    scores = evaluate_captioner(trained, data, words)
    assert scores["CIDEr-D"] > 2 and scores["Bleu_4"] > 0.4
    assert {"METEOR", "ROUGE_L", "SPICE-world", "true facts", "bad endings"} <= set(scores)


def test_shuffled_images_raise_the_loss_of_a_model_that_looks(trained, data, words):
    batch = CaptionBatches(data, words, images=8, captions=2)(0)
    with torch.no_grad():
        right, _ = cross_entropy_loss(trained, batch)
        wrong, _ = cross_entropy_loss(
            trained, batch._replace(inputs=batch.inputs.roll(1, 0), mask=batch.mask.roll(1, 0))
        )
    assert wrong > right + 0.5


def test_describing_leaves_training_mode_as_it_was_and_repeats_itself(trained, data, words):
    trained.train()
    first = describe(trained, data, words, batch=3)
    assert trained.training
    trained.eval()
    assert describe(trained, data, words) == first and not trained.training


def test_bad_endings_are_captions_that_stop_half_way():
    assert bad_endings(["a cat on a", "a cat", "", "a dog and"]) == 3 / 4


def test_true_facts_are_those_of_the_graph(data):
    honest = score_captions([list(said)[0] for said in data.captions], data)
    assert honest["true facts"] == 1.0
    liar = score_captions(["a purple banana on a purple boat"] * len(data), data)
    assert liar["true facts"] < 0.2


def test_the_reward_is_cider_d_and_sees_the_end_only_when_asked(data, words):
    said = data.words[2][0]
    ids = torch.tensor([[words.encode(" ".join(said)) + [words.eos],
                         words.encode(" ".join(said)) + [words.pad]]])
    with_end, without = (CaptionReward(data, words,
                                       eos_in_reward=eos)(ids, torch.tensor([2])) for eos in (True, False))
    assert without[0, 0] == without[0, 1]                   # M2's reward does not see whether a caption ends
    assert with_end[0, 0] > with_end[0, 1]
    assert without[0, 0] == pytest.approx(data.cider_d.score([said], [2]).corpus, rel=1e-5)


@pytest.mark.parametrize("estimator", ["beam", "sample"])
def test_self_critical_training_raises_the_reward(data, words, estimator):
    model = tiny(words)
    train_cross_entropy(model, data, words, steps=40, images=8, captions=2, lr=4e-3, warmup=10,
                        progress=False)
    history = train_self_critical(model, data, words, steps=25, images=8, lr=1e-3, estimator=estimator, k=5,
                                  max_len=14, progress=False)
    rewards = history.scalars["reward"]                     # of a model that knows its scenes only half
    assert sum(rewards[-5:]) > sum(rewards[:5])


def test_the_greedy_critic_is_what_the_model_says_at_test_time(trained, data, words):
    reward = CaptionReward(data, words)
    batch = CaptionBatches(data, words, images=8, captions=1)(0)
    loss, scalars = self_critical_step(reward, estimator="greedy", k=2, max_len=14)(trained, batch)
    said = [text.split() for text in describe(trained, data, words, max_len=14)]
    ends = [[*text, "<eos>"] for text in said]
    assert scalars["baseline"] == pytest.approx(reward.metric.score(ends, range(8)).corpus, rel=1e-5)
    assert loss.isfinite()


def test_the_m2_estimator_gives_a_gradient_to_every_weight_but_none_when_all_rewards_are_equal(
    trained, data, words
):
    trained.train()
    batch = CaptionBatches(data, words, images=4, captions=1)(0)
    loss, scalars = self_critical_step(CaptionReward(data, words), max_len=14)(trained, batch)
    loss.backward()
    missing = [n for n, p in trained.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing and scalars["reward"] > 0
    trained.zero_grad()

    class Constant(CaptionReward):
        def __call__(self, tokens, index):
            return torch.full(tokens.shape[:2], 3.0)

    loss, _ = self_critical_step(Constant(data, words), max_len=14)(trained, batch)
    loss.backward()
    assert all(p.grad.abs().max() < 1e-6 for p in trained.parameters())
    trained.zero_grad()


def test_training_killed_and_resumed_ends_with_the_same_weights(data, words, tmp_path):
    options = {"images": 4, "captions": 2, "seed": 5, "progress": False}
    whole = tiny(words, dropout=0.1)
    train_cross_entropy(whole, data, words, steps=6, **options)

    class Killed(Exception):
        pass

    def kill(step, model):
        if step == 5:
            raise Killed

    half = tiny(words, dropout=0.1)
    with pytest.raises(Killed):
        train_cross_entropy(half, data, words, steps=6, folder=tmp_path / "run", save_every=2, on_step=kill,
                            **options)
    again = tiny(words, dropout=0.1)
    train_cross_entropy(again, data, words, steps=6, folder=tmp_path / "run", save_every=2, **options)
    for a, b in zip(whole.state_dict().values(), again.state_dict().values()):
        assert torch.equal(a, b)


def test_scenes_come_as_pictures_with_their_captions():
    found = scene_data(3, "test", size=32)
    values, mask = found.inputs.rows([0, 2])
    assert values.shape == (2, 3, 32, 32) and mask is None and 0 <= values.min() and values.max() <= 1
    assert set(found.captions[1]) <= set(captions(sample_scene(0, 1, "test")))


def test_numbers_of_images_and_captions_must_agree():
    with pytest.raises(ValueError, match="2 images, 1 lists of captions"):
        CaptionData(TensorInputs(torch.zeros(2, 3, 4)), [("a",)], [1, 2])


# ----------------------------------------------------------------------------------------------------- inputs

@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    return export_coco(tmp_path_factory.mktemp("coco"), 4, 32, "val")


def pictures_of(folder: Path) -> list[Path]:
    return sorted((folder / "images").rglob("*.png")) or sorted(folder.rglob("*.png"))


def test_a_coco_folder_is_a_captioning_task(coco):
    annotations = coco / "annotations" / "captions_val.json"
    content = json.loads(annotations.read_text())
    folder = pictures_of(coco)[0].parent
    found = coco_data(folder, annotations, 32)
    assert list(found.ids) == [image["id"] for image in content["images"]] and len(found.captions[0]) == 5
    path = folder / content["images"][1]["file_name"]
    wanted = torch.from_numpy(np.asarray(Image.open(path).convert("RGB"),
                                         dtype=np.float32)).permute(2, 0, 1) / 255
    torch.testing.assert_close(found.inputs.rows([1])[0][0], wanted)


# ------------------------------------------------------------------------------------------------ checkpoints

def test_a_saved_captioner_says_the_same_from_another_folder(trained, data, words, tmp_path):
    save_captioner(tmp_path / "a", trained, words, FeatureExtractor("stored", 64), {"step": 3})
    (tmp_path / "a").rename(tmp_path / "b")
    saved = load_captioner(tmp_path / "b")
    assert saved.system == "m2" and saved.about == {"step": 3} and saved.tokeniser.words == words.words
    assert describe(saved.model, data, saved.tokeniser) == describe(trained, data, words)
    with pytest.raises(ValueError, match="no eyes of its own"):
        look_at(saved, PictureFiles([], 64), [])


def test_a_captioner_saved_when_its_feature_extractor_was_called_sight_is_read(trained, words, tmp_path):
    save_captioner(tmp_path, trained, words, FeatureExtractor("stored", 48), {})
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert '"feature_extractor"' in text
    (tmp_path / "config.json").write_text(text.replace('"feature_extractor"', '"sight"'), encoding="utf-8")
    assert load_captioner(tmp_path).feature_extractor == FeatureExtractor("stored", 48)


def test_a_grid_captioner_brings_its_trunk_along(words, coco, tmp_path):
    extractor = FeatureExtractor.grid("resnet18", None, 32)
    model = M2Transformer(M2Config(vocab=len(words), features=512, memory=4, **SIZES))
    save_captioner(tmp_path, model, words, extractor, {})
    saved = load_captioner(tmp_path)
    files = PictureFiles(pictures_of(coco), 32)
    want, _ = extractor.inputs(files).rows([0, 1])
    got, mask = look_at(saved, files, [0, 1])
    assert got.shape == (2, 1, 512) and mask is None
    torch.testing.assert_close(got, want)


def test_a_checkpoint_that_lacks_or_breaks_a_file_is_refused(words, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load_captioner(tmp_path)
    model = CNNTransformer(CaptionerConfig(trunk="conv", vocab=len(words), grid_positions="sinusoid",
                                           **SIZES))
    save_captioner(tmp_path, model, words, FeatureExtractor("pictures", 32), {})
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:50])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_captioner(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        load_captioner(tmp_path)
    weights.write_bytes(whole)
    content = json.loads((tmp_path / "config.json").read_text())
    content["config"]["width"] = 64
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="does not fit CNNTransformer"):
        load_captioner(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        load_captioner(tmp_path)
