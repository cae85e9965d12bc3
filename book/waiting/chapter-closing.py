# %% [markdown]
# ## What came after
#
# Flamingo put new layers *into* a language model. Soon after, a simpler way became common: put the picture into the *text*. This section builds it of the parts at hand, measures it, and names what else came.
#
# ### The visual prefix
#
# A word enters a language model as a row of $d$ numbers, its vector $E_y$. Nothing in the model asks where such a row came from. So take the cells of a picture, $p$ rows of $f$ numbers from a frozen encoder, and make word vectors of them, by one matrix (LLaVA {cite:p}`liu2023llava`)
#
# $$
# P=XW+b,\qquad X\in\mathbb R^{p\times f},\ W\in\mathbb R^{f\times d}
# $$ (eq:prefix-matrix)
#
# or by two layers (LLaVA-1.5 {cite:p}`liu2024improved`):
#
# $$
# P=\mathrm{GELU}(XW_1+b_1)W_2+b_2
# $$ (eq:prefix-layers)
#
# If the picture stands at token $\ell$ of a text, its rows take the place of the mark:
#
# $$
# [E_{y_1};\dots;E_{y_{\ell-1}};P_1;\dots;P_p;E_{y_{\ell+1}};\dots]
# $$ (eq:prefix-sequence)
#
# The model reads on as if these were words, and the loss is that of the words of the answer, {eq}`eq:lm-loss`. *Frozen* {cite:p}`tsimpoukelli2021frozen` did this first, with two rows a picture, a language model of 7 billion numbers that stays as it is, and an encoder that is trained. LLaVA does it in two steps: first only $W$ learns, then $W$ and the language model.

# %%
from mmlearn.both_modalities.visual_prefix import (one_matrix, two_layers,
                                                   with_prefix)

show_source(one_matrix, two_layers, with_prefix)

# %% [markdown]
# How much is that? What LLaVA trains first, beside what Flamingo adds to a language model of about the same size:

# %% tags=["nbval-check-output"]
from mmlearn.book import show_table
from mmlearn.both_modalities.flamingo import FlamingoAdapter, FlamingoConfig
from mmlearn.both_modalities.visual_prefix import (Projection,
                                                   VisualPrefixConfig)
from mmlearn.catalog import count_parameters
from mmlearn.nn.modes import blank

with blank():
    parts = {"LLaVA-7B, matrix": Projection(VisualPrefixConfig.llava_7b()),
             "LLaVA-1.5-7B, two layers":
             Projection(VisualPrefixConfig.llava_15_7b()),
             "Flamingo-9B, resampler and gated layers":
             FlamingoAdapter(FlamingoConfig.flamingo_9b())}
show_table(["what is new", "million numbers"],
           [[name, count_parameters(part) / 1e6]
            for name, part in parts.items()], digits=1)

# %% [markdown]
# **What it costs later.** A gated layer reads 64 visual tokens at a few places; a prefix of 576 cells passes through *every* layer, and every word behind it can look at every cell. The picture is paid for in context.
#
# **The miniature.** Sixteen cells of 256 numbers from chapter 4's CLIP (its last stage but one), the language model of scenes of section 5.3, and a projection. Three arms from the same start: a matrix, two layers, and two layers with the language model trained as well. Each is then asked for captions of 100 test scenes, with its own picture and with another one. (Two minutes and a half.)

# %%
from mmlearn.both_modalities.interleaved import look_at_features
from mmlearn.both_modalities.language_model import load_lm
from mmlearn.both_modalities.visual_prefix import train_prefix
from mmlearn.experiments.both_modalities.visual_prefix import (
    answer_loss, arm_of, first_captions, world)
from mmlearn.files import package_data

train = world(budget(cpu=1200, smoke=40), "train")
test = world(budget(cpu=100, smoke=10), "test")
look, other = look_at_features(train.cells), test.cells.roll(1, 0)
asked, table = first_captions(test), {}
for arm in ("matrix", "two layers", "language model trained"):
    lm = load_lm(package_data("checkpoints") / "scene-lm.safetensors")
    of, model = lm.tokeniser, arm_of(arm, lm, 0)
    train_prefix(model, [*train.captions, *train.questions], of, look,
                 steps=budget(cpu=300, gpu=3000, smoke=3), lr=3e-3, title=arm)
    table[arm] = [answer_loss(model, asked, of, cells)
                  for cells in (test.cells, other)]

# %%
show_table(["nats a token of captions", "own picture", "another picture"],
           [[arm, *losses] for arm, losses in table.items()], digits=2)
for arm in ("matrix", "two layers"):
    claim(f"{arm}: its own picture helps a caption (nats a token)",
          table[arm][0], "<", table[arm][1])

