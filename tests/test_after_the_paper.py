"""The page *After the paper* says what its tables say, and its measures are right where the answer is known."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
after = pytest.importorskip("after_the_paper", reason="the benchmarks are not here")

import clean_labels  # noqa: E402
from fewer_trainings import search  # noqa: E402
from forgetting import forgotten, only_pruned, subgroups  # noqa: E402

from sparsedd import metrics  # noqa: E402
from sparsedd.experiments import PRESETS  # noqa: E402


@pytest.mark.parametrize("name", after.TABLES)
def test_the_sentences_follow_from_the_tables(name):
    assert (after.RESULTS / f"{name}.md").read_text() == after.say(name)
    page = (ROOT / "docs" / "results" / "after-the-paper.md").read_text()
    assert f"```{{include}} ../../results/after-the-paper/{name}.md" in page
    assert f"```{{drawn}} after-the-paper/{name}\n" in page


def test_a_search_measures_a_coarse_grid_and_then_around_the_best():
    asked = []
    best, found = search(lambda level: asked.append(level) or -abs(level - 13), 32)
    assert best == 13
    assert asked == [0, 4, 8, 12, 16, 20, 24, 28, 10, 14, 11, 13]
    assert sorted(found) == sorted(asked)
    assert search([3, 1, 2].__getitem__, 3) == (0, {0: 3, 2: 2, 1: 1})


def test_searches_on_the_committed_tables_lose_little():
    share, lost = zip(*after.search_results().values(), strict=True)
    assert len(lost) >= 70
    assert max(lost) < 0.0121
    assert sum(share) / len(share) < 0.37


def test_forgetting_is_counted():
    margins = torch.tensor([[1.0, 1, 1, -1], [-1, 1, 1, -1], [1, -1, 1, -1]])  # (levels, labels)
    assert forgotten(margins).tolist() == [3, 2, 3, 0]
    seeds = margins.expand(3, 3, 4)
    pruned, dense = only_pruned(seeds)
    assert pruned.tolist() == [0, 0.25, 0.25]
    assert dense.tolist() == [0, 0, 0]
    assert subgroups(seeds, groups=2)[0].tolist() == [[0.5, 0.0, 0.5], [1.0, 1.0, 0.5]]


def test_labels_are_measured_and_missed():
    logits, labels = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 5
    margins, probability = clean_labels.measure(logits, labels)
    for net in range(2):
        assert torch.equal(margins[net], metrics.margins(torch.nn.Identity(), [(logits[net], labels)]))
    assert torch.allclose(probability, logits.softmax(-1)[:, torch.arange(30), labels])
    flipped = torch.tensor([True, False, True, False])
    assert clean_labels.miss(torch.tensor([0.0, 1.0, 0.9, 0.1]), flipped) == 0.5


def test_every_way_gives_each_label_a_number():
    experiment = PRESETS["lenet-mnist"].scaled("smoke")
    inputs, noisy = clean_labels.load(experiment)
    for make in (clean_labels.whole, clean_labels.folds, clean_labels.splits):
        found = make(experiment, inputs, noisy.targets, 0)
        assert all(len(scores) == len(inputs) and scores.isfinite().all() for scores in found.values())
        if "last" in found:  # of the one net that was not trained on the label
            assert torch.allclose(found["last"].sum(1), torch.ones(len(inputs)))
            assert found["AUM"].std() > 0
