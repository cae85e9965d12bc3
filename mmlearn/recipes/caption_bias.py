"""Recipe: a correlation planted in pictures and captions of people, what the model says of counter-examples, remedies.

Paper: A. Radford et al. (2021), arXiv:2103.00020, sec. 7.1.  Survey: 4.6.
Differs from the paper: see ``mmlearn.text_for_vision.bias``.
"""

import argparse
from functools import partial
from typing import Any

import torch

from mmlearn.recipes import seeds
from mmlearn.text_for_vision.bias import AGREEMENTS, CLASSES, GROUPS, POSES, REMEDIES, ROLES, study


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--count", type=int, default=1500, help="pictures of people in training")
    parser.add_argument("--others", type=int, default=1500, help="pictures of other things in training")
    parser.add_argument("--test", type=int, default=600, help="test pictures of people")
    parser.add_argument("--agreement", type=float, default=0.9, help="of role and pose with the group, where a remedy is tried")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    wanted = seeds(args.seeds)
    runs = study(count=args.count, others=args.others, test=args.test, steps=args.steps, seeds=wanted,
                 agreement=args.agreement, told=partial(print, flush=True))
    return {"settings": {"steps": args.steps, "batch": 128, "lr": 2e-3, "warmup": 50, "people": args.count,
                         "others": args.others, "test": args.test, "agreement": args.agreement, "size": 32,
                         "groups": list(GROUPS), "roles": list(ROLES), "poses": list(POSES),
                         "agreements": list(AGREEMENTS), "remedies": list(REMEDIES),
                         "classes": {name: list(classes) for name, classes in CLASSES.items()}, "seeds": wanted},
            "runs": runs}
