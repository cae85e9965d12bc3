"""What vokens give a small language model, and whether a matcher's vokens are what they should be.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775, sec. 3 to 5 (table 2: language
models with and without vokens; the controls are those of the released code).  Survey: 3.5.1.

"matching": a matcher of scene captions, judged on captions and pictures of the test split: is a token's own
scene found (against chance), do colour words find their colour, does one word in several sentences get
several vokens, and what do function words find.

"language": the text of the word world never says how a thing looks. A matcher learns from sentences about a
noun beside its pictures; its vokens are asked of a language model that is trained on the text. All arms of a
seed start from the same weights and see the same sentences with the same words hidden, for the same number
of steps: hidden words alone, vokens besides, and vokens that are shuffled over the corpus, drawn at random,
reversed in their sentence, or the tokens themselves. Heads are thrown away; what is judged is BERT: its
hidden words on held-out text, and what a few labelled nouns suffice to read off its states: colours, which
no sentence says.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.data.pairs import PairData, scene_pairs
from mmlearn.data.scenes import COLOURS
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.data.word_world import (
    KINDS_OF_WORDS,
    NOUNS,
    PICTURED,
    ZERO_SHOT,
    relatedness,
    sentences,
    visual,
    word_pictures,
)
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.bert import IGNORED
from mmlearn.images_for_language.token_image_matching import (
    MatcherConfig,
    TokenImageMatcher,
    diversity,
    token_ranks,
)
from mmlearn.images_for_language.voken_lm import VokenLM, VokenLMConfig, ablated, voken_lm_losses
from mmlearn.images_for_language.voken_training import (
    FeatureBatches,
    MaskedBatches,
    train_matcher,
    train_voken_lm,
)
from mmlearn.images_for_language.vokenizer import Vokenizer, image_keys, nearest_images
from mmlearn.metrics.similarity import WordPairs, spearman
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text2image.pipeline import load_judge

BASE = "hidden words"
ARMS = (BASE, "vokens", "shuffled", "random", "reversed", "token ids")
CONTEXT = 24                            # most tokens of a sentence, with its two special ones
SHOTS = (1, 2, 4)                       # labelled nouns of a colour
FUNCTION_WORDS = frozenset("a an the is are of in on and with there at by to its it has".split())


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--steps", type=int, default=1500, help="of each language model")
    parser.add_argument("--text-steps", type=int, default=600, help="of the matcher's BERT, then frozen")
    parser.add_argument("--match-steps", type=int, default=800, help="of a matcher")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3, help="of language models")
    parser.add_argument("--sentences", type=int, default=6000, help="of the word world")
    parser.add_argument("--held-out", type=int, default=4000, help="sentences to judge by")
    parser.add_argument("--scenes", type=int, default=1500, help="training scenes of the matcher of captions")
    parser.add_argument("--test", type=int, default=300, help="test scenes")
    parser.add_argument("--pictures", type=int, default=8, help="of a noun, for the matcher")
    parser.add_argument("--keys", type=int, default=2, help="pictures of a noun to choose vokens from")
    parser.add_argument("--draws", type=int, default=50, help="choices of labelled nouns")


# ------------------------------------------------------------------------------------------- what both share


@dataclass(frozen=True)
class Words:
    """A vocabulary of words, with one more id for a hidden word."""

    tokeniser: WordTokeniser

    @property
    def mask_id(self) -> int:
        return len(self.tokeniser)

    @property
    def vocab(self) -> int:
        return len(self.tokeniser) + 1

    @property
    def special(self) -> tuple[int, ...]:
        return self.tokeniser.pad, self.tokeniser.bos, self.tokeniser.eos

    def batches(self, tokens: Tensor, vokens: Tensor | None, batch: int, seed: int) -> MaskedBatches:
        return MaskedBatches(tokens, vokens, batch, special=self.special, vocab=self.vocab,
                             mask_id=self.mask_id, pad=self.tokeniser.pad, seed=seed)

    def language_model(self, vokens: int, seed: int) -> VokenLM:
        """BERT's weights are drawn first, so that they are a function of the seed alone."""
        with seeded(seed):
            return VokenLM(VokenLMConfig.mini(self.vocab, self.tokeniser.pad, CONTEXT, vokens))


