r"""Few-shot prompts: a task is told by a few examples before the question, and nothing is trained.

Papers: J.-B. Alayrac et al. (2022), *Flamingo*, NeurIPS, arXiv:2204.14198, sec. 3.1 and app. B (prompts, text
without pictures in place of no shots, RICES, answers by likelihood or by beam search); Z. Yang et al. (2022),
*An Empirical Study of GPT-3 for Few-Shot Knowledge-Based VQA*, AAAI, arXiv:2109.05014 (RICES); E. Perez, D.
Kiela and K. Cho (2021), *True Few-Shot Learning with Language Models*, NeurIPS, arXiv:2105.11447 (choices are
made on the shots).  Survey: 5.3.
Differs from the papers: pictures are compared by chapter 4's CLIP, trained on drawn scenes. A candidate
answer ends with ``<EOC>``, so that one which begins another is not preferred for being shorter.

Controls say what shots do: shots with wrong answers, shots whose pictures are taken away, and shots that were
chosen on the pictures that they are judged on, which no few-shot result may have.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from mmlearn import generate
from mmlearn.both_modalities.flamingo import last_picture
from mmlearn.both_modalities.interleaved import (
    NO_PICTURE,
    ChunkTokeniser,
    Example,
    Look,
    encode_page,
    shown,
    stack_pictures,
)
from mmlearn.data.images import PictureFiles
from mmlearn.data.pairs import PairData
from mmlearn.nn.causal_lm import Prompt, left_padded
from mmlearn.nn.modes import eval_mode
from mmlearn.text_for_vision.training import embed_images, load_mini

KEYWORDS = ("question", "answer", "output", "instruction")      # where an answer begins a new chunk it is cut

# ------------------------------------------------------------------------------------- equations


def rices(
    queries: Float[Tensor, "q e"], support: Float[Tensor, "n e"], shots: int,
    own: Int[Tensor, " q"] | None = None,
) -> Int[Tensor, "q s"]:
    r"""eq:few-shot-rices: $\operatorname{top}_k\cos(u,u_i)$ over the pictures $i$ of the support: the
    ``shots`` nearest of a query, the most similar one last.

    ``own`` is the number of each query where it is itself in the support: it is never its own shot. Raises
    ``ValueError`` if the support is too small.
    """
    left = len(support) - (own is not None)
    if not 1 <= shots <= left:
        raise ValueError(f"{shots} shots of a support of {left}; "
                         f"take at least 1 and at most all")
    similar = F.normalize(queries, dim=-1) @ F.normalize(support, dim=-1).mT
    if own is not None:
        similar[torch.arange(len(own)), own] = -torch.inf
    return similar.topk(shots, dim=-1).indices.flip(-1)


def answer_scores(
    log_probs: Float[Tensor, "b k t"],
    lengths: Int[Tensor, "b k"] | None = None,
) -> Float[Tensor, "b k"]:
    r"""eq:few-shot-answer: $s(a)=\sum_t\log p_\theta(a_t\mid a_{<t},\text{prompt})$ of each
    candidate answer; the one of the highest is given. With ``lengths`` the mean a token."""
    total = log_probs.sum(dim=-1)
    return total if lengths is None else total / lengths


def chosen_on_test(
    right: Float[Tensor, "c n"], fresh: Float[Tensor, "c m"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""eq:few-shot-optimism: $\max_c\bar r_c(T)$ and $\bar r_{c^*}(T')$, $c^*=\arg\max_c\bar r_c(T)$:
    what the best of c prompts scores on the n examples that chose it, and on m fresh ones."""
    means = right.mean(dim=1)
    best = means.argmax()
    return means[best], fresh[best].mean()


def true_few_shot_choice(scores: Float[Tensor, "c k"]) -> Int[Tensor, ""]:
    r"""eq:few-shot-true: $c^*=\arg\max_c\frac1k\sum_i s_c(i)$, where $s_c(i)$ is the log-probability of
    the answer of shot $i$ after the other shots, under prompt $c$: the k shots choose, and no test does."""
    return scores.mean(dim=1).argmax()


# -------------------------------------------------------------------------------- choosing shots


def clip_features(
    images: UInt8[Tensor, "n 3 s s"] | PictureFiles, model: Any = None
) -> Float[Tensor, "n e"]:
    """Unit vectors of pictures by a dual encoder, by default the CLIP of chapter 4 that comes with the
    book."""
    return embed_images(load_mini().model if model is None else model, images)


