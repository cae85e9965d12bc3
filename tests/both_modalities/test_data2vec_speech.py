"""data2vec for speech: frames, spans, positions, a^l, and transformers' model beside ours."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, count_blank, numbers, stirred

from mmlearn.both_modalities.data2vec import (
    Data2Vec,
    Data2VecConfig,
    regression_head,
    regression_loss,
    targets,
    train_data2vec,
)
from mmlearn.both_modalities.data2vec_speech import (
    Data2VecSpeech,
    Data2VecSpeechConfig,
    HiddenSpeech,
    conv_block,
    frame_count,
    masked_share,
    normalised_waveform,
    position_block,
    real_frames,
    receptive_field,
    span_mask,
    span_starts,
    with_mask,
)
from mmlearn.data.voices import SpokenWords
from mmlearn.nn.modes import seeded

TINY = Data2VecSpeechConfig(8, (5, 3, 2), (3, 2, 2), 12, 3, 3, 20, 2, 5, 4, span=3, masked=0.2)
BASE = Data2VecSpeechConfig.base()


def model_of(config=TINY, seed=0):
    with seeded(seed):
        return stirred(Data2VecSpeech(config), seed=None).eval()


def waves(b=2, s=200, seed=1):
    return numbers(b, s, seed=seed).float()


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:speech-waveform")
def test_a_waveform_has_mean_0_and_variance_1_over_its_own_samples():
    x, real = 3 + 2 * numbers(2, 6), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    want = torch.zeros(2, 6).double()
    for i, n in enumerate((6, 4)):
        mean = sum(x[i, j] for j in range(n)) / n
        variance = sum((x[i, j] - mean) ** 2 for j in range(n)) / n
        for j in range(n):
            want[i, j] = (x[i, j] - mean) / math.sqrt(variance + 1e-7)
    torch.testing.assert_close(normalised_waveform(x, real), want)
    torch.testing.assert_close(normalised_waveform(x[1:, :4]), want[1:, :4])
    torch.testing.assert_close(normalised_waveform(0.1 * x[:1]), want[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.equation("eq:speech-frames")
def test_a_frame_count_is_the_number_of_places_where_kernels_fit():
    def places(n, kernel, stride):
        return sum(1 for begin in range(0, n, stride) if begin + kernel <= n)

    for samples in (400, 719, 720, 16_000, 16_123):
        n = samples
        for kernel, stride in zip(BASE.kernels, BASE.strides):
            n = places(n, kernel, stride)
        assert frame_count(samples, BASE.kernels, BASE.strides) == n
    assert BASE.frames(400) == 1 and BASE.frames(719) == 1 and BASE.frames(720) == 2


@pytest.mark.equation("eq:speech-field")
@torch.no_grad()
def test_a_frame_is_made_of_the_samples_of_its_field_and_of_no_others():
    assert receptive_field(BASE.kernels, BASE.strides) == (400, 320)
    assert (Data2VecSpeechConfig.mini().field, Data2VecSpeechConfig.mini().stride) == (225, 80)
    model, x = model_of(), waves(1, 60)
    field, stride = receptive_field(TINY.kernels, TINY.strides)
    before = model.features(x)
    for sample in range(60):
        moved = x.clone()
        moved[0, sample] += 1
        changed = (model.features(moved) != before).any(dim=-1)[0]
        inside = [frame * stride <= sample < frame * stride + field for frame in range(TINY.frames(60))]
        assert changed.tolist() == inside


def test_booklet_b4_frames_come_at_50_hertz_not_at_50_kilohertz():
    assert BASE.frames(16_000) == 49
    assert BASE.rate / BASE.stride == 50
    assert BASE.field / BASE.rate == 0.025


@pytest.mark.equation("eq:speech-block")
def test_a_block_convolves_normalises_channels_and_activates():
    x, W, scale, shift = numbers(2, 3, 9), numbers(4, 3, 3), numbers(4), numbers(4, seed=1)
    want = torch.empty(2, 4, 4).double()
    for i in range(2):
        for place in range(4):
            y = [sum(W[c, q, k] * x[i, q, 2 * place + k] for q in range(3) for k in range(3))
                 for c in range(4)]
            mean = sum(y) / 4
            deviation = math.sqrt(sum((v - mean) ** 2 for v in y) / 4 + 1e-5)
            for c in range(4):
                z = (y[c] - mean) / deviation * scale[c] + shift[c]
                want[i, c, place] = z / 2 * (1 + math.erf(z / math.sqrt(2)))
    torch.testing.assert_close(conv_block(x, W, 2, scale, shift), want)


@pytest.mark.equation("eq:speech-position")
@pytest.mark.parametrize("kernel", [3, 4])
def test_positions_are_grouped_convolutions_with_a_norm_that_has_no_parameters(kernel):
    x, W, bias = numbers(1, 5, 4), numbers(4, 2, kernel), numbers(4, seed=1)
    want = torch.empty(1, 5, 4).double()
    for t in range(5):
        y = []
        for c in range(4):
            first = 2 * (c // 2)                            # of the two channels of its group
            y.append(bias[c] + sum(W[c, q, k] * x[0, t + k - kernel // 2, first + q]
                                   for q in range(2) for k in range(kernel) if 0 <= t + k - kernel // 2 < 5))
        mean = sum(y) / 4
        deviation = math.sqrt(sum((v - mean) ** 2 for v in y) / 4 + 1e-5)
        for c in range(4):
            z = (y[c] - mean) / deviation
            want[0, t, c] = z / 2 * (1 + math.erf(z / math.sqrt(2)))
    torch.testing.assert_close(position_block(x, W, bias, 2), want)


@torch.no_grad()
def test_without_positions_the_order_of_frames_would_not_matter():
    model = model_of()
    x = numbers(1, 7, 12).float()
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])

    def last(x):
        return list(model.run(x))[-1][0]

    assert not torch.allclose(last(x[:, order]), last(x)[:, order], atol=1e-4)
    model.positions.forward = lambda x, real=None: torch.zeros_like(x)
    torch.testing.assert_close(last(x[:, order]), last(x)[:, order], atol=1e-5, rtol=1e-5)


@pytest.mark.equation("eq:speech-share")
def test_a_frame_is_masked_unless_none_of_the_last_frames_begins_a_span():
    p, span = 0.3, 4
    want = sum(math.prod(p if begins else 1 - p for begins in starts)
               for starts in itertools.product((True, False), repeat=span) if any(starts))
    assert masked_share(p, span) == pytest.approx(want)
    assert round(masked_share(0.065, 10), 3) == 0.489


@pytest.mark.equation("eq:speech-starts")
def test_spans_begin_at_the_places_of_the_lowest_scores_and_nowhere_twice():
    scores, places = numbers(3, 8).abs() % 1, torch.tensor([[8], [5], [3]])
    counts = torch.tensor([[2], [5], [1]])
    found = span_starts(places, counts, scores)
    for row, where, n in zip(range(3), (8, 5, 3), (2, 5, 1)):
        lowest = sorted(range(where), key=lambda i: scores[row, i].item())[:n]
        assert sorted(lowest) == found[row].nonzero()[:, 0].tolist()


@pytest.mark.equation("eq:speech-starts", "eq:speech-share")
def test_about_49_percent_of_long_utterances_is_masked_in_spans_of_ten():
    mask = span_mask(400, 500, generator=torch.Generator().manual_seed(0))
    assert abs(mask.float().mean() - masked_share(0.065, 10)) < 0.01
    for row in mask[:50]:
        runs = [len(list(same)) for on, same in itertools.groupby(row.tolist()) if on]
        assert min(runs) >= 10
    starts = torch.stack([span_mask(1, 12, 0.065, 10, torch.Generator().manual_seed(i))[0]
                          for i in range(300)])
    assert (starts.sum(dim=1) == 10).all()                  # a single span, wherever it fits
    assert starts[:, 0].any() and starts[:, 11].any() and not starts[:, 0].all()


def test_spans_of_a_padded_row_stay_within_it_and_too_short_rows_are_refused():
    real = torch.arange(30) < torch.tensor([30, 12, 10])[:, None]
    for seed in range(50):
        mask = span_mask(3, 30, generator=torch.Generator().manual_seed(seed), real=real)
        assert not (mask & ~real).any() and mask.any(dim=1).all() and mask[2, :10].all()
    with pytest.raises(ValueError, match="has 9 frames, a span 10"):
        span_mask(2, 9)


@pytest.mark.equation("eq:speech-mask")
def test_masked_frames_are_one_vector():
    x, vector, mask = numbers(2, 3, 4), numbers(4, seed=1), torch.tensor([[True, False, True], [False] * 3])
    found = with_mask(x, mask, vector)
    for i in range(2):
        for t in range(3):
            assert torch.equal(found[i, t], vector if mask[i, t] else x[i, t])


# ------------------------------------------------------------------------------------------------------ model

def test_published_sizes_have_their_parameters():
    assert count_blank(Data2VecSpeech, Data2VecSpeechConfig.base()) == 93_164_288
    assert count_blank(Data2VecSpeech, Data2VecSpeechConfig.large()) == 313_276_416
    assert count(Data2VecSpeech(Data2VecSpeechConfig.mini())) < 300_000
    assert Data2VecSpeechConfig.mini().frames(4000) == 48


@pytest.mark.parametrize("change, message", [
    ({"heads": 5}, "heads"), ({"groups": 5}, "groups"), ({"strides": (3, 2)}, "3 kernels and 2 strides"),
    ({"masked": 1.5}, "masked"), ({"layers": 0}, "layers"), ({"layerdrop": -0.1}, "layerdrop")])
def test_a_configuration_that_no_model_can_have_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


@torch.no_grad()
def test_shapes_and_short_or_badly_masked_waveforms():
    model, x = model_of(), waves()
    t = model.frames(200)
    assert model(x).shape == (2, t, 12) and [a.shape for a in model.layers(x)] == 3 * [(2, t, 12)]
    for call, message in ((lambda: model(x[:, :5]), "has 5 samples and a frame 17"),
                          (lambda: model(x, torch.ones(2, t + 1).bool()), "make it with span_mask"),
                          (lambda: model(x, None, torch.arange(200) % 2 == torch.zeros(2, 1)),
                           "padding at the end"),
                          (lambda: model(x, None, torch.arange(200) < torch.tensor([[200], [9]])),
                           "has 9 samples")):
        with pytest.raises(ValueError, match=message):
            call()


@torch.no_grad()
def test_a_masked_frame_is_read_by_nobody_and_the_others_are():
    model, x = model_of(), numbers(1, 9, 12).float()
    mask = torch.tensor([[False] * 4 + [True] * 2 + [False] * 3])
    moved = x.clone()
    moved[:, 4:6] += 1
    for (state, a), (again, b) in zip(model.run(x, mask), model.run(moved, mask)):
        assert torch.equal(state, again) and torch.equal(a, b)
    moved[:, 0] += 1
    assert not torch.allclose(list(model.run(x, mask))[-1][0], list(model.run(moved, mask))[-1][0])


@torch.no_grad()
def test_an_utterance_in_a_padded_batch_has_the_states_that_it_has_alone():
    model, x = model_of(), waves(3)
    lengths = (200, 123, 60)
    real = torch.arange(200) < torch.tensor(lengths)[:, None]
    x = torch.where(real, x, 9.0)
    states, layers = model(x, real=real), model.layers(x, real=real)
    frames = real_frames(real, TINY)
    for i, n in enumerate(lengths):
        t = TINY.frames(n)
        assert frames[i].sum() == t
        torch.testing.assert_close(states[i, :t], model(x[i : i + 1, :n])[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layers[1][i, :t], model.layers(x[i : i + 1, :n])[1][0], atol=1e-5,
                                   rtol=1e-5)
    torch.testing.assert_close(model(x[:1]), states[:1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_l_is_the_second_linear_map_before_residual_and_norm():
    model, x = model_of(), waves()
    y = model.embed(x)
    state = model.first_norm(y + model.positions(y))
    for block, a in zip(model.blocks, model.layers(x), strict=True):
        z = block.attention_norm(state + block.attention(state))
        want = block.feed_forward.outer(F.gelu(block.feed_forward.inner(z)))
        torch.testing.assert_close(a, want, atol=1e-5, rtol=1e-5)
        state = block.feed_forward_norm(z + want)
    torch.testing.assert_close(model(x), state, atol=1e-5, rtol=1e-5)


def test_every_parameter_gets_a_gradient_and_dropout_is_for_training():
    model, x = model_of(), waves()
    mask = span_mask(2, model.frames(200), 0.2, 3, torch.Generator().manual_seed(0))
    model(x, mask).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_training_leaves_layers_out_and_targets_never_do():
    model = model_of(replace(TINY, dropout=0.0, layerdrop=1.0)).train()
    x = waves()
    embedded = model.embed(x)
    torch.testing.assert_close(model(x), model.first_norm(embedded + model.positions(embedded)))
    whole = model.layers(x)
    torch.testing.assert_close(model.eval().layers(x), whole)
    assert len(whole) == 3 and not torch.equal(whole[0], whole[1])


def test_targets_of_speech_are_the_mean_of_the_last_layers_over_time_normalised():
    layers = [numbers(2, 5, 3, seed=i) for i in range(4)]
    want = torch.zeros(2, 5, 3).double()
    for a in layers[2:]:
        for i in range(2):
            for c in range(3):
                mean = sum(a[i, t, c] for t in range(5)) / 5
                variance = sum((a[i, t, c] - mean) ** 2 for t in range(5)) / 5
                for t in range(5):
                    want[i, t, c] += (a[i, t, c] - mean) / math.sqrt(variance + 1e-5) / 2
    torch.testing.assert_close(targets(layers, 2, "instance"), want)
    still = numbers(2, 1, 3).expand(2, 5, 3)                # the same at all times: nothing is left of it
    assert targets([still], 1, "instance").abs().max() < 1e-6


def test_speech_is_told_by_squares_over_the_root_of_the_width():
    f, y, of = numbers(3, 4), numbers(3, 4, seed=1), Data2VecConfig.speech()
    want = sum((f[i, c] - y[i, c]) ** 2 / math.sqrt(4) for i in range(3) for c in range(4)) / 3
    torch.testing.assert_close(regression_loss(f, y, of.beta, of.reduction), want)
    assert (of.K, of.tau_0, of.tau_e, of.tau_n, of.norm) == (8, 0.999, 0.9999, 30_000, "instance")


def test_the_teacher_has_convolutions_and_positions_in_common_with_the_student():
    student = model_of()
    both = Data2Vec(student, regression_head(12), Data2VecConfig.mini(K=2, beta=0.0, norm="instance"))
    names = [name for name, _ in student.named_parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    both.update()
    teacher = dict(both.teacher.named_parameters())
    copied = {name for name, p in student.named_parameters() if torch.equal(p, teacher[name])}
    assert copied == {name for name in names if name.split(".")[0] in Data2VecSpeech.shared}
    assert {name.split(".")[0] for name in names} - set(Data2VecSpeech.shared) == {"first_norm", "blocks"}


def test_batches_hide_spans_anew_and_follow_from_their_number():
    config = Data2VecSpeechConfig.mini()
    data = HiddenSpeech(SpokenWords(12, seed=1), 4, config, seed=5)
    batch, again = data[1], HiddenSpeech(SpokenWords(12, seed=1), 4, config, seed=5)[1]
    assert batch.inputs.shape == (4, 4000) and batch.mask.shape == (4, 48)
    assert torch.equal(batch.inputs, again.inputs) and torch.equal(batch.mask, again.mask)
    torch.testing.assert_close(batch.inputs.std(dim=1, correction=0), torch.ones(4), atol=1e-3, rtol=1e-3)
    assert not torch.equal(data[1].mask, data[4].mask)
    plain = HiddenSpeech(waves(6, 4000), 3, config)
    assert plain[0].inputs.shape == (3, 4000)


def test_a_handful_of_words_is_learned():
    config = replace(Data2VecSpeechConfig.mini(), layers=2, width=32, ff=64, channels=16, span=5)
    with seeded(0):
        model = Data2Vec(Data2VecSpeech(config), regression_head(32),
                         Data2VecConfig.mini(K=2, beta=0.0, steps=60, norm="instance"))
    batch = HiddenSpeech(SpokenWords(4), 4, config)[0]

    def error():
        with torch.no_grad():
            found = model.eval()(batch.inputs, batch.mask)
        return regression_loss(found.prediction, found.target, 0.0).item(), found.target

    before, _ = error()
    train_data2vec(model.train(), [batch], steps=60, lr=3e-3)
    after, target = error()
    assert after < 0.5 * before
    assert target.std() > 0.3                               # and not because all targets became alike


# ----------------------------------------------------------------------------------------------------- parity

def theirs_of(**more):
    from transformers import Data2VecAudioConfig

    return Data2VecAudioConfig(
        hidden_size=12, num_hidden_layers=3, num_attention_heads=3, intermediate_size=20, conv_dim=[8, 8, 8],
        conv_kernel=[5, 3, 2], conv_stride=[3, 2, 2], num_conv_pos_embeddings=2, conv_pos_kernel_size=5,
        num_conv_pos_embedding_groups=4, vocab_size=9, **more)


def copied(state):
    """The tensors of transformers' model under our names, written out one by one."""
    left, ours = dict(state), {}

    def move(theirs, name):
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in left:
                ours[f"{name}.{kind}"] = left.pop(f"{theirs}.{kind}")

    for i in range(3):
        move(f"feature_extractor.conv_layers.{i}.conv", f"features.convs.{i}")
        move(f"feature_extractor.conv_layers.{i}.layer_norm", f"features.norms.{i}")
        for kind in ("weight", "bias"):
            ours[f"blocks.{i}.attention.in_{kind}"] = torch.cat(
                [left.pop(f"encoder.layers.{i}.attention.{part}_proj.{kind}") for part in "qkv"])
        move(f"encoder.layers.{i}.attention.out_proj", f"blocks.{i}.attention.out")
        move(f"encoder.layers.{i}.layer_norm", f"blocks.{i}.attention_norm")
        move(f"encoder.layers.{i}.feed_forward.intermediate_dense", f"blocks.{i}.feed_forward.inner")
        move(f"encoder.layers.{i}.feed_forward.output_dense", f"blocks.{i}.feed_forward.outer")
        move(f"encoder.layers.{i}.final_layer_norm", f"blocks.{i}.feed_forward_norm")
    for i in range(2):
        move(f"encoder.pos_conv_embed.layers.{i}.conv", f"positions.convs.{i}")
    move("feature_projection.layer_norm", "norm")
    move("feature_projection.projection", "project")
    move("encoder.layer_norm", "first_norm")
    ours["mask_vector"] = left.pop("masked_spec_embed")
    assert not left
    return ours


