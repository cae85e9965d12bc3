"""Every known error of the survey is on the errata page in the survey's own words, marked in its chapter, and
checked.

``survey_quotations.json`` holds the quoted sentences as they stand in the survey, and nothing else of it.
"""

import json
import math
import re
from dataclasses import replace

import nbformat
import numpy as np
import pytest
import torch
from notebooks import ROOT

from mmlearn.data.scenes import CATEGORIES, sample_scene
from mmlearn.generate import greedy
from mmlearn.image2text import annotation
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
from mmlearn.image2text.m2 import M2Config, M2Transformer, memory_attention, mesh, survey_memory
from mmlearn.nn.attention import MultiHeadAttention
from mmlearn.nn.transformer import EncoderLayer, feed_forward

# chapter -> number of its last erratum
KNOWN = {"1-image2text": 22, "2-text2image": 33, "3-images-for-language": 28, "4-text-for-vision": 16,
         "5-both-modalities": 46}
ERRATA = [(chapter, f"E{number}") for chapter, last in KNOWN.items() for number in range(1, last + 1)]
QUOTED = json.loads((ROOT / "tests" / "book" / "survey_quotations.json").read_text(encoding="utf-8"))
KINDS = ("Error", "Omission", "Overstatement", "Wording")
READING = {"1-image2text": {"E16"}, "2-text2image": {"E28"},  # checked by reading the source that is named
           "3-images-for-language": {"B2", "E16", "E17", "E18", "E19", "E23"},
           "5-both-modalities": {"B2", "E11", "E25", "E28", "E29", "E31", "E32", "E33", "E35", "E39", "E42"}}
SOURCES = {chapter: [f"P{number}" for number in range(1, last + 1)]    # slips of the papers and codes
           for chapter, last in {"2-text2image": 15, "3-images-for-language": 9,
                                 "5-both-modalities": 13}.items()}
TESTED = {"2-text2image": ["text2image"],                     # where its tests are
          "3-images-for-language": ["images_for_language", "data", "metrics"],
          "5-both-modalities": ["both_modalities", "nn", "pretrained"]}


def page_of(chapter: str) -> str:
    """The part of the errata page that belongs to a chapter; numbers start again in each."""
    page = (ROOT / "book" / "appendix" / "errata.md").read_text(encoding="utf-8")
    parts = re.split(r"(?m)^## Chapter (?=\d)", page)
    return next(part for part in parts if part.startswith(chapter[0] + ","))


def entries(chapter: str) -> dict[str, dict[str, str]]:
    """Entries in the form of the second edition: where, kind, quotation, translation, what is right,
    check."""
    form = re.compile(r"^\*\*(?P<number>E\d+)\*\*, (?P<where>[^\n]+?)\. \*(?P<kind>[^*\n]+)\*\n\n"
                      r"> `?(?P<quotation>[^\n]+?)`?\n>\n(?P<translation>(?:> [^\n]+\n)+)\n"
                      r"(?P<right>.+?)\n\n\*Check\.\* (?P<check>.+?)(?=\n\n(?:\*\*E\d+\*\*|#)|\Z)",
                      re.M | re.S)
    return {match["number"]: match.groupdict() for match in form.finditer(page_of(chapter))}


def text_of(chapter: str) -> str:
    pages = [
        ROOT / "book" / f"{chapter}.ipynb",
        *sorted((ROOT / "book" / "deeper").glob(f"{chapter[0]}-*.ipynb")),
    ]
    return "\n".join(cell.source for page in pages for cell in nbformat.read(page, as_version=4).cells
                     if cell.cell_type == "markdown")


@pytest.mark.parametrize("chapter, erratum", ERRATA, ids=lambda value: value)
def test_an_erratum_is_on_the_page_and_in_the_chapter(chapter, erratum):
    if chapter in QUOTED:
        found = entries(chapter).get(erratum)
        assert found, (
            f"{erratum} needs where it stands, its kind, a quotation with translation, what is right, a check"
        )
        assert found["kind"].startswith(KINDS)
        assert all(
            len(found[part].strip()) > 8 for part in ("where", "quotation", "translation", "right", "check")
        )
    else:
        row = re.search(rf"^\| \*\*{erratum}\*\* \|(.*)\|(.*)\|(.*)\|$", page_of(chapter), re.M)
        assert row and all(len(cell.strip()) > 8 for cell in row.groups()), (
            f"{erratum} needs what is said, what is right, a check"
        )
    if "**This chapter is being written.**" in text_of(chapter):
        return                                                  # its boxes come with its sections
    numbers = {number for low, high in re.findall(r"\bE(\d+) to E(\d+)\b", text_of(chapter))
               for number in range(int(low), int(high) + 1)}
    assert re.search(rf"\b{erratum}\b", text_of(chapter)) or int(erratum[1:]) in numbers, (
        f"{erratum} is not marked in the chapter"
    )