# %% [markdown]
# Adverse first. After 300 steps, 9,600 texts, **the pictures are hardly used**: with the matrix the own picture is worth 0.04 nats of 1.56, with two layers 0.03. Training the language model as well is worse in both columns (1.69 and 1.70), and its picture is worth 0.01. So what a caption says is still mostly what captions say. That is no verdict on prefixes: one seed, 1,200 scenes, a run far from its end; LLaVA's first step alone reads 595,000 pairs. It shows what to watch: the training loss falls by learning the form of an answer, and does not tell if the picture is read. The second column does.
#
# `python -m mmlearn.experiments visual-prefix` runs it longer, with three seeds, questions, and a control that is trained with pictures of other texts.
#
# At scale the same question was asked by those who had rebuilt Flamingo. With frozen models, cross-attention is better than a prefix; once the models are trained as well (by low-rank updates), the prefix is better, with fewer parameters {cite:p}`laurencon2024matters`. What to freeze and how to join are one choice, not two.
#
# ### Other ways on
#
# - **Fewer tokens into a frozen model.** BLIP-2 {cite:p}`li2023blip2` trains a transformer of 188 million numbers whose 32 learned queries read the picture, first by contrast and matching, then before a frozen language model: 54 times fewer than Flamingo-80B trains, with 8.7 points more on VQAv2 without examples, by its own account.
# - **Instructions.** LLaVA's second step learns from 158,000 conversations, descriptions and reasons that a language model wrote from captions and boxes, without seeing a picture.
# - **Flamingo rebuilt.** Flamingo's weights were never released. OpenFlamingo {cite:p}`awadalla2023openflamingo` and IDEFICS {cite:p}`laurencon2023obelics` rebuilt it with public data; Idefics2 went over to the prefix, and kept the resampler.
# - **A prefix that sees itself.** Nothing of a picture is predicted, so its cells may attend both ways. PaliGemma {cite:p}`beyer2024paligemma` does so ([exercise 18](exercises/5-both-modalities.ipynb#exercise-18-build-a-prefix-that-sees-itself)).
# - **One sequence for all.** Chameleon {cite:p}`chameleon2024` drops the encoder: a VQGAN makes 1,024 codes of 8,192 of a picture, words and codes are one vocabulary, and one loss predicts whatever comes next, in any order. It can write pictures, too.
#
# The last is chapter 2's DALL-E with the order set free. Our parts can show what it takes: a picture of one thing as 64 codes of chapter 2's VQGAN, behind the words.

# %%
from mmlearn.data.pairs import class_pictures
from mmlearn.text2image.first_stage import load_vqgan

vqgan = load_vqgan()
picture = class_pictures(1, "test").images.float() / 127.5 - 1
codes = vqgan.encode(picture).flatten()
places = [f"code {int(code)}" for code in codes]
sequence = ["<bos>", "a", "thing", *places[:4], "…", places[-1], "<eos>"]
print(" ".join(sequence).replace("code ", "c"))
print(len(codes), "codes of", vqgan.config.codes, "kinds:",
      int(len(codes) * np.log2(vqgan.config.codes)), "bits; the pixels:",
      8 * picture.numel())

# %% [markdown]
# A caption of eight words is eight places of such a sequence, its picture 64: most of the loss goes into pictures. A prefix has no cell predicted, and spends all on words. That is what is traded for a model that draws.
#
# *Practise.* [exercise 18](exercises/5-both-modalities.ipynb#exercise-18-build-a-prefix-that-sees-itself), [exercise 19](exercises/5-both-modalities.ipynb#exercise-19-open-freeze-or-not). *Go further.* {cite:t}`laurencon2024matters`, which tries the choices one at a time · {cite:t}`liu2024improved`

# %% [markdown]
# ## Summary
#
# - "One model for both" means three things: one rule (data2vec), two streams that read each other (ViLBERT), two frozen models with new layers between them (Flamingo). The survey's "one framework" is none of them alone.
# - data2vec predicts the averaged states of its own slow copy. Without normalised targets, a slow teacher and hidden inputs, predicting nothing is the best answer. It makes features, and no common space.
# - In co-attention queries stay and keys and values are exchanged: the weights are those of a stream over the *other* one, and so is what is read.
# - A gate that begins at zero leaves a frozen model as it was; its gradient is not zero, so it opens where that pays.
# - A prompt can tell a task by examples if training held pages that need them; whether examples are read is shown by swapping their answers.
# - The survey's five equations of Flamingo are an attention captioner of 2015 to 2017; its off-by-one target can be predicted without learning anything.
# - A number means something beside its blind baseline, and a frozen part is a choice: it cannot forget, and it cannot learn.

# %% [markdown]
# Can you do it without the page? Write down data2vec's target, and say what each of its safeguards prevents. Draw both directions of co-attention with all shapes. Give the derivative of a gated block at $\alpha=0$ for the gate and for a weight inside. Say which picture a token sees, and what the first word of a page sees. Write the sequence that a visual prefix makes of a text with two pictures. Name a blind baseline for each task of the chapter. Then open the [exercises](exercises/5-both-modalities.ipynb).

# %%
from mmlearn.book import chapter_claims

chapter_claims()
