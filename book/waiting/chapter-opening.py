# %% [markdown]
# # 5 Models for Both Modalities
#
# In the first four chapters one modality served the other: a picture became a sentence, a sentence a picture, pictures helped words, words helped vision. This chapter asks for **one model for both**, and finds that there are three things one can mean by it. The chapter follows the [survey](intro.md#the-survey-it-follows); E1 to E46 are the numbers of its [errata](appendix/errata.md).

# %% [markdown]
# First what it comes to. A small Flamingo (section 5.3) looks at three drawn scenes that it has not seen in training. It is one model, with one set of weights: it captions, answers a question, and follows an instruction.

# %%
from mmlearn.book import show_table
from mmlearn.both_modalities.few_shot import write_answers
from mmlearn.both_modalities.flamingo_training import (encode_pictures,
                                                       load_flamingo)
from mmlearn.both_modalities.interleaved import Example, look_at_features
from mmlearn.data.pairs import scene_pairs

mini = load_flamingo()
scenes = scene_pairs(12, "test")
look = look_at_features(encode_pictures(mini.encoder, scenes.images))

def ask(request, number):
    """What the model writes after a picture and a request."""
    page = [Example(request, "", number)]
    return write_answers(mini.model, [page], mini.tokeniser, look)[0]

# %% mystnb={"image": {"alt": "Three drawn scenes side by side."}} tags=["hide-input"]
shown = (0, 1, 2)                       # the first three of the test scenes
plot.image_grid([scenes.images[i] for i in shown],
                ["first", "second", "third"], columns=3, width=2.1);

# %%
requests = {"Output:": "caption",
            "Question: What is in the picture? Answer:": "question",
            "Instruction: Name the things. Output:": "instruction",
            "Instruction: Say where this is. Output:": "instruction"}
show_table(["", "asked", "first", "second", "third"], [
    [kind, request, *(ask(request, i) for i in shown)]
    for request, kind in requests.items()])

# %% [markdown]
# <!-- RESULT (checkpoint `flamingo`): say what is right and what is wrong in these twelve answers; replace "What is in the picture?" by a question that the scenes' own templates ask (mmlearn.data.scenes.questions), since the model knows no other forms. -->
#
# Nothing in it was trained for the next task. Two nonsense words are bound to two kinds of things by examples in the prompt, other things and other words each time, and a new picture is to be named. The weights stay as they are.

# %%
from mmlearn.both_modalities.flamingo_training import (binding_accuracy,
                                                       binding_episodes)
from mmlearn.data.pairs import class_pictures

things = class_pictures(budget(cpu=600, smoke=200), "test")
look_at = look_at_features(encode_pictures(mini.encoder, things.images))
episodes = binding_episodes(things, budget(cpu=200, gpu=500, smoke=8))
rows = [[k, *(binding_accuracy(mini.model, episodes, mini.tokeniser, look_at,
                               shots=k, wrong=wrong)
              for wrong in (False, True))] for k in (0, 1, 2, 4)]
show_table(["examples of each word", "right", "words swapped"], rows)

# %% mystnb={"image": {"alt": "Five pictures of things in a row, the first four with the nonsense word that names them, the last with a question mark."}} tags=["hide-input"]
from mmlearn.both_modalities.flamingo_training import with_first_shots

page = with_first_shots(episodes[0], 2)
plot.image_grid([things.images[e.picture] for e in page],
                [*(e.answer for e in page[:-1]), "?"], columns=5, width=1.4);

# %% [markdown]
# <!-- RESULT (checkpoint `flamingo`): the row without examples should be near one half; say how far it rises, and what swapped words do (whoever follows the examples gets them "wrong"). -->
#
# **How.** A language model that has read what is said of scenes stays frozen, a picture encoder stays frozen, and a few new layers let the words look at the pictures; a task is told by what stands before the question.

# %% [markdown]
# ### Three answers
#
# What does "one model for both" mean? Top to bottom: the same *learning rule* for both; two streams that *read each other*; two trained models *joined* by new layers.

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.opening import three_answers

three_answers()

