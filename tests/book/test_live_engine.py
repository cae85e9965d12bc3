"""The operations of the book's inference engine in a browser without WebAssembly, beside PyTorch's."""

import json
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_parts import ODD, engine_page
from safetensors.torch import save

from mmlearn.data.ptb import ptb_tokenise
from mmlearn.data.scenes import captions, sample_scene
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.nn.attention import CrossAttention, MultiHeadAttention, record_attention
from mmlearn.nn.positions import sinusoids
from mmlearn.text2image.dfgan import truncated_normal

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def page(chromium):
    """The engine, where there is no WebAssembly."""
    opened = engine_page(chromium)
    yield opened
    opened.close()


def js(value):
    """A tensor as JavaScript takes it."""
    return {"shape": list(value.shape), "data": value.float().flatten().tolist()}


def run(page, code: str, *tensors) -> np.ndarray:
    """What an expression over x0, x1 … and W gives, W holding the tensors that are passed by name."""
    plain = [js(t) for t in tensors if not isinstance(t, dict)]
    named = {name: js(t) for part in tensors if isinstance(part, dict) for name, t in part.items()}
    shape, data = page.evaluate("""([code, plain, named]) => {
        const made = t => nn.tensor(t.shape, Float32Array.from(t.data));
        const W = Object.fromEntries(Object.entries(named).map(([name, t]) => [name, made(t)]));
        const names = plain.map((_, i) => 'x' + i);
        const out = new Function('W', ...names, 'return ' + code)(W, ...plain.map(made));
        return [out.shape, numbers(out)]; }""", [code, plain, named])
    return torch.tensor(data).view(shape)


def test_there_is_no_webassembly(page):
    assert page.evaluate("typeof WebAssembly") == "undefined"


@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (2, 3, 4), (3, 7, 5), (8, 9, 6), (1, 64, 33)])
def test_a_product_of_any_size(page, seeded, m, k, n):
    a, b = torch.randn(m, k), torch.randn(n, k)
    torch.testing.assert_close(run(page, "nn.matmul(x0, x1)", a, b), a @ b.T)


def test_a_product_of_rows_that_do_not_fit_is_refused(page):
    with pytest.raises(Exception, match="rows of 3 and of 2 numbers"):
        run(page, "nn.matmul(x0, x1)", torch.ones(1, 3), torch.ones(1, 2))


def test_a_convolution_with_a_bias(page, seeded):
    x, weight, bias = torch.randn(3, 4, 5), torch.randn(2, 3, 3, 3), torch.randn(2)
    want = F.conv2d(x[None], weight, bias, padding=1)[0]
    torch.testing.assert_close(run(page, "nn.conv(x0, x1, 1, x2)", x, weight, bias), want)


