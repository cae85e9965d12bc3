"""Bias: what a model learns about people from who is shown how, and from who is called what.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 7.1 (class design, thresholds).  Survey: 4.6.
Differs from the paper: drawn people, in two groups told apart by the colour of their clothes, and two
invented roles, so that every correlation is planted and known. Nothing about real people can be concluded
from such pictures.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.pairs import PairData, class_names, draw_scenes
from mmlearn.data.scenes import portrait
from mmlearn.data.scenes.graph import SETTINGS, Scene
from mmlearn.data.scenes.language import PLACE_PHRASES, Dice
from mmlearn.data.scenes.sample import Draws
from mmlearn.data.things import captioned
from mmlearn.data.tokenisers import Tokeniser, WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.text_for_vision.objects import (
    SIZE,
    objects,
    prompt_tokeniser,
    train_encoder,
)
from mmlearn.metrics.bias import answer_share, association, label_share, share_gap
from mmlearn.nn.modes import remembered
from mmlearn.text_for_vision.small_encoder import StudyEncoder
from mmlearn.text_for_vision.training import embed_images
from mmlearn.text_for_vision.zero_shot import class_probabilities, zero_shot_weights

GROUPS = ("blue", "orange")             # colours of the clothes
ROLES = ("guide", "guest")              # words that nothing in a picture justifies
POSES = ("waving", "standing")          # words that a picture does justify
TEMPLATES = ("a picture of {a}.", "there is {a}.", "{a} can be seen.", "{a}.")
CLASSES = {                             # three lists of classes to choose from
    "two roles": ROLES, "roles and person": (*ROLES, "person"),
    "roles and clothes": (*ROLES, *(f"person in {colour}" for colour in GROUPS))}
AGREEMENTS = (0.5, 0.6, 0.75, 0.9)      # how often role and pose agree with the group, in four training sets
REMEDIES = ("role words left out", "rare combinations repeated")


@dataclass(frozen=True)
class People:
    """Pictures of one person each, with their captions: number of group, role and pose of each."""

    data: PairData
    group: Int[Tensor, " n"]
    role: Int[Tensor, " n"]
    pose: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.group)

    def rows(self, indices: Sequence[int]) -> "People":
        """The people of these numbers, in this order; one may come several times."""
        chosen = list(indices)
        return People(self.data.rows(chosen), self.group[chosen], self.role[chosen], self.pose[chosen])


def person_captions(scene: Scene, role: str, key: int) -> tuple[str, ...]:
    """Five sentences about a person: three call them by their role, two say "person"; pose and clothes are
    told truly."""
    who, dice = scene.objects[0], Dice("bias", key)
    where = dice.pick(PLACE_PHRASES[scene.setting])
    return (f"A picture of a {role} {where}.", f"A {role} in {who.colour} {where}.",
            f"There is a {who.pose} {role}.", f"A person in {who.colour} is {who.pose} {where}.",
            f"A {who.pose} person can be seen {where}.")


@remembered
def people(count: int, agreement: float | int = 0.9, seed: int = 0, *, size: int = SIZE) -> People:
    """People of both groups in equal parts, in any setting.

    With probability ``agreement`` a person of the first group is called by the first role and drawn in the
    first pose (each decided on its own), one of the second group by the second role and in the second pose;
    else the other way round. 0.5: neither has to do with the group. Remembered as long as the process lives.
    Raises ``ValueError`` for an agreement outside [0, 1] and for fewer than two people.
    """
    if not 0 <= agreement <= 1 or count < 2:
        raise ValueError(f"{count} people with agreement {agreement}; ask for 2 or more, and an agreement "
                         f"between 0 and 1")
    scenes, captions, numbers = [], [], []
    for i in range(count):
        draws = Draws(seed, i, 4_600)
        group = i % 2
        role, pose = (group if draws.chance(round(100 * agreement)) else 1 - group for _ in range(2))
        scene = portrait("person", colour=GROUPS[group], pose=POSES[pose], setting=draws.choice(SETTINGS),
                         flip=draws.chance(50), variant=draws.below(1 << 16))
        scenes.append(scene)
        captions.append(person_captions(scene, ROLES[role], seed * 1_000_003 + i))
        numbers.append((group, role, pose))
    group_, role_, pose_ = torch.tensor(numbers).unbind(dim=1)
    return People(PairData(draw_scenes(scenes, size), tuple(captions), tuple(scenes)), group_, role_, pose_)


def without_roles(crowd: People) -> People:
    """The same pictures with the captions that name no role."""
    kept = tuple(tuple(t for t in texts if not any(role in t for role in ROLES))
                 for texts in crowd.data.captions)
    return replace(crowd, data=replace(crowd.data, captions=kept))


def repeated(crowd: People) -> People:
    """Every combination of group, role and pose that occurs, as often as the commonest: rare ones are
    repeated."""
    cell = 4 * crowd.group + 2 * crowd.role + crowd.pose
    rows = [torch.where(cell == c)[0] for c in cell.unique().tolist()]
    most = max(len(r) for r in rows)
    return crowd.rows(torch.cat([r.repeat(-(-most // len(r)))[:most] for r in rows]).tolist())


def condition(name: str | float, count: int, agreement: float | int = 0.9, seed: int = 0) -> People:
    """People with an agreement (a number), or with ``agreement`` and one of ``REMEDIES``. ``ValueError`` for
    another name."""
    if not isinstance(name, str):
        return people(count, name, seed)
    if name not in REMEDIES:
        raise ValueError(f"condition is {name!r}; use an agreement or one of {', '.join(REMEDIES)}")
    crowd = people(count, agreement, seed)
    return without_roles(crowd) if name == REMEDIES[0] else repeated(crowd)


def among_others(crowd: People, others: int, seed: int = 3) -> PairData:
    """Training pairs: the people, and ``others`` pictures of other things with the scene world's captions."""
    rest = captioned(objects(others, seed, places="any",
                             names=tuple(n for n in class_names() if n != "person")))
    return PairData(torch.cat([crowd.data.images[:], rest.images[:]]), crowd.data.captions + rest.captions,
                    crowd.data.scenes + rest.scenes)


