# %% [markdown]
# ## 5.2 ViLBERT
#
# **The question.** BERT learns to read from hidden words, and then serves many tasks. Can one model learn in the same way from pictures *and* their captions, so that words and what they name are joined before any task is known?
#
# ViLBERT {cite:p}`lu2019vilbert` keeps **two streams**, one for words and one for regions of the picture, and lets them read each other at some layers. Three tasks that need no labels of people train it; then a small head and a few epochs make it answer questions, choose reasons, find what words refer to, or retrieve pictures ([side page](deeper/5-vilbert-tasks.ipynb)).

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.vilbert import streams

streams()

# %% [markdown]
# The words have a long way to go alone: six layers of BERT before the first meeting. Regions come from a detector, which has done much of its work already, and meet the words at once.
#
# ### What enters
#
# The text is what BERT reads: states $Y$, $t$ rows of width 768. A detector (chapter 1; here Faster R-CNN as in {cite:t}`anderson2018bottomup`) gives 10 to 36 regions with a feature $f_i\in\mathbb R^{2048}$ each. A set of regions has no order, so a place has to be told. It is five numbers, the corners of the box as shares of the picture's $w\times h$ pixels, and its share of the area:
#
# $$
# s_i=\Big(\frac{x_1}w,\frac{y_1}h,\frac{x_2}w,\frac{y_2}h,\frac{(x_2-x_1)(y_2-y_1)}{wh}\Big)
# $$ (eq:vilbert-box)
#
# Before the regions stands the whole picture, as [CLS] stands before the words. It is no learned vector but a mean:
#
# $$
# f_0=\frac1n\sum_{i=1}^nf_i,\qquad s_0=(0,0,1,1,1)
# $$ (eq:vilbert-image)
#
# What is there and where it is each pass a linear map of their own, and are added,
#
# $$
# x_i=f_iW_f+b_f+s_iW_s+b_s
# $$ (eq:vilbert-embed)
#
# then normalised: $X$ has $n+1$ rows of width 1024. Move over the regions of a drawn scene:

# %% tags=["hide-input"]
from mmlearn.data.scenes import sample_scene
from mmlearn.figures.both_modalities.vilbert import (places, shown,
                                                     trained_model)
from mmlearn.image2text.regions import load_detector

detector = load_detector()
model, words = trained_model()
one = shown(model, words, detector, sample_scene(0, 65, "test"))
places(one)

# %% [markdown]
# The three equations as code, and a box of half the sides of a picture:

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.vilbert import (box_geometry, image_token,
                                             region_rows)

show_source(box_geometry, image_token, region_rows)
box = torch.tensor([[16.0, 8.0, 48.0, 40.0]])
print(box_geometry(box, 64, 64).tolist())

# %% [markdown]
# The box takes a quarter of the area. Nothing is said of what the place *means*: the map $W_s$ is learned.
#
# ### One meeting
#
# A layer of co-attention makes queries, keys and values in both streams, all of width 1024 (the words' maps lead from 768 to 1024). Queries stay at home. **Keys and values cross.**

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.vilbert import meeting

meeting()

# %% [markdown]
# $$
# C_X=\mathrm{softmax}\Big(\frac{Q_XK_Y^\top}{\sqrt{d_k}}\Big)V_Y,\qquad
# C_Y=\mathrm{softmax}\Big(\frac{Q_YK_X^\top}{\sqrt{d_k}}\Big)V_X
# $$ (eq:vilbert-co-attention)
#
# $Q_XK_Y^\top$ has $n+1$ rows and $t$ columns: every region weighs all words. $C_X$ has a row for each region, made of values of words; $C_Y$ the other way round. Both come from the same states, neither waits for the other. The mask is that of whose keys are read. With 8 heads of $d_k=128$, what they read is joined, led back to the stream's width, and added:
#
# $$
# X'=\mathrm{LN}(X+C_XW_o+b_o)
# $$ (eq:vilbert-add)
#
# A feed-forward net of the stream follows, and all of it for $Y$ with weights of its own.
#
# **With pencil and paper.** Two words, three regions, one head of width 1. The words ask $Q_Y=(1,0)$, the regions have keys $K_X=(0,\ln2,0)$ and values $V_X=(4,8,0)$. The first word has scores $0,\ln2,0$, so weights $\frac14,\frac24,\frac14$, and reads $1+4+0=5$. The second weighs all alike: 4. Now the regions ask, $Q_X=(\ln3,0,-\ln3)$, and the words have keys $K_Y=(1,0)$, values $V_Y=(8,4)$. The first region weighs $\frac34,\frac14$ and reads 7, the second 6, the third 5:

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.vilbert import (co_attention,
                                             survey_co_attention)

