import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import count, numbers
from torch import nn

from mmlearn.text2image.char_cnn_rnn import (
    ALPHABET,
    CharCNNRNN,
    CharCNNRNNConfig,
    GoogLeNetFeatures,
    characters,
    class_compatibility,
    classify,
    compatibility,
    fixed_gru,
    fixed_rnn,
    one_hot,
    precision_at,
    sje_goal,
    sje_loss,
    sje_max_loss,
    sje_max_rows,
    sje_rows,
)

KINDS = {"rnn": CharCNNRNNConfig.mini(16, 64), "gru": CharCNNRNNConfig.mini(16, 64, "gru"),
         "pooled": replace(CharCNNRNNConfig.mini(16, 96), last_pool=True)}


def build(config=KINDS["rnn"], seed=0):
    torch.manual_seed(seed)
    return CharCNNRNN(config).eval()


# ------------------------------------------------------------------------------------------------- characters


def test_the_alphabet_has_seventy_places_and_its_hyphen_twice():
    assert len(ALPHABET) == 70 and len(set(ALPHABET)) == 69
    assert [i for i, symbol in enumerate(ALPHABET, start=1) if symbol == "-"] == [37, 60]
    assert ALPHABET[0] == "a" and ALPHABET[35] == "9" and ALPHABET[69] == " "


def test_a_text_becomes_the_numbers_of_its_characters():
    numbers = characters(["A-b é 9"])
    assert numbers.shape == (1, 201)
    assert numbers[0, :7].tolist() == [1, 60, 2, 70, 0, 70, 36] and not numbers[0, 7:].any()


def test_the_channel_of_the_first_hyphen_is_never_on():
    x = one_hot(characters(["".join(ALPHABET)]))
    assert x.shape == (1, 70, 201) and x.sum() == 70
    off = (x.sum(dim=2) == 0).nonzero()[:, 1]
    assert off.tolist() == [36] and x[0, 59].sum() == 2                 # places count from 1, channels from 0


@pytest.mark.equation("eq:char-one-hot")
def test_each_character_switches_on_its_own_channel():
    numbers = characters(["the bird's (red)", "~"], 12)
    x = one_hot(numbers)
    for b in range(2):
        for t in range(12):
            assert x[b, :, t].tolist() == [float(numbers[b, t] == n) for n in range(1, 71)]


def test_long_texts_are_cut_and_texts_without_letters_refused():
    assert characters(["ab" * 300], 5).tolist() == [[1, 2, 1, 2, 1]]
    for text in ("", "鸟"):
        with pytest.raises(ValueError, match="no character of the alphabet"):
            characters(["a bird", text])
    with pytest.raises(ValueError, match="characters go from 0 to 71"):
        one_hot(torch.tensor([[0, 71]]))


# ----------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("config, steps, parts", [
    (CharCNNRNNConfig.cvpr(), 8, (1_419_392, 131_584, 263_168)),
    (CharCNNRNNConfig.icml_flowers(), 8, (1_943_936, 525_312, 525_312)),
    (CharCNNRNNConfig.icml(), 18, (1_943_936, 1_575_936, 525_312)),
])
def test_the_three_published_encoders_have_the_counted_parameters(config, steps, parts):
    with torch.device("meta"):
        model = CharCNNRNN(config)
        text = torch.zeros(2, 201, dtype=torch.long)
        assert model.states(text).shape == (2, steps, config.channels[2]) and config.steps == steps
        assert model(text).shape == (2, 1024)
    counts = [count(m) for m in (model.convolutions, model.recurrence, model.output)]
    assert tuple(counts) == parts
    assert sum(parts) == {(8, 256): 1_814_144, (8, 512): 2_994_560, (18, 512): 4_045_184}[
        steps, config.channels[2]]


@pytest.mark.parametrize("config", [
    CharCNNRNNConfig.cvpr(), *KINDS.values(), replace(KINDS["pooled"], length=66),
    *(replace(KINDS["rnn"], length=n) for n in (48, 50, 80, 95))])
def test_the_steps_of_a_text_are_counted_by_arithmetic(config):
    with torch.device("meta"):
        assert CharCNNRNN(config).states(torch.zeros(1, config.length,
                                                     dtype=torch.long)).shape[1] == config.steps


