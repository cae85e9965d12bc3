"""data2vec for text: RoBERTa's encoder, what is hidden of a text, a teacher that reads all of it."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from networks import count_blank

from mmlearn.both_modalities.data2vec import Data2VecConfig, data2vec_objective, train_data2vec
from mmlearn.both_modalities.data2vec_text import (
    Data2VecText,
    Data2VecTextClassifier,
    Data2VecTextConfig,
    HiddenTexts,
    choose_spans,
    corrupt_words,
    data2vec_text,
    hide_spans,
    hide_words,
    span_share,
    text_positions,
)
from mmlearn.nn.modes import blank, seeded

TINY = Data2VecTextConfig(vocab=40, context=12, width=16, layers=3, heads=4, ff=24, pad=1, mask=39)
TEXTS = torch.tensor([[0, 5, 6, 7, 8, 9, 2], [0, 10, 11, 2, 1, 1, 1], [0, 12, 13, 14, 15, 2, 1]])
REAL = TEXTS != 1


def tiny(seed=0, config=TINY):
    with seeded(seed):
        return Data2VecText(config).eval()


def learner(config=TINY, method=None):
    with seeded(0):
        return data2vec_text(config, method or Data2VecConfig(2, 4.0, 0.9, 0.99, 60, reduction="sum"))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------ the encoder


@pytest.mark.equation("eq:d2v-positions")
def test_positions_count_the_words_from_behind_the_padding_on():
    found = text_positions(TEXTS, 1)
    for row, positions in zip(TEXTS.tolist(), found.tolist()):
        seen = 0
        for word, position in zip(row, positions):
            seen += word != 1
            assert position == (1 + seen if word != 1 else 1)


@pytest.mark.parametrize("name, count", [("base", 124_055_040), ("large", 354_310_144)])
def test_counts_of_the_papers_sizes(name, count):
    assert count_blank(Data2VecText, getattr(Data2VecTextConfig, name)()) == count


def test_the_student_of_the_base_size_has_a_head_of_two_maps_and_the_teacher_is_not_counted():
    with blank():
        model = data2vec_text(Data2VecTextConfig.base())
    head = 768 * 1536 + 1536 + 1536 * 768 + 768
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 124_055_040 + head
    assert [type(part).__name__ for part in model.head] == ["Linear", "GELU", "Linear"]


def theirs_of(kind="Data2VecTextModel", **more):
    import transformers

    torch.manual_seed(0)
    options = {"add_pooling_layer": False} if kind == "Data2VecTextModel" else {}
    config = transformers.Data2VecTextConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=14, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, **more)
    return getattr(transformers, kind)(config, **options).eval()


def copied(ours, theirs):
    """Our encoder with the weights of transformers', each name used on both sides."""
    left, state = dict(theirs.state_dict()), {}

    def take(name):
        return left.pop(name)

    for part, their in (("words", "word"), ("positions", "position"), ("segments", "token_type")):
        state[f"bert.embed.{part}.weight"] = take(f"embeddings.{their}_embeddings.weight")
    names = [("bert.embed.norm", "embeddings.LayerNorm")]
    for i in range(3):
        our, their = f"bert.layers.{i}", f"encoder.layer.{i}"
        for kind in ("weight", "bias"):
            state[f"{our}.attention.in_{kind}"] = torch.cat(
                [take(f"{their}.attention.self.{part}.{kind}") for part in ("query", "key", "value")])
        names += [(f"{our}.attention.out", f"{their}.attention.output.dense"),
                  (f"{our}.attention_norm", f"{their}.attention.output.LayerNorm"),
                  (f"{our}.feed_forward.inner", f"{their}.intermediate.dense"),
                  (f"{our}.feed_forward.outer", f"{their}.output.dense"),
                  (f"{our}.feed_forward_norm", f"{their}.output.LayerNorm")]
    for our, their in names:
        for kind in ("weight", "bias"):
            state[f"{our}.{kind}"] = take(f"{their}.{kind}")
    assert not left
    ours.load_state_dict(state)
    return ours