@pytest.mark.parametrize("chapter", KNOWN)
def test_the_page_lists_nothing_that_is_not_known(chapter):
    found = re.findall(r"^(?:\| )?\*\*(E\d+)\*\*", page_of(chapter), re.M)
    assert sorted(found, key=lambda e: int(e[1:])) == [e for c, e in ERRATA if c == chapter]


@pytest.mark.parametrize("chapter", QUOTED)
def test_the_quotations_are_the_words_of_the_survey(chapter):
    assert {number: entry["quotation"] for number, entry in entries(chapter).items()} == QUOTED[chapter]


@pytest.mark.parametrize("chapter", QUOTED)
def test_a_quotation_is_short_and_not_english(chapter):
    for number, words in QUOTED[chapter].items():
        assert 10 < len(words) < 100, number
        assert re.search("[\u4e00-\u9fff]", words) or "=" in words, (
            f"{number} is neither a sentence of the survey nor a formula"
        )


def test_an_entry_with_other_words_is_found(monkeypatch):
    wrong = page_of("1-image2text").replace("三个核心问题", "四个核心问题")
    monkeypatch.setitem(globals(), "page_of", lambda chapter: wrong)
    assert entries("1-image2text")["E14"]["quotation"] != QUOTED["1-image2text"]["E14"]


@pytest.mark.parametrize("chapter", SOURCES)
def test_a_slip_of_a_paper_says_where_it_stands_what_is_right_and_how_to_check(chapter):
    form = r"^\*\*(P\d+)\*\*, (.+?)\.\n\n(.+?)\n\n\*Check\.\* (.+?)(?=\n\n(?:\*\*P\d+\*\*|#)|\Z)"
    found = re.findall(form, page_of(chapter), re.M | re.S)
    assert [number for number, *_ in found] == SOURCES[chapter]
    assert all(len(part) > 20 for _, *parts in found for part in parts)


# ------------------------------------------------------------------------------------------------- the checks

def tiny(**changes) -> M2Transformer:
    torch.manual_seed(0)
    return M2Transformer(replace(M2Config.mini(vocab=20, features=6), dropout=0.0, **changes)).eval()


def picture() -> torch.Tensor:
    return torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(1))


TOKENS = torch.tensor([[2, 7, 9, 4]])


def check_E1():
    X, M = torch.randn(4, 8), torch.randn(3, 8)
    identity = torch.eye(8)
    with pytest.raises(ValueError, match="append them instead"):
        survey_memory(X, identity, identity, identity, M, M, identity, identity)
    order, slots = torch.tensor([2, 0, 3, 1]), torch.randn(4, 8)
    appended = memory_attention(X, X, X, M, M)
    torch.testing.assert_close(memory_attention(X[order], X[order], X[order], M, M), appended[order])
    added = survey_memory(X, identity, identity, identity, slots, slots, identity, identity)
    shuffled = survey_memory(X[order], identity, identity, identity, slots, slots, identity, identity)
    assert not torch.allclose(shuffled, added[order], atol=1e-3)


def check_E2():
    names = [name for name, _ in tiny().named_parameters()]
    assert (
        sum(name.endswith("memory_keys") for name in names)
        == sum(name.endswith("memory_values") for name in names)
        == 3
    )
    assert not [name for name in names if "km" in name or "vm" in name]


def check_E3():
    layer = tiny().encoder[0].attention
    for keys in layer.memory(2):
        torch.testing.assert_close(keys[0], keys[1])                      # two pictures, the same slots


def check_E4():
    for mesh_kind, moves in (("sigmoid", True), ("last", False)):
        model = tiny(mesh=mesh_kind)
        context = model.encode(picture())
        before = model.decode(TOKENS, context)
        context.levels = context.levels.clone()
        context.levels[:, 0] += 1.0
        assert torch.allclose(before, model.decode(TOKENS, context), atol=1e-5) != moves


