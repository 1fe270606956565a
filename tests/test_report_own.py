"""The report of sweeps of one's own, and of a bare table."""

import csv
import shutil
from pathlib import Path

import pytest
from test_report import TEST, TRAIN, Page
from test_sweep import found, net

from sparsedd import Pruner, Sweep, phases
from sparsedd.cli import main
from sparsedd.experiments import Tables
from sparsedd.phases import Boundary, Interval, Phase
from sparsedd.report._numbers import format_interval
from sparsedd.sweeps import FINETUNING

LEVELS = len(TEST)
SIX = "experiment,seed,level,sparsity,train_accuracy,test_accuracy"


def sweep(path: Path, n: int = LEVELS, *, accuracies: bool = True, **options) -> Sweep:
    """A sweep that learns nothing, whose measures are a little different for each seed."""
    given = {"pruner": Pruner(fraction=0.2), "levels": LEVELS, "config": {"lr": 0.1}} | options
    own = Sweep(path, net(), **given)
    for level, train, test in zip(own, TRAIN[:n], TEST[:n], strict=False):
        less = 0.01 * ((3 * own.seed + level.number) % 4)
        both = {"train_accuracy": train - less, "test_accuracy": test - less} if accuracies else {}
        level.record(**both, perplexity=100 - level.number, scale=0.5)
        if level.number == n - 1:
            break
    return own


