"""Folders of runs, exports and studies that are damaged anywhere, and settings that are no settings: one
sentence that names the file, or the very result. ``MMLEARN_BAD_INPUTS=1000`` tries so many of each."""

import argparse
import inspect
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from bad_inputs.runs import COUNT, NUMBERS, TEXTS, copied, damaged, wrong
from PIL import Image
from resume_worker import Config, Net, run
from torch import nn

from mmlearn import checkpoints
from mmlearn.cli import main
from mmlearn.cli.training import recall
from mmlearn.data.scenes.export import export_coco
from mmlearn.experiments.jobs import run_jobs
from mmlearn.files import locked
from mmlearn.train import Batches, fit


def tally(outcomes: Counter, capsys) -> None:
    """Print the counts where many are asked for; only clean ones are allowed."""
    if COUNT:
        with capsys.disabled():
            print(f"\n{inspect.stack()[1].function}: {dict(outcomes)}")
    assert set(outcomes) <= {"clean"}, outcomes


def test_a_damaged_folder_of_a_run_goes_on_alike_or_is_refused_in_a_sentence(tmp_path, capsys):
    whole = run(tmp_path / "whole", steps=6, save_every=2)
    outcomes: Counter = Counter()
    for number in range(COUNT or 60):
        folder = copied(tmp_path / "whole", tmp_path / "run")
        what = damaged(folder, random.Random(number))
        try:
            found = run(folder, steps=6, save_every=2)
            alike = all(torch.equal(found[name], whole[name]) for name in whole)
            outcomes["clean" if alike else f"silent: {what}"] += 1
        except (ValueError, OSError) as error:
            outcomes["clean" if str(folder) in str(error) else f"no file: {what}: {error}"] += 1
        except Exception as error:
            outcomes[f"traceback: {what}: {error!r}"] += 1
    tally(outcomes, capsys)


def test_weights_of_a_damaged_run_are_those_that_were_written_or_are_refused(tmp_path, capsys):
    run(tmp_path / "whole", steps=6, save_every=2)
    written = [checkpoints.read(path).tensors["model"] for path in checkpoints.steps_in(tmp_path / "whole")]
    outcomes: Counter = Counter()
    for number in range(COUNT or 60):
        folder = copied(tmp_path / "whole", tmp_path / "run")
        what = damaged(folder, random.Random(1_000_000 + number))
        model = Net(Config())
        try:
            checkpoints.load_weights(model, folder, which="model")
            state = model.state_dict()
            alike = any(all(torch.equal(state[name], kept[name]) for name in kept) for kept in written)
            outcomes["clean" if alike else f"silent: {what}"] += 1
        except (ValueError, OSError) as error:
            outcomes["clean" if str(folder) in str(error) else f"no file: {what}: {error}"] += 1
        except Exception as error:
            outcomes[f"traceback: {what}: {error!r}"] += 1
    tally(outcomes, capsys)


SETTINGS = {"system": "captioner", "phase": "xe", "data": "csv", "size": "mini", "precision": "no",
            "steps": 2, "batch": 4, "seed": 0, "scenes": None, "save_every": None, "lr": 1e-3, "warmup": 0,
            "images": "no-folder", "annotations": "no-table.csv", "validation": None,
            "validation_images": None}


def test_a_damaged_file_of_settings_is_named(tmp_path, capsys):
    outcomes: Counter = Counter()
    path = tmp_path / "run.json"
    for number in range(COUNT or 60):
        draw = random.Random(number)
        text = (draw.choice(TEXTS) if number % 4 == 0
                else json.dumps(wrong({"phases": [SETTINGS]}, draw)))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            phases = recall(tmp_path)
            kinds = {name: type(value) for name, value in SETTINGS.items()}
            odd = [name for phase in phases for name, kind in kinds.items() if type(phase[name]) is not kind
                   and not (phase[name] is None or kind in (type(None), float, int))]
            outcomes[f"silent: {odd}" if odd else "clean"] += 1
        except ValueError as error:
            outcomes["clean" if "run.json" in str(error) else f"no file: {text}: {error}"] += 1
        except Exception as error:
            outcomes[f"traceback: {text}: {error!r}"] += 1
    tally(outcomes, capsys)


