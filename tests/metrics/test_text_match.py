"""R-precision, the three CLIP scores and attribute accuracy: by loops, by chance, against torchmetrics."""

import pytest
import torch
import torch.nn.functional as F

from mmlearn.metrics.text_match import (
    attribute_accuracy,
    clip_score,
    clip_score_logit,
    clip_score_percent,
    draw_candidates,
    r_precision,
)


def embeddings(n, e=6, seed=0):
    return torch.randn(n, e, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_candidates_are_different_and_of_other_classes():
    classes = torch.arange(60) % 4
    drawn = draw_candidates(classes, 20, generator=generator())
    assert drawn.shape == (60, 20)
    for i, row in enumerate(drawn.tolist()):
        assert len(set(row)) == 20 and all(classes[j] != classes[i] for j in row)
    counts = torch.bincount(drawn.flatten(), minlength=60)
    assert (counts > 5).all() and (counts < 45).all()                    # each sentence stands about 20 times
    assert torch.equal(drawn, draw_candidates(classes, 20, generator=generator()))


@pytest.mark.equation("eq:r-precision")
def test_r_precision_is_counted_by_a_loop():
    u = embeddings(24)
    v = u + 0.8 * embeddings(24, seed=1)
    classes = torch.arange(24) // 2
    got = r_precision(u, v, classes, candidates=9, folds=4, generator=generator(), chunk=24)
    wrong = draw_candidates(classes, 9, generator=generator())
    hits = []
    for i in range(24):
        mine = float(F.cosine_similarity(u[i], v[i], dim=0))
        hits.append(all(mine > float(F.cosine_similarity(u[i], v[j], dim=0)) for j in wrong[i].tolist()))
    assert got.hits.tolist() == hits and 0 < sum(hits) < 24
    folds = torch.tensor(hits).double().view(4, 6).mean(1)
    assert got.mean == pytest.approx(float(folds.mean()))
    assert got.std == pytest.approx(float(folds.std(correction=0)))


def test_chance_is_one_in_a_hundred_and_a_perfect_encoder_finds_all():
    u = embeddings(3000)
    by_chance = r_precision(u, embeddings(3000, seed=1), generator=generator(), folds=10)
    assert by_chance.mean == pytest.approx(0.01, abs=0.006)
    assert r_precision(u[:200], 3 * u[:200], generator=generator()).mean == 1.0


def test_an_encoder_that_says_the_same_of_everything_finds_nothing():
    u = embeddings(1).expand(40, -1)
    assert r_precision(u, u, candidates=9, folds=2).mean == 0.0
    twice = embeddings(20).repeat(2, 1)                           # each sentence twice: they tie, and so lose
    assert r_precision(twice, twice, candidates=39, folds=1).mean == 0.0
    assert r_precision(twice, twice, torch.arange(40) % 20, candidates=30, folds=1).mean == 1.0


def test_rows_that_fill_no_fold_are_left_out_of_the_mean_alone():
    u = embeddings(23)
    got = r_precision(u, u, candidates=9, folds=10)
    assert len(got.hits) == 23 and got.mean == 1.0


@pytest.mark.equation("eq:clip-score")
@pytest.mark.equation("eq:clip-score-percent")
@pytest.mark.equation("eq:clip-score-logit")
def test_the_three_clip_scores_clamp_at_different_places():
    u, v = embeddings(40), embeddings(40, seed=1)
    c = [float(F.cosine_similarity(a.double(), b.double(), dim=0)) for a, b in zip(u, v)]
    assert clip_score(u, v) == pytest.approx(sum(2.5 * max(x, 0) for x in c) / 40)
    assert clip_score_percent(u, v) == pytest.approx(max(100 * sum(c) / 40, 0))
    assert clip_score_logit(u, v, 20) == pytest.approx(20 * sum(c) / 40)
    assert clip_score(u, -u) == 0 and clip_score_percent(u, -u) == 0
    assert clip_score_logit(u, -u) == pytest.approx(-100)
    assert clip_score_percent(3 * u, u) == pytest.approx(100)


@pytest.mark.parity
def test_the_percentage_is_that_of_torchmetrics():
    metric = pytest.importorskip("torchmetrics.multimodal.clip_score")
    u, v = embeddings(6), embeddings(6, seed=1) + 0.5 * embeddings(6)

    class Given(torch.nn.Module):
        """A stand-in for CLIP whose embeddings are those above."""

        config = None

        def get_image_features(self, pixels):
            return u

        def get_text_features(self, ids, mask):
            return v

    def processor(images=None, text=None, **options):
        return {"pixel_values": torch.zeros(6, 3, 2, 2), "input_ids": torch.zeros(6, 3),
                "attention_mask": torch.ones(6, 3)}

    theirs = metric.CLIPScore(lambda: (Given(), processor))
    theirs.update([torch.zeros(3, 2, 2)] * 6, ["a"] * 6)
    assert clip_score_percent(u, v) == pytest.approx(float(theirs.compute()), rel=1e-5)


@pytest.mark.equation("eq:attribute-accuracy")
def test_attributes_are_counted_where_the_sentence_says_them():
    answers = {"colour": torch.tensor([0, 1, 2, 2]), "category": torch.tensor([5, 5, 1, 0]),
               "setting": torch.tensor([0, 0, 0, 0])}
    wanted = {"colour": torch.tensor([0, 1, 1, -1]), "category": torch.tensor([5, 4, 1, -1]),
              "setting": torch.full((4,), -1)}
    got = attribute_accuracy(answers, wanted)
    assert got == pytest.approx({"colour": 2 / 3, "category": 2 / 3, "all": 1 / 3})
    with pytest.raises(ValueError, match="no answers for size"):
        attribute_accuracy(answers, wanted | {"size": torch.zeros(4, dtype=torch.long)})
    with pytest.raises(ValueError, match="no sentence asks"):
        attribute_accuracy(answers, {"setting": wanted["setting"]})
    with pytest.raises(ValueError, match="colour: 4 answers for 3 sentences"):
        attribute_accuracy(answers, {"colour": wanted["colour"][:3]})


def test_embeddings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 pictures, 4 sentences and 3 classes"):
        r_precision(embeddings(3), embeddings(4))
    with pytest.raises(ValueError, match="5 pictures cannot be put into 10 folds"):
        r_precision(embeddings(5), embeddings(5), candidates=2)
    with pytest.raises(ValueError, match="19 sentences are left for the largest class, 99 candidates"):
        r_precision(embeddings(20), embeddings(20))
    with pytest.raises(ValueError, match="a sentence for each picture"):
        clip_score(embeddings(3), embeddings(4))
