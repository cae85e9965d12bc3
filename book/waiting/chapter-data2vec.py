# %% [markdown]
# ## 5.1 Data2vec
#
# **The question.** Hide a part of a picture, a sentence, a recording, and ask a network for it. What should it answer? A word can be named, but a patch of pixels or 20 milliseconds of sound have no name, and their exact numbers are mostly not worth knowing. Each modality had its own answer: hidden words (BERT), codes of patches (BEiT), units of sound (wav2vec 2.0). Is there one answer for all?
#
# data2vec {cite:p}`baevski2022data2vec` asks for *what a network itself makes of the hidden part when it sees everything*. A **student** reads the input with holes; a **teacher**, a slow copy of the student, reads all of it; the student predicts the teacher's states at the holes. Nothing in this mentions pixels, words or sound. (One *method* for all modalities, and one *model* for each: no weight is shared between them, and data2vec never sees a picture with its sentence.)

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.data2vec import teacher_and_student

teacher_and_student()

# %% [markdown]
# Two networks of the same make, and four differences between them. The student's input has holes. The student has a head. The teacher gets no gradient and no dropout; its weights follow the student's. And parts in front of the blocks (embeddings of words, convolutions of sound) are *copied*, which the paper finds as good as averaging; the released code for pictures averages these, too. The loss looks at hidden places alone.
#
# ### An example for pencil and paper
#
# One place, $d=3$ channels, a teacher with $L=3$ blocks of which the last $K=2$ make the target. They say $a^2=(6,0,0)$ and $a^3=(0,1,2)$.
#
# 1. *Normalise each*, to mean 0 and variance 1 over its channels: $\hat a^2=(1.41,-0.71,-0.71)$, $\hat a^3=(-1.22,0,1.22)$.
# 2. *Average*: $y=(0.09,-0.35,0.26)$. Without step 1 it would be $(3,0.5,1)$, nearly the louder block alone.
# 3. The student says $f=(0.5,-0.2,-2)$. The errors are $e=y-f=(-0.41,-0.15,2.26)$.
# 4. *Smooth L1* with $\beta=2$: the small errors pay $e^2/4$, that is $0.041$ and $0.006$; the large one pays $|e|-1=1.259$. The mean is $0.435$.

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.data2vec import regression_loss, targets

a2, a3 = torch.tensor([[[6.0, 0, 0]]]), torch.tensor([[[0.0, 1, 2]]])
y = targets([torch.zeros_like(a2), a2, a3], k=2)[0]
f = torch.tensor([[0.5, -0.2, -2.0]])
print(np.round(y.numpy(), 2), round(float(regression_loss(f, y, 2.0)), 3))

# %% [markdown]
# The same numbers come out. Now each of the steps, and why it is as it is.
#
# ### What is hidden
#
# Pictures are cut into $14\times14$ patches, each of which one linear map turns into a vector (the [side page](deeper/5-vit.ipynb) has the encoder). As in BEiT {cite:p}`bao2022beit` whole *blocks* of patches are hidden: a single patch could be guessed from its neighbours without understanding anything. A block has an area $a$ drawn between 16 and what is still to be hidden, and a ratio $r$ of its sides,
#
# $$
# r=\exp\big(\log 0.3+u\,(\log\tfrac1{0.3}-\log0.3)\big),\qquad u\sim U[0,1),
# $$ (eq:block-aspect)
#
# so that flat blocks are as frequent as tall ones. Its height $y$ and width $x$ are
#
# $$
# y=\mathrm{round}\sqrt{ar},\qquad x=\mathrm{round}\sqrt{a/r}.
# $$ (eq:block-sides)
#
# Blocks may overlap; they are added until 120 of 196 patches are hidden, or none fits in ten tries. Step through it:

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.data2vec import masking

masking()

