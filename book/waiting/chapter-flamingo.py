# %% [markdown]
# ## 5.3 Flamingo
#
# **The question.** A large language model learns a task from a few examples in its prompt, and no weight is changed. Can it do so when the examples are *pictures*, without forgetting how to write?
#
# The survey's introduction says that Flamingo builds on a large language model and learns from few examples. That is right. Its section 5.3 then describes another machine: image, text and speech; a CNN and a recurrent network; a fusion by a multilayer perceptron; an adversarial generator. None of this is in the paper {cite:p}`alayrac2022flamingo`. What is: two large models, trained before and **frozen**, and two small parts between them that are trained.

# %% tags=["hide-input"]
from mmlearn.both_modalities.flamingo import FlamingoConfig
from mmlearn.figures.both_modalities.flamingo import architecture

architecture(FlamingoConfig.flamingo_3b(), cells=100)

# %% [markdown]
# Grey is frozen, violet is trained. A vision encoder (NFNet-F6, a convolutional network trained by contrast like chapter 4's CLIP) makes a grid of features of each picture or frame of a video. The **Perceiver resampler** turns any number of them into 64 *visual tokens*. Between the layers of a causal language model (Chinchilla: 1.4, 7 or 70 billion parameters) stand **gated blocks**, in which words read visual tokens. Text comes out, and text only.
#
# ### Pages
#
# The input is a page, text in which pictures stand at places. `<image>` marks such a place and `<EOC>` ends a *chunk*, what belongs to one picture. With this one format a page of the web, a caption, a question and a prompt of examples are the same kind of thing:
#
# `<image>Output: a cat<EOC><image>Output: a dog<EOC><image>Output:`
#
# Let $y_1,\dots,y_L$ be the tokens and let picture $x_i$ stand at token $\ell_i$. The number of the last picture at or before a token is
#
# $$
# \phi(\ell)=\max\{i:\ \ell_i\le\ell\},\qquad\phi(\ell)=0\ \text{before the first.}
# $$ (eq:flamingo-phi)
#
# A token sees that picture and no other. As a mask over the $m$ pictures of the page:
#
# $$
# M_{\ell i}=[\phi(\ell)=i] .
# $$ (eq:flamingo-mask)
#
# **With pencil and paper.** The page *my pets* `<image>` *a cat* `<EOC>` `<image>` *a dog* `<EOC>` has ten tokens. Count the marks from the left: $\phi=0,0,1,1,1,1,2,2,2,2$. The first two words see nothing.

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.flamingo import mask_matrix, page_of

words, phi = page_of("my pets <image> a cat <EOC> <image> a dog <EOC>")
mask_matrix(words, phi, m=2)

# %% [markdown]
# The same on drawn pictures: point at a word, and the picture that it sees is framed.

# %% tags=["hide-input"]
from mmlearn.data.pairs import scene_pairs
from mmlearn.figures.both_modalities.flamingo import seen_by_words

some = scene_pairs(3, "test")
said = [min(texts, key=len) for texts in some.captions]
words, phi = page_of(" ".join(f"<image> {s} <EOC>" for s in said))
seen_by_words(words, phi, list(some.images[:]))

# %% [markdown]
# A word knows of earlier pictures all the same, through the states of the words that saw them: the language model's own attention hands them on. So a page may show more pictures in a prompt (32) than pages had in training (5). The model gives each token a probability after all tokens before it and the pictures shown so far, $x_{\le\ell}$,
#
# $$
# \log p(y\mid x)=\sum_\ell\log p(y_\ell\mid y_{<\ell},\,x_{\le\ell}),\qquad x_{\le\ell}=\{x_i:i\le\phi(\ell)\},
# $$ (eq:flamingo-chain)
#
# and not $x_{<\ell}$, as the booklet has it that the survey condenses: the word behind `<image>` must see it.
#
# ### From any number of cells to 64 tokens
#
# A frame has $p$ cells of features. A learned vector $e_n$ says which frame it was; cells get no further position:
#
# $$
# X_f\leftarrow X_f+e_n .
# $$ (eq:flamingo-time)
#
# There are $k=8$ such vectors. A video of $n>k$ frames gets them stretched: frame $i$ is at $u=i\,(k-1)/(n-1)$, and with $w=u-\lfloor u\rfloor$
#
# $$
# e(u)=(1-w)\,e_{\lfloor u\rfloor}+w\,e_{\lfloor u\rfloor+1} .
# $$ (eq:flamingo-time-between)
#
# Then $r=64$ learned latents $X$ ask, and all cells answer, with the latents among them:
#
# $$
# X\leftarrow X+\mathrm{MHA}\big(\mathrm{LN}(X),\,[\mathrm{LN}(X_f);\mathrm{LN}(X)]\big)
# $$ (eq:flamingo-resample)
#
# and a feed-forward net follows, whose activation is
#
# $$
# \sigma(z)=\max(z,0)^2 .
# $$ (eq:flamingo-squared-relu)
#
# Six such layers. Where cells outnumber latents by far, keys and values of the cells need not be made at all; with $q_i$ the query of a latent and $A$ the weights, per head,
#
# $$
# q_i(XW_k)^\top=(q_iW_k^\top)X^\top,\qquad A(XW_v)=(AX)W_v .
# $$ (eq:flamingo-absorb)
#
# It is the same sum in another order: what our code does where it saves work, and a test holds both equal.

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.flamingo import gated_block

