"""iACE: two classifiers whose logits are averaged, what the released tanh forbids, and a task learnt."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import count, count_blank, numbers, stirred

from mmlearn.images_for_language.iace import (
    IACE,
    BERTClassifier,
    ExampleBatches,
    Examples,
    FusionHead,
    IACEConfig,
    accuracy,
    bounded_floor,
    bounded_logits,
    compared_slots,
    ensemble,
    fine_tune,
    fine_tune_head,
    fused,
    head_learns,
    iace_loss,
    iace_step,
    released_loss,
    sampled_rows,
    slots,
    task_loss,
)
from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.modes import seeded

TINY_BERT = BERTConfig(20, 8, 16, 1, 2, 32, pad=1, dropout=0.0)
TINY = IACEConfig(TINY_BERT, 6, 10, dropout=0.0)


def tiny(config=TINY, seed=0):
    with seeded(seed):
        return stirred(IACE(config)).eval()


def examples(n=8, s=1, classes=2, seed=0, embed=6):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes if classes > 1 else 5 * torch.rand(n, generator=g)
    return Examples(torch.randint(4, 20, (n, 5), generator=g), torch.zeros(n, 5, dtype=torch.long),
                    torch.randn(n, s, embed, generator=g), torch.randn(n, s, embed, generator=g), labels)


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:iace-slots")
def test_one_sentence_is_read_in_both_orders_and_of_two_the_second_is_swapped():
    v, t = numbers(2, 2, 3), numbers(2, 2, 3, seed=1)
    first, second = slots(v, t)
    for i in range(2):
        assert first[i].tolist() == [*v[i, 0].tolist(), *t[i, 0].tolist()]
        assert second[i].tolist() == [*t[i, 1].tolist(), *v[i, 1].tolist()]
    one, swapped = slots(v[:, :1], t[:, :1])
    assert torch.equal(one, torch.cat([v[:, 0], t[:, 0]], dim=1))
    assert torch.equal(swapped, torch.cat([t[:, 0], v[:, 0]], dim=1))


@pytest.mark.equation("eq:iace-fusion")
@pytest.mark.equation("eq:iace-bounded")
@pytest.mark.parametrize("bounded", [False, True])
def test_the_head_is_three_layers_over_the_positive_parts_of_its_inputs(bounded):
    head = stirred(FusionHead(3, 4, 2, bounded=bounded)).double().eval()
    x = numbers(2, 6)
    for i in range(2):
        positive = torch.tensor([max(0.0, float(number)) for number in x[i]]).double()
        h = [max(0.0, float(head.fusion.weight[j] @ positive + head.fusion.bias[j])) for j in range(4)]
        g = head.dense.weight @ torch.tensor(h).double() + head.dense.bias
        want = head.out.weight @ g + head.out.bias
        torch.testing.assert_close(head(x)[i], want.tanh() if bounded else want)
        torch.testing.assert_close(fused(x, head.fusion)[i], torch.tensor(h).double())


def test_two_of_the_heads_three_layers_are_one():
    head = stirred(FusionHead(3, 4, 2)).double().eval()
    matrix = head.out.weight @ head.dense.weight
    bias = head.out.weight @ head.dense.bias + head.out.bias
    x = numbers(5, 6)
    torch.testing.assert_close(head(x), fused(x, head.fusion) @ matrix.T + bias)


@pytest.mark.equation("eq:iace-floor")
@pytest.mark.equation("eq:iace-bounded")
def test_p7_logits_between_minus_one_and_one_leave_a_loss_that_no_training_removes():
    for classes, best, floor in ((2, 0.881, 0.127), (3, 0.787, 0.240)):
        a = torch.full((1, classes), -50.0)
        a[0, 0] = 50.0
        loss = task_loss(bounded_logits(a), torch.tensor([0]))
        assert float(loss.neg().exp()) == pytest.approx(best, abs=5e-4)
        assert float(loss) == pytest.approx(floor, abs=5e-4)
        assert bounded_floor(classes) == pytest.approx((float(loss.neg().exp()), float(loss)), rel=1e-5)
        assert task_loss(a, torch.tensor([0])) == 0                         # without tanh it goes to zero


@pytest.mark.equation("eq:iace-task")
def test_the_loss_of_a_task_is_a_mean_over_its_examples():
    a, y = numbers(4, 3), torch.tensor([0, 2, 1, 1])
    want = sum(-math.log(math.exp(a[i, y[i]]) / sum(math.exp(v) for v in a[i])) for i in range(4)) / 4
    assert float(task_loss(a, y)) == pytest.approx(want)
    score, goal = numbers(4, 1), torch.tensor([0.0, 5.0, 2.5, 1.0]).double()
    want = sum((float(score[i, 0]) - float(goal[i])) ** 2 for i in range(4)) / 4
    assert float(task_loss(score, goal)) == pytest.approx(want)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_p8_the_released_regression_compares_every_output_with_every_label():
    score, goal = numbers(4, 1), torch.tensor([0.0, 5.0, 2.5, 1.0]).double()
    trap = F.mse_loss(score, goal)                                          # (4, 1) against (4): 4 x 4
    want = sum((float(score[i, 0]) - float(goal[j])) ** 2 for i in range(4) for j in range(4)) / 16
    assert float(trap) == pytest.approx(want) and float(trap) != pytest.approx(float(task_loss(score, goal)))
    best = goal.mean()                       # what minimises it is the same for all: nothing can be learnt
    by, = torch.autograd.grad(F.mse_loss(at := best.expand(4, 1).clone().requires_grad_(), goal), at)
    torch.testing.assert_close(by, torch.zeros(4, 1).double())
    # and scores of 0 to 5 are out of reach of a tanh
    assert (bounded_logits(torch.linspace(-9, 9, 50)[:, None]) - 5).square().min() > 15


@pytest.mark.equation("eq:iace-loss")
@pytest.mark.equation("eq:iace-released")
@pytest.mark.equation("eq:iace-ensemble")
def test_losses_and_logits_are_mixed_as_written():
    a, b, c = (torch.tensor(v) for v in (1.0, 2.0, 4.0))
    assert iace_loss(a, b, 0.25) == pytest.approx(0.25 * 2 + 0.75 * 1)
    assert released_loss(a, b, c) == 7
    x, y, z = numbers(3, 2, 2)
    for i in range(2):
        for k in range(2):
            assert ensemble(x, y, z)[i, k] == pytest.approx(x[i, k] / 2 + y[i, k] / 4 + z[i, k] / 4)


@pytest.mark.equation("eq:iace-alternate")
def test_p9_the_released_recipe_trains_the_head_in_two_epochs_of_thirty():
    assert [epoch for epoch in range(1, 31) if head_learns(epoch, 5)] == [2, 4]


# ------------------------------------------------------------------------------------------------------ model

def test_e13_the_imagination_gives_the_language_model_no_gradient():
    model, batch = tiny(), examples()
    language, first, second = model(batch)
    imagine = task_loss(first, batch.labels) + task_loss(second, batch.labels)
    grads = torch.autograd.grad(imagine, list(model.language.parameters()), allow_unused=True,
                                retain_graph=True)
    assert all(g is None for g in grads)
    head = torch.autograd.grad(task_loss(language, batch.labels), list(model.head.parameters()),
                               allow_unused=True)
    assert all(g is None for g in head)
    alone = torch.autograd.grad(imagine, list(model.head.parameters()))
    loss, _ = iace_step(model, batch)
    for together, own in zip(torch.autograd.grad(loss, list(model.head.parameters())), alone):
        torch.testing.assert_close(together, model.config.weight / 2 * own)     # lambda is a learning rate


def test_e13_the_loss_has_a_language_part_an_imagination_part_and_a_weight():
    model, batch = tiny(), examples()
    loss, parts = iace_step(model, batch)
    logits = model(batch)
    assert float(parts["language"]) == pytest.approx(float(F.cross_entropy(logits.language, batch.labels)))
    both = [float(F.cross_entropy(a, batch.labels)) for a in logits[1:]]
    assert float(parts["imagine"]) == pytest.approx(sum(both) / 2)
    assert float(loss) == pytest.approx(0.5 * float(parts["imagine"]) + 0.5 * float(parts["language"]))


def test_the_head_learns_the_same_with_the_language_model_and_without():
    both, alone, batch = tiny(), tiny(), examples(12)
    fine_tune(both, batch, steps=12, batch=4, lr=0.01, progress=False)
    fine_tune_head(alone, batch, steps=12, batch=4, lr=0.01, progress=False)
    for name, value in both.head.state_dict().items():
        torch.testing.assert_close(value, alone.head.state_dict()[name])
    before = tiny().language.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in alone.language.state_dict().items())


def test_no_input_of_the_head_holds_both_sentences_so_that_it_cannot_compare_them():
    model = tiny()
    a, b = torch.randn(2, 2, 6, generator=torch.Generator().manual_seed(0))     # two sentences: picture, text
    c, d = torch.randn(2, 2, 6, generator=torch.Generator().manual_seed(1))

    def answer(first, second):
        features = torch.stack([first, second])[None]                           # 1, s, (picture, text), e
        one, two = slots(features[:, :, 0], features[:, :, 1])
        return (model.head(one) + model.head(two)) / 2

    def compare(first, second):
        features = torch.stack([first, second])[None]
        one, two = compared_slots(features[:, :, 0], features[:, :, 1])
        return (model.head(one) + model.head(two)) / 2

    # an answer to "do they match?" would be high for (a, c) and (b, d), low for (a, d) and (b, c)
    torch.testing.assert_close(answer(a, c) + answer(b, d), answer(a, d) + answer(b, c))
    assert not torch.allclose(compare(a, c) + compare(b, d), compare(a, d) + compare(b, c), atol=1e-3)


@pytest.mark.equation("eq:iace-compared")
def test_with_both_pictures_in_one_input_it_can():
    v, t = numbers(2, 2, 3), numbers(2, 2, 3, seed=1)
    first, second = compared_slots(v, t)
    for i in range(2):
        for row, f in ((first[i], v[i]), (second[i], t[i])):
            assert row.tolist() == [*(abs(float(f[0, k] - f[1, k])) for k in range(3)),
                                    *(float(f[0, k] * f[1, k]) for k in range(3))]
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(4, 1)
    batch = examples(16, s=2)._replace(images=2 * F.one_hot(codes, 6).float(), texts=torch.zeros(16, 2, 6),
                                       labels=(codes[:, 0] == codes[:, 1]).long())
    for compare, reached in ((False, False), (True, True)):
        model = tiny(IACEConfig(TINY_BERT, 6, 32, dropout=0.0, compare=compare))
        fine_tune_head(model, batch, steps=150, lr=0.01, progress=False)
        _, first, second = model(batch)
        assert (accuracy(first + second, batch.labels) == 1) is reached


def test_counts_are_those_of_the_released_head_and_of_bert():
    assert count_blank(FusionHead, 512, 512, 2) == 788_482 and count_blank(FusionHead, 512, 512, 3) == 788_995
    assert count_blank(BERTClassifier, BERTConfig.base()) == 109_482_240 + 2 * 768 + 2
    assert count_blank(IACE, IACEConfig.base()) == count_blank(IACE, IACEConfig.released()) == 110_272_260
    assert count_blank(lambda: IACE(IACEConfig.nli()).head) == 788_995


def test_every_parameter_gets_a_gradient_and_a_row_is_itself():
    model, batch = tiny(), examples(s=2)
    iace_step(model, batch)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in model.named_parameters()
               if "positions" not in name and "segments" not in name and "words" not in name)
    for got, alone in zip(model(batch), model(batch.rows([3]))):
        torch.testing.assert_close(got[3:4], alone)
    answers = model.answer(batch, batch=3)
    torch.testing.assert_close(answers, ensemble(*model(batch)).detach())
    assert accuracy(torch.eye(2), torch.tensor([0, 0])) == 0.5


def test_padding_changes_nothing():
    model, batch = tiny(), examples()
    longer = batch._replace(tokens=F.pad(batch.tokens, (0, 2), value=1),
                            segments=F.pad(batch.segments, (0, 2)))
    torch.testing.assert_close(model(longer).language, model(batch).language)


def test_a_trunk_that_classified_vokens_is_taken_over():
    from mmlearn.images_for_language.voken_lm import VokenLM, VokenLMConfig

    config = BERTConfig(20, 8, 16, 1, 2, 32, pad=1, dropout=0.0, pooler=False)
    first = VokenLM(VokenLMConfig(config, 7)).eval()
    second, tokens = IACE.of(first.bert, 6, 10).eval(), examples().tokens
    torch.testing.assert_close(second.language.bert(tokens), first(tokens))


def test_dropout_works_while_training_only():
    model = tiny(IACEConfig(BERTConfig(20, 8, 16, 1, 2, 32, pad=1, dropout=0.3), 6, 10, dropout=0.3)).train()
    batch = examples()
    torch.manual_seed(0)
    one, two = model(batch), model(batch)
    assert not torch.equal(one.language, two.language) and not torch.equal(one.first, two.first)
    before = model.answer(batch)
    assert torch.equal(before, model.answer(batch)) and model.training


def test_the_second_phase_begins_with_the_trunk_of_the_first_whose_weights_are_copied():
    with seeded(1):
        trunk = stirred(BERT(BERTConfig(20, 8, 16, 1, 2, 32, pad=1, dropout=0.0, pooler=False)))
    model = IACE.of(trunk, 6, 10).eval()
    tokens = examples().tokens
    torch.testing.assert_close(model.language.bert(tokens), trunk.eval()(tokens))
    assert model.language.bert.pooler is not None and model.config.bert.pooler
    with torch.no_grad():
        model.language.bert.embed.words.weight.zero_()
    assert trunk.embed.words.weight.abs().sum() > 0
    with pytest.raises(ValueError, match="this BERT has no pooler"):
        BERTClassifier(trunk.config)


@pytest.mark.parametrize("bounded", [False, True])
def test_a_handful_of_examples_is_learnt_as_far_as_the_logits_allow(bounded):
    model, batch = tiny(IACEConfig(TINY_BERT, 6, 10, dropout=0.0, bounded=bounded)), examples(8, s=2)
    history = fine_tune(model, batch, steps=150, lr=0.01, progress=False)
    assert accuracy(model.answer(batch), batch.labels) == 1
    assert history.scalars["language"][-1] < 0.05
    last = history.scalars["imagine"][-1]
    assert 0.126 < last < 0.3 if bounded else last < 0.05


def test_a_number_is_learnt_too():
    model, batch = tiny(IACEConfig(TINY_BERT, 6, 16, classes=1, dropout=0.0)), examples(6, classes=1)
    fine_tune(model, batch, steps=200, lr=0.01, progress=False)
    assert (model.answer(batch)[:, 0] - batch.labels).abs().max() < 0.5


def test_examples_that_do_not_fit_are_refused():
    model = tiny()
    with pytest.raises(ValueError, match="the head reads 6 numbers of each"):
        fine_tune(model, examples(embed=5), steps=1)
    with pytest.raises(ValueError, match="labels are from 0 to 2; 2 classes are the whole"):
        fine_tune(model, examples(classes=3), steps=1)


def test_few_examples_are_a_sample():
    assert sampled_rows(10, 4, 1) == sampled_rows(10, 4, 1) != sampled_rows(10, 4, 2)
    assert len(set(sampled_rows(10, 10))) == 10
    with pytest.raises(ValueError, match="11 of 10 examples; take 1 to 10"):
        sampled_rows(10, 11)
    batches = ExampleBatches(examples(8), 4, seed=0)
    assert sorted(batches[0].labels.tolist() + batches[1].labels.tolist()) == [0] * 4 + [1] * 4


@pytest.mark.parity
def test_the_language_model_is_transformers_bert_for_sequence_classification():
    import transformers

    from mmlearn.pretrained.bert import expected_shapes, joined

    theirs = transformers.BertForSequenceClassification(transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8, num_labels=3, pad_token_id=1)).eval()
    stirred(theirs)
    ours = BERTClassifier(BERTConfig(20, 8, 16, 2, 2, 32, pad=1), 3).eval()
    state = {name: value for name, value in theirs.state_dict().items() if "position_ids" not in name}
    trunk = {name.removeprefix("bert."): value for name, value in state.items() if name.startswith("bert.")}
    assert set(state) == {f"bert.{name}" for name in expected_shapes(ours.bert)} | {"classifier.weight",
                                                                                     "classifier.bias"}
    ours.bert.load_state_dict(joined(ours.bert, trunk))
    ours.classifier.load_state_dict({name: state[f"classifier.{name}"] for name in ("weight", "bias")})
    tokens = torch.randint(2, 20, (3, 7), generator=torch.Generator().manual_seed(0))
    tokens[1, 5:] = 1
    kinds = (torch.arange(7) > 3).long().expand(3, 7)
    want = theirs(tokens, attention_mask=(tokens != 1).long(), token_type_ids=kinds).logits
    torch.testing.assert_close(ours(tokens, segments=kinds), want, atol=1e-5, rtol=1e-5)
    assert count(ours) == count(theirs)
