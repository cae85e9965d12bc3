"""Inception Score as information, intervals that cover, and all measures of two sets at once."""

import math

import pytest
import torch

from mmlearn.metrics.frechet import GaussianStatistics, frechet_distance
from mmlearn.metrics.generation import (
    Score,
    attribute_scores,
    bootstrap,
    compare,
    conditional_information,
    features_of,
    inception_score,
    match_scores,
    subsets,
)
from mmlearn.metrics.text_match import attribute_accuracy, clip_score, r_precision


def logits(n, c=5, seed=0, scale=2.0):
    return scale * torch.randn(n, c, generator=torch.Generator().manual_seed(seed))


@pytest.mark.equation("eq:inception-score")
def test_the_inception_score_is_the_formula_on_each_split():
    given = logits(7)
    def score(part):
        p = [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in part.tolist()]
        marginal = [sum(row[c] for row in p) / len(p) for c in range(5)]
        return math.exp(sum(q * math.log(q / m) for row in p for q, m in zip(row, marginal)) / len(p))

    assert inception_score(given, 1) == (pytest.approx(score(given)), 0.0)
    both = [score(given[:4]), score(given[4:])]
    got = inception_score(given, 2)
    assert got.mean == pytest.approx(sum(both) / 2) and got.std == pytest.approx(abs(both[0] - both[1]) / 2)


@pytest.mark.equation("eq:inception-information")
def test_its_logarithm_is_the_mutual_information_of_a_finite_table():
    """Three pictures drawn alike, two classes: I(x; y) from the joint table."""
    table = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    joint, marginal = table / 3, table.mean(0)
    want = sum(float(joint[x, y] * math.log(joint[x, y] / (marginal[y] / 3)))
               for x in range(3) for y in range(2))
    assert float(conditional_information(table.log())) == pytest.approx(want)
    assert inception_score(table.log(), 1).mean == pytest.approx(math.exp(want))


def test_the_score_lies_between_one_and_the_number_of_classes():
    sure = 1e4 * torch.eye(5).repeat(4, 1)
    assert inception_score(sure, 1).mean == pytest.approx(5)             # sure of each, and all classes there
    assert inception_score(sure[:1].expand(20, -1), 4) == (pytest.approx(1), 0.0)
    assert inception_score(torch.zeros(20, 5), 2).mean == pytest.approx(1)
    assert 1 < inception_score(logits(50)).mean < 5


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Metric .* will save all:UserWarning")
@pytest.mark.parametrize("splits", [2, 10])
def test_the_score_is_that_of_torchmetrics(splits):
    module = pytest.importorskip("torchmetrics.image.inception")
    given = logits(200)
    theirs = module.InceptionScore(feature=torch.nn.Identity(), splits=splits)
    theirs.update(given)
    torch.manual_seed(0)
    mean, std = theirs.compute()
    torch.manual_seed(0)
    ours = inception_score(given[torch.randperm(200)], splits)             # they shuffle, and divide by n - 1
    assert ours.mean == pytest.approx(float(mean), rel=1e-5)
    assert ours.std * math.sqrt(splits / (splits - 1)) == pytest.approx(float(std), rel=1e-4)


def test_a_bootstrap_interval_covers_an_accuracy_as_often_as_it_says():
    g, covered = torch.Generator().manual_seed(0), 0
    for _ in range(100):
        hits = (torch.rand(200, generator=g) < 0.7).double()
        found = bootstrap(lambda i, hits=hits: float(hits[i].mean()), 200, 100, 0.9, g)
        covered += found.low <= 0.7 <= found.high
        assert found.value == float(hits.mean())
    assert 80 <= covered <= 99


def test_a_set_drawn_with_repetition_is_farther_from_the_real_one_than_itself():
    """Why sets are not resampled: the interval of the bootstrap does not even contain the value."""
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    real = GaussianStatistics.of(x[:200])
    def metric(i):
        return frechet_distance(real, GaussianStatistics.of(x[200:][i]))

    found = bootstrap(metric, 200, 40, generator=torch.Generator().manual_seed(1))
    assert found.low > found.value


