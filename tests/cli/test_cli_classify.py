"""``mmlearn classify``: the answer of the reference, and one sentence on bad input."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmlearn.cli import main


def told(capsys, *arguments) -> list:
    assert main(["classify", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parity
def test_the_probabilities_are_those_of_transformers(clip_folder, pictures, capsys):
    from transformers import CLIPImageProcessorPil, CLIPModel

    from mmlearn.data.clip_tokeniser import CLIPTokeniser

    labels = ["a dog", "a cat", "a red bicycle"]
    (found,) = told(capsys, pictures / "a.png", "--labels", ",".join(labels), "--weights", clip_folder)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = CLIPTokeniser.find()([f"a photo of {label}." for label in labels])
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(Image.open(pictures / "a.png"))[
        "pixel_values"
    ]
    with torch.no_grad():
        want = model(
            input_ids=tokens, pixel_values=torch.as_tensor(np.asarray(pixels))
        ).logits_per_image.softmax(1)[0]
    got = {entry["label"]: entry["probability"] for entry in found["classes"]}
    assert [got[label] for label in labels] == pytest.approx(want.tolist(), abs=2e-4)
    assert sum(got.values()) == pytest.approx(1, abs=1e-3)
    assert [e["probability"] for e in found["classes"]] == sorted(got.values(), reverse=True)


@pytest.mark.parity
def test_align_is_read_with_its_own_words_and_pixels(pictures, tmp_path, capsys):
    from transformers import AlignConfig, AlignModel, BertTokenizer, EfficientNetImageProcessorPil

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "dog", "cat", "red", "##dish",
             "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64,
            "vocab_size": len(words), "max_position_embeddings": 32}
    image = {"image_size": 64, "width_coefficient": 1.0, "depth_coefficient": 1.0, "depth_divisor": 8,
             "in_channels": [32, 16, 24], "out_channels": [16, 24, 32], "kernel_sizes": [3, 3, 5],
             "strides": [1, 2, 2], "num_block_repeats": [1, 1, 1], "expand_ratios": [1, 6, 6],
             "hidden_dim": 64, "squeeze_expansion_ratio": 0.25, "depthwise_padding": []}
    theirs = AlignModel(AlignConfig(text_config=text, vision_config=image, projection_dim=32)).eval()
    for module in theirs.modules():  # its own initialisation lets the image fade to nothing
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.2)
    theirs.save_pretrained(tmp_path)
    processor = EfficientNetImageProcessorPil(
        size={"height": 70, "width": 70},
        crop_size={"height": 64, "width": 64},
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
    )
    processor.save_pretrained(tmp_path)
    tokens = BertTokenizer(vocab={word: i for i, word in enumerate(words)})(
        ["A photo of a dog.", "A photo of a reddish cat."], padding="max_length", max_length=20,
        return_tensors="pt")
    pixels = torch.as_tensor(np.asarray(processor(Image.open(pictures / "a.png"))["pixel_values"]))
    with torch.no_grad():
        want = theirs(**tokens, pixel_values=pixels).logits_per_image.softmax(1)[0].tolist()
    (found,) = told(capsys, pictures / "a.png", "--labels", "dog,reddish cat", "--template",
                    "A photo of a {}.", "--weights", tmp_path)
    got = {entry["label"]: entry["probability"] for entry in found["classes"]}
    assert [got["dog"], got["reddish cat"]] == pytest.approx(want, abs=2e-4) and 0.001 < want[0] < 0.999


def test_several_images_and_templates_are_answered_in_order(clip_folder, pictures, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("dog\n\ncat\napple\n")
    found = told(capsys, pictures / "a.png", pictures / "b.jpg", "--labels", tmp_path / "labels.txt",
                 "--weights", clip_folder, "--template", "a photo of {a}.", "--template", "{}", "--top", 2)
    assert [one["image"] for one in found] == [str(pictures / "a.png"), str(pictures / "b.jpg")]
    assert all(len(one["classes"]) == 2 and {e["label"] for e in one["classes"]} < {"dog", "cat", "apple"}
               for one in found)
    assert main(["classify", str(pictures / "a.png"), "--labels", "dog,cat", "--weights", str(clip_folder),
                 "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "%" in out


def test_bad_input_is_told_in_one_sentence(clip_folder, pictures, tmp_path, capsys):
    image = str(pictures / "a.png")
    for arguments, message in (
            ([str(tmp_path / "no.png"), "--labels", "a,b"], "no image at"),
            ([image, "--labels", " , "], "names no class"),
            ([image, "--labels", "a,b", "--top", "0"], "--top is 0"),
            ([image, "--labels", "a,b", "--template", "a photo"], "must hold {}"),
            ([image, "--labels", "a,b", "--weights", str(tmp_path / "nowhere")],
             "is neither a file or folder"),
            ([image, "--labels", "a,b"], "could not be fetched from huggingface.co")):
        assert main(["classify", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("mmlearn classify: ") and message in told and told.count("\n") == 1
