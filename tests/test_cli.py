"""The command line."""

import csv
import io
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from sparsedd import cli
from sparsedd.cli import main
from sparsedd.cli._progress import Progress
from sparsedd.experiments import FINETUNING, PRESETS, Store, Tables, run


def test_run_leaves_a_table_a_picture_and_three_sentences_and_continues(tmp_path, capfd):
    command = ["run", "lenet-digits", "--scale", "smoke", "--seeds", "2", "--processes", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    printed = capfd.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("level")]
    assert [line.split()[1] for line in lines] == ["0", "1", "2"]
    assert all(" sparsity " in line and " train " in line and " test " in line for line in lines)
    assert all(re.search(r" (Light|Critical|Sweet|Collapsed) so far$", line) for line in lines)
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


# ---------------------------------------------------------------- on a terminal, and interrupted


def begun(arguments, **streams):
    """The command, in a process group of its own in which an interrupt is heard: a shell has its background jobs ignore it."""
    heeded = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-W", "error", "-m", "sparsedd", *arguments]
    return subprocess.Popen(command, text=True, start_new_session=True, preexec_fn=heeded, **streams)


@pytest.mark.parametrize("command", [["run", "lenet-digits"], ["figure", "37"]], ids=" ".join)
def test_an_interrupt_ends_the_workers_and_the_command_that_it_names_goes_on(tmp_path, command):
    arguments = [*command, "--scale", "smoke", "--seeds", "8", "--processes", "2", "--out", str(tmp_path / "a folder")]
    running = begun(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list(tmp_path.rglob("levels.jsonl")):
        assert running.poll() is None, running.communicate()
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: all processes of the group
    began = time.monotonic()
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert time.monotonic() - began < 60, "the workers were not waited for"
    there = sorted(tmp_path.rglob("*"))
    time.sleep(1)
    assert sorted(tmp_path.rglob("*")) == there, "a worker has gone on"
    said = err.strip().splitlines()
    assert said[0] == "Stopped. All finished levels are kept. The same command goes on from here:"
    assert len(said) == 2, err
    assert list(tmp_path.rglob("*sparsedd-tmp")) == []
    kept = {path: path.read_bytes() for path in tmp_path.rglob("00.*.safetensors")}
    words = shlex.split(said[1])
    assert words[1:] == ["-m", "sparsedd", *arguments]
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("02.weights.safetensors"))) == 8
    assert kept.items() <= {path: path.read_bytes() for path in tmp_path.rglob("00.*.safetensors")}.items()


def test_an_interrupt_of_what_keeps_nothing_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sparsedd.experiments.verify", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["verify", str(tmp_path)]) == 130
    assert capsys.readouterr().err == f"\nStopped. The same command begins again:\n  sparsedd verify {tmp_path}\n"