@pytest.mark.parity
def test_states_and_targets_are_those_of_transformers():
    theirs = theirs_of()
    ours = copied(tiny(1), theirs)
    caught = []
    for layer in theirs.encoder.layer:
        layer.output.dense.register_forward_hook(lambda m, x, y: caught.append(y))
    with torch.no_grad():
        want = theirs(TEXTS, attention_mask=REAL.long(), output_hidden_states=True)
        states, layers = ours(TEXTS), ours.layers(TEXTS)
        blocks = list(ours.bert.by_block(TEXTS))
    torch.testing.assert_close(states[REAL], want.last_hidden_state[REAL], atol=1e-5, rtol=1e-5)
    for found, block, ffn, end in zip(layers, blocks, caught, want.hidden_states[1:], strict=True):
        torch.testing.assert_close(found[REAL], ffn[REAL], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(block.end[REAL], end[REAL], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["base", "large"])
def test_counts_are_those_of_transformers(name):
    import transformers

    ours = getattr(Data2VecTextConfig, name)()
    config = transformers.Data2VecTextConfig(
        vocab_size=ours.vocab, hidden_size=ours.width, num_hidden_layers=ours.layers,
        num_attention_heads=ours.heads, intermediate_size=ours.ff, max_position_embeddings=514,
        type_vocab_size=1)
    with torch.device("meta"):
        theirs = transformers.Data2VecTextModel(config, add_pooling_layer=False)
    assert sum(p.numel() for p in theirs.parameters()) == count_blank(Data2VecText, ours)


def test_padding_changes_no_other_state_and_a_text_alone_is_as_in_a_batch():
    model = tiny()
    with torch.no_grad():
        states = model(TEXTS)
        longer = model(torch.cat([TEXTS, torch.full((3, 4), 1)], dim=1))[:, :7]
        alone = model(TEXTS[1:2, :4])
    torch.testing.assert_close(longer[REAL], states[REAL], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(alone[0], states[1, :4], atol=1e-6, rtol=1e-5)


def test_a_hidden_place_reads_as_the_token_mask():
    model, mask = tiny(), torch.zeros_like(REAL)
    mask[0, 2] = mask[2, 1] = True
    read = TEXTS.clone()
    read[0, 2] = read[2, 1] = 39
    with torch.no_grad():
        assert torch.equal(model(TEXTS, mask), model(read))


@pytest.mark.parametrize("target", ["attention", "ffn", "residual", "end"])
def test_each_of_the_four_tensors_can_be_the_target(target):
    model = tiny(config=replace(TINY, target=target))
    with torch.no_grad():
        layers, blocks = model.layers(TEXTS), list(model.bert.by_block(TEXTS))
        assert torch.equal(blocks[-1].end, model(TEXTS))
    assert len(layers) == 3
    assert all(torch.equal(a, getattr(block, target)) for a, block in zip(layers, blocks))


def test_what_would_be_misread_is_refused():
    model, mask = tiny(), torch.zeros_like(REAL)
    mask[1, 5] = True
    with pytest.raises(ValueError, match="the mask hides padding"):
        model(TEXTS, mask)
    with pytest.raises(ValueError, match="texts have 13 tokens, the context has 12"):
        model(torch.full((1, 13), 5))
    with pytest.raises(ValueError, match="token ids go from 40 to 40"):
        model(torch.tensor([[40]]))
    for wrong in ({"mask": 40}, {"mask": 1}):
        with pytest.raises(ValueError, match="mask of Data2VecTextConfig is"):
            Data2VecTextConfig(vocab=40, **wrong)
    with pytest.raises(ValueError, match="heads of BERTConfig is 5"):
        Data2VecTextConfig(heads=5)


# --------------------------------------------------------------------------------------------- what is hidden


@pytest.mark.equation("eq:d2v-starts")
def test_spans_are_hidden_from_starts_of_which_there_are_as_many_as_the_rule_says():
    real = torch.arange(40) < torch.tensor([40, 25, 3])[:, None]
    for seed in range(60):
        for span, rate in ((1, 0.15), (4, 0.35)):
            hidden = choose_spans(real, rate, span, dice(seed))
            assert not (hidden & ~real).any()
            for row, n in zip(hidden.tolist(), (40, 25, 3)):
                low, high = math.floor(rate * n / span), math.floor(rate * n / span + 1)
                if span == 1:
                    assert low <= sum(row) <= high
                runs = "".join("x" if h else " " for h in row[:n]).split()
                inside = "".join("x" if h else " " for h in row[:n]).rstrip("x").split()
                assert sum(row) <= span * high and len(runs) <= high
                assert all(len(run) >= span for run in inside)       # a span is cut at the end alone
    counts = torch.stack([choose_spans(real, 0.15, 1, dice(seed))[1].sum() for seed in range(400)])
    assert float(counts.float().mean()) == pytest.approx(0.15 * 25, abs=0.1)


@pytest.mark.equation("eq:d2v-span-share")
def test_a_third_is_hidden_of_long_texts_as_spans_overlap():
    assert span_share(0.35, 4) == pytest.approx(1 - (1 - 0.0875) ** 4) == pytest.approx(0.3067, abs=1e-4)
    hidden = choose_spans(torch.ones(60, 512, dtype=torch.bool), 0.35, 4, dice())
    assert float(hidden.float().mean()) == pytest.approx(span_share(0.35, 4), abs=0.01)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1.2}, {"span": 0}])
