"""M2 written out by loops over layers, heads, words and regions, in float64, from the formulas alone."""

import math
from dataclasses import replace

import pytest
import torch

from mmlearn.image2text.m2 import (
    BOS,
    M2Config,
    M2Transformer,
    memory_attention,
    mesh,
    mesh_gate,
    softmax_gates,
)

TINY = M2Config(vocab=9, width=8, heads=2, layers=2, ff=12, memory=3, features=5, dropout=0.1, max_len=6)


def build(config, seed=0):
    """A model with every parameter random, so that no bias or norm is left at a value that hides a
    mistake."""
    torch.manual_seed(seed)
    model = M2Transformer(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * 0.4)
    return model


def linear(x, W, b):
    return torch.stack([sum(W[o, i] * x[i] for i in range(len(x))) + b[o] for o in range(len(b))])


def layer_norm(x, state, name):
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    standard = [(value - mean) / math.sqrt(variance + 1e-5) for value in x]
    return torch.stack([state[f"{name}.weight"][i] * standard[i] + state[f"{name}.bias"][i]
                        for i in range(len(x))])


def attend(queries, sources, slots, allowed, state, name, heads):
    """One attention layer: for each query, each head, a loop over keys; ``slots`` are pairs of unprojected
    vectors."""
    d = len(queries[0])
    W, b = state[f"{name}.in_weight"], state[f"{name}.in_bias"]
    keys = [linear(x, W[d : 2 * d], b[d : 2 * d]) for x in sources] + [k for k, _ in slots]
    values = [linear(x, W[2 * d :], b[2 * d :]) for x in sources] + [v for _, v in slots]
    outputs = []
    for i, x in enumerate(queries):
        q = linear(x, W[:d], b[:d])
        read = []
        for a in range(heads):
            part = range(a * d // heads, (a + 1) * d // heads)
            exps = []
            for j in range(len(keys)):
                seen = allowed(i, j) if j < len(sources) else True
                exps.append(math.exp(sum(q[c] * keys[j][c] for c in part) / math.sqrt(d // heads)) if seen
                            else 0.0)
            total = sum(exps)
            for c in part:
                read.append(sum(exps[j] / total * values[j][c] for j in range(len(keys))) if total else 0
                            * q[0])
        outputs.append(linear(torch.stack(read), state[f"{name}.out.weight"], state[f"{name}.out.bias"]))
    return outputs


def feed_forward(x, state, name):
    inner = linear(x, state[f"{name}.inner.weight"], state[f"{name}.inner.bias"]).clamp(min=0)
    return linear(inner, state[f"{name}.outer.weight"], state[f"{name}.outer.bias"])


def naive_encode(state, config, features, real):
    d, n_m = config.width, config.memory
    rows = []
    for x in features:
        hidden = linear(x, state["project.linear.weight"], state["project.linear.bias"]).clamp(min=0)
        rows.append(layer_norm(hidden, state, "project.norm"))
    levels = []
    for i in range(config.layers):
        slots = []
        if n_m:
            M_k, M_v = (state[f"encoder.{i}.attention.memory_{kind}"] for kind in ("keys", "values"))
            slots = [(M_k[s] * math.sqrt(d / config.heads), M_v[s] * math.sqrt(n_m)) for s in range(n_m)]
        updates = attend(rows, rows, slots, lambda _, j: real[j], state, f"encoder.{i}.attention",
                         config.heads)
        Z = [layer_norm(x + u, state, f"encoder.{i}.attention_norm") for x, u in zip(rows, updates)]
        rows = [layer_norm(z + feed_forward(z, state, f"encoder.{i}.feed_forward"), state,
                           f"encoder.{i}.feed_forward_norm") for z in Z]
        levels.append(rows)
    return levels


def naive_decode(state, config, levels, real, tokens):
    N, d = config.layers, config.width
    rows = []
    for t, token in enumerate(tokens):
        position = [0.0] * d
        for c in range(0, d, 2):
            angle = (t + 1) / 10000 ** (c / d)
            position[c], position[c + 1] = math.sin(angle), math.cos(angle)
        stored = torch.tensor(position, dtype=torch.float32)            # the table is a float32 buffer
        rows.append(state["embed.words.weight"][token] + stored.double())
    for layer in range(N):
        name = f"decoder.{layer}"
        updates = attend(rows, rows, [], lambda t, s: s <= t, state, f"{name}.self_attention", config.heads)
        Y = [layer_norm(x + u, state, f"{name}.self_norm") for x, u in zip(rows, updates)]
        read = {"last": [N - 1], "one-to-one": [layer]}.get(config.mesh, list(range(N)))
        C = {i: attend(Y, levels[i], [], lambda _, j: real[j], state, f"{name}.cross_attention", config.heads)
             for i in read}
        if config.norm == "code":
            C = {i: [layer_norm(y + c, state, f"{name}.cross_norm") for y, c in zip(Y, C[i])] for i in read}
        rows = []
        for t, y in enumerate(Y):
            if len(read) == 1:
                z = C[read[0]][t]
            else:
                W, b = state[f"{name}.gate_weight"], state[f"{name}.gate_bias"]
                scores = [linear(torch.cat([y, C[i][t]]), W[i], b[i]) for i in read]
                if config.mesh == "sigmoid":
                    alpha = [1 / (1 + torch.exp(-s)) for s in scores]
                else:
                    alpha = [torch.exp(s) / sum(torch.exp(other) for other in scores) for s in scores]
                z = sum(a * C[i][t] for a, i in zip(alpha, read)) / math.sqrt(N)
            if config.norm == "paper":
                z = layer_norm(y + z, state, f"{name}.cross_norm")
            update = feed_forward(z, state, f"{name}.feed_forward")
            rows.append(layer_norm(z + update, state, f"{name}.feed_forward_norm"))
    return torch.stack([linear(y, state["output.weight"], torch.zeros(config.vocab)) for y in rows])


CASES = {
    "the released model": {},
    "the paper's normalisation": {"norm": "paper"},
    "softmax gates": {"mesh": "softmax"},
    "softmax gates, paper": {"mesh": "softmax", "norm": "paper"},
    "one-to-one": {"mesh": "one-to-one"},
    "no memory": {"memory": 0},
    "plain": {"memory": 0, "mesh": "last"},
    "memory without mesh": {"mesh": "last", "norm": "paper"},
    "three layers": {"layers": 3},
}


@pytest.mark.equation("eq:m2-encoder")
@pytest.mark.equation("eq:m2-cross")
@pytest.mark.equation("eq:m2-decoder-code")
@pytest.mark.equation("eq:m2-decoder-paper")
@pytest.mark.parametrize("case", CASES)
def test_the_model_says_what_the_formulas_say(case):
    config = replace(TINY, **CASES[case])
    model = build(config)
    features = torch.randn(2, 4, 5, dtype=torch.float64)
    features[1, 3] = 0                                               # the second image has three regions
    tokens = torch.tensor([[BOS, 5, 7], [BOS, 8, 4]])
    with torch.no_grad():
        got = model(features, tokens)
    state = {name: value.detach() for name, value in model.state_dict().items()}
    for n in range(2):
        real = [True, True, True, n == 0]
        levels = naive_encode(state, config, features[n], real)
        want = naive_decode(state, config, levels, real, tokens[n].tolist())
        torch.testing.assert_close(model.encode(features).levels[n, :, : 4 - n],
                                   torch.stack([torch.stack(rows[: 4 - n]) for rows in levels]))
        torch.testing.assert_close(got[n], want, atol=1e-11, rtol=1e-9)


@pytest.mark.equation("eq:m2-memory")
def test_memory_attention_reads_regions_and_slots_alike():
    p, m, e = 4, 3, 2
    Q, K, V = (torch.randn(p, e, dtype=torch.float64) for _ in range(3))
    M_k, M_v = (torch.randn(m, e, dtype=torch.float64) for _ in range(2))
    rows = []
    for q in Q:
        exps = [math.exp(float(q @ k) / math.sqrt(e)) for k in [*K, *M_k]]
        rows.append(sum(x / sum(exps) * v for x, v in zip(exps, [*V, *M_v])))
    torch.testing.assert_close(memory_attention(Q, K, V, M_k, M_v), torch.stack(rows))


@pytest.mark.equation("eq:m2-gate")
def test_a_mesh_gate_is_a_sigmoid_of_word_and_reading():
    Y, C = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    W, b = torch.randn(4, 8, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    got = mesh_gate(Y, C, W, b)
    for n in range(2):
        for t in range(3):
            for o in range(4):
                score = float(b[o] + sum(W[o, i] * Y[n, t, i] + W[o, 4 + i] * C[n, t, i] for i in range(4)))
                assert got[n, t, o].item() == pytest.approx(1 / (1 + math.exp(-score)), abs=1e-12)


@pytest.mark.equation("eq:m2-softmax-gate")
def test_softmax_gates_share_one_unit_among_the_layers_in_each_channel():
    Y, C = torch.randn(1, 2, 4, dtype=torch.float64), torch.randn(1, 3, 2, 4, dtype=torch.float64)
    W, b = torch.randn(3, 4, 8, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    got = softmax_gates(Y, C, W, b)
    for t in range(2):
        for o in range(4):
            exps = [math.exp(float(W[i, o] @ torch.cat([Y[0, t], C[0, i, t]]) + b[i, o])) for i in range(3)]
            for i in range(3):
                assert got[0, i, t, o].item() == pytest.approx(exps[i] / sum(exps), abs=1e-12)
    torch.testing.assert_close(got.sum(dim=1), torch.ones(1, 2, 4, dtype=torch.float64))


@pytest.mark.equation("eq:m2-mesh")
def test_the_mesh_is_a_gated_sum_over_the_root_of_the_layers():
    alpha, C = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    got = mesh(alpha, C)
    for n in range(2):
        for t in range(4):
            for c in range(5):
                want = sum(alpha[n, i, t, c] * C[n, i, t, c] for i in range(3)) / math.sqrt(3)
                torch.testing.assert_close(got[n, t, c], want)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_the_gates_of_a_layer_computed_together_are_the_formula_for_each(kind):
    layer = build(replace(TINY, mesh=kind, layers=3)).decoder[0]
    Y, C = torch.randn(2, 4, 8, dtype=torch.float64), torch.randn(2, 3, 4, 8, dtype=torch.float64)
    got = layer.gates(Y, C)
    if kind == "softmax":
        want = softmax_gates(Y, C, layer.gate_weight, layer.gate_bias)
    else:
        want = torch.stack([mesh_gate(Y, C[:, i], layer.gate_weight[i],
                                      layer.gate_bias[i]) for i in range(3)], dim=1)
    torch.testing.assert_close(got, want)