def column(*numbers):
    return torch.tensor(numbers).view(1, 1, -1, 1)      # b h rows width

l2, l3 = np.log(2.0).item(), np.log(3.0).item()
regions = column(l3, 0.0, -l3), column(0.0, l2, 0.0), column(4.0, 8.0, 0.0)
text = column(1.0, 0.0), column(1.0, 0.0), column(8.0, 4.0)
show_source(co_attention)
for C in co_attention(regions, text):
    print([round(x, 3) for x in C.flatten().tolist()])

# %% [markdown]
# **What if the values were one's own?** The survey says in words that values come from the other stream, and then writes, for $H_v$ of the picture and $H_t$ of the text,
#
# $$
# H_v=A_vV_v,\qquad H_t=A_tV_t
# $$ (eq:vilbert-survey)
#
# with values "computed from the text and the image respectively". That is self-attention, twice. (Reading $A_t$ as $Q_tK_v^\top$ does not help: $t\times n$ weights do not fit $t$ values.) Autograd is a strict judge of what crosses. We ask for the gradient of what the *words* read with respect to the *regions*:

# %% tags=["nbval-check-output"]
for name, meet in (("paper", co_attention),
                   ("survey", survey_co_attention)):
    x, y = ([part.clone().requires_grad_() for part in stream]
            for stream in (regions, text))
    _, C_Y = meet(x, y)
    grads = torch.autograd.grad(C_Y.sum(), x, allow_unused=True)
    print(f"{name:7}", ["None" if g is None else "a tensor" for g in grads])

# %% [markdown]
# (In the order queries, keys, values of the regions.) With the survey's formula the regions do not occur in what the words read. Such a model is two BERTs side by side.
#
# ### What it is asked
#
# **Hidden words.** As in BERT: 15 %, cross-entropy, `mlm_loss` of chapter 3. **Hidden regions.** Each region is chosen with probability 0.15, the set is $M$. Of the chosen ones nine in ten lose the feature, none the place:
#
# $$
# \tilde f_i=\begin{cases}0&\text{with probability }0.9\\f_i&\text{with }0.1\end{cases}\qquad i\in M
# $$ (eq:vilbert-hide)
#
# Guessing 2048 numbers would ask for texture. The model has to say what the *detector* would have said, through a head on the last state,
#
# $$
# q_i=\mathrm{softmax}\big(\mathrm{LN}(\mathrm{GELU}(x_iW+b))W_c+b_c\big)
# $$ (eq:vilbert-region-head)
#
# and pays the divergence from the detector's classes $p_i$, unsure ones included:
#
# $$
# L_{region}=\frac1{|M|}\sum_{i\in M}\sum_cp_{ic}\,(\log p_{ic}-\log q_{ic})
# $$ (eq:vilbert-region)
#
# The first logarithm has no gradient; it makes 0 the best that can be paid. (Where $M$ is empty, the released code divides zero by zero.) **One another's.** Half the pictures get the caption of another one. The first state of each stream passes a layer,
#
# $$
# h=\mathrm{ReLU}(x_0W_p+b_p)
# $$ (eq:vilbert-pool)
#
# their product is picture and text as one vector,
#
# $$
# h_X\odot h_Y
# $$ (eq:vilbert-joint)
#
# and two logits of it say whether they belong together, label 0, or not, label 1:
#
# $$
# L_{pair}=-\log p_\theta(y\mid X,Y)
# $$ (eq:vilbert-alignment)
#
# The sum is trained, without weights:
#
# $$
# L=L_{MLM}+L_{region}+L_{pair}
# $$ (eq:vilbert-loss)
#
# Afterwards the last head already ranks pictures for a text, without fine-tuning:
#
# $$
# p_\theta(y=0\mid X,Y)
# $$ (eq:vilbert-score)