def check_E5():
    model, calls = tiny(), []
    decode = model.decode
    model.decode = lambda tokens, context: (calls.append(tokens.shape), decode(tokens, context))[1]
    tokens, _ = greedy(model, model.encode(picture()), max_len=6)
    assert len(calls) == tokens.shape[1] and all(shape == (1, 1) for shape in calls)


def check_E6():
    branches = torch.randn(1, 3, 20_000, 4, generator=torch.Generator().manual_seed(0))
    assert mesh(torch.ones(1, 3, 1, 1).expand_as(branches),
                branches).std().item() == pytest.approx(1.0, abs=0.02)
    assert branches.sum(1).std().item() == pytest.approx(math.sqrt(3), abs=0.03)


def check_E7():
    model = tiny()
    context, other = model.encode(picture()), TOKENS.clone()
    other[0, 2] = 11
    before, after = model.decode(TOKENS, context), model.decode(other, context)
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2], before[:, 2]) and not torch.allclose(after[:, 3], before[:, 3])


def check_E8():
    assert sum(isinstance(part, torch.nn.LayerNorm) for part in tiny().encoder[0].modules()) == 2


def check_E9():
    X, W_1, W_2 = torch.randn(5, 8), torch.randn(8, 16), torch.randn(16, 8)
    assert feed_forward(X, W_1, torch.zeros(16), W_2, torch.zeros(8)).shape == (5, 8)
    with pytest.raises(RuntimeError):
        W_1.mT @ X                                                        # from the left: 16 x 8 times 5 x 8


def check_E10():
    g = torch.Generator().manual_seed(0)
    scores = (torch.randn(10_000, 64, generator=g) * torch.randn(10_000, 64, generator=g)).sum(-1)
    assert (scores / math.sqrt(64)).std().item() == pytest.approx(1.0, abs=0.03)


def check_E11():
    assert M2Config.paper().features == 2048 and tiny().encode(picture()).levels.shape == (1, 3, 5, 64)


def check_E12():
    torch.manual_seed(0)
    model = CNNTransformer(replace(CaptionerConfig.mini(vocab=20), dropout=0.0)).eval()
    own, other = (model.encode(torch.rand(1, 3, 64, 64)) for _ in range(2))
    assert not torch.allclose(model.decode(TOKENS, own), model.decode(TOKENS, other), atol=1e-5)
    for layer in model.decoder:
        torch.nn.init.zeros_(layer.cross_attention.out.weight)
    torch.testing.assert_close(model.decode(TOKENS, own), model.decode(TOKENS, other))


def check_E13():
    x = torch.randn(1, 4, 8)
    y = torch.cat([x[:, :3], torch.randn(1, 1, 8)], dim=1)                # another last token
    for causal in (True, False):
        torch.manual_seed(0)
        attend = MultiHeadAttention(8, 2, causal=causal)
        assert torch.allclose(attend(x)[:, :3], attend(y)[:, :3], atol=1e-6) == causal


def check_E14():
    right = entries("1-image2text")["E14"]["right"]
    assert "lin2014coco" in right and all(word in right for word in ("non-iconic", "context", "localisation"))


def check_E15():
    truth = annotation.ground_truth([sample_scene(0, i) for i in range(60)])
    sharp = annotation.Worker(attention=1.0, half_area=0.0, slip=0.0, false_alarm=0.0)
    found = annotation.label_categories(truth, [sharp], np.random.default_rng(0)).union()
    assert (found == truth.present).all()
    groups = [[annotation.NAMES.index(c.name) for c in CATEGORIES if c.supercategory == group]
              for group in annotation.GROUPS]
    assert max(found[:, members].sum(1).max() for members in groups) >= 2   # two icons for one group


def check_E17():
    assert 22 * 3600 / 1000 == pytest.approx(79.2)
    assert annotation.worker_hours([2_500_000], [79.2]) == pytest.approx(55_000)
    assert annotation.worker_hours([8 * 2_500_000], [79.2]) == pytest.approx(440_000)


def check_E18():
    assert 82_783 + 40_504 == 118_287 + 5_000 == 123_287
    assert 604_907 + 291_875 == 860_001 + 36_781 == 896_782


