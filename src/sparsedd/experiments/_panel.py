"""Panel: one panel of a figure, as data."""

from dataclasses import dataclass, replace
from typing import Any

from sparsedd._parameters import abridge
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._own import Own
from sparsedd.noise import FLIPS, Asymmetric

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"}


def titled(experiment: Experiment) -> str:
    """Data set and noise, to be read."""
    data = dataset_name(experiment)
    if isinstance(experiment.noise, Own):
        return f"{data}, {experiment.noise}"
    return f"{data}, ε = {100 * getattr(experiment.noise, 'rate', 0):g} %"


def dataset_name(experiment: Experiment) -> str:
    """Return the name of the data set, to be read."""
    return NAMES.get(str(experiment.dataset), str(experiment.dataset))


@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes
    ----------
    title
        Above it.
    sweeps
        The experiments that it shows, at paper scale with seed 0: one, or a ticket's and that of its re-initialisation.
    at
        Which landmark of the sweep it is about: 0 the dense net, 1 the dip, 2 the peak, 3 the collapsed net; None: all.
    factor
        Of the last learning rate, in re-dense training.
    """

    title: str
    sweeps: tuple[Experiment, ...]
    at: int | None = None
    factor: float = 1.0

    def __repr__(self) -> str:
        return f"Panel({self.title}: {abridge([sweep.name for sweep in self.sweeps], 1)})"


def moved(panel: Panel, preset: Experiment) -> Panel:
    """The panel on another preset, see :meth:`.Figure.on`."""
    sweeps = tuple(_on(preset, experiment) for experiment in panel.sweeps)
    return replace(panel, sweeps=sweeps, title=panel.title.replace(titled(panel.sweeps[0]), titled(sweeps[0])))


def _on(preset: Experiment, experiment: Experiment) -> Experiment:
    """The preset with everything that a figure varies: noise, what is pruned, and what a level starts from."""
    varied = {name: getattr(experiment, name) for name in ("noise", "pruner", "retraining", "one_shot", "tickets_of")}
    if isinstance(experiment.noise, Asymmetric) and experiment.dataset != preset.dataset:
        varied["noise"] = replace(experiment.noise, flips=flips(preset.dataset))
    return replace(preset, **varied)


def flips(dataset: Any) -> Any:
    """The name of the asymmetric flips of a data set's labels."""
    found = {"digits": "mnist"}.get(dataset, dataset)
    if found not in FLIPS:
        raise ValueError(f"asymmetric noise is not defined for {dataset}, only for {', '.join(FLIPS)}: take another kind.")
    return found