# %% tags=["hide-input"]
from mmlearn.both_modalities.vilbert_pretraining import (
    RegionHead, alignment_loss, alignment_score, mask_regions,
    pretraining_loss, region_loss)

show_source(mask_regions, RegionHead.forward, region_loss, alignment_loss,
            alignment_score, pretraining_loss)

# %% [markdown]
# ### The machine in view
#
# A layer of co-attention, and the loop over the schedule, are short:

# %%
from mmlearn.both_modalities.vilbert import (
    CoAttentionLayer, ViLBERT, add_read, joint_state, pooled)

show_source(CoAttentionLayer.forward, add_read, ViLBERT.forward, pooled,
            joint_state)

# %% [markdown]
# Our miniature has text layers 0 and 1 before the first meeting, two meetings, width 96. Its regions are those of chapter 1's detector of drawn scenes, at most nine. We train it for a few seconds, to see the three losses move; 500 scenes are drawn and looked at first.

# %%
from mmlearn.both_modalities.vilbert_pretraining import (
    PretrainingConfig, pretraining_groups, pretraining_step)
from mmlearn.both_modalities.vilbert_training import (
    PretrainingBatches, mini_model, scene_regions)
from mmlearn.train import fit, warmup_linear

scenes = scene_regions(detector, budget(cpu=500, gpu=8000, smoke=64))
config = PretrainingConfig.mini()
batches = PretrainingBatches(scenes, scenes.vocabulary(), config)
young = mini_model(scenes.vocabulary(), scenes)
steps = budget(cpu=300, gpu=6000, smoke=2)
history = fit(
    young, pretraining_step, batches, steps=steps, title="ViLBERT",
    optimizer=torch.optim.AdamW(pretraining_groups(young, config)),
    schedule=warmup_linear(config.lr, max(1, steps // 10), steps))

# %% [markdown]
# Who has learned nothing pays $\log v$ for a word and $\log2$ for a pair:

# %%
from mmlearn.book import show_table

nothing = {"mlm": float(np.log(len(batches.tokeniser) + 1)),
           "region": history.scalars["region"][0],
           "pair": float(np.log(2))}
show_table(["loss in nats", "nothing learned", "last 20 steps"],
           [(name, nothing[name], float(np.mean(history.scalars[name][-20:])))
            for name in nothing])

# %% [markdown]
# After 300 steps words have fallen from 5.2 to 3.4 nats, regions from 3.4 to 1.5: which words and which things are frequent is learned first. Pairs stand at $\log2$: whether a text fits a picture is learned last. In the longer training of the next model 56 % of the pairs are told right after 1,000 steps, and 88 % after 2,000.
#
# ### What it has learned
#
# The model that comes with the book had 8,000 scenes and 12,000 steps of 64 pairs, twenty minutes of one core. Every number has its control: the same question with *another* picture or text, or with none.

# %%
from mmlearn.both_modalities.vilbert_training import judged, load_vilbert

model, words, about = load_vilbert()
test = scene_regions(detector, budget(cpu=500, gpu=1000, smoke=20), "test")
scores = judged(model, test, words)
show_table(["on test scenes", "own", "other", "none"], [
    ("hidden colour words right", scores["colours"],
     scores["colours, other picture"], scores["colours, no picture"]),
    *((f"a hidden region's {name}", scores[f"region {part}"],
       scores[f"region {part}, other text"],
       scores[f"region {part}, no text"])
      for name, part in (("class right", "class"),
                         ("divergence, nats", "divergence"))),
    ("pairs told apart (chance 0.5)", scores["pairs"], "", "")])

# %% [markdown]
# Own, other, none: the differences in a row are what crosses. A hidden region is told better with its own text, a hidden colour with its own picture (the most frequent colour alone would be right in 12 % of them). But six in ten colours are told wrong, although the picture shows them. Pairs are told apart almost always, and of 100 test pictures the right one comes first for 67 texts, without fine-tuning.

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.vilbert import posterior

one = shown(model, words, detector, sample_scene(0, 65, "test"))
true = "A small house, a black dog and a white bird."
posterior(one, [true, "Two boats by the sea."], number=2)

# %% [markdown]
# The feature of the dog is hidden, its place is not. With its own caption the model hesitates between dog, 0.34, and bird, 0.39, both of which are named; with the caption of another picture it says bird, 0.88. And who reads what in whom? Point at a word, or at a box:

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.vilbert import looking

looking(one, true)

# %% [markdown]
# In the last meeting *house* and *bird* read their own boxes, with 0.88 and 0.89; *dog* does so less, 0.46. *Black* reads the dog, and *white* reads the house, which is wrong: the bird is white. In the other direction there is little to see: each region spreads its reading over all words, at most 0.19 on one.
#
# **What it gets wrong.** A true caption against one in which a little is false, 0.5 is chance:

# %%
from mmlearn.both_modalities.vilbert_probes import KINDS, contests, won

rows = []
for kind in KINDS:
    asked = contests(test, kind)
    rows.append((kind, min((one.wrong for one in asked), key=len), len(asked),
                 float(np.mean(won(model, test, words, asked)))))
show_table(["what is false", "for instance", "captions", "true one wins"],
           rows)

# %% [markdown]
# It knows *which things* belong to a picture: 0.97. A false colour is hardly noticed, 0.55, though the same model told hidden colours better with the picture than without. What is to the left and what to the right is a toss of a coin, 0.51; colours that are exchanged it notices in 63 of 100 captions. To tell the caption of another picture one needs none of this: the things differ. The task that is trained decides what is learned.

# %% tags=["hide-input"]
from mmlearn.both_modalities.vilbert_training import others, scores_of
from mmlearn.data.pairs import draw_scenes
from mmlearn.figures.both_modalities.vilbert import pictures_of_pairs

texts = [min(own, key=len) for own in test.captions]
tokens = words.batch(texts)
right = alignment_score(scores_of(model, tokens, test.seen, words.pad)[2])
wrong = alignment_score(
    scores_of(model, tokens, others(test.seen), words.pad)[2])
worst, fooled = int(right.argmin()), int(wrong.argmax())
drawn = draw_scenes([test.scenes[worst],
                     test.scenes[(fooled + 1) % len(texts)]])
pictures_of_pairs([(drawn[0], texts[worst], float(right[worst])),
                   (drawn[1], texts[fooled], float(wrong[fooled]))])

# %% [markdown]
# At the left the true pair that it believes least, 0.02; at the right a wrong pair that it believes, 0.98.

# %%
claim("a word crosses: hidden colours are told better with the own picture",
      scores["colours"], ">", scores["colours, other picture"])
claim("a region is told better with its own text",
      scores["region divergence"], "<",
      scores["region divergence, other text"]);

# %% [markdown]
# ### Is it the co-attention?
#
# Four models of the same size, three seeds each, 2,000 steps on the same batches: the paper's co-attention; the survey's formula; one direction, in which words read regions and regions only themselves; one stream for words and regions together. Then each is fine-tuned for questions and for referring expressions, and so is a model that was *not* pre-trained.

# %% tags=["hide-input"]
from mmlearn.claims import evidence, evidence_rows
from mmlearn.experiments import results

study = results("vilbert")
runs = {name: {key: [run["scores"][key] for run in found]
               for key in found[0]["scores"]}
        for name, found in study["arms"].items()}
kept = ["pairs", "R@1", "colours", "region divergence", "questions",
        "referring"]
show_table(["mean of 3 seeds", *kept],
           [(name, *(float(np.mean(own[key])) for key in kept))
            for name, own in runs.items()])
base = {key: runs["co-attention"][key] for key in kept}
show_table(["co-attention beside", *(n for n in runs if n != "co-attention")],
           evidence_rows({
               name: evidence(base, {key: own[key] for key in kept},
                              ["region divergence"])
               for name, own in runs.items() if name != "co-attention"}))

# %% [markdown]
# <!-- RESULT (study vilbert): adverse first. Say for each arm where "worse" or "cannot tell" stands; what nothing crossing costs in colours and region divergence (pairs can still be told, since the product joins the streams at the end: two towers); whether one direction or one stream is as good; what pre-training brings for questions and referring, beside the blind baselines study["blind"]. Then one claim(...) that holds with all seeds, e.g. region divergence of co-attention below that of the survey's formula, worst seed. -->
#
# **What the paper reports**, on photographs; † without pre-training on Conceptual Captions, single stream: one BERT for both:
#
# | | VQA | VCR Q→A | QA→R | Q→AR | RefCOCO+ | retrieval R@1 | zero-shot R@1 |
# |---|---:|---:|---:|---:|---:|---:|---:|
# | single stream† | 65.90 | 68.15 | 68.89 | 47.27 | 65.64 | – | – |
# | single stream | 68.85 | 71.09 | 73.93 | 52.73 | 69.21 | – | – |
# | ViLBERT† | 68.93 | 69.26 | 71.01 | 49.48 | 68.61 | 45.50 | 0.00 |
# | ViLBERT | 70.55 | 72.42 | 74.47 | 54.04 | 72.34 | 58.20 | 31.86 |
#
# One training each, no spread. Two streams are 0.5 to 3.1 points above one, which is smaller; pre-training brings 1.6 to 4.6 on the first five columns. Zero-shot retrieval without pre-training is a head that was never trained: 0.00. Later work under equal conditions finds that one stream and two differ little {cite:p}`bugliarello2021multimodal`.
#
# **Does it look as people do?** {cite:t}`sikarwar2022efficacy` fine-tuned ViLBERT's co-attention for questions and compared its maps with where people look (VQA-HAT). The maps agree in part. Nouns move them most. Removing question words (*what*, *where*) can help the maps of the last layer. Shuffling a question's words leaves the maps almost as they are, and costs about 15 % of accuracy: whatever the order is good for, the maps do not show it. An attention map is a hint at what was read, and no account of why.
#
# *Practise.* [exercise 5](exercises/5-both-modalities.ipynb#exercise-5-build-reading-or-reading-nothing), [exercise 7](exercises/5-both-modalities.ipynb#exercise-7-check-regions-that-are-asked). *Go further.* The [tasks](deeper/5-vilbert-tasks.ipynb), and one model for twelve of them {cite:p}`lu2020twelve` · `mmlearn train vilbert --data scenes --out runs/vilbert`
#
# <details>
# <summary><b>Where the survey differs</b>: E9 to E11, E37 to E42, P1</summary>
#
# - **E9** Its formula, {eq}`eq:vilbert-survey`, lets nothing cross; its words are right. **E40** Softmax, $\sqrt{d_k}$, heads, output map, residual, normalisation and feed-forward net are left out.
# - **E10** Language is not "much preprocessed" before the first meeting: it passes six Transformer layers.
# - **E37** The place is five numbers through a linear map of their own, added to the mapped feature; there is no further position code. **E38** The image token is the regions' mean with the box $(0,0,1,1,1)$.
# - **E39** Regions are not cut into visual words because clusters lose detail, unlike inputs would be treated alike, and a trained BERT would suffer; not for "flexibility between modalities".
# - **E41** Training is left out: Conceptual Captions {cite:p}`sharma2018conceptual`, 3.3 million pictures with captions of the web, and the three losses. The name is ViLBERT.
# - **E11** Nouns and question words are a finding of {cite:t}`sikarwar2022efficacy`; what helps is *removing* question words. **E42** "Similar to human attention": compared with people's, agreement partial.
# - **P1** The paper prints a text width of 762; it is 768.
#
# </details>
