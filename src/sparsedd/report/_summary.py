"""Summary: what happened in a sweep, in sentences."""

from collections.abc import Sequence

from sparsedd import phases
from sparsedd.experiments._figures._measures import Levels

UNKNOWN = "for phases and advice it needs train_accuracy and test_accuracy: call level.record(train=..., test=...)."


def summarize(sweep: Levels) -> str:
    """Say in a few sentences with numbers what happened, whichever way it went; in one if no net was pruned yet."""
    sparsity, train, test = sweep.sparsity, sweep["train_accuracy"], sweep["test_accuracy"]
    dd = phases.double_descent(sparsity, test)
    at = {s: k for k, s in enumerate(sparsity.tolist())}
    mean = 100 * test.mean(axis=0)
    dip, peak = at[dd.dip_sparsity], at[dd.peak_sparsity]
    seeds = f"the mean of {dd.seeds} seeds" if dd.seeds > 1 else "one seed"

    def format_interval(interval: phases.Interval) -> str:
        return f" (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f})" if dd.seeds > 1 else ""

    worse, better = (
        _judge(difference, interval) for difference, interval in ((dd.dip, dd.dip_interval), (dd.gain, dd.gain_interval))
    )
    end = f", before it falls to {mean[-1]:.1f} % at {100 * sparsity[-1]:.2f} %" if mean[-1] < mean[peak] else ""
    dense = (
        f"In {seeds}, the dense net gets {100 * train[:, 0].mean():.1f} % of its training labels right and "
        f"{mean[0]:.1f} % of the test {'images' if sweep.rows[0][0]['scale'] else 'data'}."
    )
    if len(mean) == 1:
        return dense
    if dip == peak:
        never = f"There is neither dip nor peak: test accuracy never rises, and is {mean[-1]:.1f} % in the end."
        return f"{dense}\n{never}\n{_list_phases(sweep)}"
    first = (
        f"Pruning first {worse[0]} overfitting worse: at {100 * sparsity[dip]:.2f} % sparsity test accuracy is "
        f"{mean[dip]:.1f} %, {_format_points(-dd.dip)} the dense net{format_interval(dd.dip_interval)}.\nThen it {better[1]} it"
    )
    if not dip:
        first = f"There is no dip: up to the peak no net is worse than the dense one.\nPruning {better[1]} overfitting"
    return (
        f"{dense}\n{first}: at {100 * sparsity[peak]:.2f} % test accuracy is {mean[peak]:.1f} %, "
        f"{_format_points(dd.gain)} the dense net{format_interval(dd.gain_interval)}{end}.\n"
        f"{_list_phases(sweep)}"
    )


def advise(sweep: Levels, resamples: int = 10_000) -> phases.Advice:
    """Say what to make of it."""
    return phases.advise(sweep.sparsity, sweep["train_accuracy"], sweep["test_accuracy"], resamples=resamples)


def describe_last_level(sweep: Levels) -> str:
    """Give the last level a line, in the mean over the seeds; the levels to come may show that it is of another phase."""
    level, now = sweep.rows[0][-1], advise(sweep, resamples=1).phase  # which knows a dip that has not ended yet
    train, test = (sweep[f"{part}_accuracy"][:, -1] for part in ("train", "test"))
    spread = f" ± {100 * test.std(ddof=1):.1f}" if len(test) > 1 else ""
    return (  # rounded as the summary rounds
        f"level {level['level']:2d}  sparsity {100 * level['sparsity']:7.3f} %  {level['remaining']:9,} weights  "
        f"train {100 * train.mean():5.1f} %  test {100 * test.mean():5.1f}{spread} %  {now} so far"
    )


def _list_phases(sweep: Levels) -> str:
    levels = [f"{phase} {format_span(found)}" for phase, found in sweep.levels_of_phases.items()]
    return f"By phase, the levels are {', '.join(levels)}."


def format_span(levels: Sequence[int]) -> str:
    """Return the first and the last of levels in a row."""
    return f"{levels[0]} to {levels[-1]}" if len(levels) > 1 else str(levels[0])


def _judge(difference: float, interval: phases.Interval) -> tuple[str, str]:
    """Return the verbs for a difference: it may be either way if its interval, where it has one, does not exclude zero."""
    if interval.low <= 0 <= interval.high:
        return "may or may not make", "may or may not relieve"
    return ("makes", "relieves") if difference > 0 else ("does not make", "does not relieve")


def _format_points(difference: float) -> str:
    return f"{100 * abs(difference):.1f} points {'above' if difference > 0 else 'below'}"
