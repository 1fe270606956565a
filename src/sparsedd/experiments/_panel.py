"""Panel: one panel of a figure, as data."""

from dataclasses import dataclass

from sparsedd.experiments._experiment import Experiment


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
