"""Command lines with one wrong value, in every option of every command, and with several at random.

``MMLEARN_BAD_INPUTS=1000`` makes at least so many; without it a few of each kind are made.
"""

import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

COUNT = int(os.environ.get("MMLEARN_BAD_INPUTS", "0"))
SAMPLE = Path(__file__).parents[2] / "data" / "scenes-sample"
# what somebody may write by mistake where something else belongs
SLIPS = ("", " ", "-1", "0", "1.5", "nan", "inf", "-inf", "1e400", "abc", str(10**30), "-" + str(10**30),
         "None", "true", "{}{}", "{", "{x}", "%s", "\udcff.png", "ä" * 300, "x" * 5000, "/dev/null",
         "no/such/place", "a\0b", "--", "*", "~", "1,2")
FILES = ("empty", "bytes", "latin", "list.json", "deep.json", "broken.json", "columns.csv", "folder",
         "picture.png", "broken.png", "weights.safetensors")


@dataclass(frozen=True)
class Line:
    """A command line; ``bad`` is the option whose value must be refused, None where any end but a crash will
    do."""

    arguments: tuple[str, ...]
    bad: str | None = None


def workplace(folder: Path) -> None:
    """Pictures, captions and files of the wrong kind, in a folder that is to be stood in."""
    photos = folder / "photos"
    photos.mkdir()
    names = [f"train_{i:06d}.png" for i in range(4)]
    for name in names:
        shutil.copy(SAMPLE / "images" / name, photos)
    colours = ("red", "blue", "grey", "white")
    (photos / "captions.csv").write_text("file,caption\n" + "".join(
        f"{name},a {colour} cat\n" for name, colour in zip(names, colours)))
    (folder / "lines.txt").write_text("a cat\na tower\n")
    painter(folder / "painter")
    diffuser(folder / "diffuser")
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    hole = Image.new("L", (8, 8))
    hole.paste(255, (2, 2, 5, 6))
    hole.save(folder / "hole.png")
    truth = json.loads((SAMPLE / "annotations" / "captions_train.json").read_text())
    images = truth["images"][:4]
    ids = {image["id"] for image in images}
    (folder / "captions.json").write_text(json.dumps({
        "images": images, "annotations": [a for a in truth["annotations"] if a["image_id"] in ids]}))
    (folder / "corpus.txt").write_text("a red cat\na blue cat\nthe red tower\n")
    (folder / "vectors.txt").write_text("4 2\na 1 2\nred 2 1\ncat 0 1\ntower 1 0\n")
    reader(folder / "reader.safetensors")
    (folder / "shots.csv").write_text(
        f"picture,question,answer\nphotos/{names[0]},Where is this?,in the snow\n")
    (folder / "pairs.tsv").write_text("a\tred\t1\ncat\ttower\t2\nred\tcat\t3\n")
    wrong = folder / "wrong"
    wrong.mkdir()
    (wrong / "folder").mkdir()
    contents = {"empty": b"", "bytes": bytes(range(256)) * 4, "latin": "Hündin\n".encode("latin-1"),
                "list.json": b"[]", "deep.json": b"[" * 100_000, "broken.json": b'{"images": [',
                "columns.csv": b"name,text\na,b\n", "broken.png": (photos / names[0]).read_bytes()[:90],
                "weights.safetensors": b"hello"}
    for name, content in contents.items():
        (wrong / name).write_bytes(content)
    Image.new("RGB", (8, 8)).save(wrong / "picture.png")


def painter(path: Path) -> None:
    """A model that draws, tiny and untrained."""
    import torch

    from mmlearn.data.tokenisers import PlainWordTokeniser
    from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
    from mmlearn.text2image.dfgan import DFGAN, DFGANConfig
    from mmlearn.text2image.pipeline import TextToImage, save_text_to_image

    words = PlainWordTokeniser(["<unk>", "<pad>", "<bos>", "<eos>", "a", "cat", "tower"])
    torch.manual_seed(0)
    text = DAMSM(DAMSMConfig.mini(len(words), 16)).text
    save_text_to_image(path, TextToImage.of(text, DFGAN(DFGANConfig.mini(16, 4)), words), {})


def diffuser(path: Path) -> None:
    """A diffusion model that draws 8 x 8 pixels, tiny and untrained."""
    import torch

    from mmlearn.data.glide_tokeniser import GLIDETokeniser
    from mmlearn.text2image.adm import ADMConfig
    from mmlearn.text2image.glide import GLIDE, GLIDETextConfig, fitted
    from mmlearn.text2image.painting import Painter, save_painter

    words = GLIDETokeniser.train(["a cat", "a tower"], 20, context=6)
    torch.manual_seed(0)
    config = fitted(ADMConfig(8, 8, (1, 2), 1, (), groups=4, head_channels=8),
                    GLIDETextConfig(len(words), 6, 8, 1, 2))
    save_painter(path, Painter.of(words, GLIDE(config.with_hole())), {})


