"""BERT, compared with transformers' and with what its paper says."""

import re

import pytest
import torch
from networks import stirred

from mmlearn.catalog import count_parameters
from mmlearn.nn.attention import record_attention
from mmlearn.nn.bert import BERT, BERTConfig, embedding_sum

SMALL = BERTConfig(99, 16, 32, 2, 4, 64, pad=0)


def model(config=SMALL, spread=0.2):
    """A BERT in evaluation mode whose weights are large enough for its attention to matter."""
    torch.manual_seed(0)
    return stirred(BERT(config), seed=None, scale=spread).eval()


def texts():
    torch.manual_seed(1)
    tokens = torch.randint(1, 99, (3, 9))
    tokens[1, 6:] = 0
    tokens[2, 2:] = 0
    return tokens


@pytest.mark.parametrize("name, count", [("base", 109_482_240), ("large", 335_141_888)])
def test_the_published_sizes_have_the_published_number_of_parameters(name, count):
    with torch.device("meta"):
        bert = BERT(getattr(BERTConfig, name)())
        states = bert(torch.ones(2, 12, dtype=torch.long))
    assert count_parameters(bert) == count
    assert states.shape == (2, 12, bert.config.width) and bert.pooled(states).shape == (2, bert.config.width)


@pytest.mark.equation("eq:bert-embed")
def test_a_token_starts_as_the_sum_of_its_word_its_position_and_its_segment():
    torch.manual_seed(0)
    words, positions, segments = (torch.randn(*s, dtype=torch.float64)
                                  for s in ((2, 3, 4), (3, 4), (2, 3, 4)))
    got = embedding_sum(words, positions, segments)
    for i in range(2):
        for m in range(3):
            for k in range(4):
                want = float(words[i, m, k]) + float(positions[m, k]) + float(segments[i, m, k])
                assert float(got[i, m, k]) == pytest.approx(want, abs=1e-12)
    bert = model()
    tokens, kinds = texts(), torch.randint(0, 2, (3, 9))
    summed = (
        bert.embed.words.weight[tokens] + bert.embed.positions.weight[:9] + bert.embed.segments.weight[kinds]
    )
    torch.testing.assert_close(bert.embed(tokens, kinds), torch.nn.functional.layer_norm(
        summed, (32,), bert.embed.norm.weight, bert.embed.norm.bias, 1e-12))


def names():
    """Ours -> transformers', for every tensor of a BertModel."""
    found = {"embed.words.weight": "embeddings.word_embeddings.weight",
             "embed.norm.weight": "embeddings.LayerNorm.weight",
             "embed.positions.weight": "embeddings.position_embeddings.weight",
             "embed.norm.bias": "embeddings.LayerNorm.bias",
             "embed.segments.weight": "embeddings.token_type_embeddings.weight",
             "pooler.weight": "pooler.dense.weight", "pooler.bias": "pooler.dense.bias"}
    parts = {"attention.out": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
             "feed_forward.inner": "intermediate.dense", "feed_forward.outer": "output.dense",
             "feed_forward_norm": "output.LayerNorm"}
    for i in range(2):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                found[f"layers.{i}.{ours}.{kind}"] = f"encoder.layer.{i}.{theirs}.{kind}"
    return found


@pytest.mark.parity
@pytest.mark.parametrize("segmented", [False, True])
def test_states_and_pooled_vector_are_those_of_transformers(segmented):
    from transformers import BertConfig, BertModel

    theirs = BertModel(BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                  intermediate_size=64, max_position_embeddings=16)).eval()
    ours = model()
    own, state = ours.state_dict(), {}
    for name, their in names().items():
        state[their] = own.pop(name)
    for i in range(2):
        for kind in ("weight", "bias"):
            thirds = own.pop(f"layers.{i}.attention.in_{kind}").chunk(3)
            for part, third in zip(("query", "key", "value"), thirds, strict=True):
                state[f"encoder.layer.{i}.attention.self.{part}.{kind}"] = third
    assert not own
    theirs.load_state_dict(state)
    tokens = texts()
    segments = torch.randint(0, 2, tokens.shape) if segmented else None
    with torch.no_grad():
        want = theirs(input_ids=tokens, attention_mask=(tokens != 0).long(), token_type_ids=segments)
        states = ours(tokens, segments=segments)
    real = tokens != 0
    torch.testing.assert_close(states[real], want.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.pooled(states), want.pooler_output, atol=1e-5, rtol=1e-5)


def test_padding_changes_no_real_token_and_a_row_stands_alone():
    bert, tokens = model(), texts()
    states = bert(tokens)
    torch.testing.assert_close(bert(tokens[1:2, :6])[0], states[1, :6], atol=1e-5, rtol=1e-5)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, 4:] = False
    cut = bert(tokens[:1], mask[:1])
    torch.testing.assert_close(cut[0, :4], bert(tokens[:1, :4])[0], atol=1e-5, rtol=1e-5)


def test_every_token_sees_what_follows_it():
    bert, tokens = model(), texts()
    changed = tokens.clone()
    changed[0, 8] = 5 if int(tokens[0, 8]) != 5 else 6
    assert (bert(changed)[0, 0] - bert(tokens)[0, 0]).abs().max() > 1e-3


def test_gradients_reach_every_parameter_and_weights_can_be_recorded():
    bert, tokens = model(), texts()
    with record_attention(bert) as weights:
        states = bert(tokens, segments=torch.ones_like(tokens))
    (states.square().mean() + bert.pooled(states).sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in bert.parameters())
    assert [tuple(w.shape) for w in weights.values()] == [(3, 4, 9, 9)] * 2
    assert list(weights) == ["layers.0.attention", "layers.1.attention"]
    assert (weights["layers.1.attention"][1, :, :, 6:] == 0).all()                     # nothing reads padding


def test_dropout_follows_sublayers_and_only_in_training():
    bert = BERT(SMALL)
    assert all(layer.feed_forward.dropout.p == 0 and layer.dropout.p == 0.1 for layer in bert.layers)
    tokens = texts()
    assert not torch.equal(bert.train()(tokens), bert(tokens))
    assert torch.equal(bert.eval()(tokens), bert(tokens))


def test_weights_start_truncated_normal():
    torch.manual_seed(0)
    bert = BERT(BERTConfig(2000, 16, 64, 1, 2, 128))
    words = bert.embed.words.weight.detach()
    assert 0.016 < float(words.std()) < 0.019 and float(words.abs().max()) <= 0.04
    assert all(bool((p == 0).all()) for name, p in bert.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("call, message", [
    (lambda b: b(torch.ones(1, 17, dtype=torch.long)), "texts have 17 tokens, the context has 16"),
    (lambda b: b(torch.tensor([[3, 99]])), "token ids go from 3 to 99, the vocabulary from 0 to 98"),
    (lambda b: BERT(BERTConfig.mini()).pooled(torch.zeros(1, 2, 64)), "this BERT has no pooler"),
    (lambda b: BERTConfig(vocab=10, pad=10), "pad is 10, the vocabulary goes from 0 to 9"),
])
def test_bad_input_is_refused_with_a_remedy(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(BERT(SMALL))