def random_shots(
    support: int, queries: int, shots: int, generator: torch.Generator | None = None
) -> Int[Tensor, "q s"]:
    """For each query ``shots`` different numbers below ``support``, drawn at random. Raises ``ValueError`` if
    there are fewer."""
    if not 1 <= shots <= support:
        raise ValueError(f"{shots} shots of a support of {support}; take at least 1 and at most all")
    return torch.rand(queries, support, generator=generator).topk(shots, dim=1).indices


def with_shots(
    queries: Sequence[Example], support: Sequence[Example], rows: Int[Tensor, "q s"]
) -> list[list[Example]]:
    """Episodes: the shots of each query, and it last. Raises ``ValueError`` for another number of rows."""
    if len(queries) != len(rows):
        raise ValueError(f"{len(queries)} queries and {len(rows)} rows of shots; give each query its row")
    return [[*(support[i] for i in row), query] for row, query in zip(rows.tolist(), queries)]


def refuse_test_shots(support: PairData, test: PairData) -> None:
    """Raises ``ValueError`` if a picture is in the support and in the test, as the same drawn scene or with
    the same pixels: its answer would be told."""
    def keys(data: PairData) -> dict[Any, int]:
        if data.scenes:
            return {(s.seed, s.split, s.index): i for i, s in enumerate(data.scenes)}
        return {data.images[[i]].numpy().tobytes(): i for i in range(len(data))}

    if bool(support.scenes) != bool(test.scenes):
        raise ValueError("one of support and test has scene graphs, the other has none; they cannot be "
                         "compared, take both from one source")
    here, there = keys(support), keys(test)
    if both := here.keys() & there.keys():
        first = min(here[key] for key in both)
        raise ValueError(f"{len(both)} pictures stand in the support and in the test, the first is number "
                         f"{first} of the support; take shots from the training pictures")


def orders(
    shots: int, count: int, generator: torch.Generator | None = None
) -> Int[Tensor, "c s"]:
    """``count`` random orders of the shots, the first of them as they stand: answers are averaged over them
    (6 in the paper), or one is chosen."""
    drawn = [torch.randperm(shots, generator=generator) for _ in range(count - 1)]
    return torch.stack([torch.arange(shots), *drawn])


# -------------------------------------------------------------------------------------- controls


def without_pictures(episode: Sequence[Example]) -> list[Example]:
    """The shots as text alone, the query as it is: with two shots the paper's "zero-shot" prompt."""
    return [*(example._replace(picture=NO_PICTURE) for example in episode[:-1]), episode[-1]]


def blind(episode: Sequence[Example]) -> list[Example]:
    """No picture anywhere, that of the query included: what the words alone can answer."""
    return [example._replace(picture=NO_PICTURE) for example in episode]


def with_wrong_answers(
    episode: Sequence[Example], answers: Sequence[str], generator: torch.Generator | None = None
) -> list[Example]:
    """Shots whose answers are wrong, drawn from other ``answers``: their form stays, what they teach is
    false.

    Raises ``ValueError`` if a shot has no other answer.
    """
    shots = []
    for example in episode[:-1]:
        others = [answer for answer in dict.fromkeys(answers) if answer != example.answer]
        if not others:
            raise ValueError(f"there is no answer beside {example.answer!r}; give the answers of the task")
        drawn = int(torch.randint(len(others), (1,), generator=generator))
        shots.append(example._replace(answer=others[drawn]))
    return [*shots, episode[-1]]


def with_other_pictures(
    episode: Sequence[Example], count: int, generator: torch.Generator | None = None
) -> list[Example]:
    """Shots with pictures that are not theirs, numbers below ``count``: answers without what they name."""
    shots = []
    for example in episode[:-1]:
        drawn = int(torch.randint(count - 1, (1,), generator=generator))
        shots.append(example._replace(picture=drawn + (drawn >= example.picture)))
    return [*shots, episode[-1]]


# --------------------------------------------------------------------------------------- prompts


