"""Whatever is written behind ``mmlearn``, it is done or refused in one sentence.

``MMLEARN_BAD_INPUTS=3000`` tries every wrong value in every option.
"""

import functools
import os
import re
import traceback

import command_lines
import pytest

from mmlearn.cli import main


class Accepted(Exception):
    """Training would have begun: the arguments were found to be good."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to stand in; models are read once, nothing is trained, nothing downloaded."""
    import mmlearn.cli.data
    from mmlearn.both_modalities import data2vec, flamingo_training, language_model, vilbert_training
    from mmlearn.data import download
    from mmlearn.image2text import saved
    from mmlearn.image2text import training as captioning
    from mmlearn.pretrained import dual_encoders
    from mmlearn.text2image import training as drawing
    from mmlearn.text_for_vision import training as contrastive

    def begun(*_args, **_options):
        raise Accepted

    def no_network(folder, split, *_args, **_options):
        if split in download.COCO_SPLITS:
            raise Accepted
        return download.download_coco(folder, split)

    for module, name in ((captioning, "train_cross_entropy"), (captioning, "train_self_critical"),
                         (contrastive, "train_clip"), (drawing, "train_damsm"), (drawing, "train_game"),
                         (data2vec, "train_data2vec"), (vilbert_training, "pretrain"),
                         (flamingo_training, "train_flamingo"), (language_model, "train_lm")):
        monkeypatch.setattr(module, name, begun)
    monkeypatch.setattr(mmlearn.cli.data, "download_coco", no_network)
    monkeypatch.setattr("mmlearn.cli.dual.hub_reached", lambda: False)
    for module in ("train_clip", "train_captioner", "train_text_to_image", "train_data2vec", "train_flamingo",
                   "train_vilbert"):
        monkeypatch.setattr(f"mmlearn.cli.{module}.VALIDATION_SCENES", 2)
    for module, name in ((dual_encoders, "open_model"), (saved, "load_captioner")):
        original, cached = getattr(module, name), functools.cache(getattr(module, name))
        monkeypatch.setattr(module, name, lambda source, original=original, cached=cached, **options: (
            cached(source) if source in ("clip-mini-resnet", "m2-regions") and not options
            else original(source, **options)))
    stand = tmp_path / "a" / "b" / "c"
    stand.mkdir(parents=True)
    command_lines.workplace(stand)
    monkeypatch.chdir(stand)
    return stand


def complaint(line, code, err) -> str | None:
    """What is wrong with how a command line ended, if anything."""
    if code in (0, "accepted"):
        return f"{line.bad} was accepted in silence" if line.bad else None
    told = err.strip().splitlines()
    if code != 2 or not told:
        return f"it ended with {code} and said {err[-200:]!r}"
    sentence = told[-1]
    if not re.match(r"mmlearn( \w+)*: (error: )?\S", sentence):
        return f"its last line is {sentence!r}"
    if "Traceback" in err or re.search(r"\b(pass|with|beyond) [a-z_]+=", sentence):
        return f"it speaks of Python: {sentence!r}"
    return None


def test_every_command_line_is_done_or_refused_in_one_sentence(place, capsys):
    lines, wrong, ends = command_lines.cases(), [], {"refused": 0, "done": 0, "traceback": 0, "silent": 0}
    before = sorted(os.listdir(place))
    for line in lines:
        try:
            code = main(list(line.arguments))
        except Accepted:
            code = "accepted"
        except SystemExit as error:                         # argparse's own
            code = error.code
        except BaseException:
            capsys.readouterr()
            ends["traceback"] += 1
            wrong.append(f"{line.arguments}: {traceback.format_exc(limit=-3)}")
            continue
        said = capsys.readouterr()
        problem = complaint(line, code, said.err)
        if problem:
            ends["silent" if "silence" in problem else "traceback"] += 1
            wrong.append(f"{line.arguments}: {problem}")
            if command_lines.COUNT:                         # a long run tells at once
                with capsys.disabled():
                    print(wrong[-1], flush=True)
        else:
            ends["done" if code in (0, "accepted") else "refused"] += 1
        for name in set(os.listdir(place)) - set(before):   # each begins in the same folder
            command_lines.remove(place / name)
    if command_lines.COUNT:
        with capsys.disabled():
            print(f"\n{len(lines)} command lines: {ends}")
    assert not wrong, f"{len(wrong)} of {len(lines)}\n" + "\n".join(wrong[:40])
