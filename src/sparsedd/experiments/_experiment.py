"""Experiment: one sweep of one seed, as a value."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from numbers import Real
from typing import Any, Literal, Self

from sparsedd import _checks
from sparsedd._pruner import Pruner
from sparsedd.noise import Asymmetric, Noise, Pairflip, Symmetric
from sparsedd.sparse import BELOW

Scale = Literal["smoke", "small", "paper"]


@dataclass(frozen=True)
class Retraining:
    """What a level starts from after pruning (He et al. 2022, A.2), on the two axes of section 2.2.

    Attributes
    ----------
    weights
        ``"rewind"`` to their values at the rewind step, ``"keep"`` the trained ones, or ``"reinit"``: draw new ones.
    schedule
        Of the learning rate: ``"rewind"`` to the rewind step, stay at its ``"final"`` value, or ``"restart"``.
    """

    weights: Literal["rewind", "keep", "reinit"]
    schedule: Literal["rewind", "final", "restart"]

    def __post_init__(self) -> None:
        _checks.one_of("weights", self.weights, ("rewind", "keep", "reinit"))
        _checks.one_of("schedule", self.schedule, ("rewind", "final", "restart"))


LTR = Retraining("rewind", "rewind")
LR_REWINDING = Retraining("keep", "rewind")
FINETUNING = Retraining("keep", "final")
SCRATCH = Retraining("reinit", "restart")

_METHODS = {LTR: "ltr", LR_REWINDING: "lr-rewinding", FINETUNING: "finetuning", SCRATCH: "scratch"}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A sweep: train on noisy labels, prune, rewind, retrain, again and again. The defaults are the paper's on MNIST.

    Attributes
    ----------
    dataset, model
        Names in :mod:`sparsedd.data` and :mod:`sparsedd.models`.
    width
        Multiplies the model's hidden units.
    exclude
        What :func:`sparsedd.prunable` leaves out.
    train_size
        How many of the training images to take; None takes all.
    noise
        On the training labels; None leaves them clean.
    pruner, retraining
        How a level follows from the one before. The pruner's score is one of the three names.
    levels
        How many, the dense level 0 included.
    epochs, batch_size, learning_rate, momentum, weight_decay
        Of SGD, at each level.
    milestones, drop
        Epochs at which the learning rate is multiplied by ``drop``.
    rewind_step
        The step t of level 0 that rewinding returns to.
    evaluate_every
        Epochs from one evaluation to the next; the last epoch is always evaluated.
    sparse_below
        Linear layers of less density are executed in sparse form, see :mod:`sparsedd.sparse`; 0 never does.
    scale
        Which variant this is: a label, see :meth:`scaled`.
    seed
        Of initial weights, noise, data order and random scores.

    Examples
    --------
    >>> experiment = Experiment(noise=Symmetric(0.4), seed=3)
    >>> experiment.name
    'mnist-lenet_300_100-symmetric40-magnitude-ltr'
    >>> experiment.key == Experiment(noise=Symmetric(0.4), seed=3).key
    True
    """

    dataset: Literal["mnist", "digits", "blobs"] = "mnist"
    model: Literal["lenet_300_100"] = "lenet_300_100"
    width: float = 1.0
    exclude: tuple[str, ...] = ("fc3",)
    train_size: int | None = None
    noise: Noise | None = Symmetric(0.2)
    pruner: Pruner = Pruner()
    retraining: Retraining = LTR
    levels: int = 32
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    milestones: tuple[int, ...] = ()
    drop: float = 0.1
    rewind_step: int = 0
    evaluate_every: int = 1
    sparse_below: float = BELOW
    scale: Scale = "paper"
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.one_of("dataset", self.dataset, ("mnist", "digits", "blobs"))
        _checks.one_of("model", self.model, ("lenet_300_100",))
        _checks.one_of("scale", self.scale, ("smoke", "small", "paper"))
        checked: dict[str, Any] = {
            name: _checks.whole(name, getattr(self, name), least=1)
            for name in ("levels", "epochs", "batch_size", "evaluate_every")
        }
        checked |= {name: _checks.whole(name, getattr(self, name)) for name in ("rewind_step", "seed")}
        if self.train_size is not None:
            checked["train_size"] = _checks.whole("train_size", self.train_size, least=1)
        checked |= {name: _checks.number(name, getattr(self, name), above=0) for name in ("learning_rate", "width", "drop")}
        checked |= {
            name: _checks.number(name, getattr(self, name), least=0) for name in ("momentum", "weight_decay", "sparse_below")
        }
        for name in ("exclude", "milestones"):
            if not isinstance(getattr(self, name), tuple | list):
                raise TypeError(f"{name} must be a tuple, got {getattr(self, name)!r}.")
        checked["exclude"] = tuple(self.exclude)
        checked["milestones"] = tuple(_checks.whole("milestones", epoch) for epoch in self.milestones)
        if self.noise is not None and not isinstance(self.noise, Symmetric | Asymmetric | Pairflip):
            raise TypeError(f"an experiment's noise is one of sparsedd.noise or None, got {self.noise!r}.")
        if not isinstance(self.pruner, Pruner) or not isinstance(self.pruner.score, str):
            raise TypeError(f"an experiment's pruner needs a score that is a name, got {self.pruner!r}.")
        if not isinstance(self.retraining, Retraining):
            raise TypeError(f"retraining must be a Retraining such as LTR, got {self.retraining!r}.")
        for name, value in checked.items():  # NumPy's numbers become Python's, and lists tuples
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """What a reader calls it, by data set, model, noise, score and retraining method."""
        noise = "clean" if self.noise is None else _noise_name(self.noise)
        method = _METHODS.get(self.retraining, f"{self.retraining.weights}-{self.retraining.schedule}")
        return f"{self.dataset}-{self.model}-{noise}-{self.pruner.score}-{method}"

    @property
    def key(self) -> str:
        """The content hash, equal for equal experiments, on every machine."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Where its results lie, one folder for the family, one in it for the seed."""
        family = {name: value for name, value in self.config().items() if name != "seed"}
        digest = hashlib.sha256(json.dumps(family, sort_keys=True).encode()).hexdigest()
        return f"{self.name}-{self.scale}-{digest[:8]}/seed-{self.seed}"

    def config(self) -> dict[str, Any]:
        """Every field in JSON."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The experiment of a :meth:`config`.

        >>> Experiment.from_config(Experiment(seed=2).config()) == Experiment(seed=2)
        True
        """
        kinds = {kind.__name__: kind for kind in (Symmetric, Asymmetric, Pairflip, Pruner, Retraining)}

        def made(value: Any) -> Any:
            if isinstance(value, Mapping) and "type" in value:
                arguments = {name: made(v) for name, v in value.items() if name != "type"}
                return kinds[value["type"]](**arguments)
            if isinstance(value, Mapping) and "pairs" in value:
                return {int(c): int(to) for c, to in value["pairs"]}
            if isinstance(value, Mapping) and "ratio" in value:
                return Fraction(value["ratio"])
            return tuple(made(v) for v in value) if isinstance(value, list) else value

        return cls(**{name: made(value) for name, value in config.items()})

    def scaled(self, scale: Scale) -> Self:
        """The same experiment in another size.

        ``"paper"`` is the exact protocol; ``"small"`` takes 10,000 of MNIST's images and a fifth of the epochs; ``"smoke"``
        takes seconds and needs no data files: the digits, a narrower net, few epochs and levels.

        >>> Experiment().scaled("smoke").dataset
        'digits'
        """
        _checks.one_of("scale", scale, ("smoke", "small", "paper"))
        if scale == "paper" or (scale == "small" and self.dataset != "mnist"):
            return replace(self, scale=scale)
        if scale == "small":
            return replace(self, scale=scale, epochs=max(1, self.epochs // 5), train_size=10_000)
        return replace(
            self,
            scale=scale,
            dataset="digits",
            width=0.2,
            train_size=200,
            epochs=2,
            levels=3,
            milestones=tuple(min(m, 1) for m in self.milestones[:1]),
            rewind_step=min(self.rewind_step, 1),
        )


#: The rows of the paper's table of hyper-parameters (Appendix B), by name, and the demo on the digits.
PRESETS: dict[str, Experiment] = {
    "lenet-mnist": Experiment(sparse_below=0.2),
    "lenet-digits": Experiment(
        dataset="digits",
        train_size=800,
        noise=Symmetric(0.4),
        batch_size=100,
        learning_rate=0.2,
        epochs=120,
        evaluate_every=20,
        levels=35,
        sparse_below=0.1,
        scale="small",
    ),
}


def _noise_name(noise: Noise) -> str:
    rate = f"{100 * float(noise.rate):g}"  # type: ignore[attr-defined]
    draw = f"-{noise.draw}" if isinstance(noise, Symmetric) and noise.draw != "uniform" else ""
    return f"{type(noise).__name__.lower()}{rate}{draw}"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {"pairs": [[c, to] for c, to in value.items()]}
    if isinstance(value, Fraction):
        return {"ratio": str(value)}
    if isinstance(value, Real) and not isinstance(value, bool | int | float):  # NumPy's
        return float(str(value))
    return list(value) if isinstance(value, tuple) else value
