"""What is in results/after-the-paper/: its tables, and the sentences that follow from them.

python benchmarks/after_the_paper.py           writes the sentences again, from the tables
python benchmarks/after_the_paper.py OUT       computes the tables first, but for that of clean_labels.py, which has its own;
                                               what is in OUT already is not trained again
"""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "examples"), str(ROOT / "benchmarks")]

from clean_labels import CUT, make_model  # noqa: E402
from fewer_trainings import search  # noqa: E402
from forgetting import forgotten, measure, only_pruned, subgroups  # noqa: E402
from remedies import remedies  # noqa: E402

from sparsedd import NoisyLabels, Pruner, metrics, phases  # noqa: E402
from sparsedd.data import DATASETS  # noqa: E402
from sparsedd.experiments import PRESETS, Effect, Store, judge, run  # noqa: E402
from sparsedd.noise import Symmetric  # noqa: E402

RESULTS = ROOT / "results" / "after-the-paper"
BASE = replace(PRESETS["lenet-mnist"], noise=Symmetric(0.4)).scaled("small")
BASE = replace(BASE, **CUT)
DECAYS = (0.01, 0.03, 0.06)

Row = dict[str, Any]


# ---------------------------------------------------------------- tables


def tabulate_remedies(out: Path, seeds: Iterable[int]) -> Iterator[Row]:
    for seed in seeds:
        for name, levels in remedies(replace(BASE, seed=seed), out, DECAYS):
            for r in levels:
                row = {"remedy": name, "seed": seed, "level": r.level, "sparsity": r.sparsity}
                yield row | {"train_accuracy": r.train_accuracy, "test_accuracy": r.test_accuracy}


def tabulate_fewer_trainings(out: Path, seeds: Iterable[int]) -> Iterator[Row]:
    """Train every level of one-shot sweeps, so that it is known what a search would have missed."""
    for seed in seeds:
        e = replace(BASE, seed=seed, one_shot=True, levels=32, pruner=Pruner())
        source, n = DATASETS[e.dataset](), BASE.train_size or 0
        labels = NoisyLabels(source.train, e.noise, num_classes=source.num_classes, seed=seed).targets
        held = source.train.tensors[0][n : 2 * n], labels[n : 2 * n]  # not trained on, and as noisy
        model = make_model(e, held[0].flatten(1), 0)
        for r in run(e, out):
            model.load_state_dict(Store(out, e).weights(r.level))
            row = {"seed": seed, "level": r.level, "sparsity": r.sparsity}
            yield row | {"validation_accuracy": metrics.evaluate(model, [held]).accuracy, "test_accuracy": r.test_accuracy}


def tabulate_forgetting(out: Path, seeds: Iterable[int]) -> Iterator[Row]:
    every = [replace(BASE, seed=seed) for seed in seeds]
    train, test, flipped = zip(*(measure(e, out) for e in every), strict=True)
    groups, (pruned, dense) = subgroups(torch.stack(test)), only_pruned(torch.stack(test))
    for k, e in enumerate(every):
        first = forgotten(train[k])
        for r in run(e, out):
            row: Row = {"seed": e.seed, "level": r.level, "sparsity": r.sparsity}
            for name, chosen in (("wrong", flipped[k]), ("right", ~flipped[k])):
                row[f"{name}_forgotten"] = (first[chosen] <= r.level).double().mean().item()
            row |= {f"quarter_{q + 1}": groups[k, q, r.level].item() for q in range(4)}
            yield row | {"only_pruned": pruned[r.level].item(), "only_dense": dense[r.level].item()}


