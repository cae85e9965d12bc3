# %% [markdown]
# # Deeper: Prompts with few shots
#
# This page belongs to [section 5.3](../5-both-modalities.ipynb). It says how Flamingo is asked, and how such results deceive:
#
# - what a prompt looks like, and what an answer is,
# - which shots, in which order,
# - "zero shots" that are two,
# - who may choose a prompt, and what it costs to choose on the test set,
# - controls that say what shots do.

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

setup("5-few-shot")

# %% [markdown]
# ## What a prompt looks like
#
# A prompt is a page whose last chunk has no answer. Flamingo writes captions behind `Output:`, and questions as `Question: … Answer:`. The shots come in random order, the query last:

# %%
from mmlearn.both_modalities.interleaved import (Example, chunk,
                                                 encode_page, next_positions)

shots = [Example("Question: What colour is the cat? Answer:", "black", 0),
         Example("Question: How many dogs are there? Answer:", "two", 1),
         Example("Question: Is there a boat? Answer:", "no", 2)]
prompt = "".join(chunk(shot, answered=shot is not shots[-1])
                 for shot in shots)
for part in prompt.split("<EOC>"):
    print(part)

# %% [markdown]
# In training, text on pages of the web may speak of the picture before it or of the one behind it, and nobody knows which. So half of Flamingo's pages are read the other way round:
#
# $$
# \phi'(\ell)=\phi(\ell)+1,\quad\text{or }0\text{ where no picture follows.}
# $$ (eq:interleaved-next)
#
# **With pencil and paper.** For *my pets* `<image>` *a cat* `<EOC>` `<image>` *a dog* `<EOC>` it is $\phi'=1,1,2,2,2,2,0,0,0,0$: "my pets" may now see the cat. On our drawn pages all text stands behind its picture, and we leave it out.

# %% tags=["nbval-check-output"]
show_source(next_positions)
tokens = torch.tensor([[7, 8, 4, 9, 10, 3, 4, 9, 11, 3]])
print(next_positions(tokens, image=4).tolist())

# %% [markdown]
# ## Which answer is given
#
# *Open-ended* answers are written, by beam search with 3 beams up to `<EOC>`, and cut where a keyword of the prompt begins a new chunk. *Close-ended* ones are chosen: each candidate $a$ gets its log-probability after the prompt,
#
# $$
# s(a)=\sum_t\log p_\theta(a_t\mid a_{<t},\text{prompt}),
# $$ (eq:few-shot-answer)
#
# and the highest is given. Our candidates end with `<EOC>`. **With pencil and paper.** After a prompt *red* has probability 0.5; after *red*, *car* has 0.9 and `<EOC>` 0.1. Without ends *red* scores $\ln0.5=-0.69$ and *red car* $\ln0.45=-0.80$: the beginning of another answer is never behind it, whatever the picture. With ends *red* has $\ln0.05=-3.0$, and *red car*, if it ends with 0.9, $\ln0.405=-0.90$.
#
# *Practise.* [exercise 11](../exercises/5-both-modalities.ipynb#exercise-11-check-where-an-answer-ends)

# %% [markdown]
# Our frozen language model can be asked without pictures: where a picture would stand, the thing is named. *Output: cat dax* binds a word, and the page ends with a thing that was named before. The answer is once written greedily, once chosen of the two bound words.

# %%
from mmlearn.both_modalities.few_shot import (answer_scores, rices,
                                              score_answers, write_answers)
from mmlearn.both_modalities.flamingo_training import (Episode,
                                                       binding_accuracy,
                                                       with_first_shots)
from mmlearn.both_modalities.interleaved import NONSENSE
from mmlearn.both_modalities.language_model import binding_text, load_lm
from mmlearn.book import show_table
from mmlearn.data.pairs import class_names, scene_pairs
from mmlearn.files import package_data

show_source(answer_scores)
language = load_lm(package_data("checkpoints") / "scene-lm.safetensors")
model, of = language.model, language.tokeniser
dice = np.random.default_rng(1)
pages = [binding_text(NONSENSE, class_names(), dice, ways=2, shots=5)
         for _ in range(budget(cpu=150, smoke=8))]
episodes = [Episode(p, sorted({e.answer for e in p})) for p in pages]

# %% [markdown]
# Six queries with two shots of each word:

# %%
some = [with_first_shots(e, 2) for e in episodes[:6]]
words = [e.words for e in episodes[:6]]
written = write_answers(model, some, of, beams=1, max_len=3)
chosen = score_answers(model, some, words, of).chosen.tolist()
show_table(["query", "right", "written", "chosen"],
           [[page[-1].request, page[-1].answer, text, pair[i]]
            for page, text, pair, i in zip(some, written, words, chosen)])

# %% [markdown]
# What is written is mostly one of the page's two words, the form that the shots tell; which of the two is a guess.
#
# ## Which shots
#
# **RICES**, retrieval-based in-context example selection {cite:p}`yang2022pica`, takes for each query the pictures of the support that are nearest to it in the space of a frozen encoder,
#
# $$
# \operatorname{top}_k\cos(u,u_i),
# $$ (eq:few-shot-rices)
#
# the most similar one last, next to the query. Two things must not happen: that the query is its own shot, and that test pictures are in the support at all. Our functions refuse both.

# %%
from mmlearn.both_modalities.few_shot import clip_features, refuse_test_shots