gated_block()

# %% [markdown]
# ### A door that is shut at first
#
# A gated block has words ask visual tokens. Let $v_j$ be their values and $A$ the weights of {eq}`eq:attention` under the mask:
#
# $$
# H_\ell=[\phi(\ell)>0]\sum_jA_{\ell j}\,v_j
# $$ (eq:flamingo-read)
#
# The bracket is needed: a softmax over nothing has no value, and a word before the first picture reads zeros. What is read, $f(Y)$, is added to the states $Y$ behind a gate,
#
# $$
# Y\leftarrow Y+\tanh(\alpha)\,f(Y),\qquad\alpha=0\ \text{at the start},
# $$ (eq:flamingo-gate)
#
# and so is a feed-forward net with a gate of its own. At the start the new parts are not there, and the model **is** its language model. Why does it not stay so? Let $g=\partial L/\partial Y$ behind the gate. Then
#
# $$
# \frac{\partial L}{\partial\alpha}=\langle g,f\rangle\,(1-\tanh^2\alpha),
# $$ (eq:flamingo-gate-gradient)
#
# which at $\alpha=0$ is $\langle g,f\rangle$, while the gradient of every weight inside $f$ has the factor $\tanh(0)=0$. In the first step the gates move, and nothing behind them: neither the attention nor the resampler. From the second step on all do.
#
# **With pencil and paper.** One state of two numbers, $f=(0.5,-1)$, $g=(0.4,0.1)$. The gate's gradient is $0.2-0.1=0.1$. A step of 1 makes $\alpha=-0.1$, and $f$ enters with $\tanh(-0.1)=-0.0997$: what would have raised the loss is subtracted.
#
# The parts as they run, from the mask to the model:

# %%
from mmlearn.both_modalities.flamingo import (
    Flamingo, GatedCrossAttention, ResamplerLayer, gated, last_picture,
    media_mask, read_pictures)

show_source(last_picture, media_mask, read_pictures, gated,
            GatedCrossAttention.forward, ResamplerLayer.forward)

# %% [markdown]
# The model calls them between the layers of a language model that knows nothing of pictures:

# %% tags=["hide-input"]
show_source(Flamingo.read)

# %% [markdown]
# Flamingo learns from several sets of data at once: pages of the web ($\lambda=1$), two sets of captions (0.2 each), videos (0.03),
#
# $$
# L=\sum_m\lambda_m L_m ,
# $$ (eq:flamingo-mixture)
#
# each $L_m$ the mean of $-\log p(y_\ell\mid y_{<\ell},x_{\le\ell})$ over the tokens of a batch. All gradients are summed before one update; updates in turn are worse (59.7 against 68.4, below). There is no discriminator, and nothing adversarial.
#
# ### A miniature
#
# Our language model has 0.8M parameters. It has read captions, questions and instructions of drawn scenes, and pages that bind nonsense words to things, *Output: cat dax*, from which it was to learn to look up a word that was said before. It did not ([how we know](deeper/5-language-models.ipynb)). Our encoder is chapter 4's CLIP without its pooling: 2 × 2 cells of 512 numbers. Both are frozen. Before any step, is the model its language model, to the last bit?

# %%
from mmlearn.both_modalities.flamingo_training import (
    encode_pictures, mini_config, new_flamingo, scene_encoder)
from mmlearn.both_modalities.interleaved import look_at_features
from mmlearn.both_modalities.language_model import load_lm
from mmlearn.data.pairs import class_pictures
from mmlearn.files import package_data