def prompts(
    episodes: Sequence[Sequence[Example]], tokeniser: ChunkTokeniser, look: Look | None = None,
    see: Callable[..., Tensor] | None = None, device: torch.device | str | None = None,
) -> Prompt:
    """What a model reads before it answers: the shots, and the query up to where its answer begins.

    ``look`` finds pictures by their numbers, ``see(pictures=…)`` or ``see(features=…)`` turns them, (b, m,
    …), into visual tokens (b, m, r, d); without either the prompt is text, whose ``<image>`` marks stand
    where they stood.
    """
    rows = [encode_page(episode, tokeniser, open_end=True) for episode in episodes]
    tokens, real = left_padded([row.ids for row in rows], tokeniser.pad, device)
    media = last_picture(tokens == tokeniser.image)
    if look is None or see is None:
        levels = torch.empty(len(rows), 0, 0, 0, device=device)
    else:
        levels = see(**shown(stack_pictures([row.pictures for row in rows], look).to(tokens.device)))
    return Prompt(levels, tokens=tokens, real=real, media=media)


def answer_tokens(
    answers: Sequence[Sequence[str]], tokeniser: ChunkTokeniser
) -> Int[Tensor, "b k t"]:
    """The candidates of each query as tokens, each with ``<EOC>``, then padding."""
    if len({len(row) for row in answers}) != 1:
        raise ValueError("queries have different numbers of candidate answers; give all as many")
    rows = [[[*tokeniser.encode(answer), tokeniser.eos] for answer in row] for row in answers]
    longest = max(len(ids) for row in rows for ids in row)
    return torch.tensor([[ids + [tokeniser.pad] * (longest - len(ids)) for ids in row] for row in rows])


class Judged(NamedTuple):
    """Queries answered: the number of the best candidate of each, all scores, and which were right."""

    chosen: Int[Tensor, " b"]
    scores: Float[Tensor, "b k"]
    right: Bool[Tensor, " b"]

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.right.float().mean())


@torch.no_grad()
def score_answers(
    model: Any, episodes: Sequence[Sequence[Example]], candidates: Sequence[str] | Sequence[Sequence[str]],
    tokeniser: ChunkTokeniser, look: Look | None = None, *, by_length: bool = False, batch: int = 32,
) -> Judged:
    """Close-ended answers: the candidate of the highest log-probability (eq:few-shot-answer).

    ``candidates`` are those of all queries, or a list for each. A model that sees offers ``see`` (see
    ``prompts``).
    Raises ``ValueError`` if the right answer is no candidate.
    """
    if isinstance(candidates[0], str):
        each = [[str(candidate) for candidate in candidates]] * len(episodes)
    else:
        each = [[*row] for row in candidates]
    if len(each) != len(episodes):
        raise ValueError(f"{len(episodes)} queries and {len(each)} lists of candidates; give one a query")
    for episode, row in zip(episodes, each):
        if episode[-1].answer not in row:
            raise ValueError(f"{episode[-1].answer!r} is no candidate of its query; add it")
    found = []
    with eval_mode(model) as device:
        for start in range(0, len(episodes), batch):
            prompt = prompts(episodes[start : start + batch], tokeniser, look, getattr(model, "see", None),
                             device)
            tokens = answer_tokens(each[start : start + batch], tokeniser).to(device)
            log_probs = generate.score(model, prompt, tokens, bos=tokeniser.bos, eos=tokeniser.eos)
            lengths = (tokens != tokeniser.pad).sum(dim=-1) if by_length else None
            found.append(answer_scores(log_probs, lengths).cpu())
    scores = torch.cat(found)
    chosen = scores.argmax(dim=-1)
    right = [row[int(i)] == episode[-1].answer for row, i, episode in zip(each, chosen, episodes)]
    return Judged(chosen, scores, torch.tensor(right))


def trimmed(text: str, keywords: Sequence[str] = KEYWORDS) -> str:
    """An answer up to the first word that begins a new chunk."""
    words = text.split()
    end = next((i for i, word in enumerate(words) if word in keywords), len(words))
    return " ".join(words[:end])


@torch.no_grad()
def write_answers(
    model: Any, episodes: Sequence[Sequence[Example]], tokeniser: ChunkTokeniser, look: Look | None = None, *,
    beams: int = 3, max_len: int = 20, batch: int = 32,
) -> list[str]:
    """Open-ended answers: beam search up to ``<EOC>``, cut where a new chunk begins."""
    texts = []
    with eval_mode(model) as device:
        for start in range(0, len(episodes), batch):
            prompt = prompts(episodes[start : start + batch], tokeniser, look, getattr(model, "see", None),
                             device)
            tokens, _ = generate.beam(model, prompt, k=beams, bos=tokeniser.bos, eos=tokeniser.eos,
                                      pad=tokeniser.pad, max_len=max_len)
            texts += [trimmed(tokeniser.decode(row)) for row in tokens[:, 0].cpu()]
    return texts