@pytest.mark.parity
def test_states_and_layers_are_those_of_transformers():
    from transformers import Data2VecAudioModel

    with seeded(0):
        theirs = stirred(Data2VecAudioModel(theirs_of()), seed=None).eval()
    ours = Data2VecSpeech(TINY).eval()
    ours.load_state_dict(copied(theirs.state_dict()))
    x, outputs = waves(3), []
    hooks = [layer.feed_forward.output_dense.register_forward_hook(lambda m, args, out: outputs.append(out))
             for layer in theirs.encoder.layers]
    mask = span_mask(3, ours.frames(200), 0.2, 3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = theirs(x).last_hidden_state
        torch.testing.assert_close(ours(x), want, atol=1e-5, rtol=1e-5)
        for a, output in zip(ours.layers(x), outputs, strict=True):
            torch.testing.assert_close(a, output, atol=1e-5, rtol=1e-5)
        for hook in hooks:
            hook.remove()
        hidden = theirs(x, mask_time_indices=mask).last_hidden_state
        torch.testing.assert_close(ours(x, mask), hidden, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(hidden, want, atol=1e-3)
        real = torch.arange(200) < torch.tensor([200, 123, 60])[:, None]
        padded = ours(x, real=real)                         # as transformers reads each utterance alone
        for i, n in enumerate((200, 123, 60)):
            alone = theirs(x[i : i + 1, :n]).last_hidden_state[0]
            torch.testing.assert_close(padded[i, : len(alone)], alone, atol=1e-5, rtol=1e-5)
    t = theirs._get_feat_extract_output_lengths(torch.tensor([200, 123, 60]))
    assert t.tolist() == real_frames(real, TINY).sum(dim=1).tolist()


@pytest.mark.parity
def test_sizes_are_those_of_transformers_and_no_convolution_has_weight_norm():
    from transformers import Data2VecAudioConfig, Data2VecAudioModel

    large = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    for sizes, published in (({}, 93_164_288), (large, 313_276_416)):
        with torch.device("meta"):
            theirs = Data2VecAudioModel(Data2VecAudioConfig(**sizes))
        assert count(theirs) == published
    assert not any("weight_g" in name or "parametrizations" in name for name in theirs.state_dict())


@pytest.mark.parity
def test_waveforms_are_normalised_as_transformers_does():
    from transformers import Wav2Vec2FeatureExtractor

    x = [(3 + 2 * numbers(n, seed=n)).float().numpy() for n in (50, 31)]
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)(
        x, sampling_rate=16_000, padding=True, return_tensors="pt")
    real = torch.arange(50) < torch.tensor([50, 31])[:, None]
    ours = torch.zeros(2, 50)
    for i, wave in enumerate(x):
        ours[i, : len(wave)] = torch.tensor(wave)
    torch.testing.assert_close(normalised_waveform(ours, real), theirs["input_values"], atol=1e-5, rtol=1e-5)