language = load_lm(package_data("checkpoints") / "scene-lm.safetensors")
tokeniser, encoder = language.tokeniser, scene_encoder()
train = scene_pairs(budget(cpu=500, gpu=4000, smoke=40))
things = class_pictures(budget(cpu=400, gpu=2000, smoke=150), "train")
looks = [look_at_features(encode_pictures(encoder, d.images))
         for d in (train, things)]
model = new_flamingo(mini_config(language.model, 512), language.model)
text = torch.tensor([tokeniser.encode("<image>output: a cat")])
with torch.no_grad():
    seeing = model(text, features=looks[0](torch.tensor([0]))[:, None])
    print("bitwise the same:", torch.equal(seeing, language.model(text)))

# %% [markdown]
# Now the loop, without any helper: two sets, pages of what is said of scenes and pages that bind words to *pictures*. We watch how long each part's gradient is.

# %%
from mmlearn.both_modalities.flamingo import interleaved_loss
from mmlearn.both_modalities.flamingo_training import scene_batches
from mmlearn.both_modalities.language_model import all_examples
from mmlearn.book import show_table

batches = scene_batches(all_examples(train), looks[0], things, looks[1],
                        tokeniser)
adapter = model.adapter
parts = {"gates": [p for n, p in adapter.named_parameters() if "gate" in n],
         "inside the blocks": [p for n, p in adapter.blocks.named_parameters()
                               if "gate" not in n],
         "resampler": list(adapter.resampler.parameters())}
optimizer, rows = torch.optim.AdamW(adapter.parameters(), lr=1e-3), []
for step in range(3):
    loss = sum(interleaved_loss(model(b.tokens, features=b.pictures,
                                      media=b.media), b.tokens, b.scored)
               for b in batches[step].values())         # lambda = 1, 1
    loss.backward()
    rows.append([step + 1, *(sum(p.grad.square().sum() for p in of).sqrt()
                             .item() for of in parts.values())])
    optimizer.step()
    optimizer.zero_grad()
show_table(["step", *(f"gradient: {name}" for name in parts)], rows)

# %% [markdown]
# In the first step all but the gates have a gradient of exactly 0, as derived. (One vector is trained that no gate shuts: that of `<EOC>`, a token that Chinchilla did not have.) Now a short training; its bar shows the summed loss of both sets.

# %%
from mmlearn.both_modalities.flamingo_training import train_flamingo

short = new_flamingo(mini_config(language.model, 512), language.model)
history = train_flamingo(short, batches, title="flamingo",
                         steps=budget(cpu=120, gpu=2000, smoke=2))
show_table(["", "first steps", "last steps"],
           [[name, float(np.mean(values[:10])), float(np.mean(values[-10:]))]
            for name, values in history.scalars.items() if name != "norm"])

# %% [markdown]
# The gates open a crack, and that is all that can be said of so few steps.
#
# ### What it has not learned yet
#
# Does it look? The cheapest test of a captioner that sees: is a caption likelier with its own picture than with another one? We have no converged miniature to show; two longer trainings, both stopped, say why. In one the loss counted every bound word, in the other only words that the prompt had bound before (and the cells were centred first). Nats a token of captions of 150 scenes of the validation split, and the share of 100 queries answered with the right one of two bound words after 4 shots of each:
#
# | | steps | own picture | another picture | no picture | bound words |
# |---|---:|---:|---:|---:|---:|
# | all bound words count | 400 | 1.798 | 1.787 | 1.657 | 0.57 |
# | | 800 | 1.610 | 1.794 | 1.657 | 0.45 |
# | only words bound before | 400 | 1.676 | 1.676 | 1.657 | 0.50 |
# | | 800 | 1.663 | 1.663 | 1.657 | 0.53 |
#
# The adverse part first. **Bound words stay at chance in both**, so this is no few-shot learner. It could hardly be one: the frozen language model finds the right one of two bound words in 0.52 of 300 prompts with four shots of each *when the things are named in words*, and an ability that is not in the frozen model cannot be borrowed from it. The second run does not use pictures at all. The first one does after 800 steps: a caption loses 0.18 nats a token when its picture is exchanged. Its own picture is worth little against none (1.610 and 1.657), partly because a picture before `Output:` may here announce a caption *or* a nonsense word.
#
# Why did the second stand still? The visual tokens of different pictures had become one: their variance over pictures, 0.13 before training, was 0.003 after 800 steps, and all reading gates were below 0.01. The derivation above says how. Behind a gate that is nearly shut, gradients are nearly zero; but Adam divides each by its own size, so that the steps are as long as ever and go wherever noise points. They wreck the resampler before anything is learned from it. That is our reading of one run each, not a study. The paper has batches of hundreds of pages and a warm-up of 5,000 steps; we had 40 pages a step and a warm-up of 50.
#
# Two things can be said for sure. With *no* picture the blocks are passed by: what text costs is the language model's own loss but for the vector of `<EOC>`. And the study that removes gates, pages, mask and freezing one at a time (`python -m mmlearn.experiments flamingo`) is written and has not been run to its end; until then only the paper's own ablations stand below.
#
# A prompt need not take its shots at random: [RICES](deeper/5-few-shot.ipynb) takes those whose pictures are nearest to the query's.
#
# ### The paper's numbers
#
# Flamingo-80B by the number of shots, and fine-tuned on each task:
#
# | shots | VQAv2 | OK-VQA | COCO, CIDEr | Flickr30k, CIDEr | VizWiz | Hateful Memes |
# |---|---:|---:|---:|---:|---:|---:|
# | 0 (two texts without pictures) | 56.3 | 50.6 | 84.3 | 67.2 | 31.6 | 46.4 |
# | 4 | 63.1 | 57.4 | 103.2 | 75.1 | 39.6 | 68.6 |
# | 32 | 67.6 | 57.8 | 113.8 | 75.4 | 49.8 | 70.0 |
# | fine-tuned | 82.0 | | 138.1 | | 65.7 | 86.6 |
#
# With 32 shots it was better than the best fine-tuned systems on 6 of 16 tasks. Its ablations, a 3B model with 4 shots, mean over development tasks:
#
# | | the paper |
# |---|---:|
# | recipe | 68.4 |
# | without tanh gates | 64.0 |
# | without interleaved pages | 46.9 |
# | all previous pictures are seen | 60.8 |
# | language model trained along | 62.9 |
# | a Transformer, an MLP for the resampler | 65.1, 63.3 |
# | CLIP ViT-L/14 as encoder | 61.4 |
# | updates in turn | 59.7 |
#
# Pages matter most: without them few shots are worth least. A language model that is trained along forgets more than it gains.
#
# *What it is not.* Flamingo writes text, it classifies worse than its own contrastive encoder (ImageNet with RICES: 77.3, the encoder 77.9), it makes things up, and it inherits the biases of its language model; the authors' weights were never released. [OpenFlamingo](deeper/5-language-models.ipynb) and IDEFICS rebuilt it.
#
# *Practise.* [exercise 8](exercises/5-both-modalities.ipynb#exercise-8-check-what-a-picture-reaches) · [exercise 9](exercises/5-both-modalities.ipynb#exercise-9-build-a-gate-for-every-channel)
#
# *Go further.* [Deeper: Language models that are frozen](deeper/5-language-models.ipynb) · [Deeper: Prompts with few shots](deeper/5-few-shot.ipynb) · {cite:t}`alayrac2022flamingo`, sections 2 and 3
#
# <details>
# <summary><b>Where the survey differs</b>: E12 to E15, E43 to E46</summary>
#
# - **E12** It says that Flamingo processes "image, text and speech". Text, images and videos; there is no sound.
# - **E13** The language encoder is "a recurrent network". It is a frozen causal Transformer (Chinchilla).
# - **E14** The main innovation is "an adversarially trained cross-modal generator". There is no generator and no discriminator; the loss is {eq}`eq:flamingo-mixture`.
# - **E15** The two are fused "at the end by a multilayer perceptron". Fusion happens inside the language model, in gated cross-attention; shut the gates, and nothing depends on the picture.
# - **E43** Two parts, a visual and a language encoder. There are four: two frozen models, resampler, gated blocks; and the language model is a decoder.
# - **E44** Both are mapped "into one vector space". The vision encoder's own pre-training does that; Flamingo makes keys and values of visual tokens.
# - **E45** The visual encoder is "a CNN": half right. NFNet-F6 is one; that it was trained by contrast, and is frozen, is missing.
# - **E46** The text breaks off within a sentence, and says nothing of few-shot prompts, pages, freezing, gates, the resampler, or the mask. The survey's introduction is right about the large language model and few examples.
#
# The five equations that it gives are those of a recurrent captioner with attention, which has a [page of its own](deeper/5-attention-captioner.ipynb) (E16, E17). *The paper itself:* the counts of its Table 1, of its text and of its shapes do not agree (P10).
#
# </details>
