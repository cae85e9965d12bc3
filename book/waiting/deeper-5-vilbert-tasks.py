# %% [markdown]
# # Deeper: ViLBERT's tasks
#
# This page belongs to section [5.2](../5-both-modalities.ipynb). It puts a head on ViLBERT for each of its four tasks, fine-tunes the miniature for them in the scene world, and sets beside each result what is reached without looking. Then: what the released files hold, and which bugs to know. Letters are those of the section; $z$ are logits.

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

setup("5-vilbert-tasks")

# %% [markdown]
# ## Four heads on one vector
#
# Pre-training leaves two things to build on: the product $h_X\odot h_Y$ of the pooled states, picture and text as one vector, and the last state of every region. A task adds one small head and trains *all* weights, with Adam, a few epochs, one rate:

# %%
from mmlearn.book import show_table
from mmlearn.both_modalities.vilbert_heads import FineTuningConfig

tasks = {"VQA": "vqa", "VCR, answer": "vcr_answer",
         "VCR, reason": "vcr_rationale", "RefCOCO+": "referring",
         "Flickr30k retrieval": "retrieval"}
reads = ["product", "product", "product", "each region", "product"]
sizes = ["3129 logits", "1 for each of 4 texts", "1 for each of 4 texts",
         "1 for each region", "1 for each of 4 pairs"]
show_table(["task", "head reads", "and gives", "batch", "rate", "tokens"], [
    (name, read, size, c.batch, f"{c.lr:.0e}", c.text_length)
    for (name, how), read, size in zip(tasks.items(), reads, sizes)
    for c in [getattr(FineTuningConfig, how)()]])

# %% [markdown]
# All but VQA's are one row of weights. That of VQA has a hidden layer of 2048 and **weight normalisation**: the length of a matrix and its direction are two parameters,
#
# $$
# W=g\,\frac{U}{\|U\|}
# $$ (eq:vilbert-weight-norm)
#
# with the length of the whole matrix as one number $g$, so that a large rate moves the direction without blowing up the scale.

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.vilbert import ViLBERTConfig
from mmlearn.both_modalities.vilbert_heads import AnswerHead, normed_weight

show_source(normed_weight, AnswerHead.forward)
U = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
print(normed_weight(U, torch.tensor(10.0)).tolist())
head = AnswerHead(ViLBERTConfig.base(), 3129)
print(f"{sum(p.numel() for p in head.parameters()):,} parameters")

# %% [markdown]
# The norm of $U$ is 5 (not 3 and 4, its rows'); times 2 it has length 10.
#
# ## Questions: soft scores
#
# VQA is not "one right answer of ten". Ten *people* answer each question, and the head has 3,129 *answers*, those given often enough. An answer that three people gave is right:
#
# $$
# s_a=\min\Big(1,\frac{n_a}3\Big)
# $$ (eq:vilbert-soft-score)
#
# Several answers may be right at once, so there is no softmax. Every answer is a yes or no of its own:
#
# $$
# L=-\sum_a\big(s_a\log\sigma(z_a)+(1-s_a)\log(1-\sigma(z_a))\big)
# $$ (eq:vilbert-vqa)
#
# Its gradient by a logit is $\sigma(z_a)-s_a$. **With pencil and paper:** six people say *red*, two *pink*, one *purple*, one *the red*. Then $s=1,\frac23,\frac13,\frac13$, and the best probabilities are these, which sum to $2\frac13$:

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.vilbert_heads import answer_loss, soft_score

show_source(soft_score, answer_loss)
s = soft_score(torch.tensor([[6.0, 2.0, 1.0, 1.0]]))
z = torch.zeros(1, 4, requires_grad=True)
(grad,) = torch.autograd.grad(answer_loss(z, s), z)
print([round(x, 2) for x in s[0].tolist()],
      [round(x, 2) for x in grad[0].tolist()])

# %% [markdown]
# Now in small: balanced pairs of questions about scenes, in which each question is asked of two pictures with two answers. The model that comes with the book is fine-tuned for 200 steps, and so is the same model with new weights.

