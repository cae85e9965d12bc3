# %% [markdown]
# # Deeper: A feeling that no cue tells
#
# This page belongs to the section [What such models are asked to do](../5-both-modalities.ipynb). How are examples made of which no modality alone tells anything? What is the best that anybody could do with a part of them, and do readers get there? And what has all this to do with people? Letters are those of the section.

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

setup("5-affect")

# %% [markdown]
# ## Four cues, sixteen cases
#
# The picture holds two cues (wink, arms), the sentence one (praise), the voice one (lively). All $2^4=16$ cases are equally frequent, and the feeling follows by {eq}`eq:affect-label`. All else is drawn by chance: mouth, colours, topic, word, speaker, and which of two lively or calm tones is heard. What is the best answer to the cues $x$ that some modalities show? The most frequent feeling among the cases that show $x$:
#
# $$
# \sum_x\max_yP(x,y)
# $$ (eq:affect-bayes)
#
# Nobody who sees no more can be right more often, on average. It is the *Bayes accuracy*.

# %% tags=["nbval-check-output"]
from itertools import combinations

from mmlearn.book import show_table
from mmlearn.data.affect import MODALITIES, bayes_accuracy, feeling_of

show_source(feeling_of, bayes_accuracy)
sets = [some for k in (1, 2, 3) for some in combinations(MODALITIES, k)]
show_table(["what is given", "best possible"],
           [[", ".join(some), bayes_accuracy(some)] for some in sets],
           digits=2)

# %% [markdown]
# **With pencil and paper**, picture and sentence: wink, arms and praise are known, so "good" is known, and "lively" is not: two feelings are left, each as frequent, one half. Sentence and voice: for every pair of these two cues the unseen wink and arms make all four feelings, one quarter. The picture is needed, and is worth nothing alone.

# %% [markdown]
# ## How examples are confounded
#
# An example with its *confounder*, the same but for one cue, has another feeling. A set that holds both, as the hateful memes do {cite:p}`kiela2020hateful`, cannot be answered from the part that stays:

# %% tags=["hide-input"]
from mmlearn.data.affect import make_affect
from mmlearn.data.voices import speak
from mmlearn.figures.both_modalities.affect import feelings

data = make_affect(64, "test", speak=speak)
def like(cues, i):
    """Differs from example i in the wink alone."""
    return (cues.wink != data.cues[i].wink
            and cues[1:] == data.cues[i][1:])
twin = next(j for j, cues in enumerate(data.cues) if like(cues, 0))
feelings(data, [0, twin])

# %% [markdown]
# Arms, praise and voice are the same in both, and the wink is not: what is meant changes from good to bad. (Mouths smile or frown by chance; here they are bait.)

# %% [markdown]
# ## Scores
#
# Where classes differ in frequency, accuracy is not enough. The F1 of a class $c$ takes the examples that *are* $c$, that were *answered* $c$, and both ($n_{cc}$):
#
# $$
# F_c=\frac{2\,n_{cc}}{n_{c\cdot}+n_{\cdot c}}
# $$ (eq:affect-f1)
#
# and the *weighted* F1 is the mean by the frequency of the classes,
#
# $$
# \sum_c\frac{n_c}nF_c .
# $$ (eq:affect-weighted)
#
# Where a feeling has a strength, from $-3$ to $3$ in the usual sets, the mean absolute error is told,
#
# $$
# \frac1n\sum_i|\hat y_i-y_i| .
# $$ (eq:affect-error)

# %% tags=["nbval-check-output"]
from mmlearn.metrics.affect import (class_f1, strength_error, weighted_f1)

truth = torch.tensor([0, 0, 0, 1, 2, 3])
answers = torch.tensor([0, 0, 1, 1, 2, 2])
print("F1 of each class", [round(x, 2) for x in
                           class_f1(answers, truth, 4).tolist()])