def report(out: Path, capsys) -> tuple[Page, str]:
    assert main(["report", str(out)]) == 0
    return Page((out / "report.html").read_text(encoding="utf-8")), capsys.readouterr().out


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Three seeds, of which one goes on, and one seed of another kind; a plain file beside them."""
    out = tmp_path_factory.mktemp("mine")
    for seed, n in ((0, LEVELS), (1, LEVELS), (2, LEVELS - 1)):
        sweep(out / "lr" / f"seed-{seed}", n, seed=seed)
    sweep(out / "tuned", retraining=FINETUNING, config={"lr": 0.2})
    (out / "config.json").write_text("{}")
    return out


def test_the_page_has_all_seeds_and_says_in_what_sweeps_differ(runs, tmp_path, capsys):
    out = shutil.copytree(runs, tmp_path / "mine")
    before = found(out / "lr" / "seed-0")
    page, printed = report(out, capsys)
    assert found(out / "lr" / "seed-0") == before
    h2 = [text for tag, text in page.words if tag == "h2"]
    assert h2[0] == "lr, retraining.weights = rewind, retraining.schedule = rewind, lr = 0.1"
    assert h2[1] == "tuned, retraining.weights = keep, retraining.schedule = final, lr = 0.2"
    assert "2 sweeps, in" in page.said("p")
    assert "9 levels · 3 seeds" in page.said("p") and "9 levels · 1 seed ·" in page.said("p")
    assert f"Not finished: seed 2 has {LEVELS - 1} of {LEVELS} levels." in page.said("p", "strong")
    for heading in ("Advice", "Phases", "Learning", "Levels", "Configuration"):
        assert page.said("h3").split().count(heading) == 2, heading
    assert {"perplexity", "measured scale", "learning distance"} <= {text for tag, text in page.words if tag == "th"}
    assert not {"best test (%)", "right labels (%)", "train loss"} & {text for tag, text in page.words if tag == "th"}
    assert "Memorisation" not in page.said("figcaption") and "Dynamics" not in page.said("figcaption")
    unfinished = f"Not finished: seed 2 has {LEVELS - 1} of {LEVELS} levels. "
    unfinished += "The means are of the levels that all seeds shown have."
    lines = printed.splitlines()
    assert lines[:2] == [h2[0], unfinished] and lines.count(h2[1]) == 1
    assert "In the mean of 3 seeds, the dense net gets" in printed and "of the test data." in printed
    assert printed.splitlines()[-1] == str(out / "report.html")
    assert {path.name for path in out.iterdir()} == {
        *("lr", "tuned", "config.json", "levels.csv", "report.html", "figure-lr.png", "figure-tuned.png")
    }


def test_the_table_has_own_measures_after_the_columns_that_all_have(runs, tmp_path, capsys):
    out = shutil.copytree(runs, tmp_path / "mine")
    report(out, capsys)
    rows = list(csv.DictReader((out / "levels.csv").read_text().splitlines()))
    assert list(rows[0])[-3:] == ["diverged", "perplexity", "measured_scale"]
    assert len(rows) == 4 * LEVELS - 1
    assert [row["perplexity"] for row in rows[:2]] == ["100.0", "99.0"]
    tables = Tables.read(out)
    assert tables.levels[1]["perplexity"] == 99.0 and tables.levels[1]["best_test_accuracy"] is None
    tables.write(tmp_path / "again")
    assert (tmp_path / "again" / "levels.csv").read_bytes() == (out / "levels.csv").read_bytes()


def test_a_single_folder_and_seeds_that_were_forgotten(tmp_path, capsys):
    """Two folders of a script that passes no seed: their names tell them apart."""
    for seed in range(2):
        sweep(tmp_path / f"seed-{seed}")
    page, _ = report(tmp_path, capsys)
    assert "2 seeds" in page.said("p") and (tmp_path / "figure.png").exists()
    page, _ = report(tmp_path / "seed-1", capsys)
    assert next(text for tag, text in page.words if tag == "h2") == "seed-1"
    assert main(["verify", str(tmp_path)]) == 0


def test_without_accuracies_there_are_levels_and_a_word_on_what_to_record(tmp_path, capsys):
    sweep(tmp_path, 3, accuracies=False)
    page, printed = report(tmp_path, capsys)
    assert "needs train_accuracy and test_accuracy: call level.record(train=..., test=...)" in printed
    assert "No phases: For phases and advice it needs train_accuracy" in page.said("p", "strong")
    assert {"perplexity", "weights kept"} <= {text for tag, text in page.words if tag == "th"}
    assert not page.all("img") and not (tmp_path / "figure.png").exists()
    assert "Advice" not in page.said("h3") and "phase" not in page.said("th").split()


@pytest.mark.filterwarnings("ignore:level 2 has diverged")
def test_a_sweep_that_has_no_level_or_diverged_says_so(tmp_path, capsys):
    own = Sweep(tmp_path / "a", net(), levels=3)
    for _ in own:
        break
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no runs with a finished level" in capsys.readouterr().err
    for level in own:
        level.record(train_accuracy=0.5, test_accuracy=0.5, train_loss=0.1 if level.number < 2 else float("nan"))
    page, printed = report(tmp_path, capsys)
    said = "Diverged: seed 0 diverged at level 2. What came before is shown."
    assert said in page.said("p", "strong") and said in printed.splitlines()


@pytest.mark.filterwarnings("ignore:level 1 has diverged")
def test_the_means_of_two_seeds_beside_one_that_diverged(tmp_path, capsys):
    for seed in range(2):
        sweep(tmp_path / "mine" / f"seed-{seed}", seed=seed, config={"lr": 0.1})
    for level in Sweep(tmp_path / "mine" / "seed-2", net(), Pruner(fraction=0.2), levels=LEVELS, seed=2, config={"lr": 0.1}):
        loss = 0.1 if level.number < 1 else float("nan")
        level.record(train_accuracy=0.9, test_accuracy=0.8, train_loss=loss, perplexity=1, scale=0.5)
    page, printed = report(tmp_path / "mine", capsys)
    assert f"{LEVELS} levels · 3 seeds, means of 2" in page.said("p")
    assert printed.startswith("Diverged: seed 2 diverged at level 1. The means are of the other seeds.")
    assert "n = 2. Training accuracy is on the labels" in page.said("p")
    assert page.said("h1", "h2", "p", "code").count("mine") == page.text.count(str(tmp_path / "mine")) + 2
    head = [text for tag, text in page.words if tag == "th"]
    levels = head[head.index("level") :]
    assert levels[:5] == ["level", "sparsity (%)", "phase", "training (%)", "test (%)"]
    assert "20.83" in page.said("td") and "20.833" not in page.text


def test_two_seeds_that_agree_give_no_interval():
    assert format_interval(Boundary(Phase.SWEET, 0.5, Interval(0.5, 0.5), 1.0), 2) == "–"
    assert format_interval(Boundary(Phase.SWEET, 0.5, Interval(0.5, 0.5), 1.0), 6) == "50.00 to 50.00"
    assert format_interval(Boundary(Phase.SWEET, 0.5, Interval(0.5, 0.6), 1.0), 2) == "50.00 to 60.00"


def test_tickets_of_another_sweep_are_one_family_over_their_seeds(tmp_path, capsys):
    for seed in range(2):
        own = sweep(tmp_path / "a" / f"seed-{seed}", seed=seed)
        sweep(tmp_path / "b" / f"seed-{seed}", seed=seed, tickets=own)
    page, _ = report(tmp_path, capsys)
    h2 = [text for tag, text in page.words if tag == "h2"]
    assert h2[:2] == ["a, tickets = None", "b, tickets = those of another sweep"]
    assert page.said("p").count("2 seeds ·") == 2


def bare(path: Path, **more: str) -> None:
    rows = [
        f"mine,{seed},{k},{1 - 0.8**k},{TRAIN[k] - 0.01 * seed},{TEST[k] - 0.01 * seed}"
        + "".join(f",{v}" for v in more.values())
        for seed in range(2)
        for k in range(LEVELS)
    ]
    (path / "levels.csv").write_text("\n".join([",".join([SIX, *more]), *rows]) + "\n")


def test_a_table_alone_with_six_columns_is_enough(tmp_path, capsys):
    bare(tmp_path, wer="0.25", remark="fine")
    table = (tmp_path / "levels.csv").read_bytes()
    page, printed = report(tmp_path, capsys)
    assert (tmp_path / "levels.csv").read_bytes() == table
    assert {path.name for path in tmp_path.iterdir()} == {"levels.csv", "figure.png", "report.html"}
    assert page.said("h3") == "Advice Phases Levels"
    assert "9 levels · 2 seeds" in page.said("p") and "of training" not in page.said("p").split("9 levels")[1][:30]
    head = [text for tag, text in page.words if tag == "th"]
    assert "wer" in head and "remark" not in head and "weights kept" not in head
    rows = Tables.read(tmp_path).levels
    test = [[row["test_accuracy"] for row in rows if row["seed"] == seed] for seed in range(2)]
    train = [[row["train_accuracy"] for row in rows if row["seed"] == seed] for seed in range(2)]
    advice = str(phases.advise([row["sparsity"] for row in rows[:LEVELS]], train, test))
    assert advice in printed and "Ship level 6, 73.79 % sparsity (Sweet)" in advice


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("test_accuracy", "accuracy", "has no column test_accuracy"),
        ("mine,1,1,0.19", "mine,1,1,0.29", "must have one sparsity at level 1"),
        (",0.74\n", ",74\n", "test_accuracy must be from 0 to 1, got 74"),
        ("mine,1,1,", "mine,1,0,", "level 0 of seed 1 of mine twice"),
    ],
)
def test_a_table_that_is_none_is_one_clear_error(old, new, said, tmp_path, capsys):
    bare(tmp_path)
    text = (tmp_path / "levels.csv").read_text()
    assert old in text
    (tmp_path / "levels.csv").write_text(text.replace(old, new, 1))
    main(["report", str(tmp_path)])
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_the_picture_of_a_figure_stays(tmp_path, capsys):
    bare(tmp_path)
    (tmp_path / "claims.md").write_text("a figure's")
    report(tmp_path, capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"levels.csv", "claims.md", "report.html"}