# %%
from mmlearn.both_modalities.vilbert_fine_tuning import (
    given_answers, question_task, task_regions, tune_task)
from mmlearn.both_modalities.vilbert_heads import for_tasks
from mmlearn.both_modalities.vilbert_training import load_vilbert
from mmlearn.data.questions import ANSWERS, blind_scores, vqa_pairs
from mmlearn.image2text.regions import load_detector

detector, (model, words, _) = load_detector(), load_vilbert()
sets = [vqa_pairs(n // 2, split) for n, split in (
    (budget(cpu=1200, gpu=6000, smoke=40), "train"),
    (budget(cpu=400, gpu=1000, smoke=40), "test"))]
learn, test = (question_task(data, task_regions(detector, data, "x"), words)
               for data in sets)

# %% [markdown]
# Both are fine-tuned in the same way; the first also answers with the picture of another question:

# %%
from mmlearn.book import show_table
from mmlearn.both_modalities.vilbert_training import fresh

answering, found = {}, dict(blind_scores(*sets))
for name, start in (("pre-trained", model), ("from scratch", fresh(model))):
    answering[name] = for_tasks(start, len(ANSWERS))
    tune_task(answering[name], "questions", learn,
              steps=budget(cpu=200, gpu=2000))
    found[name] = sets[1].scores(given_answers(answering[name], test))
