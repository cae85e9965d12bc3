"""``mmlearn retrieve``: images by text, text by image."""

import json

import pytest
import torch
from PIL import Image

from mmlearn.cli import main


def told(capsys, *arguments) -> list:
    assert main(["retrieve", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_images_are_ordered_by_their_cosine_with_the_text(clip_folder, pictures, capsys):
    from mmlearn.data.images import preprocess
    from mmlearn.pretrained.dual_encoders import open_model

    found = told(capsys, pictures, "a dog", "a house by the sea", "--weights", clip_folder)
    ready = open_model(clip_folder)
    files = [pictures / "a.png", pictures / "b.jpg", pictures / "more" / "c.png"]
    with torch.no_grad():
        u = torch.stack(
            [
                torch.nn.functional.normalize(
                    ready.model.encode_image(preprocess(Image.open(f), ready.recipe)[None])[0], dim=0
                )
                for f in files
            ]
        )
        v = torch.nn.functional.normalize(
            ready.model.encode_text(ready.tokeniser(["a dog", "a house by the sea"])), dim=1
        )
    assert [one["text"] for one in found] == ["a dog", "a house by the sea"]
    for one, row in zip(found, (v @ u.T).tolist()):
        want = sorted(zip(row, map(str, files)), reverse=True)
        assert [a["image"] for a in one["answers"]] == [f for _, f in want]
        assert [a["cosine"] for a in one["answers"]] == pytest.approx([s for s, _ in want], abs=2e-4)


def test_lines_are_found_for_an_image(clip_folder, pictures, tmp_path, capsys):
    (tmp_path / "captions.txt").write_text("a dog\na cat\n\na red house\n", encoding="utf-8")
    (found,) = told(capsys, "--image", pictures / "a.png", "--captions", tmp_path / "captions.txt",
                    "--weights", clip_folder, "--top", 2)
    scores = [a["cosine"] for a in found["answers"]]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    assert {a["text"] for a in found["answers"]} < {"a dog", "a cat", "a red house"}


def test_a_broken_image_is_named_and_left_out(clip_folder, pictures, tmp_path, capsys):
    Image.open(pictures / "a.png").save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not a picture")
    assert main(["retrieve", str(tmp_path), "a dog", "--weights", str(clip_folder)]) == 0
    streams = capsys.readouterr()
    assert (
        "good.png" in streams.out and "bad.png" not in streams.out and "bad.png cannot be read" in streams.err
    )
    (tmp_path / "good.png").unlink()
    assert main(["retrieve", str(tmp_path), "a dog", "--weights", str(clip_folder)]) == 2


def test_bad_input_is_told_in_one_sentence(clip_folder, pictures, tmp_path, capsys):
    weights = ["--weights", str(clip_folder)]
    (tmp_path / "empty.txt").write_text("\n")
    image = str(pictures / "a.png")
    for arguments, message in (
            ([], "nothing to look for"), ([str(pictures)], "nothing to look for"),
            ([str(pictures), " "], "an argument is empty"),
            ([str(pictures), "dog", "--image", image], "not a mixture"),
            (["--image", image], "not a mixture"), ([str(tmp_path / "no"), "dog"], "is no folder"),
            ([str(tmp_path), "dog"], "holds no images"),
            (["--image", image, "--captions", str(tmp_path / "no.txt")], "no file at"),
            (["--image", image, "--captions", str(tmp_path / "empty.txt")], "holds no line"),
            ([str(pictures), "dog", "--top", "0"], "--top is 0")):
        assert main(["retrieve", *arguments, *weights]) == 2
        said = capsys.readouterr().err
        assert said.startswith("mmlearn retrieve: ") and message in said and said.count("\n") == 1
