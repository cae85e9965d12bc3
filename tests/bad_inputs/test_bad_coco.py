"""Whatever stands in a file of COCO's, it is read rightly or refused in one sentence that names it.

``MMLEARN_BAD_INPUTS=2000`` tries that many scrambled files and the whole table of wrong fields.
"""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from coco import CAPTIONS, COUNT, FOUND, INSTANCES, TABLES, Case, H, W, scrambled, table
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmlearn.cli import main
from mmlearn.cli.evaluate import read_captions as read_candidates
from mmlearn.data.captioned_files import read_captions
from mmlearn.data.coco import CocoCaptions, CocoFolder, read_karpathy

CASES = list(table())[::1 if COUNT else 9] + list(scrambled(COUNT or 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures and a place for files."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (W, H)).save(folder / name)
    (folder / "sub").mkdir()
    return folder


def read(case: Case, folder) -> None:
    """Read a case as its reader does; raise what is wrong with it."""
    first, second = folder / "annotations.json", folder / "results.json"
    first.write_text(case.annotations, encoding="utf-8")
    if case.results is not None:
        second.write_text(case.results, encoding="utf-8")
    if case.reader == "captions":
        for record in CocoCaptions(folder, first).records:
            assert type(record.image_id) in (int, str) and all(map(str.strip, record.captions))
    elif case.reader == "karpathy":
        assert all(map(str.strip, [c for r in read_karpathy(folder, first) for c in r.captions]))
    elif case.reader == "instances":
        data = CocoFolder(folder, first)
        for item in (data[i] for i in range(len(data))):
            assert bool(item["boxes"].isfinite().all()) and bool((item["area"] >= 0).all())
    elif case.reader == "evaluate captions":
        candidates, references = read_candidates(first, second)
        assert candidates.keys() == references.keys()
    else:
        out, err = io.StringIO(), io.StringIO()
        masks = ["--masks"] if case.reader == "evaluate masks" else []
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["evaluate", "detections", str(first), str(second), "--json", *masks])
        if code:
            raise ValueError(err.getvalue().strip().split("\n")[-1])
        ours = list(json.loads(out.getvalue()).values())
        assert all(map(math.isfinite, ours))
        if (theirs := official(case, masks)) is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def official(case: Case, masks: list[str]) -> np.ndarray | None:
    """The numbers of pycocotools where it gives some. Only what we have read may come here: it would end the
    process for what we refuse."""
    truth, found = (json.loads(str(part).lstrip("\ufeff")) for part in (case.annotations, case.results))
    for i, row in enumerate(truth["annotations"]):                  # it loses the annotation whose id is 0
        row["id"] = i + 1
    coco = COCO()
    coco.dataset = truth
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(found), "segm" if masks else "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
    except Exception:
        return None
    return evaluation.stats


def complaint(case: Case, folder) -> str | None:
    """What is wrong with how a case is read or refused, if anything."""
    try:
        read(case, folder)
    except (ValueError, OSError) as error:
        told = str(error)
        if not ("annotations.json" in told or "results.json" in told) or "\n" in told or len(told) > 900:
            return f"the sentence: {told[:300]}"
        return f"refused: {told}" if case.fits else None
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "silent" if case.fits is False else None


def test_a_wrong_field_is_refused_by_name_and_an_odd_one_read_as_what_it_means(folder):
    wrong = [f"{case.about}: {told}" for case in CASES if (told := complaint(case, folder)) is not None]
    assert not wrong, f"{len(wrong)} of {len(CASES)}:\n" + "\n".join(wrong[:40])


def test_files_without_a_fault_are_read(folder):
    for reader, results in (("captions", None), ("evaluate captions", json.dumps(
            [{"image_id": 3.0, "caption": ""}, {"image_id": 7, "caption": "dogs"}]))):
        assert complaint(Case(reader, json.dumps(CAPTIONS), results, True, reader), folder) is None
    for reader in ("evaluate boxes", "evaluate masks", "instances"):
        case = Case(reader, json.dumps(INSTANCES), json.dumps(FOUND), True, reader)
        assert complaint(case, folder) is None


@pytest.mark.parametrize("number", range(len(TABLES)))
def test_a_table_of_captions_is_read_or_refused_by_name(folder, number):
    content, fits = TABLES[number]
    path = folder / "table.csv"
    path.write_bytes(content)
    try:
        found = read_captions(path)
    except (ValueError, OSError) as error:
        assert not fits and "table.csv" in str(error) and "\n" not in str(error)
    else:
        assert fits and found[0].captions