def write(name: str, rows: Iterable[Row]) -> None:
    """Write a table, rounded to six digits."""
    every = [{key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    with open(RESULTS / f"{name}.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(every[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(every)


def read(name: str) -> np.ndarray:
    """Return a table as a structured array."""
    table = RESULTS / f"{name}.csv"
    return np.atleast_1d(np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding="utf-8"))


def by_seed(rows: np.ndarray, column: str) -> np.ndarray:
    """Return a column (seeds, levels)."""
    return rows[column].reshape(len(np.unique(rows["seed"])), -1)


# ---------------------------------------------------------------- sentences


def tell(effect: Effect, digits: int = 1) -> str:
    """Say a share or a difference of shares in points, with its interval."""
    low, high = (100 * end for end in effect.interval)
    mean = f"{100 * effect.values.mean():z.{digits}f}"
    return mean if len(effect.values) < 2 else f"{mean} ({low:z.{digits}f} to {high:z.{digits}f})"


def lay_out(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def say_clean_labels() -> str:
    """Compare what the sweep misses with what the others do, with five trainings and with as many as they were given."""
    table, lines = read("clean_labels"), []
    for noise in dict.fromkeys(table["noise"]):
        rows = table[table["noise"] == noise]
        missed: dict[tuple[str, int], np.ndarray] = {}
        for way in dict.fromkeys(rows["way"]):
            spent = rows["trainings"][rows["way"] == way]
            for trainings in {5, spent.max()} & {*spent}:
                missed[way, trainings] = rows["false_negative_rate"][(rows["way"] == way) & (rows["trainings"] == trainings)]
        own = next(values for (way, _), values in missed.items() if way == "sweep: levels that know")
        for (way, trainings), values in sorted(missed.items(), key=lambda item: item[1].mean()):
            more = Effect("missed more", values - own)
            said = "" if values is own else f"{tell(more)}: {VERDICTS[more.verdict]}"
            lines.append((noise, str(len(values)), way, str(trainings), tell(Effect("missed", values)), said))
    return lay_out(("noise", "seeds", "told by", "trainings", "missed, %", "more than by the sweep, points"), lines)


VERDICTS = {"agrees": "the sweep is better", "disagrees": "the sweep is worse", "cannot be told": "cannot be told"}


def say_remedies() -> str:
    """Say how deep the dip is in each seed's own curve, and what becomes of the best and of the sparsest net."""
    table, lines = read("remedies"), []
    plain = by_seed(table[table["remedy"] == "none"], "test_accuracy")
    for name in dict.fromkeys(table["remedy"]):
        rows = table[table["remedy"] == name]
        sparsity, test = by_seed(rows, "sparsity")[0], by_seed(rows, "test_accuracy")
        dip = Effect("dip", np.array([phases.double_descent(sparsity, curve).dip for curve in test]), below=0.01)
        vanished = {"agrees": "yes", "disagrees": "no"}.get(dip.verdict, "cannot be told")
        dense, best, last = (tell(Effect(name, values)) for values in (test[:, 0], test.max(axis=1), test[:, -1]))
        where, more = f"{sparsity[test.mean(axis=0).argmax()]:.1%}", Effect("more", test.max(axis=1) - plain.max(axis=1))
        lines.append((name, tell(dip), vanished, dense, best, where, "" if name == "none" else tell(more), last))
    head = (
        "remedy",
        "dip, points",
        "below a point?",
        "dense, %",
        "best, %",
        "at",
        "more than with none, points",
        f"{sparsity[-1]:.2%}, %",
    )
    return lay_out(head, lines)


def say_fewer_trainings() -> str:
    """Say what the search spends and misses, on one-shot sweeps and on the tables of all sweeps that are in results/."""
    table, spent, regrets, of_all = read("fewer_trainings"), [], [], []
    for validation, test in zip(by_seed(table, "validation_accuracy"), by_seed(table, "test_accuracy"), strict=True):
        best, found = search(lambda level, curve=validation: curve[level], len(validation))
        spent.append(len(found))
        regrets.append(test.max() - test[best])
        of_all.append(test.max() - test[validation.argmax()])
    claim = f"One-shot pruning, {' or '.join(map(str, sorted({*spent})))} of {len(test)} trainings, the best on validation data"
    here, every = Effect("regret", np.array(regrets), below=0.01), Effect("regret", np.array(of_all))
    text = f"- {claim}: {tell(here)} points of test accuracy below the best of all levels, in {len(spent)} seeds. "
    text += f"With all levels trained, the best on validation data is {tell(every)} points below.\n"
    share, lost = (np.array(each) for each in zip(*search_results().values(), strict=True))
    text += f"- Offline, on {len(lost)} sweeps in `results/`, chosen on test data: {share.mean():.0%} of the trainings find "
    return text + f"the best level of {(lost == 0).sum()}; the worst find is {100 * lost.max():.1f} points below.\n"


def search_results() -> dict[tuple[str, str, int], tuple[float, float]]:
    """Return for each sweep in results/ the share of its trainings that a search takes, and what it misses."""
    found = {}
    for path in sorted((ROOT / "results").glob("*/*/levels.csv")):
        rows = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
        for key in zip(*(rows[name] for name in ("scale", "experiment", "seed")), strict=True):
            if key not in found:  # a sweep is in several figures
                test = rows["test_accuracy"][(rows["experiment"] == key[1]) & (rows["seed"] == key[2])]
                best, measured = search(test.__getitem__, len(test))
                found[key] = len(measured) / len(test), test.max() - test[best]
    return found


def say_forgetting() -> str:
    """Say when labels are forgotten, who pays, and what only pruned nets get wrong."""
    table = read("forgetting")
    wrong, right = (by_seed(table, f"{name}_forgotten") for name in ("wrong", "right"))
    quarters = np.stack([by_seed(table, f"quarter_{q}") for q in (1, 2, 3, 4)])
    best, sparsity = int(quarters.mean((0, 1)).argmax()), by_seed(table, "sparsity")[0]
    dip = int(quarters.mean((0, 1))[: best + 1].argmin())
    halves = [int((share.mean(0) >= 0.5).argmax()) for share in (wrong, right)]  # 0 where they never are
    half_wrong, half_right = (f"from {sparsity[k]:.1%} sparsity on" if k else "at no level" for k in halves)
    more = Effect("more of the wrong labels", (wrong - right)[:, best])
    text = f"- Half of the wrong labels are forgotten {half_wrong}, half of the right ones {half_right}.\n"
    text += f"- {judge('Where the net is best, more of the wrong labels are forgotten than of the right ones', more)}\n"
    for place, k in (("worst", dip), ("best", best)):
        gains = ", ".join(tell(Effect("gain", q[:, k] - q[:, 0])) for q in quarters)
        text += f"- Where the net is {place}, at {sparsity[k]:.1%} sparsity, the quarters of the test images gain on the dense "
        text += f"net, from the hardest to the easiest: {gains} points.\n"
        only = [100 * by_seed(table, f"only_{name}")[0, k] for name in ("pruned", "dense")]
        text += f"- There {only[0]:.1f} % of the test images are wrong for most pruned nets and right for most dense ones, "
        text += f"and {only[1]:.1f} % the reverse.\n"
    return text


TABLES = ("clean_labels", "remedies", "fewer_trainings", "forgetting")


def say(name: str) -> str:
    """Return the sentences of a table."""
    sentences: str = globals()[f"say_{name}"]()
    return sentences


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in TABLES:
        if len(sys.argv) > 1 and name != "clean_labels":
            write(name, globals()[f"tabulate_{name}"](Path(sys.argv[1]), range(3)))
        (RESULTS / f"{name}.md").write_text(say(name))
