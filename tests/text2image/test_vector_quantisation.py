"""Vector quantisation: nearest codes, gradients that pass, codebooks that learn, what a code costs."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import vectors

from mmlearn.text2image import vector_quantisation as vq
from mmlearn.text2image.vector_quantisation import (
    Codebook,
    EMACodebook,
    FactorisedCodebook,
    averaged_codes,
    code_bits,
    codebook_loss,
    commitment_loss,
    debias,
    kl_to_uniform,
    legacy_loss,
    moving_average,
    nearest_codes,
    normalise,
    perplexity,
    smoothed_counts,
    squared_distances,
    straight_through,
    usage,
    vq_loss,
)

pytestmark = pytest.mark.usefixtures("seeded")


def naive_codes(z, codebook):
    codes = []
    for row in z.tolist():
        distances = [sum((a - b) ** 2 for a, b in zip(row, code)) for code in codebook.tolist()]
        codes.append(distances.index(min(distances)))
    return torch.tensor(codes)


KINDS = {
    "gradient": lambda: Codebook(12, 6),
    "normalised": lambda: Codebook(12, 6, normalised=True),
    "averages": lambda: EMACodebook(12, 6),
    "normalised averages": lambda: EMACodebook(12, 6, normalised=True),
    "factorised": lambda: FactorisedCodebook(12, 6, 3),
}


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:vq-distance")
def test_a_squared_distance_is_three_products():
    z, e = vectors(5, 3), vectors(4, 3)
    want = [[sum((z[i, m] - e[j, m]) ** 2 for m in range(3)) for j in range(4)] for i in range(5)]
    torch.testing.assert_close(squared_distances(z, e), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:vq-nearest")
@pytest.mark.parametrize("rows", [None, 1, 4, 7, 100])
def test_the_nearest_code_is_that_of_the_least_distance_however_many_rows_at_a_time(rows):
    z, e = vectors(17, 3), vectors(9, 3)
    assert torch.equal(nearest_codes(z, e, rows), naive_codes(z, e))
    assert torch.equal(nearest_codes(z, e, rows), squared_distances(z, e).argmin(dim=1))


def test_of_equally_near_codes_the_first_is_taken():
    e = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert nearest_codes(torch.tensor([[0.0, 2], [2, 0], [1, 1]]), e).tolist() == [1, 0, 0]


def test_no_vectors_have_no_codes():
    assert nearest_codes(torch.empty(0, 3), torch.randn(4, 3)).shape == (0,)


def test_codes_of_half_precision_are_found_in_single_precision():
    z, e = torch.randn(50, 8).bfloat16(), (100 + torch.randn(20, 8) / 10).bfloat16()
    assert torch.equal(nearest_codes(z, e), nearest_codes(z.float(), e.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = nearest_codes(z.float(), e.float())
    assert torch.equal(codes, nearest_codes(z.float(), e.float()))


@pytest.mark.equation("eq:vq-straight-through")
def test_straight_through_is_z_q_forwards_and_z_backwards():
    z, z_q = vectors(4, 3).requires_grad_(), vectors(4, 3).requires_grad_()
    out = straight_through(z, z_q)
    torch.testing.assert_close(out, z_q)
    weight = vectors(4, 3)
    (out * weight).sum().backward()
    assert torch.equal(z.grad, weight) and z_q.grad is None


@pytest.mark.equation("eq:vq-codebook")
@pytest.mark.equation("eq:vq-commitment")
def test_each_error_is_the_mean_square_and_moves_one_side_only():
    z, z_q = vectors(2, 3).requires_grad_(), vectors(2, 3).requires_grad_()
    want = sum((float(z[i, j]) - float(z_q[i, j])) ** 2 for i in range(2) for j in range(3)) / 6
    for loss, moved, still in ((codebook_loss, z_q, z), (commitment_loss, z, z_q)):
        z.grad = z_q.grad = None
        value = loss(z, z_q)
        value.backward()
        assert float(value) == pytest.approx(want)
        assert still.grad is None
        other = z if moved is z_q else z_q
        torch.testing.assert_close(moved.grad, 2 * (moved - other).detach() / 6)


@pytest.mark.equation("eq:vq-loss")
@pytest.mark.equation("eq:vq-legacy")
def test_beta_weights_the_commitment_and_in_the_legacy_form_the_codebook():
    a, b = torch.tensor(2.0), torch.tensor(3.0)
    assert float(vq_loss(a, b, 0.25)) == 2 + 0.25 * 3
    assert float(legacy_loss(a, b, 0.25)) == 0.25 * 2 + 3


@pytest.mark.equation("eq:vq-ema")
@pytest.mark.equation("eq:vq-debias")
def test_a_corrected_moving_average_is_the_weighted_mean_of_what_came():
    values, gamma, average = vectors(6, 2), 0.8, torch.zeros(2, dtype=torch.float64)
    for s in range(1, 7):
        average = moving_average(average, values[s - 1], gamma)
        weights = [gamma ** (s - 1 - i) for i in range(s)]
        want = sum(w * values[i] for i, w in enumerate(weights)) / sum(weights)
        torch.testing.assert_close(debias(average, gamma, s), want)
    assert float(debias(moving_average(torch.zeros(1), torch.ones(1), gamma), gamma, 1)) == pytest.approx(1)


@pytest.mark.equation("eq:vq-smooth")
def test_laplace_smoothing_keeps_the_total_and_leaves_no_count_at_zero():
    counts, eps = torch.tensor([3.0, 0, 1], dtype=torch.float64), 1e-2
    want = [(n + eps) / (4 + 3 * eps) * 4 for n in (3, 0, 1)]
    torch.testing.assert_close(smoothed_counts(counts, eps), torch.tensor(want, dtype=torch.float64))
    assert float(smoothed_counts(counts, eps).sum()) == pytest.approx(4)


@pytest.mark.equation("eq:vq-ema-code")
def test_an_averaged_code_is_the_mean_that_minimises_the_squared_distances():
    z = vectors(5, 2)
    e = averaged_codes(torch.tensor([5.0], dtype=torch.float64), z.sum(dim=0, keepdim=True), 1e-9)
    torch.testing.assert_close(e[0], sum(z) / 5)

    def cost(code):
        return sum(float((row - code).square().sum()) for row in z)

    for step in vectors(20, 2) / 10:
        assert cost(e[0] + step) > cost(e[0])


def test_without_smoothing_a_code_that_nobody_chooses_ends_as_not_a_number():
    counts, sums = torch.tensor([1.0, 0]), torch.tensor([[2.0, 2], [0, 0]])
    assert averaged_codes(counts, sums, 0.0)[1].isnan().all()
    assert averaged_codes(counts, sums, 1e-5).isfinite().all()


@pytest.mark.equation("eq:vq-normalised")
def test_the_distance_of_normalised_vectors_is_two_minus_two_cosines():
    z, e = vectors(4, 3), vectors(4, 3)
    for a, b in zip(z, e):
        cosine = float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))
        distance = (normalise(a) - normalise(b)).square().sum()
        assert float(distance) == pytest.approx(2 - 2 * cosine)


@pytest.mark.equation("eq:vq-usage")
@pytest.mark.equation("eq:vq-perplexity")
def test_perplexity_counts_codes_as_if_they_were_used_evenly():
    codes = torch.tensor([[0, 0], [1, 3], [3, 3]])
    shares = [2 / 6, 1 / 6, 0, 3 / 6]
    torch.testing.assert_close(usage(codes, 4), torch.tensor(shares))
    want = math.exp(-sum(p * math.log(p) for p in shares if p))
    assert float(perplexity(usage(codes, 4))) == pytest.approx(want, rel=1e-6)
    assert float(perplexity(torch.full((8,), 1 / 8))) == pytest.approx(8, rel=1e-6)
    assert float(perplexity(torch.eye(8)[2])) == 1


@pytest.mark.equation("eq:vq-kl")
def test_the_kl_of_a_certain_code_to_the_uniform_prior_is_log_k():
    q = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0.25] * 4], dtype=torch.float64)
    want = [sum(p * math.log(p / 0.25) for p in row if p) for row in q.tolist()]
    torch.testing.assert_close(kl_to_uniform(q), torch.tensor(want, dtype=torch.float64))
    assert float(kl_to_uniform(q)[1]) == pytest.approx(math.log(4)) and float(kl_to_uniform(q)[2]) == 0


@pytest.mark.equation("eq:vq-bits")
def test_the_bits_of_a_map_of_codes():
    assert code_bits(32 * 32, 512) == 9216
    assert 128 * 128 * 3 * 8 / code_bits(32 * 32, 512) == pytest.approx(42.67, abs=0.01)


# ------------------------------------------------------------------------------------------------- codebooks

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("places", [(), (7,), (3, 5)])
def test_a_codebook_keeps_the_shape_and_looks_up_what_it_gave(kind, places):
    book = KINDS[kind]().eval()
    z = torch.randn(4, 6, *places)
    found = book(z)
    assert found.z_q.shape == z.shape and found.codes.shape == (4, *places)
    assert torch.equal(found.codes, book.quantise(z)) and found.codes.dtype == torch.long
    torch.testing.assert_close(book.look_up(found.codes), found.z_q, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_is_quantised_as_it_is_alone(kind):
    book = KINDS[kind]().eval()
    z = torch.randn(4, 6, 5)
    together = book(z)
    for i in range(4):
        alone = book(z[i : i + 1])
        assert torch.equal(alone.codes[0], together.codes[i])
        torch.testing.assert_close(alone.z_q[0], together.z_q[i])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_the_input(kind):
    book = KINDS[kind]()
    z = torch.randn(64, 6).requires_grad_()
    found = book(z)
    (found.z_q.square().sum() + found.loss()).backward()
    assert z.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in book.parameters())
    assert ("averages" in kind) == (len(list(book.parameters())) == 0)


def test_the_reconstruction_gives_the_codebook_no_gradient_and_the_input_that_of_z_q():
    book = Codebook(12, 6).double()
    z = vectors(10, 6).requires_grad_()
    found = book(z)
    z_q = found.z_q.detach().requires_grad_()
    (z_q - 1).pow(3).sum().backward()
    (found.z_q - 1).pow(3).sum().backward()
    torch.testing.assert_close(z.grad, z_q.grad)
    assert book.weight.grad is None


def test_the_codebook_error_pulls_each_code_to_the_mean_of_its_vectors():
    book = Codebook(3, 2).double()
    z = vectors(20, 2)
    found = book(z)
    found.codebook.backward()
    for i in range(3):
        mine = z[found.codes == i]
        want = sum((2 * (book.weight[i].detach() - row) / z.numel() for row in mine), torch.zeros(2).double())
        torch.testing.assert_close(book.weight.grad[i], want)


def test_moving_averages_follow_the_formulas_step_by_step():
    gamma, eps, size, width = 0.7, 1e-3, 4, 3
    book = EMACodebook(size, width, gamma, eps).double()
    counts, sums = [0.0] * size, [[0.0] * width for _ in range(size)]
    for step in range(1, 5):
        z, before = vectors(6, width), book.weight.clone()
        found = book(z)
        codes = naive_codes(z, before).tolist()
        assert found.codes.tolist() == codes
        torch.testing.assert_close(found.z_q, before[codes])              # the codes from before the update
        assert float(found.codebook) == 0 and float(found.commitment) == pytest.approx(
            float((z - before[codes]).square().mean()))
        for i in range(size):
            mine = [z[j].tolist() for j in range(6) if codes[j] == i]
            counts[i] = gamma * counts[i] + (1 - gamma) * len(mine)
            for m in range(width):
                sums[i][m] = gamma * sums[i][m] + (1 - gamma) * sum(row[m] for row in mine)
        right = 1 - gamma**step
        total = sum(counts) / right
        for i in range(size):
            if counts[i] == 0:
                torch.testing.assert_close(book.weight[i], before[i])     # nobody chose it so far
                continue
            smooth = (counts[i] / right + eps) / (total + size * eps) * total
            want = torch.tensor([s / right / smooth for s in sums[i]], dtype=torch.float64)
            torch.testing.assert_close(book.weight[i], want)


def test_after_one_batch_the_averaged_codes_are_the_means_of_their_vectors():
    """Both averages begin with zero and are corrected for it: the first batch counts fully."""
    book = EMACodebook(3, 2, decay=0.99, eps=1e-9).double()
    z = vectors(30, 2)
    codes = book(z).codes
    for i in codes.unique().tolist():
        torch.testing.assert_close(book.weight[i], z[codes == i].mean(dim=0))
    assert float(book.debiased_counts.sum()) == pytest.approx(30)


def test_a_code_that_is_no_longer_chosen_stays_where_it_was_and_finite():
    book = EMACodebook(2, 1, decay=0.5)
    book.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    book(torch.tensor([[-1.0], [1.0]]))
    for _ in range(5):
        book(torch.tensor([[-1.0], [-1.0]]))
    assert book.weight[1, 0] == pytest.approx(1, abs=0.01)
    for _ in range(100):
        book(torch.tensor([[-1.0], [-1.0]]))
    assert book.weight.isfinite().all() and abs(float(book.weight[0]) + 1) < 1e-3


def test_in_evaluation_mode_averages_do_not_move():
    book = EMACodebook(4, 2).eval()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(torch.randn(20, 2))
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())
    assert set(before) == {"weight", "counts", "sums", "step"}


def test_saved_averages_go_on_as_if_nothing_had_happened():
    book, other = EMACodebook(4, 2), EMACodebook(4, 2)
    book(torch.randn(20, 2))
    other.load_state_dict(book.state_dict())
    z = torch.randn(20, 2)
    book(z), other(z)
    assert torch.equal(book.weight, other.weight) and int(other.step) == 2


def test_averages_find_the_clusters_of_the_data():
    centres = torch.tensor([[0.0, 0], [4, 0], [0, 4], [4, 4]])
    book = EMACodebook(4, 2, decay=0.9)
    book.restart(centres.repeat(10, 1) + torch.randn(40, 2) / 10, torch.ones(4, dtype=torch.bool),
                 torch.Generator().manual_seed(3))
    for _ in range(40):
        z = centres.repeat(16, 1) + torch.randn(64, 2) / 10
        book(z)
        book.restart(z, least=2.0)
    distances = squared_distances(centres, book.weight).min(dim=1).values
    assert distances.max() < 0.02 and float(perplexity(usage(book.quantise(z), 4))) > 3.9


@pytest.mark.parametrize("kind", ["gradient", "normalised", "averages", "normalised averages"])
def test_dead_codes_restart_at_vectors_of_the_batch(kind):
    book = KINDS[kind]()
    z = torch.randn(30, 6) + 3
    dead = torch.arange(12) % 3 == 0
    before = book.vectors.clone()
    assert book.restart(z, dead, torch.Generator().manual_seed(0)) == 4
    rows = normalise(z) if book.normalised else z
    for i in range(12):
        if dead[i]:
            assert (rows - book.vectors[i]).square().sum(dim=1).min() < 1e-10
        else:
            assert torch.equal(book.vectors[i], before[i])
    assert len(book.vectors[dead].unique(dim=0)) == 4                       # four different vectors
    assert book.restart(z, torch.zeros(12, dtype=torch.bool)) == 0


def test_a_restarted_average_is_a_mean_and_lives_on():
    book = EMACodebook(3, 1, decay=0.9)
    book.weight.copy_(torch.tensor([[0.0], [50.0], [60.0]]))
    for _ in range(3):
        book(torch.randn(20, 1))
    assert book.restart(torch.full((5, 1), 10.0)) == 2
    torch.testing.assert_close(book.debiased_counts[1:], torch.ones(2))
    book(torch.cat([torch.randn(20, 1), torch.full((5, 1), 10.0)]))
    assert book.weight[1] == pytest.approx(10, abs=1e-3)


def test_more_dead_codes_than_vectors_use_every_vector():
    book = Codebook(10, 2)
    book.restart(torch.randn(3, 2), torch.ones(10, dtype=torch.bool))
    counts = book.weight.unique(dim=0, return_counts=True)[1]
    assert counts.sum() == 10 and sorted(counts.tolist()) == [3, 3, 4]


def test_processes_that_train_together_add_their_vectors(monkeypatch):
    """Two processes with the same batch each: as one with twice the batch."""
    z = torch.randn(20, 2)
    apart, together = EMACodebook(4, 2), EMACodebook(4, 2)
    together.load_state_dict(apart.state_dict())
    together(torch.cat([z, z]))
    monkeypatch.setattr(vq.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(vq.dist, "all_reduce", lambda total: total.mul_(2))
    apart(z)
    torch.testing.assert_close(apart.weight, together.weight)
    torch.testing.assert_close(apart.counts, together.counts)


def test_factorised_codes_live_in_few_dimensions_and_have_length_one():
    book = FactorisedCodebook(12, 6, 3).double()
    z = vectors(5, 6)
    low = z @ book.down.weight.T + book.down.bias
    low = torch.stack([row / row.norm() for row in low])
    codes = torch.stack([row / row.norm() for row in book.codebook.weight])
    want = naive_codes(low, codes)
    found = book(z)
    assert torch.equal(found.codes, want) and book.codebook.weight.shape == (12, 3)
    torch.testing.assert_close(found.z_q, codes[want] @ book.up.weight.T + book.up.bias)
    assert float(found.commitment) == pytest.approx(float((low - codes[want]).square().mean()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_half_precision_are_single_and_finite(kind, dtype):
    book = KINDS[kind]()
    with torch.autocast("cpu", dtype=dtype):
        found = book(torch.randn(20, 6))
    assert found.codebook.dtype == found.commitment.dtype == torch.float32
    assert float(found.loss()) > 0 and found.z_q.isfinite().all()


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="the vectors have 5 numbers, the codes 6; project"):
        Codebook(12, 6)(torch.randn(2, 5, 3))
    with pytest.raises(ValueError, match="a codebook of 0 codes with 6 numbers"):
        Codebook(0, 6)
    with pytest.raises(ValueError, match="decay is 1.0; use a number from 0 to below 1"):
        EMACodebook(4, 6, decay=1.0)
    with pytest.raises(ValueError, match="codes are from 0 to 12, the codebook has 0 to 11"):
        Codebook(12, 6).look_up(torch.tensor([0, 12]))


# ----------------------------------------------------------------------------------------------------- parity

@pytest.mark.parity
@pytest.mark.parametrize("legacy", [True, False])
def test_the_codebook_is_that_of_diffusers(legacy):
    from diffusers.models.autoencoders.vae import VectorQuantizer

    theirs, ours = VectorQuantizer(12, 6, beta=0.25, legacy=legacy), Codebook(12, 6)
    with torch.no_grad():
        theirs.embedding.weight.normal_()
        ours.weight.copy_(theirs.embedding.weight)
    assert [p.shape for p in theirs.parameters()] == [p.shape for p in ours.parameters()]
    z = torch.randn(2, 6, 4, 5)
    results = []
    for given, run in ((z.clone().requires_grad_(), theirs), (z.clone().requires_grad_(), ours)):
        if run is theirs:
            z_q, loss, (_, _, codes) = run(given)
        else:
            found = run(given)
            z_q, loss, codes = found.z_q, found.loss(0.25, legacy), found.codes
        (z_q.square().sum() + loss).backward()
        results.append((z_q, loss, codes.flatten(), given.grad, next(run.parameters()).grad))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("normalised", [False, True])
def test_moving_averages_are_those_of_vector_quantize_pytorch_but_for_their_start(normalised):
    """Theirs start as if each code had been chosen once, uncorrected: ours, long after the start."""
    peer = pytest.importorskip("vector_quantize_pytorch")
    theirs = peer.VectorQuantize(dim=6, codebook_size=12, decay=0.9, commitment_weight=0.25,
                                 use_cosine_sim=normalised, rotation_trick=False).train()
    ours = EMACodebook(12, 6, decay=0.9, normalised=normalised)
    start = theirs._codebook.embed[0].clone()
    ours.weight.copy_(start)
    ours.sums.copy_(theirs._codebook.embed_avg[0])
    ours.counts.copy_(theirs._codebook.cluster_size[0])
    ours.step.fill_(100_000)
    for _ in range(4):
        z = torch.randn(5, 8, 6)
        a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
        z_q, codes, loss = theirs(a)
        found = ours(b.mT)
        assert torch.equal(codes, found.codes)
        torch.testing.assert_close(z_q, found.z_q.mT, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(loss, found.loss(), atol=1e-5, rtol=1e-5)
        weight = torch.randn_like(z)
        ((z_q * weight).sum() + loss).backward()
        ((found.z_q.mT * weight).sum() + found.loss()).backward()
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(theirs._codebook.embed[0], ours.vectors, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(start, ours.vectors, atol=1e-2)


@pytest.mark.parity
def test_factorised_normalised_codes_are_those_of_vector_quantize_pytorch():
    peer = pytest.importorskip("vector_quantize_pytorch")
    theirs = peer.VectorQuantize(dim=8, codebook_size=12, codebook_dim=3, use_cosine_sim=True).eval()
    ours = FactorisedCodebook(12, 8, 3).eval()
    names = {"project_in": ours.down, "project_out": ours.up}
    state = dict(theirs.named_parameters())
    for name, layer in names.items():
        for part in ("weight", "bias"):
            with torch.no_grad():
                getattr(layer, part).copy_(state.pop(f"{name}.{part}"))
    assert not state
    with torch.no_grad():
        ours.codebook.weight.copy_(theirs._codebook.embed[0])
    z = torch.randn(5, 9, 8)
    z_q, codes, _ = theirs(z)
    found = ours(z.mT)
    assert torch.equal(codes, found.codes)
    torch.testing.assert_close(z_q, found.z_q.mT, atol=1e-5, rtol=1e-5)


# ----------------------------------------------------------------------------------------------------- errata

def test_e25_the_codes_of_dall_e_are_13312_bits_and_192_times_fewer_numbers():
    assert code_bits(32 * 32, 8192) == 13_312
    assert 256 * 256 * 3 / (32 * 32) == 192


def test_booklet_b4_a_codebook_is_k_entries_of_n_z_numbers_and_not_k_dimensional():
    assert Codebook(512, 64).weight.shape == (512, 64) == EMACodebook(512, 64).weight.shape
    with pytest.raises(ValueError, match="the vectors have 512 numbers, the codes 64"):
        Codebook(512, 64)(torch.randn(2, 512))


def test_p13_the_legacy_weight_makes_gradients_of_the_codebook_four_times_smaller():
    book, z = Codebook(12, 6).double(), vectors(40, 6)
    grads = {}
    for legacy in (False, True):
        book.weight.grad = None
        given = z.clone().requires_grad_()
        book(given).loss(0.25, legacy).backward()
        grads[legacy] = (book.weight.grad.clone(), given.grad)
    torch.testing.assert_close(grads[True][0], grads[False][0] / 4)
    torch.testing.assert_close(grads[True][1], grads[False][1] * 4)         # and the commitment counts fully


def test_straight_through_trains_an_encoder_and_a_cut_gradient_does_not():
    errors = {}
    for cut in (False, True):
        torch.manual_seed(1)
        encoder, decoder = torch.nn.Linear(4, 2), torch.nn.Linear(2, 4)
        book = EMACodebook(16, 2, decay=0.9)
        x = torch.randn(64, 4)
        before = encoder.weight.clone()
        adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-2)
        for _ in range(120):
            z = encoder(x)
            found = book(z)
            book.restart(z.detach(), generator=torch.Generator().manual_seed(0))
            z_q = found.z_q.detach() if cut else found.z_q
            loss = F.mse_loss(decoder(z_q), x)
            adam.zero_grad(set_to_none=True)
            (loss if cut else loss + found.loss()).backward()
            adam.step()
        errors[cut] = float(loss)
        assert torch.equal(before, encoder.weight) == cut
    assert errors[False] < 0.9 * errors[True], errors
