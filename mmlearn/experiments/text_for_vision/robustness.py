"""Labels or sentences, narrow or broad pictures: which of the two makes a model robust?

Papers: A. Radford et al. (2021), arXiv:2103.00020, sec. 3.3; R. Taori et al. (2020), arXiv:2007.00644
(effective robustness); A. Fang et al. (2022), *Data Determines Distributional Robustness in Contrastive
Language Image Pre-training (CLIP)*, arXiv:2205.01397 (the comparison of all four).  Survey: 4.1, 4.2.1.
Differs from the papers: drawn things; the shifts are drawing styles and places. Towers, pictures a step and
steps are the same for all, and the broad pictures are the same with labels and with captions.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mmlearn.data.pairs import ClassPictures
from mmlearn.data.things import captioned
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.text_for_vision.objects import (
    first,
    in_parts,
    label_accuracy,
    objects,
    prompt_tokeniser,
    train_encoder,
    train_labels,
)
from mmlearn.metrics.robustness import effective_robustness, fit_line
from mmlearn.nn.modes import eval_mode
from mmlearn.text_for_vision.linear_probe import linear_probe
from mmlearn.text_for_vision.small_encoder import ConvTower, StudyConfig, StudyEncoder
from mmlearn.text_for_vision.training import zero_shot_accuracy

WEB_STYLES = ("sketch", "night", "pixelated", "grey")                       # that the broad pictures contain
NEW_STYLES = ("inverted", "flat", "cluttered", "blurred", "noisy")          # that nobody has seen
SAME = "same"                                                               # the test set of the narrow world
RESAMPLED, MOVED = "re-sampled", "moved"
SHIFTS = (RESAMPLED, MOVED, *WEB_STYLES, *NEW_STYLES)
GROUPS = {"styles of the broad world": WEB_STYLES, "new places": (MOVED,), "styles new to all": NEW_STYLES}
ADAPTED = "captions, broad; then labels, narrow"
ARMS = ("labels, narrow", "labels, broad", "captions, narrow", "captions, broad", ADAPTED)
CHANNELS = ((12, 24, 48, 64), StudyConfig.channels)  # two sizes of the reference classifiers
IMAGES = (100, 200, 400, 800, 1600, 3200)  # labelled pictures of the reference classifiers


def narrow_world(count: int, seed: int = 0) -> ClassPictures:
    """One style, each thing in the place where it is usually found."""
    return objects(count, seed)


def broad_world(count: int, seed: int = 3) -> ClassPictures:
    """Any place; half of the pictures in the normal style, the others in those of ``WEB_STYLES``, in equal
    parts."""
    return objects(count, seed, places="any", styles=("normal",) * len(WEB_STYLES) + WEB_STYLES)


def shifted_sets(count: int, names: Sequence[str] = (SAME, *SHIFTS)) -> dict[str, ClassPictures]:
    """The narrow world's test pictures, and shifts of them: another sample, other places, the same in other
    styles.

    Raises ``ValueError`` for a shift that is not one of ``SHIFTS``.
    """
    unknown = [name for name in names if name not in (SAME, *SHIFTS)]
    if unknown:
        raise ValueError(f"shift {unknown[0]!r} is unknown; take some of {', '.join((SAME, *SHIFTS))}")
    drawn: dict[str, Callable[[], ClassPictures]] = {
        SAME: lambda: objects(count, 1), RESAMPLED: lambda: objects(count, 2),
        MOVED: lambda: objects(count, 1, places="elsewhere")}
    return {name: drawn[name]() if name in drawn else objects(count, 1, styles=(name,)) for name in names}


Accuracies = dict[str, float]


def judge(accuracy: Callable[[ClassPictures], float], tests: Mapping[str, ClassPictures]) -> Accuracies:
    """Accuracy on each test set, as (right + 1/2) / (n + 1), so that a logit exists for none and for all
    right."""
    return {name: round((accuracy(p) * len(p) + 0.5) / (len(p) + 1), 4) for name, p in tests.items()}


class Scale(NamedTuple):
    """How much of everything: pictures of a world, of a test set, training steps, pictures a step."""

    train: int = 3200
    test: int = 600
    steps: int = 200
    batch: int = 128


def labels_arm(pictures: ClassPictures, tests: Mapping[str, ClassPictures], scale: Scale, seed: int,
               channels: Sequence[int] = StudyConfig.channels) -> Accuracies:
    """A classifier trained on labels."""
    model, _ = train_labels(pictures, steps=scale.steps, batch=scale.batch, seed=seed,
                            channels=tuple(channels))
    return judge(partial(label_accuracy, model), tests)


def captions_model(pictures: ClassPictures, tokeniser: WordTokeniser, scale: Scale,
                   seed: int) -> StudyEncoder:
    """A dual encoder trained on captions of the pictures."""
    return train_encoder(captioned(pictures), tokeniser, steps=scale.steps, batch=scale.batch, seed=seed)[0]


def adapted(tower: ConvTower, labelled: ClassPictures, tests: Mapping[str, ClassPictures]) -> Accuracies:
    """Logistic regression on the frozen features, fitted to labelled pictures (a fifth of them chooses the
    penalty)."""
    with eval_mode(tower):
        x, y = in_parts(tower.features, labelled), labelled.labels
        mean, deviation = x.mean(dim=0), x.std(dim=0) + 1e-6
        cut = len(y) * 4 // 5
        x = (x - mean) / deviation
        probe, _ = linear_probe((x[:cut], y[:cut]), (x[cut:], y[cut:]), len(labelled.classes), iterations=100)
        return judge(lambda p: probe.accuracy((in_parts(tower.features, p) - mean) / deviation, p.labels),
                     tests)


def reference_models(tests: Mapping[str, ClassPictures], scale: Scale, images: Sequence[int] = IMAGES,
                     channels: Sequence[Sequence[int]] = CHANNELS, seed: int = 0) -> list[dict[str, Any]]:
    """Classifiers of the narrow world that differ in size and in the number of labelled pictures."""
    narrow = narrow_world(scale.train)
    return [
        {"images": n, "channels": list(c), "accuracy": labels_arm(first(narrow, n), tests, scale, seed, c)}
        for c in channels
        for n in images
        if n <= scale.train
    ]


def beyond(models: Sequence[Accuracies], reference: Sequence[Accuracies]) -> dict[str, Float[Tensor, " n"]]:
    """Effective robustness (eq:effective-robustness) of each model under each shift; the line is that of
    ``reference``."""
    def column(rows: Sequence[Accuracies], name: str) -> Tensor:
        return torch.tensor([row[name] for row in rows], dtype=torch.float64)
    return {name: effective_robustness(column(models, SAME), column(models, name),
                                       fit_line(column(reference, SAME), column(reference, name)))
            for name in reference[0] if name != SAME}


def by_group(robustness: Mapping[str, Float[Tensor, " n"]]) -> dict[str, float]:
    """Effective robustness averaged over models, and over the shifts of each of ``GROUPS``."""
    return {group: float(torch.stack([robustness[name] for name in names]).mean()) for group,
            names in GROUPS.items()}


def four_arms(scale: Scale, seed: int, tests: Mapping[str, ClassPictures]
              | None = None) -> dict[str, Accuracies]:
    """Labels or captions, narrow or broad, and the broad ones of both kinds after a probe on narrow
    labels."""
    tests = shifted_sets(scale.test) if tests is None else tests
    narrow, broad = narrow_world(scale.train), broad_world(scale.train)
    tokeniser = prompt_tokeniser(captioned(narrow), captioned(broad))
    from_captions = {name: captions_model(pictures, tokeniser, scale, seed)
                     for name, pictures in (("narrow", narrow), ("broad", broad))}
    found = {f"labels, {name}": labels_arm(pictures, tests, scale, seed)
             for name, pictures in (("narrow", narrow), ("broad", broad))}
    found |= {f"captions, {name}": judge(partial(zero_shot_accuracy, model, tokeniser), tests)
              for name, model in from_captions.items()}
    return found | {ADAPTED: adapted(from_captions["broad"].image, narrow, tests)}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=Scale().steps)
    parser.add_argument("--batch", type=int, default=Scale().batch)
    parser.add_argument("--train", type=int, default=Scale().train, help="pictures of each world")
    parser.add_argument("--test", type=int, default=Scale().test, help="pictures of each test set")
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES),
                        help="labelled pictures of the reference models")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    scale = Scale(args.train, args.test, args.steps, args.batch)
    wanted = seeds(args.seeds)
    tests = shifted_sets(scale.test)
    reference = reference_models(tests, scale, args.images)
    for model in reference:
        print(f"{model['images']:5} labelled pictures, {model['channels'][-1]} channels: "
              f"{model['accuracy'][SAME]:.3f}", flush=True)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for seed in wanted:
        for name, accuracy in four_arms(scale, seed, tests).items():
            runs[name].append(accuracy)
            print(f"seed {seed}  {name:34} " + " ".join(f"{k} {v:.2f}" for k, v in accuracy.items()),
                  flush=True)
    line = [model["accuracy"] for model in reference]
    rho = {name: beyond(rows, line) for name, rows in runs.items()}
    return {"settings": {**scale._asdict(), "lr": 2e-3, "warmup": 50, "schedule": "cosine to 0", "size": 32,
                         "seeds": wanted, "threads a run": 1,
                         "groups": {k: list(v) for k, v in GROUPS.items()}},
            "reference": reference, "runs": runs,
            "effective robustness": {name: {k: [round(x, 4) for x in v.tolist()] for k, v in shifts.items()}
                                     for name, shifts in rho.items()},
            "by group": {name: {k: round(v, 4) for k, v in by_group(shifts).items()} for name,
                         shifts in rho.items()}}