@pytest.mark.parametrize("where", ["on the path", "elsewhere", "as a module"])
def test_the_command_that_goes_on_can_be_typed(tmp_path, monkeypatch, where, capsys):
    for folder in ("bin", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sparsedd").write_text("#!/bin/sh\n")
        (tmp_path / folder / "sparsedd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    place = {"on the path": "bin/sparsedd", "elsewhere": "other/sparsedd", "as a module": "__main__.py"}[where]
    monkeypatch.setattr(sys, "argv", [str(tmp_path / place), "verify", "my runs"])
    said = cli._format_command(None)
    python = f"{Path(sys.executable).name} -m sparsedd"
    expected = {"on the path": "sparsedd", "elsewhere": str(tmp_path / place), "as a module": python}[where]
    assert said == f"{expected} verify 'my runs'"


def seen(arguments, stdout=None):
    """What a terminal of 100 columns is sent, and the exit status."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    running, sent = begun(arguments, stdin=theirs, stdout=stdout or theirs, stderr=theirs), b""
    os.close(theirs)
    with suppress(OSError):  # the terminal is gone with its last process
        while data := os.read(ours, 65536):
            sent += data
    os.close(ours)
    return running.wait(timeout=60), sent.decode()


def test_a_terminal_shows_a_bar_with_the_time_left_and_whole_lines(tmp_path):
    arguments = ["run", "lenet-digits", "--scale", "smoke", "--seeds", "3", "--processes", "1", "--out", str(tmp_path)]
    status, sent = seen(arguments)
    assert status == 0, sent
    assert re.search(r"\rlenet-digits: +\d+ %\|.*\| \d of 9 levels, \d\d:\d\d so far, (\?|\d\d:\d\d) left", sent)
    lines = [line.split("\r")[-1].strip() for line in sent.replace("\r\n", "\n").split("\n")]
    assert [line.split()[1] for line in lines if line.startswith("level")] == ["0", "1", "2"]
    assert all(
        re.fullmatch(r"level +\d .* (Light|Critical|Sweet|Collapsed) so far", line)
        for line in lines
        if "sparsity " in line and "train " in line
    )
    assert not any("so far," in line for line in lines), "the bar is gone in the end"
    with open(tmp_path / "log", "w") as log:
        status, sent = seen(["figure", "5", "--scale", "smoke", "--seeds", "2", "--out", str(tmp_path / "5")], stdout=log)
    assert status == 0, sent
    assert re.search(r"\rFigure 5: .* of 6 levels", sent)
    assert "\N{GREEK SMALL LETTER EPSILON}" in (tmp_path / "log").read_text()
    assert "of 6 levels" not in (tmp_path / "log").read_text()


def test_where_nobody_looks_there_is_no_bar(tmp_path):
    arguments = ["figure", "5", "--scale", "smoke", "--seeds", "1", "--processes", "1", "--out", str(tmp_path)]
    out, err = begun(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE).communicate(timeout=300)
    assert err == ""
    assert "3 of 3 levels; 1 of 1 runs of this stage\n" in out
    assert "\r" not in out


NOTEBOOK = """
import sys
from types import ModuleType, SimpleNamespace
sys.modules |= {name: ModuleType(name) for name in ("ipykernel", "ipykernel.zmqshell", "IPython")}
sys.modules["IPython"].get_ipython = lambda: SimpleNamespace()
from sparsedd.cli._progress import Progress
with Progress("a notebook without ipywidgets", "levels", 3, 1) as progress:
    progress.update(2)
    progress.say(f"shown: {progress.visible}")
"""


def test_a_notebook_without_widgets_is_not_warned():
    done = subprocess.run([sys.executable, "-W", "error", "-c", NOTEBOOK], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("shown: False\n", "")


def test_without_tqdm_there_are_lines(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm.asyncio", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress("all", "levels", 3, 0) as progress:
        progress.update(1)
        progress.say("a line")
    assert not progress.visible
    assert capsys.readouterr() == ("a line\n", "")


# ---------------------------------------------------------------- where its output goes


def test_a_terminal_that_knows_ascii_only_is_told_all(tmp_path):
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    arguments = ["run", "lenet-digits", "--scale", "smoke", "--processes", "1", "--out", str(tmp_path / "\u03b5")]
    out, err = begun(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ascii_only).communicate(timeout=300)
    assert err == ""
    assert out.startswith("digits-lenet_300_100-symmetric40-magnitude-ltr, smoke scale: 3 levels \\xd7 1 seed, in ")
    assert str(tmp_path / "\\u03b5" / "report.html") in out.replace("\\\\", "\\")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_stops_reading_is_not_scolded(unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    closed = begun(["figure", "list"], stdout=writer, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    os.close(writer)
    assert closed.communicate(timeout=300)[1] == ""
    assert closed.returncode == 141


def test_all_is_written_before_anything_is_printed(tmp_path, monkeypatch):
    """As for ``report … | head -1``: who reads may be gone at the first line."""
    for command in (["run", "lenet-digits"], ["figure", "5", "--seeds", "1"]):
        assert main([*command, "--scale", "smoke", "--processes", "1", "--out", str(tmp_path / command[0])]) == 0
    tables = (tmp_path / "figure" / "levels.csv").read_bytes()
    for name in "ab":
        (tmp_path / name / "5").mkdir(parents=True)
        (tmp_path / name / "5" / "levels.csv").write_bytes(tables)
    written = [tmp_path / "run" / "report.html", tmp_path / "run" / "figure.png", tmp_path / "run" / "levels.csv"]
    for path in written:
        path.unlink()
    gone = io.StringIO()
    gone.write = lambda text: (_ for _ in ()).throw(BrokenPipeError)  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdout", gone)
    assert main(["report", str(tmp_path / "run")]) == 141
    assert main(["figure", "5", "--from", str(tmp_path)]) == 141
    written += [tmp_path / name / "5" / "figure.png" for name in "ab"]
    assert [path for path in written if not path.exists()] == []


# ---------------------------------------------------------------- help


def commands():
    (parsers,) = [action.choices for action in cli._make_parser()._actions if action.choices]
    return parsers


def test_every_example_in_a_help_is_a_command(capsys):
    shown = {name: parser.format_help() for name, parser in commands().items()} | {"": cli._make_parser().format_help()}
    for name, text in shown.items():
        lines = [line for line in text.splitlines() if re.match(r"  (SPARSEDD_DATA=\w+ )?sparsedd ", line)]
        assert lines, name
        assert name == "" or any(f"sparsedd {name}" in line for line in lines)
        for line in lines:
            arguments = shlex.split(re.split(r"\s{2,}", line.strip())[0])[1:]
            if "--help" in arguments:
                with pytest.raises(SystemExit, match="0"):
                    cli._make_parser().parse_args(arguments)
            else:
                cli._make_parser().parse_args(arguments)


def test_the_first_help_names_every_command_and_what_it_is_for():
    text = cli._make_parser().format_help()
    for name in commands():
        assert re.search(rf"^    {name} +\w.{{20}}", text, flags=re.M), name


# ---------------------------------------------------------------- dry runs


def test_a_dry_run_says_what_would_run_and_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    smoke = ["--scale", "smoke", "--processes", "1"]
    command = ["run", "lenet-digits", *smoke, "--seeds", "2", "--reinit", "--out", "here"]
    assert main([*command, "--dry-run"]) == 0
    printed = capfd.readouterr().out
    assert "magnitude-ltr, smoke scale, seeds 0 to 1: 3 levels of 2 epochs; 0 of 6 are done; sparsity up to 36.00 %" in printed
    assert "magnitude-reinit-of-ltr, smoke scale, seeds 0 to 1: 3 levels of 2 epochs; 0 of 6 are done" in printed
    assert "Runs would be in here/runs, table and picture in here." in printed
    assert list(tmp_path.iterdir()) == []
    assert main(["run", "lenet-digits", *smoke, "--out", "here"]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capfd.readouterr()
    assert main([*command, "--dry-run"]) == 0
    printed = capfd.readouterr().out
    assert "magnitude-ltr, smoke scale, seeds 0 to 1: 3 levels of 2 epochs; 3 of 6 are done" in printed
    assert "Nothing is left" not in printed
    assert main(["run", "lenet-digits", *smoke, "--out", "here", "--dry-run"]) == 0
    printed = capfd.readouterr().out
    assert "seed 0: 3 levels of 2 epochs; all are done" in printed
    assert "Nothing is left to be computed" in printed
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_dry_run_of_a_figure_counts_its_nets_too(tmp_path, capfd):
    command = ["figure", "40", "--scale", "smoke", "--seeds", "1", "--processes", "1", "--out", str(tmp_path)]
    assert main([*command, "--dry-run"]) == 0
    assert "then up to 4 nets trained on without mask, and the line from each" in capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert main(command) == 0
    lost = sorted(tmp_path.rglob("*.interpolation.safetensors"))
    lost[0].unlink()
    capfd.readouterr()
    assert main([*command, "--dry-run"]) == 0
    assert "then up to 1 net trained on" in capfd.readouterr().out


def test_a_dry_run_without_the_data_says_so_and_downloads_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path / "none"))
    assert main(["run", "lenet-mnist", "--processes", "1", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capfd.readouterr().out
    assert f"The files of mnist are not in {tmp_path / 'none'}" in printed
    assert "36 levels of 80 epochs" in printed
    assert list(tmp_path.iterdir()) == []


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


# ---------------------------------------------------------------- figure


def test_figure_leaves_tables_and_a_picture_says_what_it_measured_and_continues(tmp_path, capfd):
    out = tmp_path / "37"
    command = ["figure", "37", "--scale", "smoke", "--out", str(out), "--processes", "2"]
    assert main(command) == 0
    printed = capfd.readouterr().out
    assert "Figure 37, smoke scale. MNIST" in printed
    assert "- Sweet: trained on without its mask" in printed
    assert "cannot be told. Measured: rise of training accuracy" in printed
    files = {name: (out / name).read_bytes() for name in ("levels.csv", "epochs.csv", "figure.png")}
    assert files["levels.csv"].count(b"\n") == 1 + 2 * 3
    assert main(command) == 0
    assert files == {name: (out / name).read_bytes() for name in files}, "nothing is computed twice"
    capfd.readouterr()
    assert main(["figure", "37", "--from", str(out), "--out", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / "figure.png").read_bytes() == files["figure.png"]
    assert "Figure 37, smoke scale" in capfd.readouterr().out


def test_figures_share_their_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = ["--scale", "smoke", "--processes", "1", "--seeds", "1", "--seed", "3"]
    assert main(["figure", "5", *options]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert before
    assert main(["figure", "9", *options]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["5", "9", "runs"]
    assert ",3,0," in (tmp_path / "figures" / "9" / "levels.csv").read_text()
    assert "\N{GREEK SMALL LETTER EPSILON} = 20 %" in capfd.readouterr().out


def test_a_figure_on_another_preset_needs_to_be_told_so_when_it_is_drawn_again(tmp_path, capfd):
    out = str(tmp_path / "results" / "31")
    assert main(["figure", "31", "--on", "lenet-mnist", "--scale", "smoke", "--out", out, "--processes", "1"]) == 0
    printed = capfd.readouterr().out
    assert "Figure 31 on MNIST, smoke scale. In the paper: Without label noise." in printed
    assert "This is of stand-in data" in printed
    assert main(["figure", "31", "--on", "lenet-mnist", "--from", str(tmp_path / "results")]) == 0
    assert capfd.readouterr().out.startswith("Figure 31 on MNIST")
    assert main(["figure", "31", "--from", out]) == 1
    said = capfd.readouterr().err
    assert "no rows of blobs-cifar10-resnet18-clean-magnitude-ltr, but of digits-lenet_300_100-clean-magnitude-ltr" in said
    assert ": pass the same --on as when they were made" in said
    assert main(["figure", "31", "--from", str(tmp_path / "results")]) == 1
    assert "is of other data than Figure 31: add --on lenet-mnist" in capfd.readouterr().err


def test_several_tables_do_not_go_into_one_folder(tmp_path, capfd):
    smoke = ["figure", "5", "--scale", "smoke", "--seeds", "1", "--processes", "1", "--runs", str(tmp_path / "runs")]
    assert main([*smoke, "--out", str(tmp_path / "a" / "5")]) == 0
    assert main([*smoke, "--on", "resnet18-cifar10", "--out", str(tmp_path / "other" / "5")]) == 0
    assert main(["figure", "5", "--from", str(tmp_path), "--out", str(tmp_path / "b")]) == 0  # the other is of another net
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    assert main(["figure", "5", "--from", str(tmp_path), "--out", str(tmp_path / "d")]) == 1
    assert "there are 2" in capfd.readouterr().err
    assert not (tmp_path / "d").exists()


def test_drawing_reads_each_table_once(tmp_path, monkeypatch):
    assert main(["figure", "5", "--scale", "smoke", "--seeds", "1", "--out", str(tmp_path / "5")]) == 0
    folders, read = [], Tables.read
    monkeypatch.setattr(Tables, "read", lambda out: folders.append(out) or read(out))
    assert main(["figure", "5", "--from", str(tmp_path)]) == 0
    assert folders == [tmp_path / "5"]


def test_processes_do_not_change_a_figure(tmp_path, capfd):
    for processes in ("1", "2"):
        out = tmp_path / processes
        command = ["figure", "13", "--scale", "smoke", "--out", str(out), "--processes", processes]
        assert main(command) == 0
    tables = [
        [{**row, "seconds": ""} for row in csv.DictReader((tmp_path / p / "levels.csv").read_text().splitlines())] for p in "12"
    ]
    assert tables[0] == tables[1]
    assert (tmp_path / "1" / "figure.png").read_bytes() == (tmp_path / "2" / "figure.png").read_bytes()


def test_nets_of_one_shape_are_trained_as_one(tmp_path):
    common = ["--scale", "smoke", "--seeds", "2", "--processes", "1"]
    assert main(["run", "lenet-digits", *common, "--fleet", "--out", str(tmp_path / "fleet")]) == 0
    assert main(["run", "lenet-digits", *common, "--out", str(tmp_path / "alone")]) == 0
    assert main(["figure", "13", *common, "--fleet", "--out", str(tmp_path / "figure")]) == 0
    tables = [list(csv.DictReader((tmp_path / which / "levels.csv").read_text().splitlines())) for which in ("fleet", "alone")]
    for ours, theirs in zip(*tables, strict=True):
        assert (ours["seed"], ours["remaining"]) == (theirs["seed"], theirs["remaining"])
        assert float(ours["learning_distance"]) == pytest.approx(float(theirs["learning_distance"]), rel=1e-3)


def test_the_list_of_figures_has_all_of_them(capsys):
    assert main(["figure", "list"]) == 0
    assert [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()] == list(range(1, 50))


@pytest.mark.parametrize("arguments", [["figure"], ["figure", "50"], ["figure", "5", "--scale", "tiny"], ["data", "svhn", "x"]])
def test_what_is_no_figure_ends_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: sparsedd" in capsys.readouterr().err


def test_tables_of_another_figure_change_nothing(tmp_path, capfd):
    for number in ("5", "14"):
        assert main(["figure", number, "--scale", "smoke", "--seeds", "1", "--out", str(tmp_path / number)]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "14").glob("*.*")}
    assert main(["figure", "14", "--from", str(tmp_path / "5"), "--out", str(tmp_path / "14")]) == 1
    assert "no rows of" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "14").glob("*.*")} == before
    assert main(["figure", "14", "--from", str(tmp_path / "14")]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "14").glob("*.*")} == before


def test_tables_of_the_figure_before_do_not_stay(tmp_path):
    options = ["--scale", "smoke", "--seeds", "1", "--out", str(tmp_path)]
    assert main(["figure", "35", *options]) == 0
    assert (tmp_path / "epochs.csv").exists()
    assert main(["figure", "5", *options]) == 0
    assert not (tmp_path / "epochs.csv").exists()


@pytest.mark.parametrize("option", ["--seeds 3", "--seed 0", "--scale small", "--device cpu", "--runs x", "--dry-run"])
def test_drawing_tables_takes_no_option_of_computing(tmp_path, capsys, option):
    assert main(["figure", "5", "--from", str(tmp_path), *option.split()]) == 1
    assert f"leave out {option.split()[0]}" in capsys.readouterr().err


def test_a_table_cut_short_is_refused(tmp_path, capsys):
    assert main(["figure", "5", "--scale", "smoke", "--seeds", "1", "--out", str(tmp_path)]) == 0
    table = tmp_path / "levels.csv"
    table.write_text(table.read_text()[:-30])
    assert main(["figure", "5", "--from", str(tmp_path)]) == 1
    assert "more or fewer fields" in capsys.readouterr().err


def test_tables_that_are_not_there_are_one_line_and_exit_1(tmp_path, capsys):
    assert main(["figure", "5", "--from", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("sparsedd: there is no levels.csv")


# ---------------------------------------------------------------- run, changed


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--noise", "pairflip:0.2", "--score", "random"], "digits-lenet_300_100-pairflip20-random-ltr"),
        (["--noise", "asymmetric:0.4", "--scope", "layer"], "digits-lenet_300_100-asymmetric40-magnitude-layer-ltr"),
        (["--noise", "none", "--retraining", "finetuning"], "digits-lenet_300_100-clean-magnitude-finetuning"),
        (["--one-shot", "--score", "gradient"], "digits-lenet_300_100-symmetric40-gradient-oneshot-ltr"),
        (["--precision", "bfloat16"], "digits-lenet_300_100-symmetric40-magnitude-bfloat16-ltr"),
        (["--reinit"], "digits-lenet_300_100-symmetric40-magnitude-reinit-of-ltr"),
    ],
)
def test_a_preset_can_be_changed(tmp_path, capfd, options, name):
    assert main(["run", "lenet-digits", "--scale", "smoke", "--processes", "1", "--out", str(tmp_path), *options]) == 0
    assert capfd.readouterr().out.startswith(f"{name}, smoke scale")
    stores = [Store.open(path.parent) for path in tmp_path.rglob("config.json")]
    assert name in [store.experiment.name for store in stores]
    assert all(store.experiment.pruner.scope == ("layer" if "--scope" in options else "global") for store in stores)


@pytest.mark.parametrize("noise", ["symmetric", "none:0.2", "white:0.2", "symmetric:x"])
def test_noise_that_is_none_ends_with_usage(noise, capsys):
    with pytest.raises(SystemExit):
        main(["run", "lenet-digits", "--noise", noise, "--out", "x"])
    assert "--noise" in capsys.readouterr().err


def test_a_rate_in_percent_is_one_line_and_exit_1(tmp_path, capsys):
    assert main(["run", "lenet-digits", "--noise", "symmetric:20", "--out", str(tmp_path)]) == 1
    assert "did you mean 0.2?" in capsys.readouterr().err


# ---------------------------------------------------------------- data


def test_data_arranges_the_archive_or_says_why_not(tmp_path, capsys):
    assert main(["data", "tiny-imagenet", str(tmp_path / "none.zip"), "--out", str(tmp_path)]) == 1
    assert "there is nothing at" in capsys.readouterr().err
