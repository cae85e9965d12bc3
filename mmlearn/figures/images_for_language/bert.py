"""Figures of BERT and of self-attention: the model with its two heads, a text that is masked step by step,
what becomes of a sentence in another order.

Papers: J. Devlin et al. (2019), *BERT*, NAACL, arXiv:1810.04805, fig. 1 and 2; A. Vaswani et al. (2017),
*Attention Is All You Need*, arXiv:1706.03762.  Survey: 3.2, 3.5.

Orange is text, violet what BERT adds to the encoder of chapter 1, red what is asked.
"""

from collections.abc import Sequence
from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.data.wordpiece import WordPiece
from mmlearn.figures.diagram import Diagram, in_lines, literal, text_width
from mmlearn.figures.interactive import Block, player, slider
from mmlearn.images_for_language.bert import IGNORED, mask_tokens
from mmlearn.images_for_language.self_attention import self_attention
from mmlearn.nn.attention import attention_weights
from mmlearn.nn.bert import BERTConfig

WIDE = 470
READ = ("[CLS]", "a", "[MASK]", "cat", "[SEP]", "by", "lamp", "[SEP]")         # what BERT reads
ASKED = {2: "red", 6: "night"}                                                   # position: the true word

# -------------------------------------------------------------------------------------------------- the model


def pretraining(config: BERTConfig | None = None) -> Diagram:
    """BERT with its two heads: what enters, the layers, the words and the pair that are told."""
    config = config or BERTConfig.base()
    drawn = Diagram(WIDE, 372, (
        f"BERT in pre-training. It reads {' '.join(READ)}; red was hidden, lamp stands where night was. "
        f"Each token begins as a sum of three learned rows of width {config.width}: of its piece, of its "
        f"segment, A or B, and of its place. {config.layers} encoder layers follow, in which every token "
        "looks at all others. From the states of the two chosen tokens the head of words, a layer, GELU, "
        "normalisation and the table E of the pieces, has to tell red and night. From the first state, "
        "through a layer with tanh, the other head tells whether B follows A. Violet: what BERT adds to the "
        "encoder of chapter 1."))
    columns = [96 + 49 * i for i in range(len(READ))]
    for y, name in ((50, "piece"), (78, "segment"), (106, "place")):
        drawn.text(68, y, name, 13, "soft", "end")
    for i, (x, word) in enumerate(zip(columns, READ)):
        drawn.text(x, 18, word, 13, "new" if i in ASKED else "text", weight=600)
        drawn.rect(x, 50, 40, 22, "text", 5)
        drawn.rect(x, 78, 40, 22, "new", 5)
        drawn.rect(x, 106, 40, 22, "", 5)
        drawn.text(x, 50, "*E*", 13, "text")
        drawn.text(x, 78, "A" if i < 5 else "B", 13, "new")
        drawn.text(x, 106, str(i + 1), 13, "soft")
        drawn.arrow((x, 118), (x, 138))
        drawn.arrow((x, 188), (x, 206))
        chosen = i in ASKED
        drawn.rect(x, 218, 40, 24, "new" if chosen or i == 0 else "block", 5)
        drawn.text(x, 218, f"*h*_{i + 1}", 14, "new" if chosen or i == 0 else "")
    drawn.text(44, 218, "states", 13, "soft")
    drawn.box(267, 163, f"{config.layers} encoder layers, {config.heads} heads\n"
              f"{len(READ)} × {config.width}, every token looks at all", "block", 390, 50)
    pooler = drawn.box(96, 286, "layer, tanh\n2 scores", "new", 104, 48)
    head = drawn.box(298, 286, "layer, GELU, norm\nthen *hE*^⊤, a score a piece", "new", 204, 48)
    drawn.arrow((columns[0], 230), pooler, role="new")
    for i in ASKED:
        drawn.line([(columns[i], 230), (columns[i], 246)], "new")
    drawn.line([(columns[2], 246), (columns[6], 246)], "new")
    drawn.arrow((298, 246), head, role="new")
    drawn.line([(columns[-1] + 20, 50), (465, 50), (465, 286)], "text", dashed=True)
    drawn.arrow((465, 286), head, role="text", dashed=True, sides="lr")
    drawn.text(434, 306, "same *E*", 13, "text")
    drawn.arrow(pooler, (96, 338), role="loss")
    drawn.arrow(head, (298, 338), role="loss")
    drawn.text(96, 354, "B follows A?", 14, "loss")
    drawn.text(298, 354, " ".join(f"{word}?" for word in ASKED.values()), 14, "loss")
    return drawn