swapped = test._replace(pictures=test.pictures.roll(len(test.pictures) // 3))
found["pre-trained, other picture"] = sets[1].scores(
    given_answers(answering["pre-trained"], swapped))
kinds = sorted(found["pre-trained"].by_answer_type)
show_table(["official accuracy", "all", *kinds],
           [(name, s.overall, *(s.by_answer_type[k] for k in kinds))
            for name, s in found.items()])

# %% [markdown]
# <!-- RESULT (live, cpu scale: LIVE-VQA.) -->
#
# ## Choices: answers, reasons, pairs
#
# VCR shows a picture, a question, four answers; then four *reasons* for the right answer. Each response is put behind its question as one text, [CLS] question [SEP] response [SEP], is read together with the picture, and gets one logit from the product. The four logits compete:
#
# $$
# L=-\log\frac{\exp z_r}{\sum_{k=1}^4\exp z_k}
# $$ (eq:vilbert-choice)
#
# with $r$ the right one. Both choices are trained together, one head for both. What is guessed is right in 25, 25 and, for both at once, 6.25 %.

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.vilbert_heads import (
    ViLBERTForTasks, choice_loss, question_text)

show_source(choice_loss, ViLBERTForTasks.choose)
print(*question_text([10, 11], [20, 21, 22], cls=1, sep=2))

# %% [markdown]
# Problems of the scene world, with names for the tags [0] and [1]:

# %%
from functools import partial

from mmlearn.both_modalities.vilbert_fine_tuning import (
    choice_step, choice_task, chosen_texts, fine_tune, task_regions)
from mmlearn.both_modalities.vilbert_heads import for_tasks
from mmlearn.both_modalities.vilbert_training import load_vilbert
from mmlearn.data.rationales import shortcuts, vcr_problems
from mmlearn.image2text.regions import load_detector

detector, (model, words, _) = load_detector(), load_vilbert()
both = [vcr_problems(n, split) for n, split in (
    (budget(cpu=360, gpu=2000, smoke=60), "train"),
    (budget(cpu=240, gpu=600, smoke=60), "test"))]
seen = [task_regions(detector, data, "x") for data in both]

# %% [markdown]
# The choices of the test problems, by a model for answers and one for reasons:

# %%
chosen = []
for why in (False, True):
    task = choice_task(both[0], seen[0], words, reasons=why)
    choosing = for_tasks(model, 1)
    fine_tune(choosing, partial(choice_step, task), len(task.right), batch=16,
              steps=budget(cpu=120, gpu=2000))
    chosen.append(chosen_texts(choosing, choice_task(
        both[1], seen[1], words, reasons=why)))

# %% [markdown]
# Beside them stand choosers that see no picture:

# %%
from mmlearn.book import show_table

rows = {"fine-tuned": both[1].scores(*(c.tolist() for c in chosen)),
        **shortcuts(*both)}
show_table(["of the test problems", "Q→A", "QA→R", "Q→AR"],
           [(name, *s.table().values()) for name, s in rows.items()])

# %% [markdown]
# <!-- RESULT (live, cpu scale: LIVE-VCR.) --> (We train two models where the paper trains one for both.) The rows below the first are shortcuts: they never see a picture.
#
# **Retrieval** is the same choice among four *pairs*: the true one, the picture with a random text, the text with a random picture, and a *hard negative*. The paper leaves open what the last is; the code takes the text of one of the 100 pictures that look most alike.

# %%
from mmlearn.both_modalities.vilbert_fine_tuning import (retrieval_scores,
                                                         retrieval_step)
from mmlearn.both_modalities.vilbert_heads import (
    look_alikes, retrieval_alternatives)
from mmlearn.both_modalities.vilbert_training import scene_regions

show_source(retrieval_alternatives, look_alikes)
pairs = scene_regions(detector, budget(cpu=500, gpu=4000, smoke=24))
tokens = words.batch(pairs.first())
means = pairs.seen.features.sum(1) / pairs.seen.mask.sum(1).clamp(
    min=1)[:, None]
near = look_alikes(means, min(20, len(tokens) - 1))
ranking = for_tasks(model, 1)
fine_tune(ranking, partial(retrieval_step, pairs, tokens, near=near),
          len(tokens), batch=24, steps=budget(cpu=120, gpu=2000));

# %% [markdown]
# Then each of 100 test captions ranks 100 test pictures:

# %%
shelf = scene_regions(detector, budget(cpu=100, gpu=200, smoke=8), "test")
asked = words.batch(shelf.first())
ways = {"by alignment, not fine-tuned": (
            model, lambda s: s.pairs[:, 0] - s.pairs[:, 1]),
        "fine-tuned": (ranking, lambda s: s.choice)}
show_table([f"{len(asked)} pictures", "R@1", "R@5", "R@10"],
           [(name, *retrieval_scores(m, asked, shelf.seen, score).values())
            for name, (m, score) in ways.items()]
           + [("chance", *(k / len(asked) for k in (1, 5, 10)))])

# %% [markdown]
# <!-- RESULT (live, cpu scale: LIVE-RET.) --> One price of streams that meet: every text has to be read with every picture, $100\times100$ passes here. CLIP (chapter 4) needs 200, and a product.
#
# ## Referring expressions: a logit for each region
#
# *The large red bird*: which box is meant? The last state of every region gets one logit. Regions come from a detector, so none is exactly what is meant; the target is how much they overlap, $o_i$, the IoU:
#
# $$
# u_i=\begin{cases}o_i&o_i\ge0.5\\0&\text{else}\end{cases}
# $$ (eq:vilbert-overlap)
#
# (So the code; the paper has 1 for $o_i$ from 0.5 on.) Again a yes or no for each:
#
# $$
# L=-\sum_{i=1}^n\big(u_i\log\sigma(z_i)+(1-u_i)\log(1-\sigma(z_i))\big)
# $$ (eq:vilbert-refer)
#
# A choice is right if its box overlaps by more than half. Blind baselines: any region, the largest, the one the detector is most sure of; "best region" is what a perfect chooser reaches with these boxes. As in RefCOCO+ no expression says where a thing is, and each thing has a rival of its own kind.

# %%
from mmlearn.both_modalities.vilbert_fine_tuning import (
    blind_referring, referring_score, referring_task, task_regions,
    tune_task)
from mmlearn.both_modalities.vilbert_heads import (
    for_tasks, referring_loss, referring_targets)
from mmlearn.both_modalities.vilbert_training import fresh, load_vilbert
from mmlearn.data.expressions import expressions
from mmlearn.image2text.regions import load_detector

show_source(referring_targets, referring_loss)
detector, (model, words, _) = load_detector(), load_vilbert()
said = [expressions(n, split) for n, split in (
    (budget(cpu=1200, gpu=6000, smoke=30), "train"),
    (budget(cpu=400, gpu=1000, smoke=30), "test"))]
learn, test = (referring_task(data, task_regions(detector, data, "x"), words)
               for data in said)

# %% [markdown]
# Both starts again, and the words of another expression as a control:

# %%
from mmlearn.book import show_table

finding, found = {}, blind_referring(test)
for name, start in (("pre-trained", model), ("from scratch", fresh(model))):
    finding[name] = for_tasks(start, 1)
    tune_task(finding[name], "referring", learn,
              steps=budget(cpu=200, gpu=2000))
    found[name] = referring_score(finding[name], test)
swapped = test._replace(tokens=test.tokens.roll(len(test.tokens) // 3, 0))
found["pre-trained, another's words"] = referring_score(
    finding["pre-trained"], swapped)
show_table(["box is right", ""], found.items())

# %% [markdown]
# <!-- RESULT (live, cpu scale: LIVE-REF.; if they hold, a cell with claim("pre-training helps to find what is meant", found["pre-trained"], ">", found["from scratch"]) and claim("the words are read", found["pre-trained"], ">", found["pre-trained, another's words"])) -->

# %% [markdown]
# What is meant is dashed, what is chosen is drawn through:

# %% tags=["hide-input"]
from mmlearn.both_modalities.vilbert_fine_tuning import chosen_regions
from mmlearn.figures.both_modalities.vilbert import referred_boxes

referred_boxes(said[1], test, chosen_regions(finding["pre-trained"], test))

# %% [markdown]
# <!-- RESULT (live, cpu scale: REF-PICTURES.) -->
#
# ## Released weights, and what to know of them
#
# Two repositories: `vilbert_beta` (2019, calls itself beta) and `vilbert-multi-task` (12-in-1 {cite:p}`lu2020twelve`). Who loads the files meets these:
#
# | what | how it is |
# |---|---|
# | label of a pair | 0: belong together, 1: random. A re-release was scored the other way round |
# | indices 1 and 2 | 1 is vision, 2 is text; `context_layer1`, made of `query2` and `key1`, goes to *text* |
# | `q_dense1`, `q_dense2` | in each co-attention, never used: the file has 250,044,029 numbers, 11,020,800 of which compute nothing |
# | `pooling_method` | not read; `fusion_method` is ("mul", the product) |
# | weight decay | in `vilbert_beta`, where BERT's weights start, on biases and normalisation instead of on matrices (corrected later) |
# | hidden regions | the loss divides by zero where none is hidden |
# | masked pairs | words and regions of *mismatched* pairs are asked, too; the later code can leave them out |
# | image token | mean of features that are *already* hidden, over the number of all boxes; the later code also leaves out regions that overlap a hidden one by more than 0.4, which would give it away |
#
# Counted from the sizes, without a file:

# %%
from mmlearn.book import show_table
from mmlearn.both_modalities.vilbert import ViLBERTConfig
from mmlearn.both_modalities.vilbert_pretraining import (
    ViLBERTForPreTraining)
from mmlearn.nn.modes import blank

def count(module):
    return f"{sum(p.numel() for p in module.parameters()):,}"

with blank():
    whole = ViLBERTForPreTraining(ViLBERTConfig.base())
parts = {
    "words: BERT": whole.vilbert.text, "six visual layers":
        whole.vilbert.vision_layers, "six co-attentions":
        whole.vilbert.co_layers, "regions in": whole.vilbert.regions,
    "all of the model": whole.vilbert, "with three heads": whole}
show_table(["", "parameters"], [(n, count(m)) for n, m in parts.items()])

# %% [markdown]
# **12-in-1.** One model for twelve data sets: the heads differ, the two streams are shared. It has 270 million parameters where twelve models have 3 billion, and its authors report 2.05 points more on average than single-task models; a data set is paused when it has stopped improving and taken up again when it falls (*dynamic stop-and-go*). Tasks help one another when the data are few; images of one task's test set have to be kept out of the training sets of all others.
#
# Back to [section 5.2](../5-both-modalities.ipynb). *Practise.* [exercise 6](../exercises/5-both-modalities.ipynb#exercise-6-check-a-head-that-never-looks).