# %% [markdown]
# Each hidden patch is replaced by the same learned vector, before the first block and with its position kept. Text hides 15 % of the tokens, or spans of four; speech hides 49 % of its frames in spans of ten. How these are drawn, and what the encoders of text and speech look like, stands on [another page](deeper/5-data2vec-text-and-speech.ipynb).
#
# ### The teacher
#
# Let $\theta$ be the student's weights and $\Delta$ the teacher's. After each update
#
# $$
# \Delta\leftarrow\tau\Delta+(1-\tau)\,\theta ,
# $$ (eq:d2v-ema)
#
# an *exponential moving average*. Insert it into itself: with a constant $\tau$, after $u$ updates,
#
# $$
# \Delta_u=\tau^u\theta_0+(1-\tau)\sum_{s=1}^u\tau^{u-s}\theta_s ,
# $$ (eq:d2v-unrolled)
#
# and the shares sum to $\tau^u+(1-\tau^u)=1$. So a teacher is a mean of students, the recent ones weighing most; the survey says as much. How long does it remember? The share of the past has halved when $\tau^n=\frac12$, and $-\ln\tau\approx1-\tau$:
#
# $$
# n\approx\ln2\,/\,(1-\tau) .
# $$ (eq:d2v-half-life)
#
# For $\tau=0.999$ that is 693 updates, for $0.9999$ it is 6,931. Early, while the student changes fast, the teacher should follow; later it should be steady. So $\tau$ grows,
#
# $$
# \tau(u)=\tau_0+(\tau_e-\tau_0)\min(u/\tau_n,1),
# $$ (eq:d2v-decay)
#
# from 0.999 to 0.9999 over the first 100,000 updates for text. (For pictures it is constant, 0.9998.) Slide $\tau$ over one weight:

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.data2vec import slow_teacher

slow_teacher()

# %% [markdown]
# With $\tau=0$ the teacher is the student and jumps as it does. At 0.9 it is smoother and hardly late. At 0.999 it has, after 300 updates, left its beginning by a quarter: a recipe for 500,000 updates does not fit a run of 500. The miniature goes from 0.99 to 0.999.

# %% tags=["nbval-check-output"]
from mmlearn.both_modalities.data2vec import ema_shares, half_life

print(np.round(ema_shares(3, 0.9).numpy(), 3), "theta_0 … theta_3")
for tau in (0.99, 0.999, 0.9998, 0.9999):
    print(f"tau {tau}: half of it forgotten after {half_life(tau):.0f}")

# %% [markdown]
# ### The targets
#
# $a_t^l\in\mathbb R^d$ is what block $l$ of $L$ says of place $t$. The target is the mean over the *last* $K$ blocks,
#
# $$
# y_t=\frac1K\sum_{l=L-K+1}^{L}\hat a_t^l .
# $$ (eq:d2v-targets)
#
# The last ones, because they have seen the whole input: the teacher's states are *contextualised*, which is what sets the method apart from asking for pixels. Several, because neighbouring blocks know different things, and the mean was better than the last block alone in all three modalities of the paper. The hat is a normalisation without weights: for text and pictures over the channels $c$ of a place,
#
# $$
# \hat a_{tc}=(a_{tc}-\mu_t)/\sqrt{\sigma_t^2+\epsilon},
# $$ (eq:d2v-layer-norm)
#
# for speech over the places of a channel,
#
# $$
# \hat a_{tc}=(a_{tc}-\mu_c)/\sqrt{\sigma_c^2+\epsilon} .
# $$ (eq:d2v-instance-norm)
#
# It keeps loud blocks from drowning the others, and it stands against **collapse**. A student that says the same vector $v$ everywhere, with a teacher that says $v$ as well, has no error: a constant is a perfect solution. Equation {eq}`eq:d2v-instance-norm` forbids it outright, since every channel of a target varies over time with variance 1. Equation {eq}`eq:d2v-layer-norm` does not, since the *same* normalised vector at all places passes. There, what helps is that the teacher is slow and that a part is hidden; we measure it below.
#
# ### The loss
#
# Squares would let a few wild targets rule the gradient. So let the slope grow with the error only up to $\beta$:
#
# $$
# \ell'_\beta(e)=\max(-1,\min(e/\beta,1)) .
# $$ (eq:d2v-slope)
#
# Its integral from 0 is the loss. Up to $\beta$ it is $\int_0^e\frac z\beta\,dz=\frac{e^2}{2\beta}$, at $\beta$ thus $\frac\beta2$; from there each unit of error adds 1, so $\frac\beta2+(|e|-\beta)$:
#
# $$
# \ell_\beta(e)=\begin{cases}e^2/(2\beta)&|e|\le\beta\\|e|-\beta/2&\text{otherwise}\end{cases}
# $$ (eq:d2v-smooth-l1)
#
# Value and slope are continuous at $\beta$, and both halves are needed for it. The survey has neither factor ½ below $\beta$,
#
# $$
# \tilde\ell_\beta(e)=\begin{cases}e^2/\beta&|e|\le\beta\\|e|-\beta/2&\text{otherwise,}\end{cases}
# $$ (eq:d2v-survey-loss)
#
# and there the loss *falls*, from $\beta$ to $\beta/2$, when the error grows past $\beta$:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two curves over the error, for beta 2. Left the loss: smooth L1 is a parabola up to 2 and a line of slope 1 after it, without a break; the survey's formula rises to 2 and jumps down to 1. Right the slope: smooth L1's rises to 1 and stays there; the survey's rises to 2 and jumps to 1."}}
from mmlearn.figures.both_modalities.data2vec import two_regimes