def test_rates_and_spans_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="give a rate above 0 and at most 1, and a span of 1 or more"):
        choose_spans(REAL, **wrong)


@pytest.mark.equation("eq:d2v-corrupt")
def test_under_berts_rule_eight_in_ten_are_hidden_and_the_others_are_not_asked_for():
    tokens = torch.full((200, 100), 5)
    chosen = torch.rand(200, 100, generator=dice(3)) < 0.5
    read, hidden = corrupt_words(tokens, chosen, torch.arange(10, 30), 39, dice())
    assert torch.equal(read == 39, hidden) and torch.equal(read[~chosen], tokens[~chosen])
    share = lambda found: float((found & chosen).sum() / chosen.sum())                         # noqa: E731
    assert share(read == 39) == pytest.approx(0.8, abs=0.02)
    assert share((read >= 10) & (read < 30)) == pytest.approx(0.1, abs=0.02)
    assert share(read == 5) == pytest.approx(0.1, abs=0.02)


def test_berts_rule_draws_no_special_token_and_hides_no_padding():
    tokens = torch.randint(4, 39, (100, 12), generator=dice())
    tokens[:, 8:] = 1
    batch = hide_words(tokens, TINY, dice(1), rate=0.9)
    assert torch.equal(batch.mask, batch.corrupted == 39) and torch.equal(batch.inputs, tokens)
    changed = (batch.corrupted != tokens) & ~batch.mask
    assert changed.any() and batch.corrupted[changed].min() >= 4 and not changed[:, 8:].any()


def test_a_released_span_is_always_hidden_and_the_whole_text_goes_along():
    batch = hide_spans(TEXTS, TINY, dice(1))
    assert batch.corrupted is None and torch.equal(batch.inputs, TEXTS) and not (batch.mask & ~REAL).any()


def test_batches_follow_from_seed_and_number_and_are_as_long_as_their_longest_text():
    texts = torch.cat([TEXTS] * 6)
    texts = torch.cat([texts, torch.full((18, 3), 1)], dim=1)
    one, same, other = (HiddenTexts(texts, 6, TINY, seed=seed, shuffle=False) for seed in (0, 0, 1))
    for number in range(5):
        a, b, c = one[number], same[number], other[number]
        assert torch.equal(a.mask, b.mask) and a.inputs.shape == (6, 7) and a.mask.any()
        assert torch.equal(a.inputs, c.inputs)
    assert any(not torch.equal(one[i].mask, other[i].mask) for i in range(5))
    assert not torch.equal(one[0].mask, one[3].mask)                # the same texts, hidden anew
    words = HiddenTexts(texts, 6, TINY, rule=hide_words)[0]
    assert words.corrupted is not None and torch.equal(words.mask, words.corrupted == 39)


def test_texts_of_which_nothing_can_be_hidden_are_refused():
    with pytest.raises(ValueError, match="nothing was hidden of texts of 7 tokens at most"):
        HiddenTexts(TEXTS, 3, TINY, rule=partial(hide_spans, rate=1e-9))[0]


