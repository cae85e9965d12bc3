# %% [markdown]
# ## What such models are asked to do
#
# The survey names five tasks for models that read and look: questions about pictures, commonsense about pictures, captions, instructions to follow, and feelings. Captions and their metrics are [chapter 1](1-image2text.ipynb), retrieval is [chapter 4](4-text-for-vision.ipynb). What do the others ask, how is an answer scored, and how much of the score needs no picture at all?
#
# ### Questions about pictures
#
# *Visual question answering*, VQA {cite:p}`antol2015vqa`: a picture, a question in words, a short answer. In the scene world questions are programs that are run on the scene, so that the right answer is known, and ten simulated people answer, who slip and use other words. Two pictures, one question:

# %% tags=["hide-input"]
from mmlearn.data.questions import vqa_pairs
from mmlearn.figures.both_modalities.tasks import balanced_pair, pair_of_kind

pairs = vqa_pairs(180, "test", scenes=300)
balanced_pair(pair_of_kind(pairs, "colour", 1), pairs.images())

# %% [markdown]
# The bars are people, the numbers what an answer is worth. **How is it scored?** People disagree, so an answer $\hat a$ is right as far as people agree with it: three of them are enough. But a person who is compared with ten people agrees with himself. So each of the $n=10$ is left out once, and what the answer is worth to the others is averaged:
#
# $$
# \mathrm{acc}(\hat a)=\frac1n\sum_{i=1}^n\min\Big(1,\frac{|\{j\ne i:a_j=\hat a\}|}3\Big)
# $$ (eq:vqa-accuracy)
#
# Let $m$ of the $n$ people have given the answer. One of these $m$ is left out with frequency $m/n$, and $m-1$ remain; otherwise $m$ remain. So
#
# $$
# \mathrm{acc}=\frac mn\min\Big(1,\frac{m-1}3\Big)+\frac{n-m}n\min\Big(1,\frac m3\Big)
# $$ (eq:vqa-matches)
#
# **With pencil and paper**, $m=3$: $\frac3{10}\cdot\frac23+\frac7{10}\cdot1=0.9$. Move the slider:

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.tasks import annotators

annotators()

# %% [markdown]
# 0.3, 0.6, 0.9, and from four people on 1. The two functions agree, and so does the one that scores files of VQA:

# %% tags=["nbval-check-output"]
from mmlearn.metrics.vqa import (accuracy_of_matches, leave_one_out,
                                 vqa_accuracy)

show_source(leave_one_out, accuracy_of_matches)
for m in range(6):
    people = ["yes"] * m + ["no"] * (10 - m)
    print(m, [round(x, 2) for x in (
        leave_one_out([answer == "yes" for answer in people]),
        accuracy_of_matches(m), vqa_accuracy("yes", people))])

# %% [markdown]
# **What needs no picture?** In photographs the answer to *What sport is this?* is mostly *tennis*. VQA v2 {cite:p}`goyal2017vqav2` therefore asks every question of **two similar pictures with two different answers**: who does not look gives one answer to both, and is right at most once in a pair. VQA-CP {cite:p}`agrawal2018vqacp` goes further and changes the priors between training and test. Three answerers that see nothing, or read nothing, on all three kinds of data:

# %%
from mmlearn.book import show_table
from mmlearn.data.questions import (blind_scores, changed_priors,
                                    vqa_pairs, vqa_questions)

n = budget(cpu=3000, smoke=200)
some = vqa_questions(2 * n, scenes=n)
data = {"as they come": (some, vqa_questions(1000, "test", scenes=500)),
        "balanced pairs": (vqa_pairs(n, scenes=n),
                           vqa_pairs(500, "test", scenes=500)),
        "changed priors": changed_priors(some)}
blind = {name: {who: score.overall for who, score in
                blind_scores(*both).items()} for name, both in data.items()}
show_table(["official accuracy, %", *blind], [
    [who, *(100 * by[who] for by in blind.values())]
    for who in blind["as they come"]], digits=1)

