"""Pictures."""

import matplotlib
import numpy as np
import pytest

from sparsedd import phases, plotting

matplotlib.use("agg")
S = [0.0, 0.2, 0.36, 0.8, 0.99]
TRAIN = np.array([[1, 1, 1, 0.9, 0.6], [1, 1, 0.98, 0.88, 0.5]])
TEST = np.array([[0.8, 0.8, 0.7, 0.9, 0.5], [0.82, 0.8, 0.72, 0.94, 0.52]])


@pytest.fixture(autouse=True)
def _closed():
    yield
    matplotlib.pyplot.close("all")


def test_double_descent_draws_the_means_bands_and_phases():
    ax = plotting.double_descent(S, TRAIN, TEST, phases=phases.phases(S, TRAIN, TEST))
    train, test = ax.get_lines()
    np.testing.assert_allclose(train.get_xdata(), 1 - np.array(S))
    np.testing.assert_allclose(train.get_ydata(), 100 * TRAIN.mean(axis=0))
    np.testing.assert_allclose(test.get_ydata(), 100 * TEST.mean(axis=0))
    band = ax.collections[1].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].max(), 100 * (TEST.mean(axis=0) + TEST.std(axis=0, ddof=1)).max())
    assert [text.get_text() for text in ax.texts] == ["Light", "Critical", "Sweet", "Collapsed"]
    assert ax.get_xscale() == "log"
    left, right = ax.get_xlim()
    assert left > 1 > 1 - S[-1] > right, "sparsity rises to the right"
    assert "n = 2" in ax.get_legend().get_title().get_text()


def test_levels_are_labelled_with_their_sparsity():
    ax = plotting.double_descent(S, TRAIN, TEST)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "20.0", "36.0", "80.0", "99.0"]


def test_one_seed_has_no_band():
    ax = plotting.double_descent(S, TRAIN[0], TEST[0])
    assert not ax.collections


def test_it_draws_where_it_is_told():
    ax = matplotlib.pyplot.subplots()[1]
    assert plotting.double_descent(S, TRAIN, TEST, ax=ax) is ax
    assert plotting.learning_distance(S, 10 * TEST, TEST, ax=matplotlib.pyplot.subplots()[1]).get_ylabel()


@pytest.mark.parametrize("sparsity", [[0.2, 0.1], [0.0, 1.0], []])
def test_wrong_sparsity_is_refused(sparsity):
    with pytest.raises(ValueError, match="sparsity"):
        plotting.double_descent(sparsity, sparsity, sparsity)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="test_accuracy must have shape"):
        plotting.double_descent(S, TRAIN, TEST[:, 1:])