# ---------------------------------------------------------------------------------------------- hidden words

FATES = {"masked": "[MASK]", "another": "another word", "kept": "stays"}


def fate(read: int, true: int, mask: int) -> str:
    """What happened to a chosen piece, a key of ``FATES``."""
    return "masked" if read == mask else "kept" if read == true else "another"


def drawn_masks(
    ids: Int[Tensor, " t"], tokeniser: WordPiece, seed: int = 0, tries: int = 500
) -> tuple[Int[Tensor, " t"], Int[Tensor, " t"]]:
    """What is read and what is asked, by the first seed from ``seed`` on by which all three fates are met (if
    none of so many does, by ``seed``)."""
    found = []
    for number in range(seed, seed + tries):
        dice = torch.Generator().manual_seed(number)
        read, asked = mask_tokens(ids[None], tokeniser.special, len(tokeniser), tokeniser.mask, dice,
                                  pad=tokeniser.pad)
        found.append((read[0], asked[0]))
        fates = {fate(int(r), int(a), tokeniser.mask) for r, a in zip(read[0], asked[0]) if a != IGNORED}
        if len(fates) == len(FATES):
            return found[-1]
    return found[0]


def masking(first: str, second: str, tokeniser: WordPiece, seed: int = 0) -> Block:
    """A player over the masking of a pair of texts: pieces, what is chosen, its fates, what BERT reads, what
    it is asked. The draw is one in which all three fates are met, where there is one."""
    a, b = tokeniser.encode(first), tokeniser.encode(second)
    ids = torch.tensor([tokeniser.bos, *a, tokeniser.eos, *b, tokeniser.eos])
    read, asked = drawn_masks(ids, tokeniser, seed)
    names = [[tokeniser.words[i] for i in row.tolist()] for row in (ids, read)]
    chosen = (asked != IGNORED).tolist()
    fates = [fate(int(r), int(i), tokeniser.mask) if c else "" for r, i, c in zip(read, ids, chosen)]
    widths = [max(30.0, 12 + text_width(true, 14), 12 + text_width(now, 14),
                  8 + text_width(FATES[f], 13) if f else 0)
              for true, now, f in zip(*names, fates)]
    where, n = in_lines(widths, WIDE - 20), len(ids)
    high = 24 + 70 * (where[-1][1] + 1)
    counts = {f: fates.count(f) for f in FATES}
    labels = [
        f"1. Pieces, with [CLS] and two [SEP]: {n} tokens.",
        f"2. 0.15 · {n} = {0.15 * n:.2f}: {sum(chosen)} are chosen, never [CLS] or [SEP].",
        f"3. Their fates: {counts['masked']} masked (on average 8 in 10), {counts['another']} another word "
        f"(1 in 10), {counts['kept']} kept (1 in 10).",
        "4. What BERT reads. It is not told which words are right.",
        f"5. What it is asked: the true word at all {sum(chosen)} places, and nowhere else."]
    frames = []
    for step in range(len(labels)):
        frame = Diagram(WIDE, high, f"step {step + 1} of masking “{first}” and “{second}”")
        for i, ((x, line), w) in enumerate(zip(where, widths)):
            x, y = 10 + x, 26 + 70 * line
            marked = chosen[i] and step > 0
            frame.rect(x, y, w, 26, "new" if marked else "text" if names[0][i][0] != "[" else "", 5)
            frame.text(x, y, literal(names[step > 2][i]), 14, "new" if marked else "",
                       weight=600 if marked else 400)
            if marked and step == 2:
                frame.text(x, y + 26, FATES[fates[i]], 13, "new")
            if marked and step == 4:
                frame.text(x, y + 24, "?", 13, "loss")
                frame.text(x, y + 41, literal(names[0][i]), 14, "loss", weight=600)
        frames.append(frame)
    return player(frames, labels, f"A pair of texts is masked for BERT: “{first}” and “{second}”", seconds=2)