def check_E19():
    listed = re.search(r"twelve groups of the release are called (.*?)\.", text_of("1-image2text"))
    assert len(set(re.split(r", | and ", listed[1]))) == 12


def check_E20():
    model, plain = tiny(), tiny(mesh="last", memory=0)
    assert model.levels_of(0, model.encode(picture()).levels).shape[1] == 3
    assert plain.levels_of(0, plain.encode(picture()).levels).shape[1] == 1


def check_E21():
    model = tiny()
    before = [parameter.clone() for name, parameter in model.named_parameters() if "memory" in name]
    for _ in range(3):
        greedy(model, model.encode(torch.randn(1, 5, 6)), max_len=4)
    assert all(
        torch.equal(a, b) for a, b in zip(before, (p for n, p in model.named_parameters() if "memory" in n))
    )


def check_E22():
    rows = EncoderLayer(16, 2, 32).eval()(torch.randn(1, 5, 16))
    torch.testing.assert_close(rows.mean(-1), torch.zeros(1, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(-1, correction=0), torch.ones(1, 5), atol=1e-3, rtol=0)


CHECKS = {name.removeprefix("check_"): check for name,
          check in globals().items() if name.startswith("check_E")}


@pytest.mark.parametrize("erratum", CHECKS)
def test_the_check_of_an_entry_holds(erratum):
    with torch.no_grad():
        CHECKS[erratum]()


def test_every_entry_of_chapter_1_is_checked_by_a_program_or_by_reading_a_named_source():
    assert set(CHECKS) | READING["1-image2text"] == {e for chapter, e in ERRATA if chapter == "1-image2text"}


def month(key: str) -> str:
    """Year and month of a paper, as the number that arXiv gave it says: "1605" for May 2016."""
    bib = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    return re.search(rf"^@\w+\{{{key},.*?arXiv:(\d{{4}})\.", bib, re.M | re.S)[1]


def test_e15_three_systems_that_the_survey_names_and_leaves_out_are_younger_than_its_last():
    keys = ("nichol2022glide", "ramesh2022dalle2", "saharia2022imagen", "yu2022parti")
    later = [month(key) for key in keys]
    assert later == sorted(set(later)) and later[0] == "2112" and later[-1] <= "2209"


def test_e16_a_variational_autoencoder_drew_captions_before_any_gan_did():
    assert month("mansimov2016aligndraw") < month("reed2016generative")


def test_e23_the_future_of_the_survey_was_past():
    keys = ("zhang2017stackgan", "xu2018attngan", "zhu2019dmgan", "tao2022dfgan")
    assert [month(key)[:2] for key in keys] == ["16", "17", "19", "20"] and max(map(month, keys)) < "2209"


def test_e33_those_that_glide_competed_with_in_september_2022_are_younger_and_their_distances_smaller():
    later = {"ramesh2022dalle2": 10.39, "saharia2022imagen": 7.27, "yu2022parti": 7.23}
    assert all(month("nichol2022glide") < month(key) <= "2209" for key in later)
    stated = re.findall(r"\d+\.\d\d", entries("2-text2image")["E33"]["right"])
    assert [float(x) for x in stated] == [12.24, *later.values()] and max(later.values()) < 12.24


def numbers_of_tests(chapter: str, form: str) -> set[str]:
    """What names of a chapter's tests match, "E7" for ``test_e7_...``; some of chapter 2 are in this file."""
    files = [path for folder in TESTED[chapter] for path in (ROOT / "tests" / folder).glob("*.py")]
    if chapter == "2-text2image":
        files.append(ROOT / "tests" / "book" / "test_errata.py")
    names = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return {number.upper() for number in re.findall(rf"(?m)^def test_{form}_", names)}


@pytest.mark.parametrize("chapter", TESTED)
def test_every_slip_of_the_booklet_has_a_test_that_bears_its_number(chapter):
    listed = set(re.findall(r"\*\*(B\d+)\*\*", page_of(chapter)))
    assert listed and numbers_of_tests(chapter, r"booklet_(b\d+)") == listed - READING[chapter]


@pytest.mark.parametrize("chapter", TESTED)
def test_every_entry_of_a_chapter_is_checked_by_a_test_that_bears_its_number(chapter):
    known = {e for c, e in ERRATA if c == chapter} - READING[chapter]
    assert numbers_of_tests(chapter, r"([ep]\d+)") == known | set(SOURCES[chapter])