# %% [markdown]
# data2vec never shows a picture and a sentence to one model: what is general about it is the recipe. ViLBERT is trained on pairs, and asks one transformer for each side to borrow the other's keys and values. Flamingo starts from models that can see and write already, and only text looks at pictures, never the other way round.
#
# | first seen | system | shared | exchanged | frozen | section |
# |---|---|---|---|---|---|
# | 2022 | data2vec | the rule | nothing | nothing | 5.1 |
# | 2019 | ViLBERT | the losses | keys and values, both ways | the detector | 5.2 |
# | 2022 | Flamingo | nothing | keys and values, picture to text | both models | 5.3 |
# | 2015, 2017 | captioner with attention | nothing | a weighted mean of cells | may be the encoder | 5.3 |
# | 2023 | visual prefix (LLaVA) | the sequence | as between words | the encoder | after 5.3 |
#
# How much of a system is trained? At the papers' sizes, counted in our modules on the `meta` device:

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.opening import frozen_and_trained

frozen_and_trained()

# %% [markdown]
# Read it with care: the first three are hundreds of times smaller than the last. Flamingo-80B trains 8.5 billion numbers, eleven percent of what it holds and 36 times as many as all of ViLBERT. "Frozen" means *not paid for again*; it does not mean small.
#
# **The way there**:
#
# | section | question | to read | with pencil and paper |
# |---|---|---|---|
# | 5 | What makes two modalities hard? | 5 min | 5 min |
# | 5.1 | Can one rule teach pictures, speech and text, each alone? | 12 min | 30 min |
# | 5.2 | What passes between two streams that read each other? | 12 min | 30 min |
# | 5.3 | How are frozen models joined, so that a few examples are enough? | 15 min | 40 min |
# | 5.3 | What do the survey's five equations describe? | 6 min | 20 min |
# | tasks | How are question answering, reasons, walks and moods measured? | 12 min | 25 min |
#
# Attention itself, patches and masks stand on a side page, [from attention to ViT](deeper/5-vit.ipynb). Each section runs by itself after the setup cell.

# %% [markdown]
# ## 5 Models for both modalities
#
# **The question.** "Data is the core of every data science problem", the survey's part begins: enough of it is hard to get, since labels cost too much; each kind must be made into something that a model can take; and single-modality models are many, each followed and transferred with effort, so that one *framework* for all is a promise. It then names data2vec, ViLBERT and Flamingo, and the tasks by which such models are judged: answering questions, captions, reasons, walks and moods. These are four problems in one.
#
# - **Pairs.** Pictures there are, and sentences, without end; pictures *with* their sentences are few, and those of the web say little of what is seen (section 4.2). data2vec needs none. ViLBERT needs 3.1 million, Flamingo pairs *and* pages.
# - **Labels.** What a person has to say about each example is the expensive part. All three replace it by a part of the data that is hidden.
# - **Form.** Words are few and come in a row; pixels are many and come in a square; sound comes 16,000 numbers a second. Each needs its own first layers, and data2vec keeps them apart for that reason.
# - **Trust.** A model with two inputs can do well with one: a question often tells its answer. So each number of this chapter stands beside that of a *blind* model.
#
# ### What a label is worth
#
# Take the second. Pictures of one thing, 30 categories; some are labelled. We fit the simplest classifier, a ridge regression from features to categories, to more and more of them. The features are the pixels, those of an untrained network, or those of chapter 4's CLIP, which was trained with captions and no labels. Three draws of the labelled pictures each. (About 20 seconds.)

# %%
from mmlearn.data.pairs import class_pictures
from mmlearn.images_for_language.zero_shot import fit_ridge
from mmlearn.nn.modes import seeded
from mmlearn.text_for_vision.clip import CLIP
from mmlearn.text_for_vision.training import embed_images, load_mini

train = class_pictures(budget(cpu=1920, smoke=240), "train")
test = class_pictures(budget(cpu=600, smoke=60), "test")
clip = load_mini().model
with seeded(0):
    untrained = CLIP(clip.config)
small = torch.nn.AvgPool2d(4)
features = {"CLIP": lambda x: embed_images(clip, x),
            "untrained network": lambda x: embed_images(untrained, x),
            "pixels": lambda x: small(x.float() / 255).flatten(1)}

# %%
def right(X, X_test, rows):
    """Share of test pictures named by a probe with so many labels."""
    Y = torch.eye(len(train.classes))[train.labels[rows]]
    mean, std = X[rows].mean(0), X[rows].std(0) + 1e-3
    probe = fit_ridge((X[rows] - mean) / std, Y - Y.mean(0), 1.0)
    told = probe((X_test - mean) / std).argmax(1)
    return float((told == test.labels).float().mean())

