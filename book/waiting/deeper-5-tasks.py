# %% [markdown]
# # Deeper: The tasks and their measures
#
# This page belongs to the section [What such models are asked to do](../5-both-modalities.ipynb). It takes the official evaluator of VQA apart, with its slips, and scores files; makes wrong answers for VCR by matching; and looks for what an expression means. Letters are those of the section.

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

setup("5-tasks")

# %% [markdown]
# ## How answers are brought to one form
#
# *Two cats.*, *2 cats* and *the 2 cats* are the same answer. Before anything is compared, the official evaluator (`vqaEval.py`) lowers the case, spells numbers up to ten as digits, drops *a*, *an*, *the*, puts missing apostrophes back, and removes marks. Published numbers rest on exactly these rules, so ours has them all:

# %% tags=["nbval-check-output"]
from mmlearn.metrics.vqa import (normalise_answer, plain_words,
                                 without_marks)

for text in ("Two cats.", "the 2 cats", "dont know", "None", "a",
             "wi-fi", "wi-fi 1,000", "3.5 m.", "red/blue"):
    print(f"{text:12} -> {normalise_answer(text)!r}")
show_source(plain_words, without_marks)

# %% [markdown]
# What is odd here is official. *none* becomes 0, *a* alone becomes nothing. A mark becomes a space, except where one stands beside a space or a comma stands between digits *anywhere* in the answer: then all marks vanish, and *wi-fi* is no longer *wi fi*. Periods go in a call whose flag stands in the place of a count, so that at most 32 of them go. And one more, which costs points:

# %% tags=["nbval-check-output"]
from mmlearn.metrics.vqa import vqa_accuracy

print("Yes, when all ten said yes:",
      vqa_accuracy("Yes", ["yes"] * 10))
print("Yes, when nine said yes and one no:",
      vqa_accuracy("Yes", ["yes"] * 9 + ["no"]))

# %% [markdown]
# If all people wrote the same, nothing is normalised, neither theirs nor the candidate: *Yes* is then wrong. Who writes answers for VQA writes them in lower case.

# %% [markdown]
# ## What people get, and what models are taught
#
# Are people right by this measure? Give each person's answer to the nine others:
#
# $$
# \frac1n\sum_{i=1}^n\min\Big(1,\tfrac13\,|\{j\ne i:a_j=a_i\}|\Big)
# $$ (eq:vqa-human)
#
# Models are mostly trained without leaving anybody out. The target of an answer that $m$ of ten people gave is a number in $[0,1]$, and each answer of the list is asked for by itself, yes or no:
#
# $$
# \min\Big(1,\frac m3\Big)
# $$ (eq:vqa-soft)

# %%
from mmlearn.book import show_table
from mmlearn.data.questions import vqa_questions
from mmlearn.metrics.vqa import (best_answer, human_accuracy, soft_score,
                                 vqa_accuracy)

show_source(human_accuracy, soft_score)
asked = vqa_questions(budget(cpu=2000, smoke=100), "test", scenes=500)
rows = {}
for question in asked.questions:
    kind = question.program.answer_type
    best = vqa_accuracy(best_answer(question.answers), question.answers)
    rows.setdefault(kind, []).append((
        human_accuracy(question.answers), best,
        vqa_accuracy(question.answer, question.answers)))
show_table(["type of answer", "people", "most usual answer", "the truth"],
           [[kind, *(100 * np.array(row).mean(0))]
            for kind, row in rows.items()], digits=1)

# %% [markdown]
# People get 91 to 97 of 100 points by their own measure: who slips, or says *field* for *meadow*, stands alone. Our people err by themselves, so that four always agree on the truth, and it gets all points. In photographs people disagree with reason, and no answer does.

# %% [markdown]
# ## Files of answers
#
# `mmlearn evaluate vqa ANNOTATIONS RESULTS` reads the files of VQA v2 and prints the official table. The scene world writes such files, so that the whole way can be walked:

# %%
import json
import tempfile

from mmlearn.cli import main
from mmlearn.data.questions import (prior_answers, vqa_pairs, write_vqa)

train, test = vqa_pairs(300, scenes=300), vqa_pairs(100, "test", scenes=200)
with tempfile.TemporaryDirectory() as folder:
    place = write_vqa(test, folder)
    results_file = place / "results.json"
    answers = test.results(prior_answers(train, test))
    results_file.write_text(json.dumps(answers), encoding="utf-8")
    main(["evaluate", "vqa", str(place / "annotations.json"),
          str(results_file)])