show_source(rices)
support = scene_pairs(budget(cpu=150, gpu=600, smoke=20))
test = scene_pairs(4, "test")
refuse_test_shots(support, test)
near = (clip_features(test.images), clip_features(support.images))
rows = rices(*near, shots=3)

# %% [markdown]
# Three shots for each of four queries, as they stand in the prompt; the query is the last column.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four rows of four scenes. In each row the first three are the nearest pictures of the support, the last is the query; they show similar settings and things."}}
shown = torch.cat([torch.cat([support.images[row], test.images[i:i + 1]])
                   for i, row in enumerate(rows)])
plot.image_grid(shown, columns=4);

# %% [markdown]
# *Practise.* [exercise 10](../exercises/5-both-modalities.ipynb#exercise-10-build-the-nearest-of-each-answer)
#
# **Order matters**, and nobody knows which is best. The paper averages the log-probabilities over 6 orders of the same shots where it classifies: on ImageNet 77.3 against 76.0 without (16 × 5 shots by RICES), and 66.4 with random shots.
#
# **Zero shots are two.** A prompt without any example does not say what form an answer has. So Flamingo's "zero-shot" prompts hold two examples *without their pictures*, from the task. One would bias the answer towards itself, says the paper. Candidates that are only compared need none. It is a fair protocol, and it is not zero examples.
#
# ## Who chooses the prompt
#
# Number, order and form of shots, wording: somebody chose them. If by results on the test set, the result is not one of few shots, since hundreds of labelled examples were used {cite:p}`perez2021true`. With $\bar r_c(T)$ the accuracy of prompt $c$ on a set $T$, what is reported and what is to be expected on fresh examples $T'$ are
#
# $$
# \max_c\bar r_c(T)\quad\text{and}\quad\bar r_{c^*}(T'),\qquad c^*=\arg\max_c\bar r_c(T).
# $$ (eq:few-shot-optimism)
#
# How far are they apart? Take $c$ prompts that are *all equally good*: each answers half of all questions.

# %%
from mmlearn.both_modalities.few_shot import (chosen_on_test,
                                              true_few_shot_choice)

show_source(chosen_on_test)
dice, rows = torch.Generator().manual_seed(0), []
for n_test in (20, 100, 500):
    row = [n_test]
    for prompts in (2, 8, 32):
        runs = [chosen_on_test(*(torch.rand(
            prompts, n_test, generator=dice).round() for _ in range(2)))
                for _ in range(budget(cpu=300, smoke=20))]
        best, fresh = torch.tensor(runs).mean(0).tolist()
        row.append(f"{best:.2f} → {fresh:.2f}")
    rows.append(row)
show_table(["test examples", "2 prompts", "8 prompts", "32 prompts"], rows)

# %% [markdown]
# Left of each arrow the best prompt on the examples that chose it, right the same prompt on fresh ones, where it has the half that all have. With 100 examples and 32 prompts some ten points are made of nothing.
#
# What may choose are the shots themselves. Leave one out, ask the others for its answer, and let $s_c(i)$ be the log-probability that prompt $c$ gives to shot $i$:
#
# $$
# c^*=\arg\max_c\frac1k\sum_is_c(i)
# $$ (eq:few-shot-true)
#
# This is *true* few-shot choice. It is honest and weak: $k$ is small. Flamingo goes a third way: it fixes one setting for all tasks on some benchmarks, which it declares spent for this, and reports the others, 11 of 16, as held out.

# %%
from mmlearn.both_modalities.few_shot import left_out_scores

show_source(true_few_shot_choice)
shots = with_first_shots(episodes[0], 3)[:-1]
forms = {"as trained": shots,
         "without Output:": [q._replace(request=q.request[8:])
                             for q in shots]}
scores = torch.stack([left_out_scores(model, of_form, episodes[0].words, of)
                      for of_form in forms.values()])
show_table(["form of the prompt", "mean log-probability of its shots"],
           [[name, row.mean().item()] for name, row in zip(forms, scores)])
print("chosen:", list(forms)[int(true_few_shot_choice(scores))])

# %% [markdown]
# ## What shots do
#
# A rising curve alone does not say that answers are *learned* from the shots. They also tell the form, the set of answers, and how often each occurs. Controls for prompts with pictures are functions of `mmlearn.both_modalities.few_shot`: **wrong answers** keep the form and lie about the answers; **other pictures** keep the answers; **text alone** takes the shots' pictures away; **blind** takes away the query's, too. Here are the language model's bound words, with the shots as they are and with the two words *swapped* in all shots:

# %%
numbers = (0, 1, 2, 4)
curve = {name: [binding_accuracy(model, episodes, of, shots=k, wrong=wrong)
                for k in numbers]
         for name, wrong in (("as they are", False), ("swapped", True))}
show_table(["shots of each word", *map(str, numbers)],
           [[name, *values] for name, values in curve.items()], digits=2)

# %% [markdown]
# The miniature stays near a half in both rows: it does not learn from shots, and the [page on language models](5-language-models.ipynb#a-word-that-was-said-before) says why that was overlooked. Who follows the shots has more than a half in the first row and as much less in the second, since it is wrong when they are swapped, and should be. A task that was trained does not need its shots, and shows no learning from them; that is what freshly bound words are for. The same caution holds for the paper's tasks, whose training pages were the web.
#
# *Go further.* {cite:t}`alayrac2022flamingo`, appendix B · {cite:t}`perez2021true`
