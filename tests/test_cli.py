"""The command line."""

import csv
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from sparsedd.cli import main
from sparsedd.experiments import FINETUNING, PRESETS, run


def test_run_leaves_a_table_a_picture_and_three_sentences_and_continues(tmp_path, capfd):
    command = ["run", "lenet-digits", "--scale", "smoke", "--seeds", "2", "--processes", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    printed = capfd.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("level")]
    assert [line.split()[1] for line in lines] == ["0", "1", "2"]
    assert all(" sparsity " in line and " train " in line and " test " in line for line in lines)
    assert all(line.split()[-1] in ("Light", "Critical", "Sweet", "Collapsed") for line in lines)
    assert "In the mean of 2 seeds" in printed
    assert (tmp_path / "figure.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    table = (tmp_path / "levels.csv").read_bytes()
    assert [(r["seed"], r["level"]) for r in csv.DictReader(table.decode().splitlines())] == [
        (seed, level) for seed in "01" for level in "012"
    ]
    assert main(command) == 0
    assert (tmp_path / "levels.csv").read_bytes() == table, "nothing is computed twice"
    (tmp_path / "levels.csv").unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "levels.csv").read_bytes() == table


def test_a_report_of_nothing_says_so(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["run"], ["run", "vgg", "--out", "x"], ["run", "lenet-mnist"], ["demo", "--seeds", "0"], ["demo", "--seed", "-1"]],
)
def test_wrong_arguments_end_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: sparsedd" in capsys.readouterr().err


def test_a_damaged_store_is_one_line_and_exit_1(tmp_path, capfd):
    command = ["run", "lenet-digits", "--scale", "smoke", "--processes", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    next(tmp_path.rglob("config.json")).write_text("{}")
    assert main(command) == 1
    assert "config.json" in capfd.readouterr().err


@pytest.mark.parametrize(("device", "message"), [("cuda:99", "CUDA"), ("nonsense", "nonsense|device")])
def test_an_error_in_a_worker_is_one_line_and_exit_1(tmp_path, capfd, device, message):
    assert main(["run", "lenet-digits", "--scale", "smoke", "--out", str(tmp_path), "--device", device]) == 1
    assert re.search(f"sparsedd: .*({message})", capfd.readouterr().err)


def test_an_interrupt_ends_the_workers_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "sparsedd.cli", "demo", "--out", str(tmp_path), "--seeds", "2"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "35 levels" in running.stdout.readline()
    assert running.stdout.readline().startswith("level  0")
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "goes on from here" in err
    assert time.monotonic() - began < 60, "the workers were not waited for"


def test_a_table_holds_all_seeds_and_a_report_never_mixes_experiments(tmp_path, capfd):
    smoke = ["--scale", "smoke", "--processes", "1", "--out", str(tmp_path)]
    assert main(["run", "lenet-digits", "--seeds", "2", *smoke]) == 0
    assert main(["run", "lenet-digits", "--seeds", "1", *smoke]) == 0
    assert (tmp_path / "levels.csv").read_text().count("\n") == 1 + 2 * 3
    list(run(replace(PRESETS["lenet-digits"].scaled("smoke"), retraining=FINETUNING), tmp_path / "runs"))
    capfd.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    printed = capfd.readouterr().out
    assert "the mean of 2 seeds" in printed
    assert "In one seed" in printed
    assert len(list(tmp_path.glob("figure-*.png"))) == 2