# %% [markdown]
# As questions come, seven of ten points are had without looking: most things that are asked for are not there. On balanced pairs 45 are left, and knowing the whole question adds nothing to knowing its first words. Where priors change from question to question, who has learned the usual answer to each falls from 70 to 48; who has learned only first words loses little (69 to 67).

# %%
claim("the question alone is worth less where priors have changed",
      blind["changed priors"]["question only"], "<",
      blind["as they come"]["question only"])

# %% [markdown]
# ### Answers with a reason
#
# *Visual commonsense reasoning*, VCR {cite:p}`zellers2019vcr`: four answers to a question about people in a scene of a film, and then **four reasons for the right one**. Tags such as [2] point at boxes. Wrong choices are right ones of *other* questions, so that choices alone give nothing away (the [side page](deeper/5-tasks.ipynb) matches them). A problem of ours:

# %% tags=["hide-input"]
from mmlearn.data.rationales import vcr_problems
from mmlearn.figures.both_modalities.tasks import vcr_problem

problems = vcr_problems(90, "test", scenes=150)
vcr_problem(problems, 1, problems.images())

# %% [markdown]
# Three numbers are reported: Q→A, the answer; QA→R, the reason *given the right answer*; Q→AR, both, with the right answers $a_i$ and reasons $r_i$ and the chosen ones $\hat a_i$, $\hat r_i$:
#
# $$
# \text{Q→AR}=\frac1n\sum_{i=1}^n[\hat a_i=a_i]\,[\hat r_i=r_i]
# $$ (eq:vcr-joint)
#
# A guess is right in $\frac14$, $\frac14$ and $\frac1{16}$ of the cases.

# %% tags=["nbval-check-output"]
from mmlearn.metrics.vcr import joint_accuracy

show_source(joint_accuracy)
answered = torch.tensor([True, True, False, False])
explained = torch.tensor([True, False, True, False])
print("answers", 0.5, "reasons", 0.5, "both",
      joint_accuracy(answered, explained))

# %% [markdown]
# *Practise.* [exercise 15](exercises/5-both-modalities.ipynb#exercise-15-check-three-of-the-others) · [exercise 16](exercises/5-both-modalities.ipynb#exercise-16-build-both-or-neither)

# %% [markdown]
# <!-- NAVIGATION HERE -->

# %% [markdown]
# ### A feeling from several cues
#
# *Affective computing* reads feelings from faces, words and voices. Our examples are **made**: a person is drawn, a sentence written, a word spoken, and a table says what is meant. A sentence praises or complains, and a wink means the opposite; a voice is lively or calm, and raised arms say that it is put on. With $\oplus$ for "exactly one of the two", the feeling is
#
# $$
# y=2\,(\text{lively}\oplus\text{arms})+(\text{praise}\oplus\text{wink})
# $$ (eq:affect-label)

# %% tags=["hide-input"]
from mmlearn.data.affect import make_affect
from mmlearn.data.voices import speak
from mmlearn.figures.both_modalities.affect import feelings

feelings(make_affect(16, "test", speak=speak))

# %% [markdown]
# Nothing of this is a claim about people: what a face looks like says little about what somebody feels (the [side page](deeper/5-affect.ipynb) has the evidence). The table makes sure that **no modality alone is worth more than a guess**. Memes that are hateful only as picture *and* text are built in the same way {cite:p}`kiela2020hateful`.
#
# **Why adding decisions fails.** Let each modality $m$ be read into a row $z_m$ and cast its own votes, which are added:
#
# $$
# \ell=\sum_mz_mW_m+b
# $$ (eq:affect-decisions)
#
# For one bit, "good is meant", a wink votes $f_0$ or $f_1$ and praise $g_0$ or $g_1$. All four cases are right only if $f_0+g_1>0$ and $f_1+g_0>0$, but $f_0+g_0\le0$ and $f_1+g_1\le0$. The first two add up to $f_0+f_1+g_0+g_1>0$, the last two to the contrary. So **at most three of four**, however large the networks behind the votes are. And as each vote alone is independent of the feeling, the cross-entropy is smallest with *no* votes: training ends at chance.
#
# **A product has room.** Written as $-1$ and $+1$, the product of two cues is $-1$ where they differ. The outer product {cite:p}`zadeh2017tensor` holds all products of one number of each modality,
#
# $$
# [z_1;1]\otimes[z_2;1]\otimes[z_3;1]
# $$ (eq:affect-product)
#
# and the ones keep the rows themselves and the products of two.

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.affect import xor