def reader(path: Path) -> None:
    """A Flamingo, tiny and untrained, with its language model beside it."""
    import torch

    from mmlearn.both_modalities.flamingo_training import (
        encode_pictures,
        mini_config,
        new_flamingo,
        save_flamingo,
        scene_encoder,
    )
    from mmlearn.both_modalities.interleaved import ChunkTokeniser
    from mmlearn.both_modalities.language_model import save_lm
    from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig

    words = ChunkTokeniser.train(["Question: Where is this? Answer: in the snow"])
    torch.manual_seed(0)
    language = CausalLM(CausalLMConfig(len(words), 128, 16, 1, 2, 32))
    save_lm(path.parent / "language.safetensors", language, words, {})
    features = encode_pictures(scene_encoder("resnet"), torch.zeros(1, 3, 64, 64,
                                                                   dtype=torch.uint8)).shape[-1]
    model = new_flamingo(mini_config(language, features), language, 0)
    save_flamingo(path, model.adapter, "resnet", {}, "language")


def guidance(text: str) -> bool:
    """Is a text a scale of guidance?"""
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def whole(least: int, most: int) -> Callable[[str], bool]:
    """Is a text a whole number within bounds?"""
    def fits(text: str) -> bool:
        try:
            return least <= int(text) <= most
        except ValueError:
            return False
    return fits


def rate(text: str) -> bool:
    """Is a text a learning rate?"""
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def never(text: str) -> bool:
    """None of the slips and wrong files will do."""
    return False


def new_picture(text: str) -> bool:
    """Can a picture be written there? (Of what is there, only over a picture.)"""
    return text in ("\udcff.png", "wrong/picture.png")


def new_place(text: str) -> bool:
    """Can something new be written there? (A name of one's own is allowed to be odd.)"""
    if text == "wrong/folder":
        return True
    odd = not text.strip() or "\0" in text or len(text) > 200
    return not odd and not text.startswith(("wrong/", "/"))


TRAINER = {"--out": new_place, "--steps": whole(1, 10**9), "--batch": whole(2, 10**6), "--lr": rate,
           "--warmup": whole(0, 10**9), "--precision": never, "--save-every": whole(1, 10**9),
           "--seed": whole(0, 2**32 - 1), "--hold-out": whole(1, 2), "--images": never, "--data": never,
           "--annotations": never, "--validation": never, "--validation-images": never, "--size": never}
CAPTIONER = {**TRAINER, "--batch": whole(1, 10**6), "--trunk": never, "--trunk-weights": never,
             "--features": never, "--phase": never, "--pixels": whole(16, 4096), "--min-count": whole(1, 4)}
PAINTER = {**{name: fits for name, fits in TRAINER.items() if name != "--warmup"}, "--pixels": never,
           "--encoder-steps": whole(1, 10**9)}
