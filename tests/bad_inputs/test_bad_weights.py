"""Whatever stands in weights, configurations, tokenisers, archives and answers, it is rightly read or refused
in one sentence that names it, in little memory.

``MMLEARN_BAD_INPUTS=3600`` tries that many.
"""

import os
import resource

import pytest
from weights import AREAS, judge

COUNT = int(os.environ.get("MMLEARN_BAD_INPUTS", "0")) or 120


@pytest.mark.parametrize("area", range(len(AREAS)), ids=lambda i: f"{i}-{AREAS[i].__name__}")
def test_a_bad_file_is_refused_in_one_sentence_or_rightly_read(area):
    verdicts = [judge(i) for i in range(area, COUNT, len(AREAS))]
    assert verdicts and [verdict for verdict in verdicts if verdict[0] != "clean"] == []


def test_the_memory_for_it_is_bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(COUNT, COUNT + len(AREAS)):
        judge(i)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes
