# %% [markdown]
# ### Following instructions
#
# **The question.** "Pass the yellow tent, turn left and go on, go to the red umbrella, and stop": who is told this in a house never entered before must read, look and act. *Vision-and-language navigation* (VLN) asks for it in photographs of real houses {cite:p}`anderson2018r2r`; ours have $4\times4$ rooms, each with one drawing.
#
# Of $N$ walks the $i$-th ends at a distance $d_i$ from its goal. It succeeds if the walker *itself* stopped, at most a radius $r$ away:
#
# $$
# S_i=1\text{ if it stopped and }d_i\le r,\text{ else }0
# $$ (eq:nav-success)
#
# Success alone would reward whoever tries all rooms. *Success weighted by path length* {cite:p}`anderson2018evaluation` compares the way taken, $p_i$, with the shortest, $\ell_i$:
#
# $$
# \mathrm{SPL}=\frac1N\sum_iS_i\,\frac{\ell_i}{\max(p_i,\ell_i)}
# $$ (eq:nav-spl)
#
# Three ways to a goal three doors away, in one of our houses:

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.navigation import three_ways

three_ways()

# %% [markdown]
# Their mean is $(1+0.6+0)/3=0.53$; success is $2/3$. (Why the max? Whoever stops short of the goal, but within $r$, has gone less than $\ell_i$. Here $r=0$.)

# %% tags=["nbval-check-output"]
from mmlearn.metrics.navigation import spl, success

good = success(torch.tensor([0, 0, 0]),
               torch.tensor([True, True, False]))
print(f"SPL {spl(good, torch.tensor([3, 3, 3]), torch.tensor([3, 5, 3])):.2f}")
show_source(success, spl)

# %% [markdown]
# **The walker** has five ways to choose from: four doors and to stop. A way $u_{t,j}$ is what is seen behind the door, plus its direction; the query $q_t$ joins the walker's state with the words that it weighs now:

# %% tags=["hide-input"]
from mmlearn.figures.both_modalities.navigation import walker

walker()

# %% [markdown]
# $$
# \pi_\theta(a_t=j)=\mathrm{softmax}_j(q_tu_{t,j}^\top/\sqrt d)
# $$ (eq:walk-policy)
#
# over the doors that are there and the stop. It is trained by imitation, but on *its own* ways: it goes where its policy is drawn to, and is told what would have been right *there*, $a^*_{i,t}$ (*student forcing*):
#
# $$
# L=-\frac1{\sum_iT_i}\sum_i\sum_{t\le T_i}\log\pi_\theta(a^*_{i,t})
# $$ (eq:walk-imitation)

# %%
from mmlearn.both_modalities.walker import imitation_loss, way_logits

show_source(way_logits, imitation_loss)

# %% [markdown]
# The walker of the book sees by the frozen image tower of chapter 4's miniature CLIP. Here it goes through a house that it was not trained in, with drawings that it has never seen. Step on, and watch which words are heavy.

# %% tags=["hide-input"]
from mmlearn.both_modalities.walker import load_walker, miniature_sight
from mmlearn.data.navigation import make_walks
from mmlearn.figures.both_modalities.navigation import walking

model, words, _ = load_walker()
new = make_walks(20, "unseen", size=64)
new.world.see(miniature_sight)
walking(model, new, words, 1)

# %% [markdown]
# Turn by turn the weight moves on through the instruction, and the policy is sure: 0.96 or more. "Walk by the yellow ball" says nothing of a direction; the walker sees the ball to its left and goes there.
#
# Is it any good? Three seeds, 500 walks in houses that were walked in and 500 in new ones. *Blind* walkers are the test of the task: without words one must guess the goal, without pictures "the red umbrella" is a riddle; both still see the doors.

# %% tags=["hide-input"]
from mmlearn.book import show_table
from mmlearn.experiments import results

study = results("walker")

def mean(name, split, key):
    return float(np.mean([run[split][key] for run in study["arms"][name]]))

rows = [[name, *(mean(name, "unseen", key)
                 for key in ("success", "spl", "error")),
         mean(name, "seen", "success")] for name in study["arms"]]
rows += [[name, *(told["unseen"][key] for key in ("success", "spl", "error")),
          told["seen"]["success"]]
         for name, told in study["references"].items()]
show_table(["", "success, new houses", "SPL", "error (doors)",
            "success, known houses"], rows)

# %%
from mmlearn.claims import paired

arms = {name: [run["unseen"]["success"] for run in runs]
        for name, runs in study["arms"].items()}
for name in list(arms)[1:]:
    print(f"{name:14}", paired(arms[name], arms["seeing"]))
claim("words and pictures together, against the better of the two alone",
      np.mean(arms["seeing"]), ">",
      np.mean(arms["word-blind"]) + np.mean(arms["picture-blind"]));

# %% [markdown]
# <!-- RESULT (study walker; seed 0 so far: seeing .948 new / .994 known, word-blind 0 / 0, picture-blind .392 / .286): say first what few houses cost in new houses although they are perfect at home, and what learning to see from raw pixels costs (frozen sight against pixels, by `paired`); then: "Without words the walker never arrives, for it never says stop: at no step is the stop the likeliest action, and it wanders until its 12 steps are over. Without pictures it follows the turns and guesses the landmarks: two walks in five." Then seeing against both. -->
#
# Mind what is small here: three to six doors, sentences made by a program, no photographs. The survey says that VLN "has many practical applications in robotics": the task itself is walked on a graph of photographs.
#
# *Practise.* [exercise 14](exercises/5-both-modalities.ipynb#exercise-14-check-success-by-path-length). *Go further.* [Deeper: Following instructions](deeper/5-navigation.ipynb) · {cite:t}`anderson2018r2r`