print("weighted", round(float(weighted_f1(answers, truth, 4)), 2))
print("error", float(strength_error(torch.tensor([1.0, -2.0]),
                                    torch.tensor([2.0, -2.5]))))
show_source(class_f1, weighted_f1)

# %% [markdown]
# Class 0: two of three found, nothing else taken for it, $2\cdot2/(2+3)=0.8$. Class 3 is never answered, 0. Weighted: $\frac36\cdot0.8+\frac16(0.67+0.67+0)=0.62$.

# %% [markdown]
# ## Readers, and three ways to join them
#
# A small convolutional network sees, a mean of word vectors reads, a convolutional network over the wave hears; each gives a row of 12 numbers. *Decisions* are added, *features* go side by side into a small network, or the *outer product* is read by one linear layer. A live run of one way, and of the sum:

# %%
from mmlearn.both_modalities.affect_fusion import (
    AffectConfig, AffectFusion, evaluate_affect, train_affect)
from mmlearn.data.affect import make_affect
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.data.voices import speak

train = make_affect(budget(cpu=2048, smoke=64), size=32, speak=speak)
test = make_affect(256, "test", size=32, speak=speak)
words = WordTokeniser.train(train.texts, splitter="simple")
live, steps = {}, budget(cpu=300, smoke=3)
for name in ("product", "decisions"):
    torch.manual_seed(0)
    model = AffectFusion(AffectConfig(len(words), fusion=name))
    history = train_affect(model, train, words, steps=steps, title=name)
    live[name] = history.scalars["accuracy"]
    print(name, evaluate_affect(model, test, words))

# %% [markdown]
# The accuracy of each batch while they learn:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Accuracy in training over steps. The outer product rises to 1 after a while near one quarter; the sum of decisions stays near one quarter throughout."}}
fig, ax = plt.subplots(figsize=(6, 3))
for name, values in live.items():
    smooth = np.convolve(values, np.ones(9) / 9, "valid")
    ax.plot(range(5, 5 + len(smooth)), smooth, label=name)
ax.axhline(0.25, color="0.6", ls=":", label="a guess")
ax.set(xlabel="step", ylabel="accuracy in training", ylim=(0, 1.03))
ax.legend();

# %% [markdown]
# <!-- RESULT: live at cpu scale: when does the product rise; decisions. -->
#
# And the study, three seeds for each set of modalities; "best possible" is {eq}`eq:affect-bayes`:

# %% tags=["hide-input"]
from mmlearn.book import show_table
from mmlearn.experiments import results

study = results("affect")
show_table(["read, joined", "best possible", "accuracy", "least", "most",
            "weighted F1"], [
    [name, study["best guess"][name],
     float(np.mean([run["scores"]["accuracy"] for run in runs])),
     min(run["scores"]["accuracy"] for run in runs),
     max(run["scores"]["accuracy"] for run in runs),
     float(np.mean([run["scores"]["weighted F1"] for run in runs]))]
    for name, runs in study["arms"].items()], digits=2)

# %% [markdown]
# <!-- RESULT affect: adverse first; which arms reach their Bayes accuracy. -->

# %% [markdown]
# ## What faces do not tell
#
# The drawn wink means what the table says. Real faces have no such table. A review of the evidence {cite:p}`barrett2019emotional` finds that people who are angry scowl in a minority of cases, that a scowl is often something else (thinking, a bad joke), and that what a face is taken for depends on situation and culture. A data set of faces with labels holds what *annotators saw in* faces, not what anybody felt; a model trained on it learns to agree with annotators. Therefore:
#
# - Report agreement with annotators under that name, and how much annotators agree with each other.
# - A model that *infers* feelings at work or in school is forbidden in the European Union (Regulation 2024/1689, article 5), but for medical and safety reasons.
# - Ask whom an error harms before asking how to make it rarer.
#
# What stays true of the made examples is their lesson about models: *no modality has to hold the answer for all of them together to hold it*.
