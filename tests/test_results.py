"""What is published is what its tables say."""

import re
import runpy
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from helpers import read_page

from sparsedd.cli import main
from sparsedd.experiments import FIGURES, PRESETS, Claim, Tables, run
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
        page, place = read_page(ROOT / "docs" / "results" / f"{folder.parent.name}.md"), folder.relative_to(ROOT)
        assert f"```{{drawn}} {place.relative_to('results')}\n" in page, place
        assert f"```{{include}} ../../{place}/claims.md" in page, place


def test_published_numbers_stand_beside_ours():
    mnist = "| published | 100.0 / 83.4 % | 95.1 / 76.5 % at 89.60 % | 79.3 / 95.4 % at 99.22 % |\n| here, "
    cifar10 = "| published | – / 83.3 % | 95.9 / 78.1 % at 98.20 % | 78.9 / 87.7 % at 99.53 % |\n| here, "
    for family in ("mnist-paper", "mnist-small", "cifar10-quarter", "cifar10-mini"):
        published = mnist if family.startswith("mnist") else cifar10
        page = read_page(ROOT / "docs" / "results" / f"{family}.md")
        sections = dict(re.findall(r"^\([\w-]+-(\d+)\)=$(.*?)^```{include}", page, flags=re.M | re.S))
        shows_the_sweep = {"1", "4", "5", "9", "10", "12", "13", "32", "33", "44"} & set(sections)
        assert {number for number, section in sections.items() if published in section} == shows_the_sweep


def test_the_table_of_verdicts_has_every_claim_and_what_disagrees_first():
    table = re.findall(
        r"^\| (.+) \| \[\d+\]\(results/[\w-]+\.md#([\w-]+)-(\d+)\) \| \w+ \| \d \| \[([\w ]+)\]\{\.\w+\} \| (.+) \|$",
        read_page(ROOT / "docs" / "results.md"),
        flags=re.M,
    )
    verdicts = [verdict for *_, verdict, _ in table]
    assert verdicts == sorted(verdicts, key=["disagrees", "cannot be told", "agrees"].index)
    for text, family, number, verdict, _ in table:
        said = (ROOT / "results" / family / number / "claims.md").read_text()
        assert f"{text.rpartition(': ')[2]}" in said, text
        assert f": {verdict}. Measured" in said, text
    texts = " ".join(text for text, *_ in table)
    for folder in FOLDERS:
        for claim in re.findall(
            r"^- (.*?)(?:, here Phases.*)?: [a-z ]+\. Measured", (folder / "claims.md").read_text(), flags=re.M
        ):
            assert claim.rpartition(": ")[2] in texts, claim
    changes = {(family, number): change for _, family, number, _, change in table}
    assert changes["mnist-paper", "32"] == "yes: cannot be told at small scale"
    assert changes["mnist-paper", "5"] == "no"


def test_a_scale_of_too_few_seeds_decides_nothing():
    read_page(ROOT / "docs" / "results.md")
    verdicts = import_module("verdicts")
    figure = FIGURES["4"].on(PRESETS["lenet-mnist"])
    few = verdicts.Judgement(ROOT, figure, Claim("", "", "cannot be told", 1))
    more = verdicts.Judgement(ROOT, figure.scaled("small"), Claim("", "", "disagrees", 5))
    assert verdicts.decide({"small": more, "paper": few}) == (more, "not yet: 1 of 3 seeds")
    assert verdicts.decide({"paper": few}) == (few, "–")
    quarter = few._replace(figure=FIGURES["4"].on(PRESETS["resnet18-cifar10"]).scaled("quarter"))
    assert verdicts.decide({"quarter": quarter, "mini": more}) == (more, "–")
    enough = few._replace(claim=Claim("", "", "agrees", 3))
    assert verdicts.decide({"small": more, "paper": enough}) == (enough, "yes: disagrees at small scale")


def test_finished_runs_are_put_beside_the_tables_that_are_there(tmp_path, capsys):
    for experiment in FIGURES["9"].on(PRESETS["lenet-digits"]).scaled("smoke").members(seeds=2):
        list(run(experiment, tmp_path / "runs"))
    family = tmp_path / "digits-smoke"
    family.mkdir()
    (family / "README.md").write_text("sparsedd figure N --on lenet-digits --scale smoke --seeds K")
    collect = runpy.run_path(str(ROOT / "results" / "collect.py"))["collect"]
    with pytest.raises(SystemExit, match="^0$"):
        collect(family, "1", tmp_path / "runs")
    assert "fall at" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="^0$"):
        collect(family, "9", tmp_path / "none")
    assert (family / "9" / "levels.csv").read_bytes() == (family / "1" / "levels.csv").read_bytes()
    with pytest.raises(SystemExit, match="needs digits-.*gradient.*no seed is finished"):
        collect(family, "13", tmp_path / "runs")


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