@pytest.mark.equation("eq:subset-interval")
def test_an_interval_from_subsets_shrinks_with_the_square_root():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    found = subsets(lambda i: float(x[i].mean()), 1000, 100, repeats=300, generator=g)
    assert found.value == pytest.approx(float(x.mean()), abs=0.03)
    half = (found.high - found.low) / 2                                  # a mean's: 1.96 / sqrt(1000) = 0.062
    assert half == pytest.approx(1.96 / math.sqrt(1000), rel=0.2)


def test_all_measures_name_their_network_and_what_was_compared():
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(60, 4, generator=g), torch.randn(50, 4, generator=g) + 0.2
    found = compare(real, fake, "scene classifier", logits=logits(50), block=20, generator=g)
    assert list(found) == ["Frechet distance", "kernel distance", "precision", "recall", "Inception Score"]
    assert all(score.network == "scene classifier" and score.pictures == 50 for score in found.values())
    assert found["recall"].real == 60 and found["Inception Score"].real == 0
    want = frechet_distance(GaussianStatistics.of(real), GaussianStatistics.of(fake))
    assert found["Frechet distance"].value == want
    kernel = found["kernel distance"]
    assert kernel.low < kernel.value < kernel.high and found["precision"].low is None
    one = compare(real, fake, "scene classifier", logits=logits(50), splits=1, block=100)
    assert one["Inception Score"].low is None and one["kernel distance"].low is not None
    assert compare(real[:50], fake, "scene classifier")["kernel distance"].low is None      # one block
    assert "Inception Score" not in compare(real, fake, "scene classifier", block=20)
    assert str(Score("FID", 12.345, "Lite0", 5000, 4000, 11.9, 12.8)) == (
        "FID 12.35 [11.9, 12.8] (Lite0; 5,000 pictures against 4,000)")


def test_scores_of_pictures_and_sentences_are_those_of_the_metrics_with_intervals():
    g = torch.Generator().manual_seed(0)
    u = torch.randn(60, 6, generator=g)
    v = u + 0.8 * torch.randn(60, 6, generator=g)
    found = match_scores(u, v, "CLIP miniature", candidates=19, generator=torch.Generator().manual_seed(1))
    want = r_precision(u, v, candidates=19, folds=1, generator=torch.Generator().manual_seed(1)).mean
    assert found["R-precision"].value == pytest.approx(want)
    assert found["CLIP score"].value == pytest.approx(clip_score(u, v))
    answers = {name: torch.randint(3, (60,), generator=g) for name in ("colour", "category")}
    wanted = {"colour": torch.ones(60, dtype=torch.long), "category": torch.full((60,), -1)}
    wanted["category"][0] = 2
    of_attributes = attribute_scores(answers, wanted, "scene classifier", generator=g)
    assert {name: score.value for name, score in of_attributes.items()} == pytest.approx(
        attribute_accuracy(answers, wanted))
    assert of_attributes["category"].pictures == 1 and of_attributes["category"].low is None
    for score in (*found.values(), of_attributes["colour"], of_attributes["all"]):
        assert score.low < score.value < score.high and score.pictures == 60


def test_features_are_gathered_over_batches():
    class Mean:
        name, num_features = "mean colour", 3

        def __call__(self, images):
            return images.mean(dim=(2, 3))

    images = torch.rand(5, 3, 2, 2, requires_grad=True)
    got = features_of(Mean(), images.split(2))
    assert torch.equal(got, images.mean(dim=(2, 3))) and not got.requires_grad
    with pytest.raises(ValueError, match="no pictures came"):
        features_of(Mean(), [])


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="3 pictures cannot be split into 10"):
        inception_score(logits(3))
    with pytest.raises(ValueError, match="1 pictures at level 0.95"):
        bootstrap(lambda i: 0.0, 1)
    with pytest.raises(ValueError, match="give a size from 2 to 50"):
        subsets(lambda i: 0.0, 100, 51)
