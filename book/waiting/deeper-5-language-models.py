# %% [markdown]
# # Deeper: Language models that are frozen
#
# This page belongs to [section 5.3](../5-both-modalities.ipynb), where a language model is trained first and never again. It says what these models are:
#
# - what they are trained for, and what perplexity means,
# - four ways to know where a token stands,
# - their shapes and counts, and where published counts do not agree,
# - what the miniature of the section learned, and what only seemed to be learned,
# - OpenFlamingo, and where it differs from Flamingo.

# %% tags=["hide-input"]
# Setup. In Colab: fetches this version of the book and what Colab lacks.
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules:
    if not Path("/content/mmlearn").exists():
        book = "https://github.com/mmlearn-book/mmlearn"
        clone = "git clone -q --depth 1 --branch v0.1.0".split()
        subprocess.run([*clone, book, "/content/mmlearn"], check=True)
        needs = "pip install -q -r /content/mmlearn/book/colab.txt"
        subprocess.run(needs.split(), check=True)
    sys.path.insert(0, "/content/mmlearn")

import matplotlib.pyplot as plt
import numpy as np
import torch

from mmlearn import plot
from mmlearn.book import setup, show_source
from mmlearn.claims import budget, claim

setup("5-language-models")

# %% [markdown]
# ## One token after the other
#
# A causal language model gives a text $y_1,\dots,y_L$ a probability, token by token {cite:p}`radford2019gpt2`:
#
# $$
# \log p_\theta(y)=\sum_t\log p_\theta(y_{t+1}\mid y_1,\dots,y_t)
# $$ (eq:lm-chain)
#
# A causal mask makes all terms computable at once: state $t$ has seen $y_1,\dots,y_t$ and no more. The logits are products of the last state $z$ with the vectors of all words,
#
# $$
# \mathrm{logits}=zE^\top,
# $$ (eq:lm-logits)
#
# where $E$ is in most models the table by which words enter, too. What is minimised is the mean over the tokens $S$ that count, in nats a token:
#
# $$
# L=-\frac1{|S|}\sum_{t\in S}\log p_\theta(y_t\mid y_{<t})
# $$ (eq:lm-loss)
#
# Its exponential is called **perplexity**,
#
# $$
# \mathrm{PPL}=e^{L} ,
# $$ (eq:lm-perplexity)
#
# the number of words, all alike, between which the model is in doubt.
#
# **With pencil and paper.** A text of three scored tokens gets the probabilities $\frac12,\frac14,\frac18$. The loss is $\frac13(\ln2+\ln4+\ln8)=2\ln2=1.386$, the perplexity 4. Perplexities are comparable only if the tokens are the same: cut every token in two, give the second half probability 1, and the perplexity becomes 2.

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.language_model import perplexity
from mmlearn.nn.causal_lm import lm_loss, token_log_probs, word_logits

show_source(word_logits, token_log_probs, lm_loss, perplexity)
p = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]], [[0.125, 0.875]]])
logits = torch.cat([p.log().transpose(0, 1), torch.zeros(1, 1, 2)], 1)
loss = lm_loss(logits, torch.zeros(1, 4, dtype=torch.long))
print(f"{loss:.3f} nats, perplexity {perplexity(loss):.3f}")

# %% [markdown]
# ## Where a token stands
#
# Attention does not know the order of its keys (section 3.5). Four remedies stand in the models of this page.
#
# **Learned vectors** (GPT-2, OPT) are added to the word vectors. They end where training ended: GPT-2 has 1,024 of them. OPT's table begins with two rows that no token uses.
#
# **ALiBi** (MPT) has no vectors. Head $a$ of $h$ subtracts from a score what grows with the distance {cite:p}`press2022alibi`:
#
# $$
# B_{aij}=-m_a\,(i-j)
# $$ (eq:lm-alibi)
#
# with one slope a head, fixed:
#
# $$
# m_a=2^{-8a/h} .
# $$ (eq:lm-slopes)
#
# For $h=8$ they are $\frac12,\frac14,\dots,\frac1{256}$: the first head sees little beyond ten tokens, the last one hundreds.
#
# **Rotary positions** (RedPajama, and our miniature) turn queries and keys {cite:p}`su2021roformer`. The pair of numbers $(x_i,x_{i+e/2})$ of a head of width $e$ is turned at position $p$ by the angle
#
# $$
# \theta_i(p)=p\,\omega^{-2i/e},\qquad\omega=10^4 .
# $$ (eq:lm-rotary)
#
# A product of two vectors, turned by $p$ and by $q$, depends on $p-q$ alone, since rotations are orthogonal: $R_p^\top R_q=R_{q-p}$.
#
# **Relative vectors** (Chinchilla, after Transformer-XL {cite:p}`dai2019transformerxl`) add to a score three terms that know the distance, the key, or both, from a vector $r_\delta$ of each distance and two learned vectors $u,v$ of a head:
#
# $$
# B_{ij}=\big((q_i+v)^\top r_{i-j}+u^\top k_j\big)/\sqrt{d_k}
# $$ (eq:lm-relative)