def trained_matcher(
    words: Words, tokens: Int[Tensor, "n t"], pairs: PairData, seed: int, args: argparse.Namespace
) -> TokenImageMatcher:
    """A matcher of ``pairs`` over a BERT that has read ``tokens``, and over the classifier of scenes."""
    reader = words.language_model(2, seed)
    train_voken_lm(reader, words.batches(tokens, None, args.batch, seed), steps=args.text_steps, lr=args.lr,
                   warmup=max(1, args.text_steps // 10), seed=seed, progress=False)
    with seeded(seed):
        matcher = TokenImageMatcher(MatcherConfig.mini(words.vocab, words.tokeniser.pad, CONTEXT))
    matcher.bert.load_state_dict(reader.bert.state_dict())
    matcher.trunk.trunk.load_state_dict(load_judge().trunk.state_dict())
    batches = FeatureBatches(matcher, pairs, words.tokeniser, args.batch, seed=seed, max_len=CONTEXT)
    train_matcher(matcher, batches, steps=args.match_steps, seed=seed, progress=False)
    return matcher


def vokenizer_of(matcher: TokenImageMatcher, words: Words, images: Tensor) -> Vokenizer:
    return Vokenizer(matcher, image_keys(matcher, images), words.tokeniser.bos, words.tokeniser.eos,
                     CONTEXT - 2)


# --------------------------------------------------------------------------------------------------- matching


def matching(seed: int, args: argparse.Namespace) -> dict[str, float]:
    """A matcher of scene captions, judged on test captions: shares, and what chance would give."""
    train, test = scene_pairs(args.scenes), scene_pairs(args.test, "test")
    texts = [text for captions in train.captions for text in captions]
    words = Words(WordTokeniser.train(texts, splitter="simple"))
    matcher = trained_matcher(words, words.tokeniser.batch(texts, CONTEXT), train, seed, args)
    vokenizer = vokenizer_of(matcher, words, test.images[:])
    ids = [words.tokeniser.encode(captions[0])[: CONTEXT - 2] for captions in test.captions]
    f = torch.cat(vokenizer.embed(ids))
    owner = torch.tensor([i for i, row in enumerate(ids) for _ in row])
    said = [words.tokeniser.words[i] for row in ids for i in row]
    ranks = token_ranks(f, owner, vokenizer.keys).double()
    vokens = nearest_images(f, vokenizer.keys).tolist()
    function = torch.tensor([word in FUNCTION_WORDS for word in said])
    shown = [{thing.colour for thing in scene.objects} for scene in test.scenes]
    coloured = [(word, voken) for word, voken in zip(said, vokens) if word in COLOURS]
    chance = {word: sum(word in colours for colours in shown) / len(shown) for word in COLOURS}
    counts: dict[str, int] = defaultdict(int)
    for word in said:
        counts[word] += 1
    often = [i for i, word in enumerate(said) if counts[word] >= 5]
    names = sorted(set(said))
    kinds = diversity([vokens[i] for i in often], [names.index(said[i]) for i in often])
    return {
        "scene R@1": float((ranks == 1).double().mean()), "chance of R@1": 1 / len(test),
        "R@1 of function words": float((ranks[function] == 1).double().mean()),
        "R@1 of other words": float((ranks[~function] == 1).double().mean()),
        "mean rank of function words": float(ranks[function].mean() / len(test)),
        "mean rank of other words": float(ranks[~function].mean() / len(test)),
        "colour found": sum(word in shown[voken] for word, voken in coloured) / max(1, len(coloured)),
        "colour by chance": sum(chance[word] for word, _ in coloured) / max(1, len(coloured)),
        "vokens of a word": sum(kinds.values()) / max(1, len(kinds)),
        "words with several vokens": sum(n > 1 for n in kinds.values()) / max(1, len(kinds)),
    }


# --------------------------------------------------------------------------------------------------- language


def sentences_with(texts: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """The sentences that name each noun."""
    found: dict[str, list[int]] = {word: [] for word in NOUNS}
    for i, text in enumerate(texts):
        for word in set(text) & found.keys():
            found[word].append(i)
    return found


def noun_pairs(texts: Sequence[Sequence[str]], pictures: int, most: int = 12) -> PairData:
    """Pictures of the nouns that may be pictured, each with sentences that name it."""
    naming = sentences_with(texts)
    known = [word for word in PICTURED if naming[word]]
    images = torch.cat([word_pictures(word, pictures) for word in known])
    captions = [tuple(" ".join(texts[i]) for i in naming[word][:most]) for word in known]
    return PairData(images, tuple(one for one in captions for _ in range(pictures)))


def voken_rows(
    vokenizer: Vokenizer, tokens: Int[Tensor, "n t"], special: Sequence[int]
) -> Int[Tensor, "n t"]:
    """The vokens of rows of tokens, -100 for the special ones."""
    real = ~torch.isin(tokens, torch.tensor(special))
    vokens = vokenizer.vokenise([row[there].tolist() for row, there in zip(tokens, real)])
    out = torch.full_like(tokens, IGNORED)
    out[real] = torch.tensor([voken for row in vokens for voken in row])
    return out


def arms_of(
    tokens: Int[Tensor, "n t"], vokens: Int[Tensor, "n t"], count: int, vocab: int, seed: int
) -> dict[str, tuple[Tensor | None, int]]:
    """What each arm is asked besides hidden words, and of how many vokens."""
    draws = torch.Generator().manual_seed(seed)
    whole = ablated(vokens.view(1, -1), tokens.reshape(1, -1), "shuffle", count, draws).view_as(vokens)
    return {BASE: (None, 2), "vokens": (vokens, count), "shuffled": (whole, count),
            "random": (ablated(vokens, tokens, "random", count, draws), count),
            "reversed": (ablated(vokens, tokens, "reverse", count), count),
            "token ids": (ablated(vokens, tokens, "token", vocab), vocab)}


@torch.no_grad()
def hidden_words(model: VokenLM, words: Words, tokens: Int[Tensor, "n t"], batches: int = 20) -> float:
    """Nats per hidden word of held-out text; the same words are hidden for every model."""
    data = words.batches(tokens, None, 100, seed=12345)
    with eval_mode(model):
        losses = [float(voken_lm_losses(model, *data[i])["word"]) for i in range(min(batches, len(data)))]
    return sum(losses) / len(losses)


@torch.no_grad()
def noun_states(
    model: VokenLM, words: Words, texts: Sequence[Sequence[str]], most: int = 20
) -> dict[str, Float[Tensor, " d"]]:
    """A vector a noun: its state, averaged over at most ``most`` sentences that name it."""
    tokens = words.tokeniser.batch([" ".join(text) for text in texts], CONTEXT)
    found = {}
    with eval_mode(model):
        for word, places in sentences_with(texts).items():
            if places:
                rows = tokens[places[:most]]
                here = rows == words.tokeniser.index.get(word, words.tokeniser.unk)
                if here.any():
                    found[word] = model(rows)[here].mean(dim=0)
    return found


def colour_of(word: str) -> str | None:
    """The one colour that a noun has in its pictures, None where it may have several."""
    colours = KINDS_OF_WORDS[word].colours
    return colours[0] if len(colours) == 1 else None


def ridge_answers(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], z: Float[Tensor, "m d"], classes: int,
    penalty: float = 1.0
) -> Int[Tensor, " m"]:
    """Classes of rows ``z`` by ridge regression on one-hot classes of ``x``, numbers standardised by ``x``."""
    mean, std = x.mean(dim=0), x.std(dim=0, unbiased=False).clamp(min=1e-4)
    x, z = (x - mean) / std, (z - mean) / std
    targets = F.one_hot(y, classes).to(x)
    kernel = x @ x.mT + penalty * len(x) * torch.eye(len(x), dtype=x.dtype)
    return (z @ x.mT @ torch.linalg.solve(kernel, targets - targets.mean(dim=0))).argmax(dim=1)


def colour_probe(states: dict[str, Tensor], shots: int, draws: int, seed: int = 0) -> float:
    """Share of nouns whose colour is told after ``shots`` labelled nouns of each, a mean over draws."""
    by_colour: dict[str, list[str]] = defaultdict(list)
    for word in PICTURED:
        if word in states and (colour := colour_of(word)):
            by_colour[colour].append(word)
    groups = [words for _, words in sorted(by_colour.items()) if len(words) > shots]
    dice, right, asked = torch.Generator().manual_seed(seed), 0, 0
    for _ in range(draws):
        known, others = [], []
        for label, group in enumerate(groups):
            order = torch.randperm(len(group), generator=dice).tolist()
            known += [(group[i], label) for i in order[:shots]]
            others += [(group[i], label) for i in order[shots:]]
        answers = ridge_answers(*labelled(known, states), labelled(others, states)[0], len(groups))
        right += int((answers == labelled(others, states)[1]).sum())
        asked += len(others)
    return right / max(1, asked)


def labelled(pairs: Sequence[tuple[str, int]], states: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Vectors and labels of words."""
    return (torch.stack([states[word] for word, _ in pairs]).double(),
            torch.tensor([label for _, label in pairs]))


def unpictured_probe(states: dict[str, Tensor]) -> float:
    """Share of never pictured nouns whose colour is told after all pictured ones with one colour."""
    def coloured(words: Sequence[str]) -> list[tuple[str, str]]:
        return [(word, colour) for word in words if word in states and (colour := colour_of(word))]

    known = coloured(PICTURED)
    colours = sorted({colour for _, colour in known})
    asked = [(word, colour) for word, colour in coloured(ZERO_SHOT) if colour in colours]
    if not asked:
        return float("nan")
    numbered = [[(word, colours.index(colour)) for word, colour in group] for group in (known, asked)]
    z, wanted = labelled(numbered[1], states)
    answers = ridge_answers(*labelled(numbered[0], states), z, len(colours))
    return float((answers == wanted).double().mean())


def agreement(states: dict[str, Tensor], pairs: WordPairs) -> float:
    """Spearman's correlation of cosines of centred vectors with known similarities."""
    mean = torch.stack(list(states.values())).mean(dim=0)
    kept = [i for i, pair in enumerate(zip(pairs.first, pairs.second)) if set(pair) <= states.keys()]
    cosines = torch.stack([F.cosine_similarity(states[pairs.first[i]] - mean, states[pairs.second[i]] - mean,
                                               dim=0) for i in kept])
    return spearman(cosines.double(), pairs.score[kept].double())


def language(seed: int, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The scores of every arm."""
    texts = sentences(args.sentences, seed=seed)
    held_out = sentences(args.held_out, "val", seed=seed)
    written = [" ".join(text) for text in texts]
    words = Words(WordTokeniser.train(written, splitter="simple"))
    tokens = words.tokeniser.batch(written, CONTEXT)
    matcher = trained_matcher(words, tokens, noun_pairs(texts, args.pictures), seed, args)
    pictures = torch.cat([word_pictures(word, args.keys, "val") for word in PICTURED])
    vokens = voken_rows(vokenizer_of(matcher, words, pictures), tokens, words.special)
    other = words.tokeniser.batch([" ".join(text) for text in held_out], CONTEXT)
    looks, company = visual(1000), relatedness(1000, "concrete")
    scores: dict[str, dict[str, float]] = {}
    for name, (asked, count) in arms_of(tokens, vokens, len(pictures), words.vocab, seed).items():
        model = words.language_model(count, seed)
        train_voken_lm(model, words.batches(tokens, asked, args.batch, seed), steps=args.steps, lr=args.lr,
                       warmup=max(1, args.steps // 10), seed=seed, progress=False)
        states = noun_states(model, words, held_out)
        scores[name] = {
            "nats per hidden word": hidden_words(model, words, other),
            **{f"colour after {n}": colour_probe(states, n, args.draws) for n in SHOTS},
            "colour of unpictured nouns": unpictured_probe(states),
            "visual similarity": agreement(states, looks), "relatedness": agreement(states, company)}
    return scores


# ------------------------------------------------------------------------------------------------- the study


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One part of the study with one seed."""
    return {"seed": seed, "scores": matching(seed, args) if name == "matching" else language(seed, args)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ("matching", "language")]
    found: dict[str, list[dict[str, Any]]] = {"matching": [], **{name: [] for name in ARMS}}
    for (name, seed), measured in run_jobs(job, jobs, args):
        parts = {name: measured["scores"]} if name == "matching" else measured["scores"]
        for arm, scores in parts.items():
            rounded = {key: round(value, 4) for key, value in scores.items()}
            found[arm].append({"seed": seed, "scores": rounded})
            print(f"seed {seed}  {arm:12}  {rounded}", flush=True)
    settings = {key: getattr(args, key) for key in (
        "steps", "text_steps", "match_steps", "batch", "lr", "sentences", "held_out", "scenes", "test",
        "pictures", "keys", "draws")}
    chance = {"seeds": seeds(args.seeds), "vokens": args.keys * len(PICTURED)}
    return {"settings": {**settings, **chance}, "matching": found.pop("matching"), "arms": found}