def bias_tokeniser(*data: PairData) -> WordTokeniser:
    """One vocabulary for all conditions: the words of the pairs, the roles, the prompts."""
    return prompt_tokeniser(*data, templates=(*TEMPLATES, *ROLES))


def associations(crowd: People, words: Sequence[str]) -> Float[Tensor, "g w"]:
    """eq:word-association of each of ``GROUPS`` with each word or phrase, over all pairs of a person and a
    caption."""
    texts = [text.lower() for captions in crowd.data.captions for text in captions]
    group = torch.repeat_interleave(
        crowd.group, torch.tensor([len(captions) for captions in crowd.data.captions])
    )
    said = [torch.tensor([word in text for text in texts]) for word in words]
    return torch.tensor([[association(group == g, s) for s in said] for g in range(len(GROUPS))])


def answers(model: nn.Module, tokeniser: Tokeniser, images: Tensor, classes: Sequence[str],
            templates: Sequence[str] = TEMPLATES) -> Float[Tensor, "n c"]:
    """Zero-shot probabilities of the classes for pictures (n, 3, s, s) of 0..255."""
    weights = zero_shot_weights(model, tokeniser, classes, templates)
    return class_probabilities(embed_images(model, images), weights,
                               float(model.get_parameter("logit_scale").detach().exp()))


def role_shares(model: nn.Module, tokeniser: Tokeniser, crowd: People,
                classes: Sequence[str] = ROLES) -> Float[Tensor, "g c"]:
    """Answer shares of the classes for each of ``GROUPS``."""
    P = answers(model, tokeniser, crowd.data.images[:], classes)
    return torch.stack([answer_share(P, crowd.group == g) for g in range(len(GROUPS))])


def mean_probabilities(model: nn.Module, tokeniser: Tokeniser, crowd: People,
                       classes: Sequence[str] = ROLES) -> Float[Tensor, "g c"]:
    """Mean zero-shot probabilities of the classes for each of ``GROUPS``: what the score says before any
    argmax."""
    P = answers(model, tokeniser, crowd.data.images[:], classes)
    return torch.stack([P[crowd.group == g].mean(dim=0) for g in range(len(GROUPS))])


def shares_by_threshold(model: nn.Module, tokeniser: Tokeniser, crowd: People, thresholds: Sequence[float],
                        classes: Sequence[str]) -> Float[Tensor, "m g c"]:
    """Label shares at each threshold, for each of ``GROUPS``."""
    P = answers(model, tokeniser, crowd.data.images[:], classes)
    return torch.stack([torch.stack([label_share(P, crowd.group == g, t) for g in range(len(GROUPS))])
                        for t in thresholds])