# %%
from mmlearn.nn.causal_lm import (alibi_slopes, linear_bias, relative_bias,
                                  rotated)

show_source(alibi_slopes, linear_bias, rotated, relative_bias)

# %% [markdown]
# Left: what ALiBi subtracts. Right: the score of one query and one key, both the same random vector, at all distances, three times: with the query at position 50, 100 and 150 the curves are one.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left, straight lines that fall with the distance, one for each of eight heads. Right, a score that is largest at distance 0 and swings around smaller values; three curves lie on each other."}}
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.8),
                                     layout="constrained")
far = torch.arange(0, 40)
for m in alibi_slopes(8):
    left.plot(far, -m * far, linewidth=1.2)
left.set(xlabel="distance", ylabel="added to the score", ylim=(-10, 0.5))
x = torch.randn(1, 32)
for p, width in ((50, 4), (100, 2.5), (150, 1)):
    query = rotated(x, start=p)
    scores = [float((query * rotated(x, start=p - int(d))).sum()) for d in far]
    right.plot(far, scores, linewidth=width, label=f"query at {p}")
right.set(xlabel="distance", ylabel="score")
right.legend();

# %% [markdown]
# ALiBi has no trouble with longer texts than it was trained on; rotations do, once angles come up that were never seen.
#
# ## Shapes and counts
#
# Each layer has $4d^2$ weights of attention and $8d^2$ of its feed-forward net, so $12\,l\,d^2$ in all, and the words $v\,d$ on top. Counted on the device "meta", where a model has shapes and takes no memory:

# %%
from mmlearn.book import show_table
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import blank

rows = []
for name in ("gpt2", "gpt2_xl", "opt_125m", "opt_6b7", "mpt_1b", "mpt_7b",
             "redpajama_3b", "chinchilla_1b4", "chinchilla_7b",
             "chinchilla_70b"):
    config = getattr(CausalLMConfig, name)()
    with blank():
        count = sum(p.numel() for p in CausalLM(config).parameters())
    rows.append([name, config.layers, config.width, config.heads,
                 config.positions, f"{count / 1e9:.2f}",
                 f"{12 * config.layers * config.width**2 / 1e9:.2f}"])
show_table(["model", "layers", "width", "heads", "positions", "billions",
            "12 l d²"], rows)

# %% [markdown]
# The three Chinchillas are those of Flamingo. The paper calls them 1.4B, 7.1B and 70B; the shapes that it prints give the middle one 8.05B in its layers alone. Its counts of what was *added* do not agree either: 1.2, 1.6 and 10B in its first table, 1.4, 1.8 and 10B in its text. By its shapes, as we read them:

# %%
from mmlearn.both_modalities.flamingo import FlamingoAdapter, FlamingoConfig

rows = []
for name, told in (("flamingo_3b", "194M, 1.2B"), ("flamingo_9b",
                   "194M, 1.6B"), ("flamingo_80b", "194M, 10B")):
    with blank():
        adapter = FlamingoAdapter(getattr(FlamingoConfig, name)())
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6
             for part in (adapter.resampler, adapter.blocks)]
    rows.append([name, len(adapter.blocks), f"{sizes[0]:.0f}M",
                 f"{sizes[1] / 1000:.2f}B", told])
show_table(["", "gated blocks", "resampler", "blocks", "the paper's table"],
           rows)

# %% [markdown]
# We take shapes from its appendix and totals from nowhere, and tune nothing to match (P10).
#
# ## A word that was said before
#
# Section 5.3's language model has 4 layers of width 128, rotary positions, and the words of scenes. It was trained for 7,000 steps, half of its pages on bindings (*Output: cat dax*). On scenes that it has not read:

# %%
from mmlearn.both_modalities.language_model import copied, load_lm
from mmlearn.data.pairs import class_names
from mmlearn.files import package_data

saved = load_lm(package_data("checkpoints") / "scene-lm.safetensors")
metrics = saved.about["metrics"]
show_table(["on scenes not read", ""], [
    ["loss, nats a token", metrics["loss"]],
    ["of who knows how often each word occurs", metrics["unigram"]],
    ["perplexity", metrics["perplexity"]],
    ["words in the vocabulary", metrics["words"]]])
claim("the language model knows more than how often words occur",
      metrics["loss"], "<", metrics["unigram"]);

# %% [markdown]
# So it writes. Does it look back? Words are bound to things, each thing is named equally often with its word, and then one of them is named once more. Who knows the words of the page and not which is whose is right once in as many times as there are words. That the question can be answered is shown by a rule beside it: say what followed when this token stood there last.