def test_the_command_says_so_too(tmp_path, capsys):
    for number in range(0, COUNT or 6):
        (tmp_path / "run.json").write_bytes(TEXTS[number % len(TEXTS)].encode("utf-8", "surrogatepass"))
        assert main(["train", "captioner", "--resume", "--out", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "Traceback" not in said and str(tmp_path) in said


def test_a_second_run_in_one_folder_is_told_who_is_there_and_changes_nothing(tmp_path, capsys):
    with locked(tmp_path), locked(tmp_path / "xe"):
        (tmp_path / "notes.txt").write_text("mine")
        for command in (["captioner"], ["clip"], ["dfgan"], ["m2", "--resume"]):
            assert main(["train", *command, "--out", str(tmp_path)]) == 2
            said = capsys.readouterr().err
            assert f"{tmp_path} is being written by process {os.getpid()} on" in said
            assert said.count("\n") == 1
        with pytest.raises(OSError, match="xe is being written by process"):
            run(tmp_path / "xe", steps=2)
        assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
            "notes.txt", "xe"]


@pytest.mark.parametrize("system", [["clip", "--size", "mini", "--warmup", "0"],
                                    ["dfgan", "--pixels", "16", "--encoder-steps", "1"]])
def test_a_run_that_diverges_ends_with_a_sentence_and_code_two(system, tmp_path, capsys):
    table = tmp_path / "captions.csv"
    for i in range(2):
        Image.new("RGB", (32, 32), (90 * i, 9, 9)).save(tmp_path / f"{i}.png")
    table.write_text("file,caption\n0.png,a dog\n1.png,a cat\n")
    assert main(["train", *system, "--data", "csv", "--annotations", str(table), "--steps", "2", "--batch",
                 "2", "--lr", "1e38", "--out", str(tmp_path / "run")]) == 2
    assert re.search("lower (the )?learning rate", capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_damaged_export_is_named_or_ends_alike(tmp_path, capsys):
    class Stopped(Exception):
        pass

    def stop(done, total):
        raise Stopped

    def files(folder: Path) -> dict:
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wanted = files(export_coco(tmp_path / "whole", 2, 16))
    with pytest.raises(Stopped):
        export_coco(tmp_path / "begun", 2, 16, progress=stop)
    outcomes: Counter = Counter()
    for number in range(COUNT or 40):
        draw = random.Random(number)
        folder = copied(tmp_path / "begun", tmp_path / "run")
        begun = folder / ".unfinished-train" / "recipe.json"
        file = draw.choice([begun, folder / "annotations" / "recipe_train.json"])
        content = json.loads(begun.read_text())
        text = draw.choice(TEXTS) if number % 4 == 0 else json.dumps(wrong(content, draw))
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            alike = files(export_coco(folder, 2, 16)) == wanted
            outcomes["clean" if alike or json.loads(text) == content else f"silent: {file.name} {text}"] += 1
        except (ValueError, OSError) as error:
            outcomes["clean" if str(folder) in str(error) else f"no file: {text}: {error}"] += 1
        except Exception as error:
            outcomes[f"traceback: {text}: {error!r}"] += 1
    tally(outcomes, capsys)


def never(name, seed, args):
    raise AssertionError("it is not run again")


def test_a_damaged_result_of_a_study_is_named(tmp_path, capsys):
    args = argparse.Namespace(keep=tmp_path, processes=1, seeds=1, steps=3)
    whole = {"settings": {"steps": 3}, "result": {"accuracy": 0.5}}
    outcomes: Counter = Counter()
    for number in range(COUNT or 60):
        draw = random.Random(number)
        changed = wrong(whole, draw)
        text = draw.choice(TEXTS) if number % 3 == 0 else json.dumps(changed)
        (tmp_path / "a-0.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            ((job, result),) = run_jobs(never, [("a", 0)], args)
            fine = json.loads(text)["settings"] == whole["settings"] and isinstance(result, dict)
            outcomes["clean" if fine and job == ("a", 0) else f"silent: {text}"] += 1
        except ValueError as error:
            outcomes["clean" if "a-0.json" in str(error) else f"no file: {text}: {error}"] += 1
        except Exception as error:
            outcomes[f"traceback: {text}: {error!r}"] += 1
    tally(outcomes, capsys)


def count_letters(name, seed, args):
    return {"letters": len(name) + seed}


def test_a_study_that_is_run_again_reads_what_it_kept_and_shares_its_folder_with_nobody(tmp_path):
    args = argparse.Namespace(keep=tmp_path / "kept", processes=1, seeds=2, steps=3)
    jobs = [("ab", 0), ("ab", 1)]
    running = run_jobs(count_letters, jobs, args)
    assert next(running) == (("ab", 0), {"letters": 2})
    with pytest.raises(OSError, match="kept is being written by process"):
        list(run_jobs(count_letters, jobs, args))
    assert list(running) == [(("ab", 1), {"letters": 3})]
    assert [result for _, result in run_jobs(never, jobs, args)] == [{"letters": 2}, {"letters": 3}]
    args.steps = 4
    with pytest.raises(ValueError, match="use another --keep folder"):
        list(run_jobs(never, jobs, args))


def test_no_number_makes_fit_stumble(capsys):
    whole = ("steps", "accumulate", "save_every", "keep", "evaluate_every", "patience", "seed")
    outcomes: Counter = Counter()
    data = [(torch.ones(3), torch.ones(1))] * 4
    for name in (*whole, "lr", "clip", "ema"):
        for value in NUMBERS:
            if name in whole and not isinstance(value, int):
                continue                                    # the checker of types refuses those in the tests
            settings = {"steps": 2, "evaluate": lambda m: {"a": 1.0}, "watch": "a", name: value}
            model = nn.Linear(3, 1)
            try:
                fit(model, lambda m, batch: ((m(batch[0]) - batch[1]) ** 2).mean(), Batches(data, 2),
                    progress=False, **settings)
                legal = {"seed": 0 <= value < 2**32, "lr": 0 <= value < 1e30, "clip": value > 0,
                         "ema": 0 <= value <= 1}.get(name, False)
                outcomes["clean" if legal else f"silent: {name}={value}"] += 1
            except ValueError as error:
                named = name in str(error) or "rate" in str(error) or "finite" in str(error)
                outcomes["clean" if named else f"no name: {name}={value}: {error}"] += 1
            except Exception as error:
                outcomes[f"traceback: {name}={value}: {error!r}"] += 1
    tally(outcomes, capsys)