xor()

# %%
from mmlearn.both_modalities.affect_fusion import (outer_product,
                                                   sum_of_decisions)

show_source(sum_of_decisions, outer_product)

# %% [markdown]
# Three small networks see, read and hear; they are trained from nothing with each set of modalities and each way to join them, 400 steps, three seeds:

# %% tags=["hide-input"]
from mmlearn.experiments import results
from mmlearn.figures.both_modalities.affect import fusion

study = results("affect")
fusion(study)

# %% [markdown]
# <!-- RESULT affect: means of the arms; sum of decisions at chance although it reads everything; product and features. -->

# %%
scores = {name: [run["scores"]["accuracy"] for run in runs]
          for name, runs in study["arms"].items()}
claim("the product tells what a sum of decisions cannot, worst seed",
      min(np.subtract(scores["all: product"],
                      scores["all: sum of decisions"])), ">", 0.5);

# %% [markdown]
# *Practise.* [exercise 17](exercises/5-both-modalities.ipynb#exercise-17-check-what-two-votes-can-do)
#
# ### All models on all tasks
#
# Now the whole table: balanced pairs of questions, VCR, which of the detector's regions an expression means, the picture of a caption among 200, captions. First the rows that do not look, then a small network without pre-training (also with picture or question taken away), then the models of the book. Percent, CIDEr-D; three seeds, each with its own training questions and the same test:

# %% tags=["hide-input"]
from mmlearn.experiments import results
from mmlearn.figures.both_modalities.tasks import task_table

table = results("both-modalities")
show_table(*task_table(table))

# %%
from mmlearn.claims import paired

def runs_of(name, score):
    return [run["scores"][score] for run in table["arms"][name]]

rows = []
for score in ("VQA", "VQA both of a pair", "VCR Q->A", "VCR QA->R"):
    found = paired(runs_of("network", score),
                   runs_of("network without picture", score))
    rows.append([score, 100 * found.mean, 100 * found.error, found.verdict])
show_table(["network, beside itself without picture", "difference",
            "its error", "verdict"], rows, digits=1)

# %% [markdown]
# <!-- RESULT both-modalities: adverse first: where looking does not help; which rows beat their blind baselines; CLIP zero-shot on VQA and VCR near its baseline, retrieval native; what pre-training adds (ViLBERT beside network) and Flamingo few-shot beside blind, if those rows are there; nothing here reaches people. -->
#
# A number of such a table means little without the blind rows above it: *that* is the lesson of ten years of VQA.
#
# *Go further.* The official evaluator with all its slips, `mmlearn evaluate vqa`, adversarial matching and referring expressions: [side page](deeper/5-tasks.ipynb) · data, Bayes accuracies and readers of feelings: [side page](deeper/5-affect.ipynb) · {cite:t}`goyal2017vqav2`, which is short and clear · ask a question yourself: `mmlearn answer PICTURE "QUESTION"`
#
# <details>
# <summary><b>Where the survey differs</b>: E34 to E36</summary>
#
# **E34** (error). VCR is called VQA "in wider settings", and more explainable. What VCR adds is a second choice, the *rationale*: with it a guess is right in 25, 25 and 6.25 %.
#
# **E35** (omission). That these tasks are "the main directions at present" rests on counts of papers by {cite:t}`uppal2022multimodal`, and is of that date; the survey does not name the source, and its figure is lost.
#
# **E36** (overstatement). Following instructions is said to have many practical uses in robotics. The benchmark, R2R, is walked in photographs on a graph, and success is to stop within 3 m of the goal.
#
# </details>