@pytest.mark.parametrize("size, stride", [(1, 1), (3, 1), (3, 2), (1, 2), (5, 1)])
def test_a_convolution(page, seeded, size, stride):
    x, weight = torch.randn(3, 8, 8), torch.randn(5, 3, size, size)
    want = F.conv2d(x[None], weight, stride=stride, padding=size // 2)[0]
    torch.testing.assert_close(run(page, f"nn.conv(x0, x1, {stride})", x, weight), want)


def test_maps_are_made_larger_and_smaller(page, seeded):
    x = torch.randn(2, 4, 6)
    torch.testing.assert_close(run(page, "nn.upsample(x0)", x), F.interpolate(x[None], scale_factor=2.0)[0])
    torch.testing.assert_close(run(page, "nn.meanPool(x0, 2)", x), F.avg_pool2d(x[None], 2)[0])
    torch.testing.assert_close(run(page, "nn.cells(x0)", x), x.flatten(1).T)


def test_normalisations(page, seeded):
    x, rows = torch.randn(4, 3, 3), torch.randn(5, 6)
    names = {"n.weight": torch.rand(4), "n.bias": torch.randn(4), "n.running_mean": torch.randn(4),
             "n.running_var": torch.rand(4)}
    gain, bias, mean, spread = names.values()
    want = F.batch_norm(x[None], mean, spread, gain, bias)[0]
    torch.testing.assert_close(run(page, "nn.batchNorm(x0, W, 'n')", x, names), want)
    want = F.group_norm(x[None], 2, gain, bias, 1e-3)[0]
    torch.testing.assert_close(run(page, "nn.groupNorm(x0, W, 'n', 2, 1e-3)", x, names), want)
    names = {"n.weight": torch.rand(6), "n.bias": torch.randn(6)}
    want = F.layer_norm(rows, (6,), names["n.weight"], names["n.bias"])
    torch.testing.assert_close(run(page, "nn.layerNorm(x0, W, 'n')", rows, names), want)
    rows[2] = 0
    torch.testing.assert_close(run(page, "nn.normalise(x0)", rows), F.normalize(rows))


def test_activations(page, seeded):
    x = 3 * torch.randn(4, 5)
    for code, want in (("relu", x.relu()), ("tanh", x.tanh()), ("gelu", F.gelu(x)), ("silu", F.silu(x)),
                       ("quickGelu", x * torch.sigmoid(1.702 * x)), ("glu", F.glu(x, dim=0)),
                       ("softmax", x.softmax(-1))):
        torch.testing.assert_close(run(page, f"nn.{code}(x0)", x), want)
    logs = run(page, "nn.tensor([20], Float32Array.from(nn.logSoftmax(x0.data)))", x)
    torch.testing.assert_close(logs, x.flatten().log_softmax(0))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_returns_what_is_read_and_the_weights(page, seeded, causal):
    layer, x = MultiHeadAttention(8, 2, causal=causal), torch.randn(1, 5, 8)
    weights = {f"a.{name}": value for name, value in layer.state_dict().items()}
    with torch.no_grad(), record_attention(layer) as seen:
        want = layer(x)[0]
    call = f"nn.attention(x0, x0, W, 'a', 2, {json.dumps(causal)})"
    torch.testing.assert_close(run(page, call + ".out", x[0], weights), want)
    recorded = next(iter(seen.values()))[0].view(2, 5, 5)
    torch.testing.assert_close(run(page, call + ".weights", x[0], weights), recorded)


def test_attention_to_another_source(page, seeded):
    layer, x, source = CrossAttention(8, 4), torch.randn(1, 3, 8), torch.randn(1, 7, 8)
    weights = {f"a.{name}": value for name, value in layer.state_dict().items()}
    with torch.no_grad():
        want = layer(x, source)[0]
    found = run(page, "nn.attention(x0, x1, W, 'a', 4).out", x[0], source[0], weights)
    torch.testing.assert_close(found, want)


def test_keys_and_values_of_other_weights(page, seeded):
    """Queries of one layer, keys and values of another: what ViLBERT's streams do."""
    a, b, x, source = MultiHeadAttention(8, 2), MultiHeadAttention(8, 2), torch.randn(3, 8), torch.randn(5, 8)
    weights = {f"{name}.{key}": value for name, layer in (("a", a), ("b", b))
               for key, value in layer.state_dict().items()}
    with torch.no_grad():
        Q, K, V = (F.linear(rows, layer.in_weight, layer.in_bias).chunk(3, dim=1)[part].view(-1, 2, 4)
                   for part, rows, layer in ((0, x, a), (1, source, b), (2, source, b)))
        read = torch.einsum("thd,shd->hts", Q, K).div(2).softmax(-1)
        want = a.out(torch.einsum("hts,shd->thd", read, V).flatten(1))
    found = run(page, "nn.attention(x0, x1, W, 'a', 2, false, 'b').out", x, source, weights)
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("back", [False, True])
def test_an_lstm_reads_in_both_directions(page, seeded, back):
    layer, x = torch.nn.LSTM(6, 4, batch_first=True, bidirectional=True), torch.randn(1, 5, 6)
    weights = {f"r.{name}": value for name, value in layer.state_dict().items()}
    with torch.no_grad():
        want = layer(x)[0][0].chunk(2, dim=1)[back]
    torch.testing.assert_close(run(page, f"nn.lstm(x0, W, 'r', {json.dumps(back)})", x[0], weights), want)


def test_positions_are_those_of_the_book(page):
    torch.testing.assert_close(run(page, "nn.sinusoids(9, 12)"), sinusoids(9, 12))


@pytest.mark.parametrize("seed, count", [(0, 16), (7, 32), (12345, 1600), (4294967295, 32)])
def test_a_seed_draws_the_numbers_that_torch_draws(page, seed, count):
    drawn = torch.tensor(page.evaluate("([n, seed]) => numbers(nn.randn(n, seed))", [count, seed]))
    want = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(drawn, want, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("seed", [0, 7, 123456789])
def test_noise_that_never_leaves_is_torchs(page, seed):
    noise = torch.tensor(page.evaluate("seed => numbers(nn.truncated(64, seed))", seed))
    want = truncated_normal(torch.rand(64, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(noise, want, atol=1e-6, rtol=1e-6)


def test_what_is_drawn_has_its_odds_and_the_numbers_of_torch(page):
    odds = torch.tensor([0.5, 0.0, 0.2, 0.3], dtype=torch.float64)
    drawn = page.evaluate("""([odds, n, seed]) => {
        const bits = nn.generator(seed);
        return Array.from({length: n}, () => nn.draw(odds, bits)); }""", [odds.tolist(), 2000, 7])
    generator = torch.Generator().manual_seed(7)
    waits = -torch.log1p(-torch.rand(2000, 4, dtype=torch.float64, generator=generator))
    assert drawn == (odds / waits).argmax(dim=1).tolist()
    shares = torch.bincount(torch.tensor(drawn), minlength=4) / 2000
    assert shares[1] == 0 and (shares - odds).abs().max() < 0.04


def test_a_file_of_weights_is_read(page, seeded):
    small = torch.tensor([0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, -6.1e-5, 0.333])
    tensors = {"half": small.half(), "single": torch.randn(2, 3), "count": torch.tensor(7),
               "odd": torch.randn(3).half()}
    read = page.evaluate("""bytes => Object.entries(nn.readSafetensors(Uint8Array.from(bytes).buffer)).map(
        ([name, x]) => [name, x.shape, numbers(x)])""", list(save(tensors)))
    found = {name: torch.tensor(data).view(shape) for name, shape, data in read}
    assert found.keys() == {"half", "single", "odd"}
    for name, value in found.items():
        assert torch.equal(value, tensors[name].float())


def test_other_kinds_of_numbers_are_named(page):
    with pytest.raises(Exception, match="x has type BF16"):
        page.evaluate("bytes => nn.readSafetensors(Uint8Array.from(bytes).buffer)",
                      list(save({"x": torch.ones(2, dtype=torch.bfloat16)})))


def words_of(page, texts: list[str]) -> list[list[str]]:
    return page.evaluate("texts => texts.map(nn.words)", texts)


def test_captions_of_the_test_split_become_the_same_tokens(page):
    texts = [text for i in range(1000) for text in captions(sample_scene(0, i, "test"))]
    assert words_of(page, texts) == [ptb_tokenise(text) for text in texts]


def test_words_get_the_same_numbers_and_come_back(page):
    texts = captions(sample_scene(0, 0, "test"))
    tokeniser = WordTokeniser.train(texts[:-1])  # the last may hold new words
    ids = page.evaluate("([words, texts]) => texts.map(nn.tokeniser(words).encode)", [tokeniser.words, texts])
    assert ids == [tokeniser.encode(text) for text in texts]
    decoded = page.evaluate("([words, ids]) => nn.tokeniser(words).decode(ids)", [tokeniser.words, ids[0]])
    assert decoded == tokeniser.decode(ids[0])


def test_odd_strings_become_the_same_tokens(page):
    assert words_of(page, ODD) == [ptb_tokenise(text) for text in ODD]


def test_random_mixtures_become_the_same_tokens(page):
    draw = random.Random(0)
    pieces = [piece for text in ODD for piece in text.split()] + list("'’`\"()[]{}/.,:;-!?&#@*_ ")
    texts = ["".join(draw.choice(pieces) + draw.choice(["", " "]) for _ in range(draw.randint(1, 14)))
             for _ in range(3000)]
    found = words_of(page, texts)
    assert [pair for pair in zip(texts, found, map(ptb_tokenise, texts)) if pair[1] != pair[2]] == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=40))
def test_any_text_becomes_the_same_tokens(page, text):
    assert words_of(page, [text]) == [ptb_tokenise(text)]


def test_no_text_spells_a_special_token(page):
    words = ["<unk>", "<pad>", "<bos>", "<eos>", "a", "<b>"]
    assert page.evaluate("words => nn.tokeniser(words).encode('<pad> a <b> zebra')", words) == [0, 4, 5, 0]
