"""Public weights of language models: folders that transformers writes, and MPT-1B by a module of its own."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import mmlearn.pretrained
from mmlearn import generate
from mmlearn.nn.causal_lm import CausalLM, text_prompt
from mmlearn.pretrained.causal_lm import FAMILIES, config_of, sources


def theirs(kind, **more):
    """A tiny model of transformers' in evaluation mode, all its weights stirred."""
    import transformers

    torch.manual_seed(0)
    sizes = {
        "gpt2": dict(vocab_size=40, n_positions=24, n_embd=16, n_layer=2, n_head=4),
        "opt": dict(vocab_size=40, max_position_embeddings=24, hidden_size=16, num_hidden_layers=2,
                    num_attention_heads=4, ffn_dim=24, word_embed_proj_dim=16),
        "gpt_neox": dict(vocab_size=40, max_position_embeddings=24, hidden_size=16, num_hidden_layers=2,
                         num_attention_heads=2, intermediate_size=24, use_parallel_residual=False,
                         rotary_pct=1.0),
        "mpt": dict(vocab_size=40, max_seq_len=24, d_model=16, n_layers=2, n_heads=4),
    }[kind]
    config, model = {"gpt2": ("GPT2Config", "GPT2LMHeadModel"), "opt": ("OPTConfig", "OPTForCausalLM"),
                     "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM"),
                     "mpt": ("MptConfig", "MptForCausalLM")}[kind]
    found = getattr(transformers, model)(getattr(transformers, config)(**{**sizes, **more})).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return found


