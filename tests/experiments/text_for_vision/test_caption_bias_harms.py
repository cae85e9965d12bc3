"""What the side page on bias reads off the runs of ``caption-bias``."""

import pytest

from mmlearn.experiments import results
from mmlearn.experiments.text_for_vision.caption_bias import harms


def test_a_role_is_shown_as_often_as_groups_and_roles_say_on_average():
    run = {"gap": 0.4, "labels": {"0.1": [[1.0, 0.5], [0.1, 0.8]], "0.5": [[0, 0], [0, 0]]},
           "pose errors": {"agreeing": 0.2, "counter-examples": 0.7}}
    assert harms(run) == pytest.approx({"gap of the role": 0.4, "role shown at 0.1": 0.6,
                                        "pose wrong, counter-examples": 0.7, "pose wrong, agreeing": 0.2})


def test_filtered_words_are_not_shown_and_a_bias_without_remedy_is_there_in_every_run():
    runs = results("caption-bias")["runs"]
    assert all(harms(run)["role shown at 0.1"] < 0.1 for run in runs["role words left out"])
    assert all(harms(run)["gap of the role"] > 0.5 < harms(run)["pose wrong, counter-examples"]
               for run in runs["0.9"])
