"""Any COCO folder can be read; files that do not belong together are refused in one sentence."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mmlearn.data.coco import CocoCaptions, CocoFolder, imagenet_transform, inside, read_karpathy, to_mask
from mmlearn.data.scenes import captions, export_coco, render, sample_scene

CAPTIONS = {"images": [{"id": 7, "file_name": "seven.png"}, {"id": 3, "file_name": "three.png"}],
            "annotations": [{"id": 1, "image_id": 3,
                             "caption": " A cat.\n"}, {"id": 2, "image_id": 7, "caption": "Two."},
                            {"id": 3, "image_id": 3, "caption": "The cat again."}]}
INSTANCES = {
    "images": CAPTIONS["images"],
    "categories": [
        {"id": 90, "name": "toothbrush"},
        {"id": 13, "name": "stop sign"},
        {"id": 11, "name": "hydrant"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 90,
            "bbox": [1.0, 1.0, 3.0, 2.0],
            "iscrowd": 0,
            "area": 6.0,
            "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]],
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 11,
            "bbox": [1.0, 1.0, 3.0, 2.0],
            "iscrowd": 1,
            "area": 6.0,
            "segmentation": {"size": [5, 6], "counts": [6, 2, 3, 2, 3, 2, 12]},
        },
    ],
}


def folder_with(tmp_path: Path, content: dict, names=("seven.png", "three.png")) -> tuple[Path, Path]:
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (6, 5), (number * 50, 100, 200)).save(images / name)
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(content))
    return images, file


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return export_coco(tmp_path_factory.mktemp("coco"), 4, 32)


# ---- captions ----------------------------------------------------------------------------------------------

def test_captions_belong_to_their_image_whatever_the_order(tmp_path):
    data = CocoCaptions(*folder_with(tmp_path, CAPTIONS))
    assert [(r.image_id, r.path.name, r.captions) for r in data.records] == [
        (7, "seven.png", ("Two.",)), (3, "three.png", ("A cat.", "The cat again."))]
    item = data[1]
    assert item["captions"] == ("A cat.", "The cat again.") and item["image_id"] == 3 and item["index"] == 1
    torch.testing.assert_close(item["image"][:, 0, 0], torch.tensor([50, 100, 200]) / 255)
    assert item["image"].shape == (3, 5, 6)


def test_exported_scenes_come_back_as_they_were(scenes):
    data = CocoCaptions(scenes / "images", scenes / "annotations" / "captions_train.json")
    assert len(data) == 4
    for i in range(4):
        scene = sample_scene(0, i)
        assert data[i]["captions"] == captions(scene)
        expected = torch.from_numpy(render(scene, 32).image.copy()).permute(2, 0, 1) / 255
        torch.testing.assert_close(data[i]["image"], expected)


def test_a_transform_makes_what_a_classifier_expects(scenes):
    data = CocoCaptions(scenes / "images", scenes / "annotations" / "captions_train.json",
                        imagenet_transform(24))
    image = data[0]["image"]
    assert image.shape == (3, 24, 24)
    assert image.min() < -0.2
    raw = v2.functional.resize(torch.from_numpy(render(sample_scene(0, 0), 32).image.copy()).permute(2, 0, 1),
                               [24, 24])
    expected = (raw / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(image, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path, name):
    content = {**CAPTIONS, "images": [{"id": 7, "file_name": name}, CAPTIONS["images"][1]]}
    with pytest.raises(ValueError, match="leaves the image folder"):
        CocoCaptions(*folder_with(tmp_path, content))
    with pytest.raises(ValueError, match="leaves the image folder"):
        CocoFolder(*folder_with(tmp_path, {**INSTANCES, "images": content["images"]}))


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (4, 4)).save(outside / "three.png")
    images, file = folder_with(tmp_path, CAPTIONS, ("seven.png",))
    (images / "three.png").symlink_to(outside / "three.png")
    with pytest.raises(ValueError, match="'three.png' leaves"):
        CocoCaptions(images, file)
    assert inside(images, "seven.png") == images / "seven.png"


def test_missing_images_are_named_and_can_be_left_out(tmp_path):
    images, file = folder_with(tmp_path, CAPTIONS, ("three.png",))
    with pytest.raises(ValueError, match=r"1 of 2 images are missing in "
                                         r".*\(seven.png\).*skip_incomplete=True"):
        CocoCaptions(images, file)
    assert [r.image_id for r in CocoCaptions(images, file, skip_incomplete=True).records] == [3]
    images.joinpath("three.png").unlink()
    with pytest.raises(ValueError, match="none of the 2 images"):
        CocoCaptions(images, file, skip_incomplete=True)


def test_images_without_captions_are_named_and_can_be_left_out(tmp_path):
    content = {
        **CAPTIONS,
        "annotations": [CAPTIONS["annotations"][1], {"id": 5, "image_id": 3, "caption": "  "}],
    }
    images, file = folder_with(tmp_path, content)
    with pytest.raises(ValueError, match=r"1 of 2 images have no caption in .*\(three.png\)"):
        CocoCaptions(images, file)
    assert [r.image_id for r in CocoCaptions(images, file, skip_incomplete=True).records] == [7]


@pytest.mark.parametrize(("content", "sentence"), [
    ("{", "is not valid JSON"), ("[]", "holds a list"), ('{"images": []}', "has no list 'annotations'"),
    (json.dumps({**CAPTIONS, "images": [*CAPTIONS["images"], CAPTIONS["images"][0]]}),
     "images: id 7 occurs twice"),
    (json.dumps({**CAPTIONS, "images": [{"id": 7}]}), "no 'file_name'"),
    (json.dumps({**CAPTIONS, "annotations": [{"id": 4, "image_id": 99, "caption": "x"}]}),
     "record 0 (id 4): 'image_id' is 99, which is not among the 2 of 'images'"),
    (json.dumps({**CAPTIONS, "annotations": INSTANCES["annotations"]}), "take the captions file"),
])
def test_wrong_annotation_files_get_one_sentence(tmp_path, content, sentence):
    images, file = folder_with(tmp_path, CAPTIONS)
    file.write_text(content)
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        CocoCaptions(images, file)
    assert "\n" not in str(error.value) and "annotations.json" in str(error.value)


def test_a_file_or_folder_that_is_not_there_is_named(tmp_path):
    images, file = folder_with(tmp_path, CAPTIONS)
    with pytest.raises(FileNotFoundError, match="no file at .*nowhere.json"):
        CocoCaptions(images, tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        CocoCaptions(tmp_path / "nowhere", file)
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        CocoFolder(tmp_path / "nowhere", folder_with(tmp_path, INSTANCES)[1])


def test_a_broken_picture_is_named(tmp_path):
    images, file = folder_with(tmp_path, CAPTIONS)
    (images / "seven.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="seven.png cannot be read as an image"):
        CocoCaptions(images, file)[0]


# ---- Karpathy split ----------------------------------------------------------------------------------------

def karpathy_file(tmp_path: Path) -> tuple[Path, Path]:
    images = tmp_path / "images"
    entries = []
    for number, (split, where) in enumerate(
        [
            ("train", "train2014"),
            ("restval", "val2014"),
            ("val", "val2014"),
            ("test", "val2014"),
            ("restval", "val2014"),
        ]
    ):
        name = f"COCO_{where}_{number:012d}.jpg"
        (images / where).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(images / where / name)
        entries.append(
            {
                "filepath": where,
                "filename": name,
                "cocoid": 100 + number,
                "imgid": number,
                "split": split,
                "sentences": [{"raw": f"Picture {number}.", "tokens": ["picture", str(number)]}],
            }
        )
    file = tmp_path / "dataset_coco.json"
    file.write_text(json.dumps({"images": entries, "dataset": "coco"}))
    return images, file


def test_training_includes_the_rest_of_validation(tmp_path):
    images, file = karpathy_file(tmp_path)
    assert [r.image_id for r in read_karpathy(images, file, "train")] == [100, 101, 104]
    assert [r.image_id for r in read_karpathy(images, file, "val")] == [102]
    assert [r.captions for r in read_karpathy(images, file, "test")] == [("Picture 3.",)]
    data = CocoCaptions.karpathy(images, file, "train")
    assert len(data) == 3 and data[1]["image_id"] == 101 and data[1]["image"].shape == (3, 4, 4)


def test_the_karpathy_split_finds_images_that_lie_all_together(tmp_path):
    images, file = karpathy_file(tmp_path)
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in images.rglob("*.jpg"):
        path.rename(flat / path.name)
    assert [r.image_id for r in read_karpathy(flat, file, "train")] == [100, 101, 104]


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'restval' is unknown; take one of train, val, test"):
        read_karpathy(*karpathy_file(tmp_path), "restval")


def test_a_karpathy_file_may_not_leave_its_folder(tmp_path):
    images, file = karpathy_file(tmp_path)
    content = json.loads(file.read_text())
    content["images"][0]["filepath"] = "../.."
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="leaves the image folder"):
        read_karpathy(images, file)


# ---- instances ---------------------------------------------------------------------------------------------

def test_category_ids_with_gaps_become_labels_without(tmp_path):
    data = CocoFolder(*folder_with(tmp_path, INSTANCES))
    assert data.category_ids == [11, 13, 90] and data.names == ["hydrant", "stop sign", "toothbrush"]
    assert data.class_of == {11: 0, 13: 1, 90: 2}
    item = data[0]
    assert item["labels"].tolist() == [2, 0] and item["crowd"].tolist() == [False, True]
    assert item["boxes"].tolist() == [[1, 1, 4, 3], [1, 1, 4, 3]] and item["area"].tolist() == [6, 6]
    assert item["masks"].dtype == torch.bool and item["masks"].sum((1, 2)).tolist() == [6, 6]
    assert torch.equal(item["masks"][0], item["masks"][1])


def test_an_image_without_things_has_empty_boxes_and_masks(tmp_path):
    item = CocoFolder(*folder_with(tmp_path, INSTANCES))[1]
    assert item["boxes"].shape == (0, 4) and item["masks"].shape == (0, 5, 6) and item["labels"].shape == (0,)


def test_polygons_and_both_kinds_of_run_lengths_give_the_same_mask():
    expected = np.zeros((5, 6), bool)
    expected[1:3, 1:4] = True
    for segmentation in ([[1, 1, 4, 1, 4, 3, 1, 3]], {"size": [5, 6], "counts": [6, 2, 3, 2, 3, 2, 12]},
                         {"size": [5, 6], "counts": "6230009"}):
        assert np.array_equal(to_mask(segmentation, 5, 6), expected)


def test_boxes_and_masks_of_scenes_are_those_that_were_drawn(scenes):
    data = CocoFolder(scenes / "images", scenes / "annotations" / "instances_train.json")
    for i in range(4):
        scene, item = sample_scene(0, i), data[i]
        masks = render(scene, 32).masks
        keep = [k for k in range(len(masks)) if masks[k].any()]
        assert np.array_equal(item["masks"].numpy(), masks[keep])
        assert [data.names[label] for label in item["labels"]] == [scene.objects[k].category for k in keep]


def test_boxes_and_masks_move_with_the_image(scenes):
    plain = CocoFolder(scenes / "images", scenes / "annotations" / "instances_train.json")
    turned = CocoFolder(scenes / "images", scenes / "annotations" / "instances_train.json",
                        v2.RandomHorizontalFlip(p=1.0))
    a, b = plain[0], turned[0]
    assert torch.equal(b["image"], a["image"].flip(-1)) and torch.equal(b["masks"], a["masks"].flip(-1))
    assert torch.equal(b["boxes"][:, 0], 32 - a["boxes"][:, 2])


@pytest.mark.parametrize(("change", "sentence"), [
    ({"annotations": CAPTIONS["annotations"]}, "take the instances file"),
    ({"annotations": [{**INSTANCES["annotations"][0], "category_id": 12}]},
     "'category_id' is 12, which is not among"),
    ({"annotations": [{**INSTANCES["annotations"][0], "image_id": 12}]},
     "'image_id' is 12, which is not among"),
    ({"categories": None}, "has no list 'categories'"),
])
def test_wrong_instances_get_one_sentence(tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        CocoFolder(*folder_with(tmp_path, {**INSTANCES, **change}))


def test_the_committed_sample_can_be_read():
    sample = Path(__file__).parents[2] / "data" / "scenes-sample"
    spoken = CocoCaptions(sample / "images", sample / "annotations" / "captions_train.json")
    things = CocoFolder(sample / "images", sample / "annotations" / "instances_train.json")
    assert len(spoken) == len(things) >= 24
    assert all(len(r.captions) == 5 for r in spoken.records)
    assert sum(p.stat().st_size for p in sample.rglob("*") if p.is_file()) < 1_000_000
