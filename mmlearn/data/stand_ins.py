"""Real drawings that stand in for generated ones, each set with one fault that a generator may have.

Survey: 2.1.  What is wrong with a set is known, so that one can see which number notices it.
"""

from itertools import count as numbers_from

import torch

from mmlearn.data.pairs import PairData, class_names, draw_scenes
from mmlearn.data.scenes import sample_scene
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.things import plain_sentences
from mmlearn.nn.modes import remembered

FAULTS = ("none", "blurred", "sketches", "one place", "few pictures", "wrong sentences")
STYLES = {"blurred": "blurred", "sketches": "sketch"}
PLACE = "meadow"                    # the only one of "one place"
FEW = 10                            # in "few pictures" each is there ten times


def things(count: int, split: str, seed: int, place: str | None = None) -> list[Scene]:
    """The first scenes of one thing of a known category, in one place or in all."""
    known, found = set(class_names()), list[Scene]()
    for index in numbers_from():
        scene = sample_scene(seed, index, split)
        if (scene.kind == "iconic object" and scene.objects[0].category in known
                and place in (None, scene.setting)):
            found.append(scene)
            if len(found) == count:
                return found
    raise AssertionError("numbers never end")


@remembered
def stand_in(fault: str, count: int, split: str = "test", seed: int = 1) -> PairData:
    """``count`` drawings of one thing, the plain sentence that each is said to follow, and the scene that the
    sentence describes.

    ``fault``: "none" (other scenes of the same world, the best that a generator can do), "blurred",
    "sketches", "one place" (all in a meadow), "few pictures" (a tenth, each ten times), "wrong sentences"
    (each picture is another's). Raises ``ValueError`` for another fault and fewer than ten pictures.
    """
    if fault not in FAULTS:
        raise ValueError(f"fault {fault!r} is unknown; take one of {', '.join(FAULTS)}")
    if count < FEW:
        raise ValueError(f"count is {count}; ask for at least {FEW} pictures")
    scenes = things(count, split, seed, PLACE if fault == "one place" else None)
    if fault == "few pictures":
        scenes = [scenes[i // FEW] for i in range(count)]
    images = draw_scenes(scenes, style=STYLES.get(fault, "normal"))
    if fault == "wrong sentences":
        images = images.roll(-1, 0)
    return PairData(images, tuple(plain_sentences(scene)[:1] for scene in scenes), tuple(scenes))


def degraded(images: torch.Tensor, kind: str, level: float | int) -> torch.Tensor:
    """Pictures (n, 3, y, x) in [-1, 1] with "noise" of this deviation, or a "blur" of so many pixels; 0
    changes nothing. Raises ``ValueError`` for another kind."""
    if kind not in ("noise", "blur"):
        raise ValueError(f"kind {kind!r} is unknown; take noise or blur")
    if not level:
        return images
    if kind == "noise":
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return (images + level * noise).clamp(-1, 1)
    from torchvision.transforms.v2.functional import gaussian_blur

    return gaussian_blur(images, [2 * round(3 * level) + 1] * 2, [float(level)] * 2)
