"""Pictures."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

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
    ax = plotting.learning_distance(S, 10 * TEST, TEST, ax=matplotlib.pyplot.subplots()[1])
    legend = ax.figure.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["learning distance", "test accuracy"]


@pytest.mark.parametrize("sparsity", [[0.2, 0.1], [0.0, 1.0], []])
def test_wrong_sparsity_is_refused(sparsity):
    with pytest.raises(ValueError, match="sparsity"):
        plotting.double_descent(sparsity, sparsity, sparsity)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="test_accuracy must have shape"):
        plotting.double_descent(S, TRAIN, TEST[:, 1:])


# ---------------------------------------------------------------- the other pictures


def test_measures_against_sparsity_have_a_curve_and_a_band_each():
    ax = plotting.against_sparsity(S, {"a": TRAIN, "b": TEST}, ylabel="share")
    a, b = ax.get_lines()
    np.testing.assert_allclose(a.get_ydata(), TRAIN.mean(axis=0))
    np.testing.assert_allclose(b.get_xdata(), 1 - np.array(S))
    assert a.get_color() != b.get_color()
    assert len(ax.collections) == 2
    assert ax.get_ylabel() == "share"
    assert ax.get_legend().get_title().get_text() == "mean ± std, n = 2"


def test_dashed_curves_have_the_colours_of_the_others():
    epochs, values = np.arange(1, 5), np.ones((3, 4))
    curves = {"dense": (epochs, values), "sparse": (epochs, 2 * values)}
    ax = plotting.against_epoch(curves, dashed={"sparse": (epochs, 3 * values)}, mark=2.5)
    dense, sparse, dashed, mark = ax.get_lines()
    assert dashed.get_color() == sparse.get_color() != dense.get_color()
    assert dashed.get_linestyle() == "--"
    assert list(mark.get_xdata()) == [2.5, 2.5]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dense", "sparse"]


def test_an_interpolation_has_losses_on_the_left_and_accuracies_on_the_right():
    alpha = np.linspace(0, 1, 5)
    values = {
        "train_loss": 2 - alpha,
        "test_loss": 2 + alpha,
        "train_accuracy": 0.5 + 0.5 * alpha,
        "test_accuracy": 0.5 - 0.1 * alpha,
    }
    ax = plotting.interpolation(alpha, **values)
    (right,) = (other for other in ax.figure.axes if other is not ax)
    assert [line.get_linestyle() for line in (*ax.get_lines(), *right.get_lines())] == ["-", "--", "-", "--"]
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), values["train_loss"])
    np.testing.assert_allclose(right.get_lines()[1].get_ydata(), 100 * values["test_accuracy"])
    assert (ax.get_ylabel(), right.get_ylabel()) == ("loss", "accuracy (%)")


def test_losses_along_directions_are_averaged_on_a_log_scale():
    ax = plotting.loss_along([-1, 0, 1], {"0 %": [[2, 1, 2], [4, 1, 4]], "90 %": [9, 1, 9]})
    first, second = ax.get_lines()
    np.testing.assert_allclose(first.get_ydata(), [3, 1, 3])
    np.testing.assert_allclose(second.get_ydata(), [9, 1, 9])
    assert ax.get_yscale() == "log"


def test_curves_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"b must have shape \(seeds, 5\)"):
        plotting.against_sparsity(S, {"a": TEST, "b": TEST[:, :3]}, ylabel="")
    with pytest.raises(ValueError, match="dashed must have labels of curves, got 'b'"):
        plotting.against_epoch({"a": ([1, 2], [1, 2])}, dashed={"b": ([1, 2], [1, 2])})
    with pytest.raises(ValueError, match="test must have shape"):
        plotting.against_epoch({"test": ([1, 2], [1, 2, 3])})
    with pytest.raises(ValueError, match="train loss must have shape"):
        plotting.interpolation([0, 1], train_loss=[1], test_loss=[1, 1], train_accuracy=[1, 1], test_accuracy=[1, 1])


@pytest.mark.parametrize("inches", [(4.9, 3.9), (9.6, 4.2)])
def test_neither_ticks_nor_legend_cover_anything(inches):
    sparsity, wave = 1 - 0.8 ** np.arange(35), np.sin(np.arange(35))
    figure, ax = pyplot.subplots(figsize=inches, layout="constrained")
    plotting.learning_distance(sparsity, 30 + wave, (1 - wave) / 2, ax=ax)
    figure.canvas.draw()
    labels = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert len(labels) >= 4
    assert not any(a.overlaps(b) for a, b in pairwise(labels))
    legend = figure.axes[1].get_legend().get_window_extent()
    for side in figure.axes:
        (line,) = side.get_lines()
        assert not any(legend.contains(*point) for point in side.transData.transform(line.get_xydata()))
    assert max(figure.axes[1].get_yticks()) == 100, "there is no higher accuracy"
    pyplot.close(figure)