# ------------------------------------------------------------------------------------------ another order

TOKENS = {"dog": ("text", (1.0, 0.0)), "sees": ("new", (2.0, 0.6931472)), "cat": ("image", (0.0, 0.0))}
PLACES = ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))               # added to the rows of the first, second, third


def attended(
    X: Float[Tensor, "t 2"]
) -> tuple[Float[Tensor, "t t"], Float[Tensor, " t"]]:
    """Weights and what is read, by the section's example: the first number asks and is handed over, the
    second is the key."""
    first, second = torch.eye(2)[:, :1], torch.eye(2)[:, 1:]
    return attention_weights(X @ first, X @ second), self_attention(X, first, second, first)[:, 0]


def equivariance() -> Block:
    """A slider over the orders of three tokens, with positions or without: rows, weights, and what each
    reads."""
    orders = list(permutations(TOKENS))
    frames, labels = [], []
    alone = dict(zip(TOKENS, attended(torch.tensor([TOKENS[word][1] for word in TOKENS]))[1].tolist()))
    for order in orders:
        for placed in (False, True):
            X = torch.tensor([TOKENS[word][1] for word in order])
            X = X + torch.tensor(PLACES) if placed else X
            weights, read = attended(X)
            frames.append(_order(order, X, weights, read))
            same = all(abs(z - alone[word]) < 1e-4 for word, z in zip(order, read.tolist()))
            labels.append("Each token reads what it reads in every order." if same and not placed else
                          "With positions: what a token reads depends on where it stands.")
    names = [" ".join(order) for order in orders]
    return slider({"order": names, "positions": ["without", "with"]}, frames, labels=labels, alt=(
        "Self-attention over three tokens, dog, sees and cat, in each of their six orders. Without positions "
        "the weights are the same numbers at other places, and every token reads the same number: dog 1.25, "
        "sees 1.50, cat 1.00. With positions added the numbers depend on the order"))


def _order(order: Sequence[str], X: Tensor, weights: Tensor, read: Tensor) -> Diagram:
    """One order: tokens and rows at the left, weights in the middle, what is read at the right."""
    frame = Diagram(WIDE, 196, f"self-attention over {' '.join(order)}")
    for x, name in ((46, "token"), (134, "row *x*"), (282, "weights *a*"), (424, "reads *z*")):
        frame.text(x, 14, name, 13, "soft")
    for j, word in enumerate(order):
        frame.text(218 + 64 * j, 36, word, 13, TOKENS[word][0])
    for i, word in enumerate(order):
        y, role = 68 + 46 * i, TOKENS[word][0]
        frame.rect(46, y, 64, 30, role, 6)
        frame.text(46, y, word, 14, role, weight=600)
        frame.text(134, y, ", ".join(f"{number:.2f}" for number in X[i].tolist()), 13)
        for j, share in enumerate(weights[i].tolist()):
            x = 218 + 64 * j
            frame.bar(x - 28, y, 56, 36, TOKENS[order[j]][0], f' fill-opacity="{0.08 + 0.6 * share:.2f}"')
            frame.text(x, y, f"{share:.2f}", 13)
        frame.text(424, y, f"{read[i]:.2f}", 15, role, weight=600)
    return frame
