"""The checks of chapter 4's exercises about classifiers made of sentences, and about retrieval.

Reading on shows answers: try the exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, Hint, as_number, as_several, as_tensor, check, diagnose, same

# ------------------------------------------------------------------------------ 5-7: zero-shot and retrieval


@check("every sentence has one vote, every class a vector of length 1")
def classifier_of_sentences(answer: Callable[..., Any]) -> str | None:
    """Compares class vectors, from an encoder whose vectors have lengths from 1 to 100."""
    sentences = {"cat": ["a photo of a cat", "a cat"],
                 "crane": ["a crane, a bird", "a tall bird", "a grey crane"],
                 "tree": ["a tree"], "dog": ["a dog", "there is a dog", "a drawn dog", "the dog"]}
    memory: dict[str, Tensor] = {}

    def encode(texts: Sequence[str]) -> Tensor:
        for text in texts:
            memory.setdefault(text, torch.randn(8) * 10 ** (2 * torch.rand(1)))
        return torch.stack([memory[text] for text in texts])

    got = as_tensor(answer(encode, sentences), (4, 8), "the classifier")
    missing = [text for texts in sentences.values() for text in texts if text not in memory]
    if missing:
        return f"the sentence {missing[0]!r} was never embedded"

    def unit(x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    each = [encode(texts) for texts in sentences.values()]
    votes = torch.stack([unit(v).mean(0) for v in each])
    want = unit(votes)
    return diagnose([(got, want, {
        "long vectors outvote short ones: every sentence needs length 1 before the average":
            unit(torch.stack([v.mean(0) for v in each])),
        "the rows are shorter than 1: a mean of unit vectors is no unit vector": votes,
        "the rows are longer than 1: a sum of unit vectors is no unit vector":
            torch.stack([unit(v).sum(0) for v in each]),
        "nothing has length 1 here, neither a sentence nor a class": torch.stack([v.mean(0) for v in each]),
        "the normalisation runs over the classes; a row should have length 1": votes / votes.norm(dim=0),
        "only the first sentence of each class is read": torch.stack([unit(v[0]) for v in each]),
        "classes with many sentences get longer rows: divide by the number of its own sentences, or "
        "normalise":
            torch.stack([unit(v).sum(0) for v in each]) / 10,
        "this is the largest value of each channel over the sentences; their mean is asked for":
            unit(torch.stack([unit(v).amax(0) for v in each])),
    })], "a row is not the mean of its own sentences: which sentences belong to which class?")


@check("one caption of a picture is enough, each caption is asked for its picture, and ties do not help")
def recalls(answer: Callable[..., Any]) -> str | None:
    """Compares recalls for pictures with several captions, with ties and without."""
    n = range(18)
    texts: list[Case] = []
    pictures: list[Case] = []
    tied: list[Case] = []
    for rounded in (False, True) * 20:
        scores, owner = torch.randn(6, 18), torch.cat([torch.arange(6), torch.randint(6, (12,))])
        scores[owner, torch.arange(18)] += 0.8
        scores = (2 * scores).round() if rounded else scores
        k = int(torch.randint(1, 6, (1,)))
        got = as_several(answer(scores, owner, k), ("R@k to text", "R@k to picture"))
        S, O = scores.tolist(), owner.tolist()

        def ahead(i: int, j: int, strict: bool = False, siblings: bool = False,
                  S: list = S, O: list = O) -> int:
            """How many captions stand before caption j of picture i."""
            return sum((S[i][w] > S[i][j]) if strict else (S[i][w] >= S[i][j])
                       for w in n if w != j and (siblings or O[w] != i))

        own = [[j for j in n if O[j] == i] for i in range(6)]
        first = [min(j for j in own[i]) for i in range(6)]

        def share(hits: Sequence[bool]) -> float:
            return sum(hits) / len(hits)

        to_text = share([min(ahead(i, j) for j in own[i]) < k for i in range(6)])
        before = [sum(S[w][j] >= S[O[j]][j] for w in range(6) if w != O[j]) for j in n]
        to_picture = share([a < k for a in before])
        numbers = as_number(got[0], "R@k to text"), as_number(got[1], "R@k to picture")
        (tied if rounded else texts).append((numbers[0], to_text, {
            "all captions of a picture are asked to stand in the first places; one of them is enough":
                share([max(ahead(i, j) for j in own[i]) < k for i in range(6)]),
            "all captions of a picture have to stand in the first places here, and they compete with each "
            "other":
                share([max(ahead(i, j, siblings=True) for j in own[i]) < k for i in range(6)]),
            "every caption is counted by itself, with the picture's other captions as competitors; "
            "a picture is answered once, by any of its captions":
                share([ahead(O[j], j, siblings=True) < k for j in n]),
            "every caption is counted by itself; a picture is answered once, by any of its captions":
                share([ahead(O[j], j) < k for j in n]),
            "only the first caption of a picture is a right answer here; all of its captions are":
                share([ahead(i, first[i]) < k for i in range(6)]),
            "only the first caption of a picture is a right answer, and its other captions compete with it":
                share([ahead(i, first[i], siblings=True) < k for i in range(6)]),
            "this is the recall at k + 1: k wrong answers before the right one are too many":
                share([min(ahead(i, j) for j in own[i]) <= k for i in range(6)]),
            "the two recalls are exchanged: first from picture to text, then from text to picture":
                to_picture,
        } | ({
            "a tie with another caption of the same picture is held against it; they do not compete":
                share([min(ahead(i, j, siblings=True) for j in own[i]) < k for i in range(6)]),
        } if rounded else {})))
        pictures.append((numbers[1], to_picture, {
            "from text to picture: a wrong picture with the same score stands before the right one, ties do "
            "not help":
                share([sum(S[w][j] > S[O[j]][j] for w in range(6)) < k for j in n]),
            "from text to picture: this is the mean over pictures; the captions are asked, each once":
                share_of_means([[before[j] < k for j in own[i]] for i in range(6)]),
            "from text to picture: this is the recall at k + 1": share([a <= k for a in before]),
            "from text to picture: captions are asked for captions here; a column holds the pictures":
                share([ahead(O[j], j) < k for j in n]),
        }))
    return (diagnose(texts, "from picture to text a recall should be {want}, yours is {got}")
            or diagnose(tied, "from picture to text you are right without ties; with a tie a recall should "
                              "be {want} and is {got}: a wrong caption with the same score stands "
                              "before the right one")
            or diagnose(pictures, "from text to picture a recall should be {want}, yours is {got}"))


def share_of_means(groups: Sequence[Sequence[bool]]) -> float:
    """The mean over groups of the mean in each."""
    return sum(sum(group) / len(group) for group in groups) / len(groups)


@check("chosen on validation pictures, reported on pictures that had no say in the choice")
def search_for_a_prompt(answer: Callable[..., Any], accuracy: Callable[..., Any]) -> str | None:
    """Runs the search with an accuracy that keeps a record of every look."""
    looks: list[tuple[str, tuple[str, ...], float]] = []

    def recorded(templates: Sequence[str], split: str) -> float:
        if isinstance(templates, str):
            raise Hint("templates are a tuple of sentences; a single one is written (sentence,)")
        looks.append((split, tuple(templates), float(accuracy(templates, split))))
        return looks[-1][2]

    report = answer(recorded)
    if not isinstance(report, dict) or not {"templates", "val", "test"} <= set(report):
        return "return a dictionary with the keys 'templates', 'val' and 'test'"
    chosen = tuple(report["templates"])
    scores = {templates: a for split, templates, a in looks if split == "val"}
    tests = [(templates, a) for split, templates, a in looks if split == "test"]
    if len(tests) > 1:
        return (f"you looked at the test pictures {len(tests)} times: each look that may change "
                "the choice makes them training data")
    if not tests:
        return ("the test pictures were never looked at: what you report as 'test' is the accuracy of the "
                "pictures that chose")
    if len(scores) < 10:
        return f"{len(scores)} candidates were compared on the validation pictures; try at least ten"
    if ("{}",) not in scores:
        return "the bare name '{}' is not among the candidates: it is the one to beat"
    if tests[0][0] != chosen or chosen not in scores:
        return "the templates that you report are not the ones that you tested"
    if scores[chosen] < scores[("{}",)]:
        return "on the validation pictures your choice does worse than the bare name"
    if not (same(report["val"], scores[chosen]) and same(report["test"], tests[0][1])):
        return "the reported accuracies are not the measured ones: which of them belongs to which pictures?"
    print(f"{len(scores)} candidates; {report['val']:.3f} on validation, "
          f"{report['test']:.3f} on test pictures:")
    print("\n".join(f"  {template}" for template in chosen))
    return None