def test_all_parameters_start_uniformly_in_a_narrow_interval():
    weights = torch.cat([p.flatten() for p in build(CharCNNRNNConfig.cvpr()).parameters()])
    assert weights.abs().max() <= 0.08
    assert weights.std().item() == pytest.approx(0.08 / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("change, message", [
    ({"recurrence": "lstm"}, "recurrence is 'lstm'; use one of rnn, gru"),
    ({"length": 47}, "give at least 48"),
    ({"length": 65, "last_pool": True}, "65 characters are too few.*give at least 66")])
def test_configurations_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(KINDS["rnn"], **change)


# ----------------------------------------------------------------------------------------------- recurrences


@pytest.mark.equation("eq:char-rnn")
def test_the_relu_network_is_the_recurrence_written_out():
    x, (W_i, W_h), (b_i, b_h) = numbers(3, 5, 4), numbers(2, 4, 4, seed=1), numbers(2, 4, seed=2)
    got = fixed_rnn(x, W_i, b_i, W_h, b_h)
    for b in range(3):
        h = torch.relu(W_i @ x[b, 0] + b_i)
        torch.testing.assert_close(got[b, 0], h)
        for t in range(1, 5):
            h = torch.relu(W_i @ x[b, t] + b_i + W_h @ h + b_h)
            torch.testing.assert_close(got[b, t], h)


@pytest.mark.equation("eq:char-rnn")
@pytest.mark.parity
def test_torchs_rnn_differs_by_a_bias_at_the_first_step_and_by_nothing_else():
    torch.manual_seed(0)
    theirs = nn.RNN(4, 4, nonlinearity="relu", batch_first=True).double()
    W_i, W_h, b_i, b_h = theirs._flat_weights
    x = numbers(3, 5, 4)
    ours = fixed_rnn(x, W_i, b_i, W_h, b_h)
    assert (theirs(x)[0] - ours).abs().max() > 0.01
    start = torch.linalg.solve(W_h, -b_h).expand(1, 3, 4).contiguous()      # W_h h_0 = -b_h
    torch.testing.assert_close(theirs(x, start)[0], ours)


@pytest.mark.equation("eq:char-gru")
def test_the_gated_network_is_the_recurrence_written_out():
    x, W, U = numbers(3, 5, 4), numbers(12, 4, seed=1), numbers(12, 4, seed=2)
    b, u = numbers(12, seed=3), numbers(12, seed=4)
    (W_z, W_r, W_n), (U_z, U_r, U_n), (b_z, b_r, b_n), (u_z, u_r, u_n) = (m.chunk(3) for m in (W, U, b, u))
    got = fixed_gru(x, W, b, U, u)
    for i in range(3):
        h = torch.tanh(W_n @ x[i, 0] + b_n)
        torch.testing.assert_close(got[i, 0], h)
        for t in range(1, 5):
            z = torch.sigmoid(W_z @ x[i, t] + b_z + U_z @ h + u_z)
            r = torch.sigmoid(W_r @ x[i, t] + b_r + U_r @ h + u_r)
            n = torch.tanh(W_n @ x[i, t] + b_n + U_n @ (r * h) + u_n)
            h = z * n + (1 - z) * h
            torch.testing.assert_close(got[i, t], h)


@pytest.mark.equation("eq:char-gru")
@pytest.mark.parity
def test_torchs_gru_is_ours_with_z_turned_round_where_it_never_resets():
    """With r = 1 (a large bias) it does not matter whether the reset stands before or behind U."""
    torch.manual_seed(0)
    theirs = nn.GRU(4, 4, batch_first=True).double()
    with torch.no_grad():
        theirs.bias_ih_l0[:4] = 50.0                                        # rows r, z, n
    W, U, b, u = (w.detach() for w in theirs._flat_weights)
    (W_r, W_z, W_n), (U_r, U_z, U_n), (b_r, b_z, b_n), (u_r, u_z, u_n) = (m.chunk(3) for m in (W, U, b, u))
    x = numbers(3, 5, 4)
    ours = fixed_gru(x, torch.cat([-W_z, W_r, W_n]), torch.cat([-b_z, b_r, b_n]),
                     torch.cat([-U_z, U_r, U_n]), torch.cat([-u_z, u_r, u_n]))
    theirs_after_first = theirs(x[:, 1:], ours[None, :, 0].contiguous())[0]
    torch.testing.assert_close(ours[:, 1:], theirs_after_first)


# --------------------------------------------------------------------------------------------------- encoder


@pytest.mark.equation("eq:char-encoder")
@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_is_three_convolutions_a_recurrence_and_a_mean(kind):
    model = build(KINDS[kind])
    text = characters(["a red bird with a short beak", "x"], model.config.length)
    got = model(text)
    a, _, _, b, _, _, c = list(model.convolutions)[:7]
    for i in range(2):
        x = torch.zeros(70, model.config.length)
        for t, number in enumerate(text[i].tolist()):
            if number:
                x[number - 1, t] = 1
        for layer, pool in ((a, True), (b, True), (c, False)):
            out = torch.stack([(layer.weight * x[:, t:t + 4]).sum((1, 2)) + layer.bias
                               for t in range(x.shape[1] - 3)], dim=1).relu()
            x = torch.stack([out[:, 3 * s:3 * s + 3].amax(1) for s in range(out.shape[1] // 3)],
                            dim=1) if pool else out
        if model.config.last_pool:
            x = torch.stack([x[:, 2 * s:2 * s + 3].amax(1) for s in range((x.shape[1] - 3) // 2 + 1)], dim=1)
        h = model.recurrence(x.T[None])[0]
        want = model.output.weight @ (sum(h) / len(h)) + model.output.bias
        torch.testing.assert_close(got[i], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_of_the_encoder(kind):
    model = build(KINDS[kind]).train()
    text = characters(["a red bird", "a blue car", "two cats"], model.config.length)
    model(text).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_caption_of_a_batch_is_embedded_as_it_is_alone():
    model = build(KINDS["gru"])
    text = characters(["a red bird", "a blue car on a street"], 64)
    torch.testing.assert_close(model(text)[1:], model(text[1:]))


def test_letters_that_the_alphabet_lacks_and_upper_case_change_nothing():
    model = build()
    text = characters(["A Red BIRD", "a red bird", "a red bird 鸟"], 64)
    out = model(text)
    torch.testing.assert_close(out[0], out[1])
    assert (out[2] - out[1]).abs().max() > 0                              # the space behind it is a character


def test_texts_of_another_length_are_refused():
    with pytest.raises(ValueError, match="texts have 70 characters, the encoder reads 64"):
        build()(torch.zeros(1, 70, dtype=torch.long))


@pytest.mark.parametrize("kind", ["rnn", "gru"])
def test_eight_captions_find_their_pictures_by_heart(kind):
    words = ["a red bird", "a blue car", "two cats asleep", "snow on a house", "a boat at night",
             "the green tree", "an old chair", "a cup of tea"]
    model = build(KINDS[kind]).train()
    features, text = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), characters(words, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = sje_loss(features, model(text)).item()
    for _ in range(80):
        loss = sje_loss(features, model(text))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = compatibility(features, model(text))
    assert loss.item() < 0.1 < 1.2 < first
    assert (scores.argmax(1) == torch.arange(8)).all() and (scores.argmax(0) == torch.arange(8)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_under_autocast_is_in_single_precision(dtype):
    model = build().train()
    with torch.autocast("cpu", dtype=dtype):
        loss = sje_loss(torch.randn(3, 16), model(characters(["a", "b", "c"], 64)))
    loss.backward()
    assert loss.dtype == torch.float32 and all(p.grad.isfinite().all() for p in model.parameters())


# -------------------------------------------------------------------------------------------------- GoogLeNet


def test_googlenets_features_are_those_behind_its_average_and_never_change():
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False).eval()
    ours = GoogLeNetFeatures(theirs.state_dict()).train()
    assert count(ours) == 5_599_904
    assert not any(p.requires_grad for p in ours.parameters())
    assert not any(m.training for m in ours.trunk.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        got = ours(images)
        assert got.shape == (2, 1024)
        torch.testing.assert_close(theirs.fc(got), theirs(images), rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------- structured joint embedding


@pytest.mark.equation("eq:sje-compatibility")
def test_the_compatibility_is_a_product_that_grows_with_both():
    theta, phi = numbers(4, 3), numbers(5, 3, seed=1)
    want = [[sum(theta[i, c] * phi[j, c] for c in range(3)) for j in range(5)] for i in range(4)]
    torch.testing.assert_close(compatibility(theta, phi), torch.tensor(want, dtype=torch.float64))
    torch.testing.assert_close(compatibility(2 * theta, phi), 2 * compatibility(theta, phi))


@pytest.mark.equation("eq:sje-hinge")
@pytest.mark.equation("eq:sje-loss")
@pytest.mark.parametrize("b", [2, 7])
def test_the_loss_of_the_code_is_two_sums_over_violators(b):
    theta, phi = numbers(b, 5), numbers(b, 5, seed=1)
    S = [[float(theta[i] @ phi[j]) for j in range(b)] for i in range(b)]
    rows = [sum(max(0.0, 1 + S[i][j] - S[i][i]) for j in range(b) if j != i) / b for i in range(b)]
    columns = [sum(max(0.0, 1 + S[j][i] - S[i][i]) for j in range(b) if j != i) / b for i in range(b)]
    assert sje_rows(theta @ phi.T).tolist() == pytest.approx(rows)
    assert sje_loss(theta, phi).item() == pytest.approx((sum(rows) + sum(columns)) / b)


@pytest.mark.equation("eq:sje-loss")
@pytest.mark.parity
def test_the_loss_of_the_code_is_torchs_multi_margin_loss_both_ways():
    theta, phi = numbers(40, 8), numbers(40, 8, seed=1)
    S, own = theta @ phi.T, torch.arange(40)
    want = F.multi_margin_loss(S, own, p=1, margin=1.0) + F.multi_margin_loss(S.T, own)
    torch.testing.assert_close(sje_loss(theta, phi), want)


@pytest.mark.equation("eq:sje-class-score")
@pytest.mark.equation("eq:sje-classifier")
@pytest.mark.equation("eq:sje-goal")
def test_a_picture_is_classified_by_the_mean_score_of_a_classs_texts():
    scores, classes = numbers(6, 6), torch.tensor([0, 1, 2, 0, 1, 0])
    got, wrong = class_compatibility(scores, classes, 3), [0, 0]
    for way, F_vt in enumerate((scores, scores.T)):
        for n in range(6):
            means = [sum(float(F_vt[n, m]) for m in range(6) if classes[m] == y) / int((classes == y).sum())
                     for y in range(3)]
            if way == 0:
                assert got[n].tolist() == pytest.approx(means)
            best = means.index(max(means))
            assert classify(F_vt, classes, 3)[n] == best
            wrong[way] += best != classes[n]
    assert sje_goal(scores, classes, classes, 3).item() == pytest.approx(sum(wrong) / 6)
    with pytest.raises(ValueError, match="class 3 has no example"):
        classify(scores, classes, 4)


@pytest.mark.equation("eq:sje-max")
@pytest.mark.equation("eq:sje-max-loss")
def test_the_papers_loss_takes_the_worst_class_only():
    scores, classes = numbers(6, 6), torch.tensor([0, 1, 2, 0, 1, 0])
    total = 0.0
    for way, F_vt in enumerate((scores, scores.T)):
        for n in range(6):
            terms = [0.0]
            for y in range(3):
                texts = [m for m in range(6) if classes[m] == y]
                terms.append(float(y != classes[n]) + sum(float(F_vt[n, m] - F_vt[n, n]) for m in texts)
                             / len(texts))
            total += max(terms)
            if way == 0:
                assert sje_max_rows(scores, classes, 3)[n].item() == pytest.approx(max(terms))
    assert sje_max_loss(scores, classes, 3).item() == pytest.approx(total / 6)


@pytest.mark.equation("eq:sje-max")
def test_the_papers_loss_bounds_the_share_of_mistakes_from_above():
    for seed in range(20):
        scores, classes = numbers(8, 8, seed=seed), torch.arange(8)
        assert sje_max_loss(scores, classes, 8) >= sje_goal(scores, classes, classes, 8)


@pytest.mark.equation("eq:sje-loss")
@pytest.mark.equation("eq:sje-max-loss")
def test_sum_and_maximum_agree_where_each_pair_has_one_violator():
    scores = torch.tensor([[3.0, 2.5, -9.0], [-9.0, 3.0, 2.5], [2.5, -9.0, 3.0]])
    maximum = sje_max_loss(scores, torch.arange(3), 3)
    assert maximum.item() == pytest.approx(2 * 0.5)
    assert (sje_rows(scores).mean() + sje_rows(scores.T).mean()).item() == pytest.approx(maximum.item() / 3)


@pytest.mark.equation("eq:sje-ap")
def test_average_precision_counts_a_classs_own_pictures_among_the_best():
    scores, classes = numbers(3, 12), torch.tensor([0, 1, 2] * 4)
    want = []
    for y in range(3):
        best = sorted(range(12), key=lambda i: -float(scores[y, i]))[:5]
        want.append(sum(int(classes[i]) == y for i in best) / 5)
    assert precision_at(scores, classes, 5).item() == pytest.approx(sum(want) / 3)
    with pytest.raises(ValueError, match="best 50 of 12"):
        precision_at(scores, classes)


@pytest.mark.parametrize("theta, phi", [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((1, 4), (1, 4))])
def test_what_is_not_two_pairs_is_refused(theta, phi):
    with pytest.raises(ValueError, match="give two pairs or more"):
        sje_loss(torch.zeros(theta), torch.zeros(phi))
