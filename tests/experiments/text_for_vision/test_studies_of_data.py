"""The studies of chapter 4 run from the command line, in small, and the committed results are of their
shape."""

import json

import pytest

from mmlearn.claims import paired
from mmlearn.experiments import main, results
from mmlearn.experiments.text_for_vision.caption_bias import AGREEMENTS, CLASSES, REMEDIES
from mmlearn.experiments.text_for_vision.noise_scale import crossing
from mmlearn.experiments.text_for_vision.robustness import ARMS, GROUPS, SAME, SHIFTS


@pytest.mark.slow
def test_the_robustness_study_measures_all_arms_against_the_reference_line(tmp_path):
    assert main(["robustness", "--seeds", "1", "--steps", "20", "--train", "24", "--test", "12", "--batch",
                 "8", "--images", "6", "24", "--out", str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["runs"]) == set(ARMS) and len(told["reference"]) == 4
    assert set(told["effective robustness"][ARMS[0]]) == set(SHIFTS) and set(
        told["by group"][ARMS[0]]
    ) == set(GROUPS)


def test_the_noise_study_compares_sizes(tmp_path):
    assert main(["noise-scale", "--seeds", "1", "--steps", "2", "--batch", "8", "--test", "6", "--clean", "8",
                 "12", "--noisy", "12", "--out", str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["clean"]) == {"8", "12"} and set(told["noisy"]) == set(told["smoothed"]) == {"12"}


def test_clean_pictures_are_read_off_between_the_sizes_measured():
    clean = {100: 0.2, 400: 0.6}
    assert crossing(clean, 0.4) == pytest.approx(200) and crossing(clean, 0.2) == pytest.approx(100)
    assert crossing(clean, 0.7) is None and crossing(clean, 0.1) is None


def test_the_filter_study_counts_what_the_rules_leave(tmp_path):
    assert main(["text-filters", "--seeds", "1", "--steps", "2", "--batch", "8", "--train", "40", "--test",
                 "6", "--out", str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["junk texts"]["with junk"] >= 14 > told["junk texts"]["captions alone"] == 0
    assert (
        told["pictures"]["with junk"] == 40
        and told["junk texts"]["after the rules"] <= told["junk texts"]["with junk"]
    )


@pytest.mark.slow
def test_the_unicl_study_draws_curves_and_stages(tmp_path):
    assert main(["unicl", "--seeds", "1", "--steps", "2", "--every", "1", "--batch", "8", "--train", "16",
                 "--test", "6", "--staged-steps", "2", "--staged-train", "12", "--out",
                 str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert (
        all(set(runs) == {"CLIP", "UniCL"} for runs in told["curves"].values()) and len(told["stages"]) == 4
    )


@pytest.mark.slow
def test_the_bias_study_tries_agreements_and_remedies(tmp_path):
    assert main(["caption-bias", "--seeds", "1", "--steps", "2", "--count", "24", "--others", "8", "--test",
                 "12", "--out", str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["runs"]) == {*map(str, AGREEMENTS),
                                 *REMEDIES} and set(told["runs"]["0.9"][0]["shares"]) == set(CLASSES)


@pytest.mark.slow
def test_the_detector_study_trains_with_and_without_the_head(tmp_path):
    assert main(["dynamic-head", "--seeds", "1", "--steps", "2", "--batch", "2", "--images", "4", "--test",
                 "3", "--out", str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    (head,), (without,) = told["runs"]["Dynamic Head"], told["runs"]["no head"]
    assert head["parameters"] > without["parameters"] and told["settings"]["config"]["head"]["blocks"] == 1


# ---- what the chapter says about the committed results -----------------------------------------------------

def test_broad_pictures_and_not_captions_make_models_robust():
    by_group = results("robustness")["by group"]
    for supervision in ("labels", "captions"):
        for group in ("styles of the broad world", "new places"):
            assert (
                by_group[f"{supervision}, broad"][group]
                > 0.4
                > 0.1
                > abs(by_group[f"{supervision}, narrow"][group])
            )
    assert all(by_group[arm]["styles new to all"] < 0.02 for arm in ARMS)


def test_adapting_gains_at_home_and_loses_elsewhere():
    runs = results("robustness")["runs"]
    for zero_shot, adapted in zip(runs["captions, broad"], runs[ARMS[-1]]):
        assert adapted[SAME] > zero_shot[SAME] + 0.05 and adapted["moved"] < zero_shot["moved"] - 0.2
        assert adapted["sketch"] < zero_shot["sketch"]


def test_unicl_is_better_with_several_wordings_early_and_equal_with_one():
    curves = results("unicl")["curves"]
    tops = {(kind, loss): [run["top-1"] for run in runs]
            for kind, both in curves.items() for loss, runs in both.items()}
    steps = curves["eight wordings"]["CLIP"][0]["step"]
    early = [step for n, step in enumerate(steps)
             if paired([t[n] for t in tops["eight wordings", "UniCL"]],
                       [t[n] for t in tops["eight wordings", "CLIP"]]).verdict == "better"]
    assert early == [20, 30]
    for clip, unicl in zip(tops["one wording", "CLIP"], tops["one wording", "UniCL"]):
        assert max(abs(u - c) for c, u in zip(clip, unicl)) < 0.03


def test_a_second_stage_without_prompts_trades_classification_for_retrieval():
    stages = results("unicl")["stages"]
    for metric in ("image to text R@1", "text to image R@1"):
        assert all(a[metric] < b[metric] < c[metric] < d[metric] for a, b, c, d in zip(*stages.values()))
    first, *later = stages.values()
    for runs in later:
        assert paired(*([run["top-1"] for run in arm] for arm in (runs, first))).verdict == "worse"


def test_uneven_captions_are_amplified():
    runs = results("caption-bias")["runs"]
    for agreement in (0.6, 0.75, 0.9):
        for run in runs[str(agreement)]:
            probabilities = run["probabilities"][0][0] - run["probabilities"][1][0]
            assert run["gap"] > 2 * agreement - 1 and run["gap"] > probabilities > 2 * agreement - 1 - 0.1


def test_eight_times_as_many_noisy_pictures_beat_the_smallest_clean_set_and_no_more_is_known():
    told = results("noise-scale")
    verdicts = {(n, c): paired(told["noisy"][n], told["clean"][c]).verdict
                for n in told["noisy"] for c in told["clean"]}
    assert verdicts["2000", "250"] == "better"
    assert verdicts["1000", "1000"] == verdicts["8000", "1000"] == "worse"
    assert {verdicts["4000", "500"], verdicts["8000", "500"], verdicts["1000", "250"]} == {"cannot tell"}
    assert paired(told["noisy"]["8000"], told["noisy"]["4000"]).verdict == "cannot tell"
    assert paired(told["smoothed"]["8000"], told["noisy"]["8000"]).verdict == "cannot tell"


def test_rules_about_texts_help_on_half_junk():
    runs = results("text-filters")["runs"]
    assert paired(runs["after the rules"], runs["with junk"]).verdict == "better"
    assert paired(runs["after the rules"], runs["captions alone"]).verdict == "cannot tell"


def test_the_rows_of_the_ablation_say_what_the_chapter_says():
    runs = {name: [run["scores"]["zero-shot"] for run in rows] for name,
            rows in results("contrastive-ablation")["variants"].items()}
    for full, half, quarter, hot, smooth in zip(
        runs["CLIP"],
        runs["half the negatives"],
        runs["a quarter of the negatives"],
        runs["temperature fixed at 1"],
        runs["label smoothing 0.1"],
    ):
        assert smooth > full > half > quarter > 3 * hot
    mean = {name: sum(rows) / len(rows) for name, rows in runs.items()}
    assert paired(runs["sigmoid"], runs["sigmoid, bias -5"]).verdict == "worse"
    assert paired(runs["sigmoid, bias -5"], runs["CLIP"]).verdict == "worse"
    assert mean["CLIP"] - mean["sigmoid, bias -5"] < 0.05 < mean["CLIP"] - mean["sigmoid"]
    spread = max(runs["CLIP"]) - min(runs["CLIP"])
    assert (
        abs(mean["positive left out"] - mean["CLIP"]) < spread
        and abs(mean["temperature fixed at 0.07"] - mean["CLIP"]) < spread
    )


def test_both_detectors_were_trained_from_the_same_seeds_and_find_things():
    """Which of them is better, the page's table says by the rule of evidence."""
    head, without = results("dynamic-head")["runs"].values()
    assert [run["seed"] for run in head] == [run["seed"] for run in without] and len(head) >= 2
    assert all(run["test"]["AP50"] > 0.5 for run in (*head, *without))