# %% [markdown]
# The answers are the most usual ones of each type of question, without any picture. Between *yes/no* and *other* lie worlds: a number over all questions says little without its parts.

# %% [markdown]
# ## Wrong answers that are right elsewhere
#
# VCR has no writers of wrong answers: people write wrong answers in a way that gives them away. Every wrong choice is the right choice of *another* question. Which one? It should suit the question $q_i$ and not say the same as its right choice $r_i$. With a probability of relevance and one of similarity, the weight of choice $r_j$ for question $i$ is
#
# $$
# W_{ij}=\log P_{rel}(q_i,r_j)+\lambda\log\big(1-P_{sim}(r_i,r_j)\big)
# $$ (eq:vcr-weight)
#
# and a *matching* of the largest total weight gives every question one wrong choice and uses every choice once; three matchings give three. So each text is right once and wrong three times, and its words alone tell nothing. In the paper two networks give the probabilities; here relevance counts the words that are true of something in the picture, and what would be right as well is known and forbidden ($\lambda=1$).

# %% tags=["nbval-check-output"]
from mmlearn.data.rationales import assignment, matching_weight

relevance = np.array([[0.9, 0.6, 0.2], [0.5, 0.9, 0.5], [0.4, 0.8, 0.9]])
similarity = np.eye(3)                       # each is its own right choice
W = matching_weight(relevance, similarity)
print(np.where(W < -1000, -np.inf, W).round(2))
print("question i gets the choice of question", assignment(-W).tolist())
show_source(matching_weight)

# %% [markdown]
# **With pencil and paper.** Two matchings leave the diagonal out: $0\to1\to2\to0$ has $\log(0.6\cdot0.5\cdot0.4)=\log0.12$, and $0\to2\to1\to0$ has $\log(0.2\cdot0.8\cdot0.5)=\log0.08$. The first wins, although question 2 would rather have choice 1.
#
# What can be done without looking, in our problems?

# %%
from mmlearn.book import show_table
from mmlearn.data.rationales import shortcuts, vcr_problems
from mmlearn.metrics.vcr import CHANCE

n = budget(cpu=1200, smoke=60)
blind = shortcuts(vcr_problems(n, scenes=n),
                  vcr_problems(n // 2, "test", scenes=n))
show_table(["%", *CHANCE], [
    ["a guess", *(100 * share for share in CHANCE.values())],
    *([name, *(100 * share for share in scores.table().values())]
      for name, scores in blind.items())], digits=1)

# %% [markdown]
# Which texts are often right, and how long they are, gives nothing away: 26 to 27 of 100, chance is 25. Words in common do for reasons, 32.6 against a guess of 25.
#
# In the real VCR the shortcut that works best is the second row's: right choices repeat words and tags of their question more often than wrong ones {cite:p}`ye2021shortcut`.

# %% [markdown]
# ## What an expression means
#
# *Referring expressions*: some words, and which thing do they mean? A chosen box $A$ is right if it overlaps the true one $B$ by more than half,
#
# $$
# [\mathrm{IoU}(A,B)>\tfrac12],
# $$ (eq:ref-hit)
#
# their common area over the area of both together. RefCOCO+ {cite:p}`yu2016refcoco` forbids words of place, so that looks have to tell; ours do, too, and each thing has a rival of its own category.

# %%
from mmlearn.book import show_table
from mmlearn.data.expressions import (blind_choices, box_hit, expressions)

one, two = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.1, 0.0, 0.5, 0.4]])
print("IoU 3/5:", box_hit(one, two), "·", "IoU 1/3:",
      box_hit(one, two + torch.tensor([0.1, 0.0, 0.1, 0.0])))
data = expressions(budget(cpu=1000, smoke=60), "test")
for expression in data.expressions[:4]:
    print(f"scene {expression.scene}: {expression.text}")
show_table(["baseline", "right, %"],
           [[name, 100 * data.accuracy(chosen)]
            for name, chosen in blind_choices(data).items()], digits=1)

# %% [markdown]
# <!-- RESULT: live at cpu: any thing, largest thing, category (not seen yet). --> Who reads the noun and guesses among the things of that category needs no colour, pattern or size: what a model has above *that* it owes to them. In the paper of ViLBERT the target of a region is 1 or 0; the released code takes the overlap itself, from one half on (P5). For retrieval the paper's hard negative reads as a similar *picture*; the code takes the *caption* of one (P6). Of the evaluator above: the period's flag that is a count is P13. And a slip of the booklet that the survey condenses: VQA's models choose "one of ten answers" (B5); they choose one of 3,129, and ten is the number of people.
