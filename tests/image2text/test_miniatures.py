"""The miniatures that come with the book: each opens, and is worth what its .json says."""

import pytest
import torch

from mmlearn.data.images import TensorInputs
from mmlearn.experiments.image2text.detector import average_precision
from mmlearn.experiments.image2text.miniature import write_miniature
from mmlearn.figures.image2text.captioning import attention_on_things
from mmlearn.image2text.regions import DetectionData, load_detector
from mmlearn.image2text.saved import FeatureExtractor, SavedCaptioner, load_captioner
from mmlearn.image2text.training import CaptionData, evaluate_captioner, scene_data

NAMES = ("captioner-grid", "m2-regions")
FEW = 100  # scenes; what the .json says of them is "half precision" / "100 scenes"


@pytest.fixture(scope="module")
def scenes():
    return scene_data(FEW, "test")


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_captioner_is_worth_what_its_record_says(name, scenes):
    saved = load_captioner(name)
    assert not saved.model.training and saved.about["recipe"] == name
    looked = saved.feature_extractor.inputs(scenes.inputs)
    data = CaptionData(TensorInputs(*looked.rows(range(FEW))), scenes.captions, scenes.ids, scenes.scenes)
    scores = evaluate_captioner(saved.model, data, saved.tokeniser, beam=5)
    told = saved.about["half precision"]["100 scenes"]
    for metric, most in (("CIDEr-D", 0.05), ("true facts", 0.02), ("Bleu_4", 0.02)):
        assert scores[metric] == pytest.approx(told[metric], abs=most)


@pytest.mark.parametrize("name", NAMES)
def test_captions_of_the_miniatures_persuade(name):
    """Most facts are true, and they score above the captions of the data (each against the others)."""
    about = load_captioner(name).about
    assert about["beam 5"]["true facts"] > 0.88
    assert about["beam 5"]["CIDEr-D"] > 1.2 * about["captions of the data"]["CIDEr-D"]


def test_the_committed_detector_is_worth_what_its_record_says():
    found = average_precision(load_detector(), DetectionData(60, "test"))
    assert found["AP50"] > 0.88 and found["AP"] > 0.6


def test_nouns_of_the_grid_captioner_look_at_what_they_name(scenes):
    saved = load_captioner("captioner-grid")
    pictures = scenes.inputs.rows(range(20))[0]
    on = attention_on_things(saved.model, pictures, scenes.scenes[:20], saved.tokeniser)
    assert on.nouns > 10 and on.mass > 2 * on.chance


def test_a_miniature_is_read_back_as_it_was_written(tmp_path):
    torch.manual_seed(0)
    saved = load_captioner("captioner-grid")
    path = tmp_path / "again.safetensors"
    extractor = FeatureExtractor("pictures", 64)
    write_miniature(path, SavedCaptioner("captioner", saved.model, saved.tokeniser, extractor, {"note": "x"}))
    again = load_captioner(path)
    assert (
        again.about["note"] == "x"
        and again.tokeniser.words == saved.tokeniser.words
        and again.feature_extractor.size == 64
    )
    for (name, ours), theirs in zip(saved.model.state_dict().items(), again.model.state_dict().values()):
        assert torch.equal(ours, theirs), name


def test_an_unknown_miniature_names_those_that_are_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="the name of a captioner that comes with the book"):
        load_captioner(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="the name of a captioner that comes with the book"):
        load_captioner("captioner-of-nobody")
