r"""The walker: it reads an instruction, sees what is behind each door, and learns on its own ways.

Papers: P. Anderson et al. (2018), *Vision-and-Language Navigation*, CVPR, arXiv:1711.07280 (reader and walker
are LSTMs, the walker attends to the words; student forcing: it acts by what it drew itself and is told what
would have been right); D. Fried et al. (2018), *Speaker-Follower Models for Vision-and-Language Navigation*,
NeurIPS, arXiv:1806.02724 (an action is scored by what is seen in its direction); M.-T. Luong et al. (2015),
arXiv:1508.04025 (attention); sections were not looked up.  Survey: 5 (navigation as a task).
Differs from the papers: the reader goes both ways, what sees drawings is the image tower of a miniature CLIP,
frozen, or a small convolutional network that is trained along, and walls are never chosen. A walker that
``reads`` or ``looks`` not is a baseline: it gets zeros for the words or the pictures, and still knows where
the doors are.

Letters of shapes: b walks, t words, d width, k pictures, s pixels a side, f features of a picture, n rooms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.attention_captioner import join_tanh
from mmlearn.checkpoints import load_model, pair_of, save_model
from mmlearn.data.batches import Batches
from mmlearn.data.images import standardise
from mmlearn.data.navigation import ACTIONS, STOP, VIEWS, Trail, Walks, World, trail_of
from mmlearn.data.tokenisers import Tokeniser, WordTokeniser
from mmlearn.files import package_data
from mmlearn.metrics.navigation import NavigationScores, navigation_scores
from mmlearn.nn.configuration import check
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.vision import ConvTrunk
from mmlearn.text_for_vision.training import load_mini
from mmlearn.train import History, fit

PAD = 1
FILE = "walker.safetensors"
NOTHING = ACTIONS           # the action before the first
State = tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]


@dataclass(frozen=True)
class WalkerConfig:
    vocab: int = 100                        # V, words with the four special tokens
    embedding: int = 64                     # e, numbers of a word
    width: int = 128                        # d, numbers of a state; even
    channels: tuple[int, ...] = (16, 32, 64, 64)    # of the network that sees, where pixels come in
    features: int = 0                       # f, numbers of a picture where features come in; 0: pixels
    reads: bool = True                      # false: it gets no words
    looks: bool = True                      # false: it gets no pictures
    dropout: float = 0.1                    # of words and of what it sees
    most: int = 12                          # steps of a walk

    def __post_init__(self) -> None:
        check(self, features=(0, 1_000_000))
        if self.width % 2:
            raise ValueError(f"width is {self.width}; use an even number, half for each way of reading")

    @classmethod
    def mini(cls, vocab: int = 100) -> "WalkerConfig":
        """Learns houses of 4 x 4 rooms with drawings of 32 pixels."""
        return cls(vocab)

    @classmethod
    def frozen(cls, vocab: int = 100) -> "WalkerConfig":
        """The same with what ``miniature_sight`` sees in drawings of 64 pixels."""
        return cls(vocab, features=64)


class Instruction(NamedTuple):
    """A text that was read: ``states`` (b, t, d), ``mask`` (b, t), true for words, ``memory`` (b, d)."""

    states: Tensor
    mask: Tensor
    memory: Tensor


class Rollout(NamedTuple):
    """Walks and what was learnt from them: the ``trail``, the mean ``loss`` in nats per step, the share of
    steps that were ``right``, and the number of ``steps``."""

    trail: Trail
    loss: Tensor
    right: float
    steps: int


# -------------------------------------------------------------------------------------------------- equations

def word_weights(
    h: Float[Tensor, "b d"], states: Float[Tensor, "b t d"],
    W: Float[Tensor, "d d"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b t"]:
    r"""eq:walk-words: $\gamma_{t,i}=\mathrm{softmax}_i(h_tW_a\,x_i^\top)$: which words are to be done now."""
    scores = ((h @ W)[:, None] @ states.mT)[:, 0]
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)


def seen_ways(
    features: Float[Tensor, "*b w d"], directions: Float[Tensor, "w d"]
) -> Float[Tensor, "*b w d"]:
    r"""eq:walk-ways: $u_{t,j}=f(I_{t,j})W_u+r_j$: the drawing behind a door, and where the door is."""
    return features + directions


def glance(
    h: Float[Tensor, "b d"], ways: Float[Tensor, "b w d"]
) -> Float[Tensor, "b d"]:
    r"""eq:walk-glance: $g_t=\sum_j\mathrm{softmax}_j(h_{t-1}u_{t,j}^\top/\sqrt d)\,u_{t,j}$: what the walker
    takes in before it moves on."""
    scores = (h[:, None] @ ways.mT)[:, 0] / h.shape[-1] ** 0.5
    return (scores.softmax(dim=-1)[:, None] @ ways)[:, 0]


def way_logits(
    asked: Float[Tensor, "b d"], ways: Float[Tensor, "b w d"],
    open_ways: Bool[Tensor, "b w"]
) -> Float[Tensor, "b w"]:
    r"""eq:walk-policy: $\pi_\theta(a_t=j)=\mathrm{softmax}_j(q_tu_{t,j}^\top/\sqrt d)$ over the doors and the
    stop, whose row is the room where the walker stands; these are the logits."""
    scores = (asked[:, None] @ ways.mT)[:, 0] / asked.shape[-1] ** 0.5
    return scores.masked_fill(~open_ways, float("-inf"))


def imitation_loss(
    logits: Float[Tensor, "b t a"], right: Int[Tensor, "b t"],
    walking: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    r"""eq:walk-imitation: $-\frac1{\sum_iT_i}\sum_i\sum_{t\le T_i}\log\pi_\theta(a^*_{i,t})$, where $a^*$ is
    right at the place where the walker is, on its path or not."""
    return F.cross_entropy(logits[walking], right[walking])


def turned(x: Float[Tensor, "b t d"], length: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
    """The first ``length`` rows of each text the other way round; what stands behind them is of no use."""
    places = (length[:, None] - 1 - torch.arange(x.shape[1], device=x.device)).clamp(min=0)
    return x.gather(1, places[..., None].expand_as(x))


# ------------------------------------------------------------------------------------------------------ model

class Walker(nn.Module):
    """A policy over doors: ``table`` sees all pictures once, ``read`` reads, ``step`` scores the actions.

    Raises ``ValueError`` for tokens outside the vocabulary, or a text without a word.
    """

    def __init__(self, config: WalkerConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.embed = nn.Embedding(config.vocab, config.embedding, padding_idx=PAD)
        self.forth = nn.LSTM(config.embedding, d // 2, batch_first=True)
        self.back = nn.LSTM(config.embedding, d // 2, batch_first=True)
        self.trunk = None if config.features else ConvTrunk(config.channels)
        self.see = nn.Linear(config.features or config.channels[-1], d)
        self.directions = nn.Embedding(VIEWS, d)
        self.actions = nn.Embedding(ACTIONS + 1, d)
        self.start = nn.Linear(d, d)
        self.cell = nn.LSTMCell(2 * d, d)
        self.words = nn.Linear(d, d, bias=False)
        self.join = nn.Linear(2 * d, d, bias=False)
        self.ask = nn.Linear(d, d, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def table(self, world: World) -> Float[Tensor, "k d"]:
        """What is seen in each picture of a world; zeros for a walker that does not look."""
        weight = self.see.weight
        if not self.config.looks:
            return weight.new_zeros(len(world.pictures), self.config.width)
        if self.trunk is not None:
            return self.see(self.trunk(world.pictures.to(weight.device)).mean(dim=1))
        if world.features is None or world.features.shape[1] != self.config.features:
            seen = "none" if world.features is None else str(world.features.shape[1])
            raise ValueError(f"the walker reads {self.config.features} features of a picture, the world has "
                             f"{seen}; call world.see with the network that the walker was trained with")
        return self.see(world.features.to(weight.device))

    def read(self, tokens: Int[Tensor, "b t"]) -> Instruction:
        """Read ``<bos> words <eos> <pad> …``; zeros for a walker that does not read."""
        check_tokens(tokens, self.config.vocab)
        mask = tokens != PAD
        if not mask.any(dim=1).all():
            raise ValueError("an instruction has no word; leave the walk out")
        if not self.config.reads:
            zeros = self.embed.weight.new_zeros(*tokens.shape, self.config.width)
            return Instruction(zeros, mask, zeros[:, 0])
        length = mask.sum(dim=1)
        words = self.dropout(self.embed(tokens))
        forth, back = self.forth(words)[0], self.back(turned(words, length))[0]
        last = torch.cat([forth, back], dim=-1)[torch.arange(len(tokens)), length - 1]
        return Instruction(torch.cat([forth, turned(back, length)], dim=-1), mask, last)

    def begin(self, instruction: Instruction) -> State:
        """State and memory before the first step."""
        h = torch.tanh(self.start(instruction.memory))
        return h, torch.zeros_like(h)

    def step(
        self, instruction: Instruction, views: Float[Tensor, "b w d"],
        open_ways: Bool[Tensor, "b w"], before: Int[Tensor, " b"],
        state: State
    ) -> tuple[Float[Tensor, "b w"], State, Float[Tensor, "b t"]]:
        """Logits of ahead, right, behind, left and stop, the next state, and the weights of the words."""
        ways = self.dropout(seen_ways(views, self.directions.weight))
        seen = glance(state[0], ways)
        h, c = self.cell(torch.cat([seen, self.actions(before)], dim=-1), state)
        weights = word_weights(h, instruction.states,
                               self.words.weight.mT, instruction.mask)
        told = (weights[:, None] @ instruction.states)[:, 0]
        asked = self.ask(join_tanh(told, h, self.join.weight.mT))
        return way_logits(asked, ways, open_ways), (h, c), weights

    def forward(
        self, walks: Walks, tokens: Int[Tensor, "b t"],
        forcing: Literal["student", "teacher", "greedy"] = "greedy",
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Walk all ``walks``: with "student" an action is drawn from the policy, with "teacher" it is the
        right one, with "greedy" the likeliest. The loss asks for the right action at every place."""
        device = self.ask.weight.device
        world, instruction = walks.world, self.read(tokens)
        table = self.table(world)
        room, facing, state = walks.start, walks.facing, self.begin(instruction)
        before = torch.full((len(walks),), NOTHING)
        stopped = torch.zeros(len(walks), dtype=torch.bool)
        rooms, all_logits, all_right, all_walking = [room], [], [], []
        for _ in range(self.config.most):
            views = world.views(walks.house, room, facing)
            ways = world.ways(walks.house, room, facing) >= 0
            open_ways = torch.cat([ways, torch.ones_like(ways[:, :1])], dim=1)
            logits, state, _ = self.step(instruction, table[views.to(device)], open_ways.to(device),
                                         before.to(device), state)
            right, here = walks.right_action(room, facing), logits.detach().cpu()
            all_logits.append(logits)
            all_right.append(right)
            all_walking.append(~stopped)
            if forcing == "teacher":
                action = right
            elif forcing == "student":
                action = torch.multinomial(here.softmax(dim=-1), 1, generator=generator)[:, 0]
            else:
                action = here.argmax(dim=-1)
            action = torch.where(stopped, STOP, action)
            room, facing = world.step(walks.house, room, facing, action)
            stopped, before = stopped | (action == STOP), action
            rooms.append(room)
            if stopped.all():
                break
        rows, right, walking = (torch.stack(x, dim=1) for x in (all_logits, all_right, all_walking))
        loss = imitation_loss(rows, right.to(device), walking.to(device))
        hits = (rows.detach().cpu().argmax(dim=-1) == right)[walking]
        return Rollout(trail_of(walks, rooms, stopped), loss, float(hits.float().mean()), int(walking.sum()))