# %%
class LooksBack(torch.nn.Module):
    def forward(self, tokens):
        says = tokens.clone()
        for row, told in zip(tokens.tolist(), says):
            for t, token in enumerate(row):
                before = [s for s in range(t) if row[s] == token]
                told[t] = row[before[-1] + 1] if before else token
        return torch.nn.functional.one_hot(says, len(of)).float()

of, things, rows = saved.tokeniser, class_names(), []
for ways in (2, 3, 4):
    rows.append([ways, 1 / ways, *(copied(
        model, of, things, ways=ways, pages=budget(cpu=200, smoke=4))
        for model in (saved.model, LooksBack()))])
show_table(["words bound", "guess", "language model", "rule"], rows)

# %% [markdown]
# The rule is always right, and the language model guesses: **it does not look back**. While it was trained we believed the opposite. The share of right words at *all* repeated places of such pages had risen to 0.79 with two words and 0.54 with four, far above a half and a quarter, and these numbers stand as "copied" in the study's record. But each word stood three times on those pages. Where one word only has been said, saying it again is often right; and near the end of a page the words that are left can be counted. A model that counts and never looks back scores well there. A measure of an ability needs questions that nothing else answers.
#
# What looks back in large models is known as an *induction head* {cite:p}`olsson2022induction`: one head writes at each token what stood before it, and a head of a later layer looks for the token whose predecessor is the present one. Such heads appear at once, after a long time in which nothing seems to happen; ours had not come after 7,000 steps. The table shows, for each head, the share of its attention from a thing that is named again to the word that followed it when it was named first.

# %%
from mmlearn.both_modalities.interleaved import NONSENSE
from mmlearn.both_modalities.language_model import binding_text
from mmlearn.nn.attention import record_attention

dice, looks = np.random.default_rng(0), []
for _ in range(budget(cpu=60, smoke=4)):
    page = binding_text(NONSENSE, things, dice, ways=2, shots=2)
    ids, first = [of.bos], {}
    for example in page:
        ids += of.encode(example.request)
        thing = len(ids) - 1
        ids += [*of.encode(example.answer), of.eos]
        if example.answer in first:
            with record_attention(saved.model) as weights, torch.no_grad():
                saved.model(torch.tensor([ids]))
            looks.append(torch.stack([w[0, :, thing, first[example.answer]]
                                      for w in weights.values()]))
        first.setdefault(example.answer, thing + 1)
share = torch.stack(looks).mean(0)
show_table(["layer", *(f"head {a + 1}" for a in range(share.shape[1]))],
           [[i + 1, *row] for i, row in enumerate(share.tolist())], digits=2)

# %% [markdown]
# The largest shares, 0.35 to 0.44, are in the first layer. But a head of the first layer cannot know what stood before a token: it looks at bound words, whichever they are. Behind it no head has more than 0.40, and a share alone does not say that the thing decided.
#
# ## OpenFlamingo
#
# Flamingo's weights were never released. {cite:t}`awadalla2023openflamingo` trained the design anew, over public language models (MPT, RedPajama) and CLIP ViT-L/14, on LAION-2B and MMC4; IDEFICS {cite:p}`laurencon2023obelics` did so over LLaMA. Where the public codes differ from the paper:
#
# | | Flamingo | flamingo-pytorch | open_flamingo | IDEFICS |
# |---|---|---|---|---|
# | vision encoder | NFNet-F6 | any | CLIP ViT-L/14 | CLIP ViT-H/14 |
# | activation of added parts | squared ReLU | GELU | GELU | SwiGLU |
# | width of a head | 128 | 64 | 64 | $D/h$ |
# | added before layers | $0,n,2n,\dots$ | *after* such | $n-1,2n-1,\dots$ | $0,n,2n,\dots$ |
# | a token sees | the last picture | the last; an option: all | the last | as a mask says |
# | times of frames | 8, stretched | one *a picture* | optional | none |
# | `<image>` | ordinary text | a token | a token | a token |
#
# The first version of flamingo-pytorch let text see all earlier pictures (P11); open_flamingo starts one interval later than the paper (P12). `mmlearn.pretrained.flamingo` reads OpenFlamingo's files, which hold the trained parts alone, without skipping a tensor; the modules are tested against both codes. Published for the 9B model: 4-shot COCO 89.0 CIDEr and VQAv2 54.8; Flamingo-9B has 93.1 and 56.3. Sizes that our code counts:

# %% tags=["nbval-check-output"]
rows = []
for name in ("openflamingo_3b", "openflamingo_4b", "openflamingo_9b"):
    config = getattr(FlamingoConfig, name)()
    with blank():
        count = sum(p.numel() for p in FlamingoAdapter(config).parameters())
    rows.append([name, str([*config.places][:3])[:-1] + ", …]",
                 f"{count:,}"])
show_table(["", "blocks before layers", "trained parameters"], rows)

# %% [markdown]
# *Go further.* {cite:t}`hoffmann2022chinchilla` on how large a model a budget of training should buy · {cite:t}`awadalla2023openflamingo`, section 3