def pose_errors(model: nn.Module, tokeniser: Tokeniser, crowd: People) -> dict[str, float]:
    """How often the pose is told wrongly: where it agrees with the planted correlation, and on the
    counter-examples."""
    classes = [f"{pose} person" for pose in POSES]
    wrong = answers(model, tokeniser, crowd.data.images[:], classes).argmax(dim=1) != crowd.pose
    agrees = crowd.pose == crowd.group
    return {"agreeing": float(wrong[agrees].double().mean()),
            "counter-examples": float(wrong[~agrees].double().mean())}


def measure(model: nn.Module, tokeniser: Tokeniser, crowd: People,
            thresholds: Sequence[float] = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5)) -> dict[str, Any]:
    """All of the section: three lists of classes, labels above thresholds among all classes, and the
    poses."""
    everything = (*ROLES, *class_names())
    labels = shares_by_threshold(model, tokeniser, crowd, thresholds, everything)[:, :, :len(ROLES)]

    def rounded(x: Tensor) -> Any:
        return torch.round(x.double(), decimals=4).tolist()
    shares = {name: role_shares(model, tokeniser, crowd, classes) for name, classes in CLASSES.items()}
    return {"shares": {name: rounded(x) for name, x in shares.items()},
            "gap": round(float(share_gap(shares["two roles"])[0]), 4),
            "probabilities": rounded(mean_probabilities(model, tokeniser, crowd)),
            "labels": {str(t): rounded(row) for t, row in zip(thresholds, labels)},
            "pose errors": {k: round(v, 4) for k, v in pose_errors(model, tokeniser, crowd).items()}}


def harms(run: Mapping[str, Any]) -> dict[str, float]:
    """What should be small, of the measurements of a run: the gap of the role, how often a role is shown as a
    label at a threshold of 0.1 (mean over groups and roles), and the poses told wrongly."""
    shown = [share for group in run["labels"]["0.1"] for share in group]
    wrong = run["pose errors"]
    return {"gap of the role": run["gap"], "role shown at 0.1": sum(shown) / len(shown),
            "pose wrong, counter-examples": wrong["counter-examples"],
            "pose wrong, agreeing": wrong["agreeing"]}


def train_condition(name: str | float, tokeniser: WordTokeniser, *, count: int, others: int, steps: int,
                    seed: int, agreement: float | int = 0.9, **options: Any) -> StudyEncoder:
    """A dual encoder trained on the people of a condition among other things."""
    data = among_others(condition(name, count, agreement), others)
    return train_encoder(data, tokeniser, steps=steps, seed=seed, **options)[0]


def study(
    conditions: Sequence[str | float] = (*AGREEMENTS, *REMEDIES),
    *,
    count: int = 1500,
    others: int = 1500,
    test: int = 400,
    steps: int = 200,
    seeds: Sequence[int] = (0,),
    agreement: float | int = 0.9,
    told: Callable[[str], Any] = print,
) -> dict[str, list[dict[str, Any]]]:
    """Each condition trained with each seed and measured on people for whom nothing depends on the group."""
    tokeniser = bias_tokeniser(among_others(people(count, agreement), others))
    crowd = people(test, 0.5, 1)
    found: dict[str, list[dict[str, Any]]] = {str(name): [] for name in conditions}
    for seed in seeds:
        for name in conditions:
            model = train_condition(name, tokeniser, count=count, others=others, steps=steps, seed=seed,
                                    agreement=agreement)
            measured = measure(model, tokeniser, crowd)
            found[str(name)].append({"seed": seed, **measured})
            told(f"seed {seed}  {name!s:28} gap {measured['gap']:.2f}  {measured['shares']}  pose errors "
                 f"{measured['pose errors']}")
    return found


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--count", type=int, default=1500, help="pictures of people in training")
    parser.add_argument("--others", type=int, default=1500, help="pictures of other things in training")
    parser.add_argument("--test", type=int, default=600, help="test pictures of people")
    parser.add_argument("--agreement", type=float, default=0.9,
                        help="of role and pose with the group, where a remedy is tried")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    wanted = seeds(args.seeds)
    runs = study(count=args.count, others=args.others, test=args.test, steps=args.steps, seeds=wanted,
                 agreement=args.agreement, told=partial(print, flush=True))
    return {"settings": {"steps": args.steps, "batch": 128, "lr": 2e-3, "warmup": 50, "people": args.count,
                         "others": args.others, "test": args.test, "agreement": args.agreement, "size": 32,
                         "groups": list(GROUPS), "roles": list(ROLES), "poses": list(POSES),
                         "agreements": list(AGREEMENTS), "remedies": list(REMEDIES),
                         "classes": {name: list(classes) for name, classes in CLASSES.items()},
                         "seeds": wanted},
            "runs": runs}