# --------------------------------------------------------------------------------------- training, evaluation

class WalkBatch(NamedTuple):
    """Walks with their instructions as ``tokens`` (b, t); ``number`` is that of the batch."""

    walks: Walks
    tokens: Tensor
    number: int


class WalkBatches(Batches):
    """Shuffled batches of walks, a function of their number."""

    def __init__(self, walks: Walks, tokeniser: Tokeniser, size: int = 32, *, seed: int = 0) -> None:
        super().__init__(walks, min(size, len(walks)), seed=seed)
        self.tokens = tokeniser.batch(walks.instructions)

    def make(self, indices: list[int], number: int) -> WalkBatch:
        return WalkBatch(self.data.rows(indices), self.tokens[indices], number)


def walking_loss(
    model: Walker, batch: WalkBatch,
    forcing: Literal["student", "teacher"] = "student"
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Imitation of what is right wherever the walker went; what it draws follows from the batch's number."""
    draw = torch.Generator().manual_seed(batch.number)
    tokens = batch.tokens.to(model.ask.weight.device)
    walked = model(batch.walks, tokens, forcing, draw)
    return walked.loss, {"right": walked.right, "weight": float(walked.steps)}


def train_walker(
    model: Walker, walks: Walks, tokeniser: Tokeniser, *, steps: int = 600, batch: int = 32,
    forcing: Literal["student", "teacher"] = "student", lr: float | int = 2e-3, seed: int = 0, **options: Any,
) -> History:
    """Train by imitation with student or teacher forcing; ``options`` go to ``fit``."""
    def loss(model: Walker, batch: WalkBatch) -> tuple[Tensor, dict[str, float]]:
        return walking_loss(model, batch, forcing)

    options.setdefault("clip", 5.0)
    return fit(model, loss, WalkBatches(walks, tokeniser, batch, seed=seed), steps=steps, lr=lr, seed=seed,
               **options)


def scores_of(walks: Walks, trail: Trail, radius: float | int = 0) -> NavigationScores:
    """The metrics of a trail, in doors."""
    return navigation_scores(trail.to_goal, trail.stopped, walks.shortest, trail.taken, radius)


@torch.no_grad()
def evaluate_walker(
    model: Walker, walks: Walks, tokeniser: Tokeniser, radius: float | int = 0
) -> NavigationScores:
    """Scores of the likeliest actions, in evaluation mode."""
    with eval_mode(model) as device:
        walked = model(walks, tokeniser.batch(walks.instructions).to(device))
    return scores_of(walks, walked.trail, radius)


# ----------------------------------------------------------------------------------------- pictures and files

@lru_cache(maxsize=2)
def _tower(kind: str) -> nn.Module:
    return load_mini(kind).model.requires_grad_(False)


def miniature_sight(pictures: Float[Tensor, "k 3 s s"]) -> Float[Tensor, "k f"]:
    """Embeddings of length 1 by the miniature CLIP of the book (Vision Transformer), frozen."""
    tower = _tower("vit")
    with eval_mode(tower), torch.no_grad():
        return tower.encode_image(standardise(pictures), True)          # type: ignore[operator]


def save_walker(path: str | Path, model: Walker, tokeniser: WordTokeniser, about: Mapping[str, Any]) -> None:
    """Write a walker and its words in 16 bits a number."""
    save_model(path, model, "walker", {"words": tokeniser.words, "splitter": "simple", **about}, half=True)


def load_walker(path: str | Path | None = None) -> tuple[Walker, WordTokeniser, dict[str, Any]]:
    """The walker that comes with the book or stands at ``path``, its words, and what was noted of it.

    Raises ``FileNotFoundError`` or ``ValueError`` with the remedy.
    """
    path = Path(path or package_data("checkpoints") / FILE)
    model, about = load_model(path, {"walker": (WalkerConfig, Walker)},
                              "train one with `python -m mmlearn.experiments walker`")
    return cast(Walker, model), WordTokeniser.of(about, pair_of(path)[1]), about