two_regimes(2.0);

# %% [markdown]
# In the shaded part the loss is a square, beyond it a line; the dashed curve jumps. Speech takes plain squares,
#
# $$
# \ell_0(e)=e^2 ,
# $$ (eq:d2v-squared)
#
# which the code calls $\beta=0$. The loss of a batch is the mean over the hidden places $M$,
#
# $$
# L=\frac c{|M|}\sum_{t\in M}\sum_{j=1}^d\ell_\beta(y_{tj}-f_{tj}),
# $$ (eq:d2v-loss)
#
# with $c=1/d$ for pictures, 1 for text and $1/\sqrt d$ for speech in the released code.

# %%
from mmlearn.both_modalities.data2vec import smooth_l1, survey_smooth_l1

e = torch.tensor([1.999999, 2.000001], dtype=torch.float64)
ours, theirs = smooth_l1(e, 0 * e, 2.0), survey_smooth_l1(e, 2.0)
claim("jump at beta = 2: the survey's formula, smooth L1",
      abs(theirs[0] - theirs[1]), ">", abs(ours[0] - ours[1]));

# %% [markdown]
# ### The machine
#
# Teacher, targets and loss as they run:

# %%
from mmlearn.both_modalities.data2vec import (Data2Vec, ema_update_,
                                              regression_loss, targets)

show_source(Data2Vec.forward, Data2Vec.teach, Data2Vec.update, targets,
            regression_loss, ema_update_)

# %% [markdown]
# And the whole training, in ten lines, on drawn scenes of 32 pixels: 64 patches, of which 38 are hidden, four blocks of width 64, targets of the last three. (About half a minute.)

# %%
from dataclasses import replace

from mmlearn.both_modalities.data2vec import Data2VecConfig
from mmlearn.both_modalities.data2vec_vision import (
    Data2VecVisionConfig, HiddenPictures, VisionData2Vec)
from mmlearn.data.pairs import scene_pairs

steps = budget(cpu=300, gpu=4000, smoke=3)
scenes = scene_pairs(budget(cpu=2000, smoke=64), size=32).images
config = Data2VecVisionConfig.mini()
method = replace(Data2VecConfig.mini(K=3, steps=steps), twice=True)
torch.manual_seed(0)
model = VisionData2Vec.new(config, method)
batches = HiddenPictures(scenes, 32, config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

# %%
spreads = []
for step in range(steps):
    images, mask, _ = batches[step]
    prediction, target = model(images, mask)
    loss = regression_loss(prediction, target, method.beta)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()                        # the student
    model.update()                          # the teacher
    spreads.append([loss.item(), target.std(dim=0).mean().item()])

# %% [markdown]
# (`train_data2vec` does the same with warm-up, clipping, checkpoints and a bar; `mmlearn train data2vec` does it on your own pictures.) Beware of the loss: as the targets move, it may *rise* in a healthy run, and it is 0 in a collapsed one. What tells is how much targets still differ, their *spread*,
#
# $$
# \frac1d\sum_{j=1}^d\sqrt{\mathrm{Var}_n(y_{nj})+10^{-6}} ,
# $$ (eq:d2v-spread)
#
# over $n$ places, and in how many directions: with the singular values $s_i$ of the centred rows, $p_i=s_i/\sum_js_j$, the *effective rank*
#
# $$
# \exp\Big(-\sum_ip_i\log p_i\Big) .
# $$ (eq:d2v-rank)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two curves over the steps of the live run: the loss, and the spread of the targets."}}
figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.6))
for axis, values, name in zip(axes, zip(*spreads),
                              ("loss", "spread of the targets")):
    axis.plot(range(1, steps + 1), values)
    axis.set(xlabel="step", title=name, ylim=(0, None))

