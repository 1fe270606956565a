"""Whether faster execution changes a curve: the demo's sweeps with batches of half the size, executed in each of the ways.

python benchmarks/curves.py            takes about four minutes on two cores

All ways round differently, and training amplifies this. What is left is compared with the spread over the seeds. A difference
is of two means over the seeds; its interval is that of Student's t over the pairs.
"""

import statistics
import tempfile
from dataclasses import replace

from bench import report
from scipy.stats import t as student

from sparsedd.experiments import PRESETS, Experiment, Record, run_all, run_fleet
from sparsedd.sweeps._workers import workers

SEEDS = 6
DEMO = replace(PRESETS["lenet-digits"], batch_size=100, learning_rate=0.2)
DENSE = replace(DEMO, sparse_below=0.0)
WAYS = {
    "dense": DENSE,
    "sparse form": DEMO,
    "bfloat16": replace(DENSE, precision="bfloat16"),
    "fleet": DENSE,
}


def seeds(experiment: Experiment) -> list[Experiment]:
    return [replace(experiment, seed=seed) for seed in range(SEEDS)]


def computed(way: str) -> list[list[Record]]:
    with tempfile.TemporaryDirectory() as out:
        if way == "fleet":
            return [
                list(levels) for levels in zip(*(level.values() for level in run_fleet(seeds(WAYS[way]), out)), strict=True)
            ]
        with workers() as pool:
            return list(run_all(seeds(WAYS[way]), out, pool).values())


def accuracies(sweeps: list[list[Record]], level: int) -> list[float]:
    return [100 * levels[level].test_accuracy for levels in sweeps]


if __name__ == "__main__":
    sweeps = {way: computed(way) for way in WAYS}
    numbers = range(DEMO.levels)
    means = {way: [statistics.mean(accuracies(s, k)) for k in numbers] for way, s in sweeps.items()}
    spread = statistics.mean(statistics.stdev(accuracies(sweeps["dense"], k)) for k in numbers)
    quantile = float(student.ppf(0.975, SEEDS - 1))
    rows = []
    for way in WAYS:
        beyond, all_levels = 0, []
        for k in numbers:
            pairs = [a - b for a, b in zip(accuracies(sweeps[way], k), accuracies(sweeps["dense"], k), strict=True)]
            beyond += abs(statistics.mean(pairs)) > quantile * statistics.stdev(pairs) / SEEDS**0.5
            all_levels += pairs
        rows.append(
            {
                "way": way,
                "dense net, %": round(means[way][0], 1),
                "dip, %": round(min(means[way][: means[way].index(max(means[way])) + 1]), 1),
                "sweet, %": round(max(means[way]), 1),
                "mean difference from dense, points": round(statistics.mean(all_levels), 2),
                "std of it, points": round(statistics.stdev(all_levels), 2),
                f"levels of {DEMO.levels} outside the 95 % interval": beyond,
                "std over seeds, points": round(spread, 2),
            }
        )
    report("curves", "python benchmarks/curves.py", rows)