def tokens():
    return torch.randint(3, 40, (3, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["gpt2", "opt", "gpt_neox", "mpt"])
def test_a_folder_that_transformers_writes_gives_its_logits(tmp_path, kind):
    model = theirs(kind)
    model.save_pretrained(tmp_path)
    ours = mmlearn.pretrained.load(tmp_path)
    assert isinstance(ours, CausalLM) and not ours.training
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens()), model(tokens()).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["opt", "gpt_neox"])
def test_padding_at_the_left_gives_transformers_logits(tmp_path, kind):
    model = theirs(kind)
    model.save_pretrained(tmp_path)
    ours = mmlearn.pretrained.load(tmp_path)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, :3], mask[2, :5] = False, False
    with torch.no_grad():
        want = model(tokens(), attention_mask=mask.long()).logits
        got = ours(tokens(), mask)
    torch.testing.assert_close(got[mask], want[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_greedy_search_writes_what_transformers_writes(tmp_path):
    model = theirs("gpt2", eos_token_id=0, bos_token_id=1)
    model.save_pretrained(tmp_path)
    rows = [[5, 9, 11, 4], [7, 3, 20, 8]]
    want = model.generate(torch.tensor(rows), attention_mask=torch.ones(2, 4).long(), do_sample=False,
                          max_new_tokens=6, min_new_tokens=6, pad_token_id=0)[:, 4:]
    ours = mmlearn.pretrained.load(tmp_path)
    got, _ = generate.greedy(ours, text_prompt(rows), eos=-1, max_len=6)
    same = [a == b for a, b in zip(want.flatten().tolist(), got.flatten().tolist()) if b != 0]
    assert all(same) and len(same) > 6


class MosaicAttention(nn.Module):
    """MPT-1B's attention, written out: normalised queries and keys, linear biases, no biases of matrices."""

    def __init__(self, d, h):
        super().__init__()
        self.h, self.Wqkv, self.out_proj = h, nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.q_ln, self.k_ln = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.Wqkv(x).split(d, dim=-1)
        q, k = self.q_ln(q), self.k_ln(k)
        out = torch.zeros(b, t, d)
        e = d // self.h
        for a in range(self.h):
            part = slice(a * e, (a + 1) * e)
            for i in range(t):
                scores = torch.stack([
                    (q[:, i, part] * k[:, j, part]).sum(-1) / math.sqrt(e)
                    - (i - j) * 2.0 ** (-8 * (a + 1) / self.h) for j in range(i + 1)], dim=-1)
                out[:, i, part] = torch.einsum("bj,bje->be", scores.softmax(-1), v[:, : i + 1, part])
        return self.out_proj(out)


class MosaicBlock(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.attn = MosaicAttention(d, h)
        self.mlp = nn.ModuleDict({"mlp_up": nn.Linear(d, 4 * d, bias=False),
                                  "mlp_down": nn.Linear(4 * d, d, bias=False)})

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["mlp_down"](F.gelu(self.mlp["mlp_up"](self.ln_2(x))))


class Mosaic(nn.Module):
    def __init__(self, v, d, h, n):
        super().__init__()
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(v, d), "ln_f": nn.LayerNorm(d, bias=False),
                                          "blocks": nn.ModuleList(MosaicBlock(d, h) for _ in range(n))})

    def forward(self, ids):
        x = self.transformer["wte"](ids)
        for block in self.transformer["blocks"]:
            x = block(x)
        return self.transformer["ln_f"](x) @ self.transformer["wte"].weight.T


MOSAIC = {"model_type": "mosaic_gpt", "vocab_size": 40, "d_model": 16, "n_heads": 4, "n_layers": 2,
          "mlp_ratio": 4, "max_seq_len": 24, "alibi": True, "alibi_bias_max": 8, "attn_qk_ln": True,
          "attn_clip_qkv": None, "no_bias": True, "softmax_scale": None, "logit_scale": None,
          "prefix_lm": False, "attn_uses_sequence_id": False, "attn_pdrop": 0, "resid_pdrop": 0}


def test_mpt_1b_in_its_own_layout_gives_the_logits_of_a_module_written_out(tmp_path):
    torch.manual_seed(0)
    model = Mosaic(40, 16, 4, 2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    (tmp_path / "config.json").write_text(json.dumps(MOSAIC))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with torch.no_grad():
        got, want = mmlearn.pretrained.load(tmp_path)(tokens()), model(tokens())
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


NEOX = {"model_type": "gpt_neox", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
        "intermediate_size": 24, "vocab_size": 40, "rotary_pct": 1.0, "use_parallel_residual": False}


@pytest.mark.parametrize("found, words", [
    ({"model_type": "llama"}, "model_type = 'llama'"),
    ({"model_type": "opt", "do_layer_norm_before": False}, "do_layer_norm_before = False"),
    ({"model_type": "opt", "hidden_size": 1024, "word_embed_proj_dim": 512}, "word_embed_proj_dim = 512"),
    ({"model_type": "gpt2", "activation_function": "silu"}, "activation_function = 'silu'"),
    ({"model_type": "gpt2", "n_head": 5}, "n_head is 5"),
    ({**NEOX, "use_parallel_residual": True}, "use_parallel_residual = True"),
    ({**NEOX, "rotary_pct": 0.25}, "rotary_pct = 0.25"),
    ({**NEOX, "rope_parameters": {"rope_theta": 500.0}}, "rotary_emb_base = 500.0"),
    ({**MOSAIC, "alibi": False}, "alibi = False"), ({**MOSAIC, "no_bias": False}, "no_bias = False"),
    ({**MOSAIC, "d_model": "wide"}, "d_model = 'wide'"),
    ({"model_type": "mpt", "attn_config": {"clip_qkv": 6}}, "clip_qkv = 6")])
def test_a_configuration_that_computes_something_else_is_refused(found, words):
    with pytest.raises(ValueError, match=words):
        config_of(found, "config.json")


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_tensor_of_a_family_has_a_name_of_its_own(name):
    base = {"model_type": name, "vocab_size": 40}
    small = {"gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4},
             "opt": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
             "gpt_neox": NEOX, "mpt": {"d_model": 16, "n_layers": 2, "n_heads": 4},
             "mosaic_gpt": MOSAIC}[name]
    model = CausalLM(config_of({**small, **base}, "config.json"))
    names = [their for ours in model.state_dict() for their in sources(ours, FAMILIES[name])]
    assert len(names) == len(set(names))


@pytest.mark.parity
def test_files_with_other_names_are_refused_and_a_second_head_must_be_equal(tmp_path):
    theirs("gpt2").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    words = next(name for name in state if name.endswith("wte.weight"))
    save_file({**state, "lm_head.weight": state[words].clone()}, file)
    assert isinstance(mmlearn.pretrained.load(tmp_path), CausalLM)
    save_file({**state, "lm_head.weight": state[words] + 1}, file)
    with pytest.raises(ValueError, match="lm_head.weight differs from wte.weight"):
        mmlearn.pretrained.load(tmp_path)
    save_file({name: value for name, value in state.items() if "ln_f" not in name}, file)
    with pytest.raises(ValueError, match="missing: ln_f.bias, ln_f.weight"):
        mmlearn.pretrained.load(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="download the weights too"):
        mmlearn.pretrained.load(tmp_path)


def test_public_names_have_this_reader():
    for name in ("openai-community/gpt2", "facebook/opt-1.3b", "mosaicml/mpt-7b"):
        assert mmlearn.pretrained.reader(name).SYSTEM == "Causal language model"