# %% [markdown]
# The loss falls, fast at first and slowly then; the spread of the targets stays near 0.8. So it does not fall because the targets have become alike.
#
# Did it learn anything that does not follow from the place alone? A guess that knows only *where* a hole is: the mean target of that place over the training pictures. On new pictures:

# %%
from mmlearn.both_modalities.data2vec import effective_rank, spread

new = scene_pairs(budget(cpu=200, smoke=16), "val", size=32).images
images, mask, _ = HiddenPictures(new, len(new), config, seed=1)[0]
with torch.no_grad():
    model.eval()
    seen = HiddenPictures(scenes, min(500, len(scenes)), config)[0].inputs
    place = model.teach(seen).mean(dim=0)               # p d
    f, y = model(images, mask)
guess = place.expand(len(images), -1, -1)[mask]
losses = [regression_loss(x, y, method.beta).item() for x in (guess, f)]
print(f"targets: spread {spread(y):.2f}, rank {effective_rank(y[:2000]):.1f}")
claim("the student's loss on new pictures is below the place's mean",
      losses[1], "<", losses[0]);

# %% [markdown]
# Predictions are vectors. To look at one, search 300 training pictures for the patch whose target is nearest to it, and put that patch into the hole:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six scenes in three rows: the picture, what the student reads of it with most patches grey, and the holes filled with the patches whose targets are nearest to its predictions."}}
from mmlearn.figures.both_modalities.data2vec import behind_the_mask

shown = HiddenPictures(new[:6], 6, config, seed=1, shuffle=False)[0].mask
behind_the_mask(model, new[:6], shown, scenes[:300]);

# %% [markdown]
# The student has understood what kind of place it looks at: night is continued with night, snow with pale blues, a sky lies above a beach. No hidden *thing* comes back: not the upper half of the ball, not the boat, not the house; and the fourth beach gets a strip of meadow. A minute of training on 2,000 scenes teaches settings.
#
# ### Collapse, measured
#
# A study takes data2vec's safeguards away one at a time, on captions of drawn scenes with words hidden in spans (three seeds, 600 steps). A probe, a linear map, then reads the hidden word off the student's state.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels with a line for each of seven arms and a dot for each seed: spread of the targets, their effective rank, and what a probe reads. A dashed line marks an untrained model."}}
from mmlearn.experiments import results
from mmlearn.figures.both_modalities.data2vec import collapses

collapses(results("collapse"));

# %%
from mmlearn.book import show_table
from mmlearn.claims import paired

def probes(arm):
    return [run["scores"]["probe"] for run in study["arms"][arm]]

study = results("collapse")
whole = probes("data2vec")
rows = [["data2vec", float(np.mean(whole)), ""]]
rows += [[arm, float(np.mean(probes(arm))), str(paired(probes(arm), whole))]
         for arm in study["arms"] if arm != "data2vec"]
show_table(["arm", "probe", "beside data2vec"], rows)

# %% [markdown]
# <!-- RESULT collapse: adverse first: which arm is as good as or better than data2vec; which safeguard matters; "teacher = student, not normalised": spread and rank; that layer norm alone does/does not prevent it; probe against "untrained" and most frequent word -->
#
# ### What it learned, and what not
#
# The second study is about pictures: five arms from the same start on the same scenes and masks, 800 steps, three seeds. *pixels* asks for the numbers of hidden patches; *one block* has $K=1$; *no context* has a teacher that reads each patch alone; *untrained* is the start. The encoder is then frozen, and a linear map reads the mean over the patches: which of 30 things is it, which colour has it, how many things are there?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels, category, colour and count, with a line for each of five arms and a dot for each seed. A dashed line marks the untrained encoder."}}
from mmlearn.figures.both_modalities.data2vec import what_was_learned

what_was_learned(results("data2vec-vision"));

