"""What is published is what its tables say."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sparsedd.cli import main
from sparsedd.experiments import PRESETS, Tables
from sparsedd.experiments._figures._measures import Levels, find_dip_and_peak

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in (ROOT / "results").rglob("claims.md"))


def test_there_are_results():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_figure_is_drawn_again_from_its_tables_and_says_the_same(tmp_path, capsys, folder):
    preset = {"mnist": "lenet-mnist", "cifar10": "resnet18-cifar10"}[folder.parent.name.partition("-")[0]]
    assert main(["figure", folder.name, "--on", preset, "--from", str(folder), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "claims.md").read_text() == (folder / "claims.md").read_text()
    assert (tmp_path / "figure.png").read_bytes()[:8] == (folder / "figure.png").read_bytes()[:8]
    assert (tmp_path / "figure.svg").read_bytes()[:5] == (folder / "figure.svg").read_bytes()[:5] == b"<?xml"
    for table in folder.glob("*.csv"):
        assert (tmp_path / table.name).read_bytes() == table.read_bytes()
    assert capsys.readouterr().out.startswith((folder / "claims.md").read_text())
    scale = folder.parent.name.rpartition("-")[2]
    assert f", {scale} scale, " in (folder / "figure.svg").read_text(), "the scale is written on the picture"


def test_every_figure_is_on_the_page_with_its_sentences():
    for folder in FOLDERS:
        page, place = (ROOT / "docs" / "results" / f"{folder.parent.name}.md").read_text(), folder.relative_to(ROOT)
        assert f"```{{drawn}} {place.relative_to('results')}\n" in page, place
        assert f"```{{include}} ../../{place}/claims.md" in page, place


def test_the_summary_counts_the_verdicts():
    page = (ROOT / "docs" / "results.md").read_text()
    rows = {tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in page.splitlines() if line.startswith("| ")}
    for folder in FOLDERS:
        said = (folder / "claims.md").read_text()
        counts = [str(said.count(f": {verdict}. Measured")) for verdict in ("disagrees", "cannot be told", "agrees")]
        assert sum(map(int, counts)) == said.count("\n- ") > 0
        link = f"[{folder.name}](results/{folder.parent.name}.md#{folder.parent.name}-{folder.name})"
        assert any(row[1:] == (link, folder.parent.name, *counts) for row in rows), folder


def test_a_figure_is_found_in_the_folder_of_all_results(tmp_path, capsys):
    for folder in FOLDERS:
        if folder.name == "9":
            shutil.copytree(folder, tmp_path / folder.relative_to(ROOT))
    assert main(["figure", "9", "--from", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Figure 9, paper scale" in printed
    assert "Figure 9, small scale" in printed


def test_the_paper_at_full_scale_agrees_with_what_was_published():
    sweep = Levels.of(Tables.read(ROOT / "results" / "mnist-paper" / "5").levels, PRESETS["lenet-mnist"].name)
    assert len(sweep.seeds) >= 3
    left = sweep["remaining"][0]
    train, test = (sweep[f"{part}_accuracy"].mean(axis=0) for part in ("train", "test"))
    dip, peak = find_dip_and_peak(test)
    assert test[0] == pytest.approx(0.834, abs=0.015)
    assert 18_000 <= left[dip] <= 40_000
    assert test[dip] == pytest.approx(0.76, abs=0.03)
    assert test[peak] == pytest.approx(0.954, abs=0.01)
    assert train[peak] / test[peak] == pytest.approx(0.83, abs=0.015)
    assert left[-1] <= 300


def test_the_pages_say_how_far_the_curve_is_from_the_published_one():
    ours = Levels.of(Tables.read(ROOT / "results" / "mnist-paper" / "5").levels, PRESETS["lenet-mnist"].name)
    path = ROOT / "results" / "mnist-paper" / "published.csv"
    theirs = np.genfromtxt(path, delimiter=",", names=True, skip_header=2)
    by_weights = (-np.log(weights) for weights in (theirs["hidden_weights"], ours["remaining"][0]))
    apart = 100 * abs(np.interp(*by_weights, ours["test_accuracy"].mean(axis=0)) - theirs["test_accuracy"])
    assert apart[:24].mean() < 0.25
    assert apart[:24].max() < 0.75
    said = f"by {apart[:24].mean():.1f} points in the mean and by {apart[:24].max():.1f} at most"
    for page in ("README.md", "docs/mnist.md"):
        assert said in " ".join((ROOT / page).read_text().split()), page
    assert f"at the last one, 24, by {apart[24]:.1f}." in (ROOT / "docs" / "mnist.md").read_text()


def test_results_are_small():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".csv") <= 5e6
    assert sum(path.stat().st_size for path in files if path.suffix in (".png", ".svg")) <= 15e6