counts = [n for n in (30, 60, 120, 240, 480, 960, 1920)
          if n <= len(train)]
curves = {}
for name, of in features.items():
    X, X_test = of(train.images), of(test.images)
    draws = [torch.randperm(len(train), generator=torch.Generator()
                            .manual_seed(seed)) for seed in range(3)]
    curves[name] = {n: [right(X, X_test, rows[:n]) for rows in draws]
                    for n in counts}

# %% mystnb={"image": {"alt": "Accuracy over the number of labelled pictures from 30 to 1920, on a logarithmic axis. The line of CLIP's features lies far above those of the untrained network and of pixels; chance is near 0.03."}} tags=["hide-input"]
from mmlearn.figures.both_modalities.opening import labels_needed

labels_needed(curves, 1 / len(train.classes));

# %%
few = counts[2]
for name in ("pixels", "untrained network"):
    claim(f"{few} labels: CLIP's features, worst draw, {name}, best draw",
          min(curves["CLIP"][few]), ">", max(curves[name][few]))

# %% [markdown]
# With 60 labels, two a category, CLIP's features name 73 % of new pictures or more in every draw; the pixels get to 83 % at best, with 1,920. So features that were learnt without labels are worth many labels. But the captions of CLIP *name* the thing in most sentences, so its labels are there, in the words; only nobody was paid to write them down as labels. That is the point of the objection E27 below, and section 5.1 asks what remains without any words.
#
# ### What all three are built of
#
# Queries ask, keys are compared with, values are read: $\mathrm{softmax}(QK^\top/\sqrt{d_k})\,V$, {eq}`eq:attention` of chapter 1. The systems of this chapter differ in where the three come from:
#
# | | queries | keys and values | weights | read |
# |---|---|---|---|---|
# | self-attention (5.1, 5.2) | $t$ words, or $p$ patches | the same | $t\times t$, $p\times p$ | $t\times d$, $p\times d$ |
# | causal (5.3) | $t$ words | words up to the own | lower triangle of $t\times t$ | $t\times d$ |
# | co-attention (5.2) | $t$ words | $p$ regions | $t\times p$ | $t\times d$ |
# | and back | $p$ regions | $t$ words | $p\times t$ | $p\times d$ |
# | resampler (5.3) | 64 learned latents | cells and latents | $64\times(p+64)$ | $64\times d$ |
# | gated read (5.3) | $t$ words | 64 latents of the last picture | $t\times64$ | $t\times d$ |
#
# What is read has as many rows as there are queries, and is made of values alone; the weights of a row sum to 1 and do not depend on the values. The rest, a picture as a row of patches included, is on the [side page](deeper/5-vit.ipynb).
#
# *Go further.* {cite:t}`uppal2022multimodal`, a review of vision-language tasks, models and counts of papers · {cite:t}`vaswani2017`
#
# <details>
# <summary><b>Where the survey differs</b>: E25 to E33</summary>
#
# - **E25** "Two *models*", "models with two modes": two *modalities*.
# - **E26** "Text and image inputs merged in a single self-supervised framework": three methods. data2vec never joins text and image, as the survey itself says a page later; the other two learn from pairs.
# - **E27** It "avoids the limits of human labels". ViLBERT's detector was trained on Visual Genome, where people drew and named every box; captions are written by people; and all three are fine-tuned with labels.
# - **E28** Words: 变压器 is the device that changes voltages, 少镜头 is *few-shot*, 感知架构 the *Perceiver*, and 学习者档案袋, "learner's portfolio", a set of learning algorithms.
# - **E29** "General frameworks improve robustness": this part has no number of it. Chapter 4 has some, for CLIP.
# - **E30** Models that are "*preprocessed* and frozen" are *pretrained* and frozen, as its section on Flamingo would need.
# - **E31** data2vec is listed among vision-language models. It is none; no instance of it ever gets both.
# - **E32** "Unsupervised": *self-supervised*, which its section 5.1 has right.
# - **E33** ViLBERT's "innovative cross-attention": cross-attention is of 2017 {cite:p}`vaswani2017`, co-attention between a question and a picture of 2016 {cite:p}`lu2016hierarchical`. New was its use in pretraining.
#
# </details>