def same_words(text: str, answer: str, tokeniser: ChunkTokeniser) -> bool:
    """Is it the answer, word for word as the tokeniser reads both?"""
    return tokeniser.encode(text) == tokeniser.encode(answer)


def averaged(
    model: Any, episodes: Sequence[Sequence[Example]], candidates: Sequence[str], tokeniser: ChunkTokeniser,
    look: Look | None = None, *, count: int = 6, generator: torch.Generator | None = None, **options: Any,
) -> Judged:
    """``score_answers`` averaged over ``count`` orders of the shots, the paper's ensemble."""
    shots = len(episodes[0]) - 1
    parts = [score_answers(model, [[*(episode[i] for i in order), episode[-1]] for episode in episodes],
                           candidates, tokeniser, look, **options)
             for order in orders(shots, count, generator).tolist()]
    scores = torch.stack([part.scores for part in parts]).mean(dim=0)
    chosen = scores.argmax(dim=-1)
    right = [candidates[int(i)] == episode[-1].answer for i, episode in zip(chosen, episodes)]
    return Judged(chosen, scores, torch.tensor(right))


def left_out_scores(
    model: Any, shots: Sequence[Example], candidates: Sequence[str], tokeniser: ChunkTokeniser,
    look: Look | None = None, **options: Any,
) -> Float[Tensor, " k"]:
    """The log-probability of each shot's own answer after the other shots, each once left out: what
    eq:few-shot-true may choose by, since it asks no test."""
    episodes = [[*shots[:i], *shots[i + 1 :], shots[i]] for i in range(len(shots))]
    judged = score_answers(model, episodes, candidates, tokeniser, look, **options)
    own = torch.tensor([list(candidates).index(shot.answer) for shot in shots])
    return judged.scores.log_softmax(dim=-1).gather(1, own[:, None])[:, 0]


# ------------------------------------------------------------------------------ accuracy over shots

ARMS = ("random", "RICES", "wrong answers", "other pictures", "text alone", "blind")


def arm(
    name: str, episodes: Sequence[Sequence[Example]], candidates: Sequence[str], count: int,
    generator: torch.Generator | None = None,
) -> list[list[Example]]:
    """The episodes of an arm of ``shot_curve``, made of those with the shots as they are; "random" and
    "RICES" differ in the shots alone. Raises ``ValueError`` for another name."""
    change: dict[str, Callable[[Sequence[Example]], list[Example]]] = {
        "random": list, "RICES": list, "text alone": without_pictures, "blind": blind,
        "wrong answers": lambda episode: with_wrong_answers(episode, candidates, generator),
        "other pictures": lambda episode: with_other_pictures(episode, count, generator)}
    if name not in change:
        raise ValueError(f"the arm {name!r} is unknown; take some of {', '.join(ARMS)}")
    return [change[name](episode) for episode in episodes]


def shot_curve(
    model: Any, queries: Sequence[Example], support: Sequence[Example], candidates: Sequence[str],
    tokeniser: ChunkTokeniser, look: Look | None = None, *, shots: Sequence[int] = (0, 1, 2, 4),
    near: tuple[Tensor, Tensor] | None = None, arms: Sequence[str] = ARMS, seed: int = 0, **options: Any,
) -> dict[str, list[float]]:
    """Accuracy of close-ended answers over the number of shots, with its controls: a list for each arm.

    All arms but "RICES" have the same random shots, which follow from ``seed``; "RICES" is left out without
    ``near``, the features of the queries' pictures (q, e) and of the support's (n, e). Without shots all arms
    but "blind" are alike. Further ``options`` go to ``score_answers``.
    """
    count = 1 + max(example.picture for example in support)
    curves: dict[str, list[float]] = {name: [] for name in arms if name != "RICES" or near is not None}
    for k in shots:
        generator = torch.Generator().manual_seed(seed)
        rows = random_shots(len(support), len(queries), max(1, k), generator)[:, :k]
        for name, accuracies in curves.items():
            if name == "RICES" and near is not None and k:
                episodes = with_shots(queries, support, rices(*near, k))
            else:
                episodes = with_shots(queries, support, rows)
            changed = arm(name, episodes, candidates, count, torch.Generator().manual_seed(seed + 1))
            accuracies.append(score_answers(model, changed, candidates, tokeniser, look, **options).accuracy)
    return curves
