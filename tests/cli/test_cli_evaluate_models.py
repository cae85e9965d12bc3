"""``mmlearn evaluate retrieval`` and ``zero-shot``: a model, judged on pictures as people have them."""

import json
import shutil

import pytest
import torch
from PIL import Image

from mmlearn.cli import main
from mmlearn.data.coco import CocoCaptions
from mmlearn.data.images import preprocess, read_image
from mmlearn.data.pairs import class_pictures
from mmlearn.files import package_data
from mmlearn.metrics.retrieval import retrieval
from mmlearn.pretrained.dual_encoders import open_model
from mmlearn.text_for_vision.training import embed_texts, zero_shot_accuracy
from mmlearn.text_for_vision.zero_shot import SCENE

SAMPLE = package_data("scenes-sample")
CAPTIONS = SAMPLE / "annotations" / "captions_train.json"
MINI = ["--weights", "clip-mini-resnet"]


@pytest.fixture
def run(capsys):
    def evaluate(*arguments):
        code = main(["evaluate", *map(str, arguments)])
        out = capsys.readouterr()
        return code, out.out, out.err
    return evaluate


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A folder of folders with drawn things, and what a model says of the same pictures in memory."""
    folder = tmp_path_factory.mktemp("classes")
    drawn = class_pictures(40)
    model, tokeniser, _ = open_model("clip-mini-resnet")
    names = sorted({drawn.classes[label] for label in drawn.labels})
    for i, (image, label) in enumerate(zip(drawn.images, drawn.labels)):
        place = folder / drawn.classes[label].replace(" ", "_")
        place.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{i}.png")
    labels = torch.tensor([names.index(drawn.classes[label]) for label in drawn.labels])
    pictures = type(drawn)(drawn.images, labels, tuple(names), drawn.scenes)
    return folder, {f"top-{k}": round(zero_shot_accuracy(model, tokeniser, pictures, SCENE, k), 4)
                    for k in (1, 5)} | {"images": 40, "classes": len(names)}


def test_retrieval_is_that_of_the_embeddings_of_files_and_captions(run):
    records = CocoCaptions(SAMPLE / "images", CAPTIONS).records
    model, tokeniser, recipe = open_model("clip-mini-resnet")
    with torch.no_grad():
        u = torch.cat([model.eval().encode_image(preprocess(read_image(r.path), recipe)[None], normalise=True)
                       for r in records])
    v = embed_texts(model, tokeniser, [text for r in records for text in r.captions])
    owner = torch.tensor([i for i, r in enumerate(records) for _ in r.captions])
    want = {name: pytest.approx(value, abs=0.02) for name, value in retrieval(u, v, owner).items()}
    code, out, _ = run("retrieval", CAPTIONS, "--images", SAMPLE / "images", *MINI, "--json")
    assert code == 0
    assert json.loads(out) == {**want, "images": len(records), "captions": len(owner)}


def test_a_folder_with_a_table_is_judged_and_printed_for_people(run, tmp_path):
    names = sorted(path.name for path in (SAMPLE / "images").iterdir())[:3]
    for name in names:
        shutil.copy(SAMPLE / "images" / name, tmp_path)
    lines = [f"{name},a picture of a {word}" for name, word in zip(names, ("cat", "zebrafish", "car"))]
    (tmp_path / "captions.csv").write_text("file,caption\n" + "\n".join(lines) + "\n", encoding="utf-8")
    code, out, err = run("retrieval", tmp_path, *MINI)
    assert code == 0 and out.splitlines()[0].startswith("image to text R@1")
    assert "1 of 3 captions hold words that clip-mini-resnet does not know" in err


def test_zero_shot_is_that_of_the_same_pictures_in_memory(run, classes):
    folder, want = classes
    code, out, _ = run("zero-shot", folder, *MINI, "--json")
    assert code == 0 and json.loads(out) == want and want["top-5"] > 0.5


def test_a_table_and_a_coco_file_of_classes_are_read_alike(run, classes, tmp_path):
    folder, want = classes
    files = sorted(folder.glob("*/*.png"))
    rows = [(str(path.relative_to(folder)), path.parent.name.replace("_", " ")) for path in files]
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n" + "\n".join(map(",".join, rows)) + "\n", encoding="utf-8")
    names = sorted({label for _, label in rows})
    coco = tmp_path / "labels.json"
    coco.write_text(json.dumps({
        "images": [{"id": i, "file_name": name} for i, (name, _) in enumerate(rows)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [{"image_id": i, "category_id": float(names.index(label))}
                        for i, (_, label) in enumerate(rows)]}), encoding="utf-8")
    for source in (table, coco):
        code, out, err = run("zero-shot", source, "--images", folder, *MINI, "--json")
        assert code == 0, err
        assert json.loads(out) == want


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["retrieval", CAPTIONS], "does not say where its pictures are; give --images DIR"),
    (["retrieval", SAMPLE / "images"], "there is no table"),
    (["retrieval", SAMPLE, "--split", "test"], "--split is for a JSON file"),
    (["zero-shot", SAMPLE / "images"], "holds no folders; give one folder a class"),
    (["zero-shot", CAPTIONS, "--images", SAMPLE / "images"], "has no list 'categories'"),
    (["zero-shot", "nowhere.csv"], "there is no table nowhere.csv"),
    (["zero-shot", SAMPLE, "--template", "a thing"], "must hold {} for the class"),
])
def test_what_cannot_be_judged_gets_one_sentence_and_code_2(run, arguments, sentence):
    code, out, err = run(*arguments, *MINI)
    assert code == 2 and out == "" and sentence in err and len(err.strip().splitlines()) == 1


def test_classes_that_the_model_does_not_know_are_named(run, tmp_path):
    for name in ("cat", "zebrafish"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "a.png")
    code, _, err = run("zero-shot", tmp_path, *MINI)
    assert code == 2 and "'zebrafish'" in err


def test_a_picture_of_two_classes_is_refused(run, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,label\na.png,cat\na.png,car\n", encoding="utf-8")
    code, _, err = run("zero-shot", tmp_path / "t.csv", *MINI)
    assert code == 2 and "gives a.png the labels cat, car" in err
