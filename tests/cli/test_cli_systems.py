"""``mmlearn systems`` prints the catalogue, for people and for programs."""

import json
import subprocess
import sys

import pytest

from mmlearn.cli import COMMANDS, build_parser, main


def test_systems_as_json_is_a_list_of_objects(capsys):
    assert main(["systems", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    m2 = next(r for r in records if r["name"] == "M2 Transformer")
    paper = next(c for c in m2["configurations"] if c["name"] == "paper")
    assert paper["parameters"] == paper["published"] == 38_411_264


def test_systems_as_text_names_every_system_and_its_size(capsys):
    assert main(["systems"]) == 0
    out = capsys.readouterr().out
    assert "M2 Transformer" in out and "38,411,264 parameters" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args([command, "--help"])
    assert stop.value.code == 0
    assert "mmlearn " + command in capsys.readouterr().out.split("example", 1)[1]


def test_an_unknown_command_is_refused_with_exit_code_2():
    with pytest.raises(SystemExit) as stop:
        main(["sing"])
    assert stop.value.code == 2


def test_the_module_is_the_console_script():
    done = subprocess.run([sys.executable, "-m", "mmlearn", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
