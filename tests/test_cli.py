"""The command line."""

import csv

import pytest

from sparsedd.cli import main


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