# %%
from mmlearn.claims import paired

study = results("data2vec-vision")

def told(arm, question):
    return [run[question]["last"] for run in study["arms"][arm]]

asked = ("category", "colour", "count")
rows = [[arm, *(f"{np.mean(told(arm, q)):.3f} · "
                + str(paired(told("data2vec", q), told(arm, q))).split(" (")[0]
                if arm != "data2vec" else f"{np.mean(told(arm, q)):.3f}"
                for q in asked)] for arm in study["arms"]]
show_table(["arm · is data2vec better?", *asked], rows)

# %% [markdown]
# <!-- RESULT data2vec-vision: adverse first (pixels as targets, count), then what is better; the untrained encoder; the verdicts are paired's -->
#
# ### The paper's own numbers
#
# On ImageNet-1K data2vec's networks are fine-tuned with labels, all weights moving. That is another task than ours, on a million photographs, and the numbers cannot be set beside the miniature's.

# %%
from mmlearn.book import show_table

show_table(["pictures, top-1 in %", "ViT-B", "ViT-L"], [
    ["BEiT", 83.2, 85.2], ["MAE", 83.6, 85.9], ["MaskFeat", 84.0, 85.7],
    ["data2vec", 84.2, 86.6]], digits=1)
show_table(["target, speech", "WER in %"], [
    ["output of self-attention", 100.0], ["output of the feed-forward net",
     13.1], ["after its residual sum", 14.8], ["end of the block", 14.5]],
    digits=1)

# %% [markdown]
# The lead over its rivals is a few tenths of a percent for ViT-B. (Tables 1 and 5.) In text the mean over GLUE is 82.7 against RoBERTa's 82.5, both retrained, and 82.9 with spans hidden; on MNLI data2vec is *worse*. With ten minutes of labelled speech its word error rate is 12.3 % against wav2vec 2.0's 15.6 %. The second table says how much hangs on which tensor is called $a^l$: the same network, asked for the output of its self-attention, learns nothing.
#
# *Practise.* [exercise 1](exercises/5-both-modalities.ipynb#exercise-1-check-what-a-teacher-remembers), [exercise 2](exercises/5-both-modalities.ipynb#exercise-2-check-a-loss-and-its-gradient), [exercise 3](exercises/5-both-modalities.ipynb#exercise-3-build-targets-of-speech), [exercise 4](exercises/5-both-modalities.ipynb#exercise-4-check-how-much-is-hidden). *Go further.* {cite:t}`grill2020byol` for a slow teacher without hidden parts · the side pages [the Vision Transformer and BEiT](deeper/5-vit.ipynb) and [text and speech](deeper/5-data2vec-text-and-speech.ipynb), with data2vec 2.0 · `mmlearn train data2vec --data folder --images photos --out runs/d2v`
#
# <details>
# <summary><b>Where the survey differs</b>: E1 to E6, E8, E19 to E23, P8</summary>
#
# - **E1** Its loss has $(y-f)^2/\beta$ below $\beta$: both halves are missing, and it jumps from $\beta$ to $\beta/2$.
# - **E2** The condition is a norm of the whole vector; it is the absolute value of each number.
# - **E3** "Continuous and sensitive to outliers": *less* sensitive, its slope is at most 1; continuous only with the halves of E1.
# - **E4** "A latent representation that can be transformed between modalities": there is one model a modality and no common space.
# - **E5** "The first K layers" (the formula is right): the last $K$.
# - **E6** "Their only difference is the weights": also the holes, the head, what is copied, and dropout.
# - **E8** "Mean pooling with softmax": a mean over patches, then a linear map, then a softmax, and in fine-tuning only.
# - **E19** "Target at time $t$", "output of block $l$": $t$ is a place; $a^l$ is the feed-forward net's output before its residual sum (text, speech), the block's end only in the released code for pictures, which also normalises twice (**P8**).
# - **E20**, **E22** What the hat means is not said, nor how much is hidden, $\tau$, $K$ and $\beta$, nor the encoders of text and speech.
# - **E21** "A multimodal model" with algorithms that differ: the same algorithm, one model a modality.
# - **E23** "The masking of the BEiT model in BERT pre-training": BEiT is a model of its own.
#
# </details>