OF_FOLDER = ("--data", "folder", "--images", "photos", "--out", "run")
DRAWN = ("--weights", "clip-mini-resnet")
# a good command line, and what its options take besides
COMMANDS: tuple[tuple[tuple[str, ...], dict[str, Callable[[str], bool]]], ...] = (
    (("classify", "photos/train_000003.png", "--labels", "cat,tower", *DRAWN),
     {"--labels": never, "--template": lambda text: text == "{}{}", "--weights": never, "--activation": never,
      "--top": whole(1, 10**40)}),
    (("retrieve", "photos", "a tower", *DRAWN),
     {"--index": lambda text: new_place(text), "--weights": never, "--activation": never,
      "--top": whole(1, 10**40), "--image": never, "--captions": never}),
    (("retrieve", "--image", "photos/train_000003.png", "--captions", "lines.txt", *DRAWN),
     {"--image": lambda text: text == "wrong/picture.png", "--captions": never, "--index": never,
      "--top": whole(1, 10**40)}),
    (("caption", "photos", "--beam", "1"),
     {"--annotations": never, "--out": lambda text: new_place(text) or text == "wrong/list.json",
      "--checkpoint": never, "--beam": whole(1, 100), "--max-len": whole(1, 10**40)}),
    (("generate", "a cat", "--model", "painter", "--out", "x.png"),
     {"--texts": never, "--model": never, "--samples": whole(1, 1000), "--seed": whole(0, 2**32 - 1),
      "--out": new_picture}),
    (("generate", "a cat", "--model", "diffuser", "--steps", "1", "--out", "x.png"),
     {"--steps": whole(1, 1000), "--guidance": guidance, "--texts": never, "--seed": whole(0, 2**32 - 1)}),
    (("edit", "red.png", "a cat", "--mask", "hole.png", "--model", "diffuser", "--steps", "1", "--out",
      "x.png"),
     {"--mask": never, "--model": never, "--samples": whole(1, 1000), "--seed": whole(0, 2**32 - 1),
      "--steps": whole(1, 1000), "--guidance": guidance, "--out": new_picture}),
    (("train", "clip", *OF_FOLDER), TRAINER),
    (("train", "dfgan", *OF_FOLDER), PAINTER),
    (("train", "attngan", *OF_FOLDER, "--size", "cub"),
     {"--pixels": never, "--encoder-steps": whole(1, 10**9)}),
    (("train", "clip", "--scenes", "2", "--out", "run"),
     {"--scenes": never, "--validation": never, "--validation-images": never, "--images": never,
      "--annotations": never, "--hold-out": never}),
    (("train", "data2vec", *OF_FOLDER, "--size", "mini"), {**TRAINER, "--batch": whole(1, 10**6)}),
    (("train", "vilbert", *OF_FOLDER), TRAINER),
    (("train", "flamingo", *OF_FOLDER, "--batch", "2"),
     {**{name: fits for name, fits in TRAINER.items() if name not in ("--batch", "--size")},
      "--batch": whole(1, 3), "--language-steps": whole(1, 10**9), "--encoder": never}),
    (("answer", "photos/train_000003.png", "Where is this?", "--weights", "reader.safetensors",
      "--beams", "1", "--max-len", "2"),
     {"--weights": never, "--shots": never, "--beams": whole(1, 20), "--max-len": whole(1, 10**40)}),
    (("train", "captioner", *OF_FOLDER, "--size", "mini"),
     CAPTIONER),
    (("train", "m2", "--data", "coco", "--images", "photos", "--annotations", "captions.json", "--out", "run",
      "--trunk", "resnet18", "--size", "mini", "--pixels", "32"), {**CAPTIONER, "--hold-out": whole(1, 3)}),
    (("data", "scenes", "--out", "drawn", "--images", "1"),
     {"--out": new_place, "--images": whole(1, 1), "--size": whole(16, 64), "--split": never,
      "--style": never, "--seed": whole(0, 2**32 - 1), "--workers": whole(1, 1)}),
    (("data", "coco", "--out", "coco"), {"--split": never}),
    (("words", "neighbours", "vectors.txt", "cat"),
     {"--top": whole(1, 10**40), "--limit": whole(3, 10**40), "--encoding": never, "--duplicates": never}),
    (("words", "analogy", "vectors.txt", "a", "red", "cat"),
     {"--top": whole(1, 10**40), "--method": never, "--limit": whole(4, 10**40)}),
    (("evaluate", "words", "vectors.txt", "pairs.tsv"),
     {"--column": lambda text: text == "3", "--analogies": never, "--limit": whole(1, 10**40)}),
    (("train", "glove", "corpus.txt", "--out", "new.txt", "--min-count", "1", "--epochs", "1", "--dim", "2"),
     {"--out": never, "--dim": whole(1, 10**7), "--window": whole(1, 10**7), "--updates": never,
      "--x-max": lambda text: text in ("1.5",), "--alpha": lambda text: text in ("0", "1.5"),
      "--min-count": whole(1, 3), "--epochs": whole(1, 1), "--lr": rate,
      "--checkpoints": new_place, "--seed": whole(0, 2**32 - 1)}),
    (("evaluate", "images", str(SAMPLE / "images"), str(SAMPLE / "images")),
     {"--weights": never, "--captions": never, "--encoder": never, "--seed": whole(0, 2**63 - 1)}),
)


def changed(line: tuple[str, ...], option: str, value: str) -> tuple[str, ...]:
    """The command line with another value of an option."""
    if option in line:
        place = line.index(option)
        return (*line[:place + 1], value, *line[place + 2:])
    return (*line, option, value)


def every() -> Iterator[Line]:
    """Every slip and every wrong file in every option of every command."""
    for line, options in COMMANDS:
        for option, fits in options.items():
            for value in (*SLIPS, *(f"wrong/{name}" for name in FILES)):
                yield Line(changed(line, option, value), None if fits(value) else option)


def several(count: int) -> Iterator[Line]:
    """Command lines with two to four values changed, words left out or swapped; anything but a crash will
    do."""
    draw = random.Random(9)
    for _ in range(count):
        line, options = draw.choice(COMMANDS)
        for option in draw.sample(sorted(options), min(len(options), draw.randint(2, 4))):
            line = changed(line, option, draw.choice((*SLIPS, *(f"wrong/{name}" for name in FILES))))
        words = list(line)
        if draw.random() < 0.3:
            del words[draw.randrange(len(words))]
        if draw.random() < 0.2:
            i, j = draw.randrange(len(words)), draw.randrange(len(words))
            words[i], words[j] = words[j], words[i]
        yield Line(tuple(words))


def cases() -> list[Line]:
    """What is tried: everything at scale, a few of each kind otherwise."""
    single = list(every())
    if COUNT:
        return single + list(several(max(0, COUNT - len(single))))
    draw = random.Random(4)
    return draw.sample(single, 100) + list(several(30))


def remove(path: Path) -> None:
    """Take away what a command has left, a file or a folder."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