# ------------------------------------------------------------------------------------------------- the method


def test_the_teacher_reads_the_whole_text_whatever_is_hidden_of_it():
    """fairseq's teacher reads the hidden tokens alone, and padding for the rest (its issue 4881)."""
    model = learner()
    masks = [choose_spans(REAL, 0.5, 2, dice(seed)) for seed in range(2)]
    both = masks[0] & masks[1]
    assert both.any() and not torch.equal(*masks)
    with torch.no_grad():
        found = [model(TEXTS, mask).target[both[mask]] for mask in masks]
        assert torch.equal(*found)
        released = TEXTS.masked_fill(~masks[0], 1)
        assert not torch.allclose(model.teach(released)[both], found[0])


def test_the_student_reads_what_was_corrupted_and_is_asked_where_the_mask_is():
    model = learner().eval()
    drawn = (hide_words(TEXTS, TINY, dice(seed), rate=0.6) for seed in range(100))
    batch = next(b for b in drawn if b.mask.any() and (b.corrupted != TEXTS)[~b.mask].any())
    with torch.no_grad():
        found = model(*batch)
        want = model.head(model.student(batch.corrupted))[batch.mask]
        torch.testing.assert_close(found.prediction, want)
        assert torch.equal(found.target, model.teach(TEXTS)[batch.mask])


def test_gradients_reach_every_part_that_is_read():
    model = learner()
    loss, _ = data2vec_objective(model, hide_spans(TEXTS, TINY, dice(1), rate=0.9))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0
               for part in (model.student, model.head) for p in part.parameters())


def test_the_teacher_copies_the_embeddings_and_averages_the_blocks():
    model = learner()
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(1.0)
    tau = model.update()
    for (name, delta), theta in zip(model.teacher.named_parameters(), model.student.parameters()):
        want = theta if name.startswith("bert.embed") else theta - tau
        torch.testing.assert_close(delta, want, atol=1e-5, rtol=1e-5)


def test_three_texts_are_learned_from_a_slow_teacher_and_nothing_from_one_that_is_the_student():
    one = hide_spans(TEXTS, TINY, dice(4), 0.5, 2)
    batches = HiddenTexts(TEXTS, 3, TINY, shuffle=False, rule=lambda *_: one)
    ends = []
    for tau in (0.999, 0.0):
        model = learner(method=Data2VecConfig(2, 4.0, tau, tau, 1, reduction="sum"))
        history = train_data2vec(model, batches, steps=80, lr=5e-3, progress=False)
        ends.append((history.loss[-1] / history.loss[0], history.scalars["target spread"][-1]))
    assert ends[0][0] < 0.2 and ends[0][1] > 0.3
    assert ends[1][1] < 0.02            # all targets are alike, though each is normalised: a collapse


# ------------------------------------------------------------------------------------------------ fine-tuning


@pytest.mark.parity
def test_the_classifier_is_that_of_transformers():
    theirs = theirs_of("Data2VecTextForSequenceClassification", num_labels=3)
    with seeded(1):
        ours = Data2VecTextClassifier(Data2VecText(TINY), 3).eval()
    copied(ours.encoder, theirs.data2vec_text)
    head = dict(theirs.classifier.state_dict())
    for our, their in ((ours.dense, "dense"), (ours.out, "out_proj")):
        our.load_state_dict({kind: head.pop(f"{their}.{kind}") for kind in ("weight", "bias")})
    assert not head
    with torch.no_grad():
        want = theirs(TEXTS, attention_mask=REAL.long()).logits
        torch.testing.assert_close(ours(TEXTS), want, atol=1e-5, rtol=1e-5)


def test_the_classifier_learns_three_texts():
    with seeded(0):
        model = Data2VecTextClassifier(Data2VecText(replace(TINY, dropout=0.0)), 3)
    labels, optimizer = torch.tensor([0, 1, 2]), torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(model(TEXTS), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.eval()(TEXTS).argmax(dim=1).tolist() == [0, 1, 2]
    assert all(p.grad is not None for p in model.parameters())
