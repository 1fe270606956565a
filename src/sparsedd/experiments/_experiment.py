"""Experiment: one sweep of one seed, as a value."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from numbers import Real
from types import NoneType
from typing import Any, Literal, Self, TypeAlias, get_args

from torch import nn

from sparsedd import _checks
from sparsedd._parameters import abridge
from sparsedd._pruner import Pruner
from sparsedd.data import DATASETS, Augmentation, Data, Flip, RandomResizedCrop, Shift
from sparsedd.experiments._labels import make_name
from sparsedd.experiments._own import Own, OwnData, from_json, own
from sparsedd.noise import Asymmetric, Noise, Pairflip, Symmetric
from sparsedd.sparse import BELOW
from sparsedd.sweeps._retraining import LTR, Retraining, Schedule, multistep

NORMALIZED = ("cifar10", "cifar100", "tiny_imagenet")  # data sets with colour channels
MODELS = ("lenet_300_100", "resnet18", "resnet101", "vgg16")
Scale: TypeAlias = Literal["smoke", "mini", "quarter", "small", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)  # the larger, the later
WORDS = {
    "scale": SCALES,
    "normalization": ("dataset", "imagenet"),
    "initialization": ("paper", "authors"),
    "precision": ("float32", "tf32", "bfloat16"),
}
LEAST = {"levels": 1, "epochs": 1, "batch_size": 1, "evaluate_every": 1, "rewind_step": 0, "warmup_epochs": 0, "seed": 0}

# By data set: the share of the epochs, and what else becomes smaller.
SMALL: dict[str, tuple[float, dict[str, Any]]] = {
    "mnist": (2 / 5, {"train_size": 10_000, "levels": 36, "evaluate_every": 4}),
    "cifar10": (3 / 4, {"train_size": 10_000, "width": 0.5}),
    "cifar100": (3 / 4, {"train_size": 10_000, "width": 0.5}),
    "tiny_imagenet": (1 / 2, {"train_size": 20_000, "width": 0.5}),
}
_COLOUR = ("cifar10", "cifar100", "tiny_imagenet")
_MINI = (3 / 8, {"train_size": 2_000, "width": 1 / 8, "augmentation": (), "evaluate_every": 15})
_QUARTER = (1 / 8, _MINI[1] | {"train_size": 15_000, "width": 1 / 4, "precision": "bfloat16", "evaluate_every": 10})
REDUCED = {"small": SMALL, "mini": SMALL | dict.fromkeys(_COLOUR, _MINI), "quarter": SMALL | dict.fromkeys(_COLOUR, _QUARTER)}
# What needs neither files nor network in the place of a data set.
SMOKE: dict[str, dict[str, Any]] = {
    "mnist": {"dataset": "digits", "train_size": 200, "width": 0.2},
    "digits": {"train_size": 200, "width": 0.2},
    "cifar10": {"dataset": "blobs-cifar10", "normalization": "dataset"},
    "cifar100": {"dataset": "blobs-cifar100", "normalization": "dataset"},
    "tiny_imagenet": {"dataset": "blobs-tiny_imagenet", "normalization": "dataset"},
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Experiment:
    """A sweep: train on noisy labels, prune, rewind, retrain, again and again. The defaults are the paper's on MNIST.

    Attributes
    ----------
    dataset, model
        Names in :data:`sparsedd.data.DATASETS` and :mod:`sparsedd.models`, or functions of your own: one that returns a
        :class:`sparsedd.data.Data`, and one that returns a module. The latter is called with those of ``num_classes``,
        ``seed``, ``in_features``, ``in_channels``, ``width`` and ``initialization`` that it takes; but with the last two only
        where it has no default for them, or the experiment has another value than its own default.
    normalization, augmentation
        Of the images: by the data set's own channels or ``"imagenet"``'s; such as ``(Flip(), Shift(4))``.
    width, initialization
        Of the model, see :mod:`sparsedd.models`; ``width`` is a float.
    exclude
        What :func:`sparsedd.prunable` leaves out; for a model of your own, most often ``()``.
    train_size
        How many of the training images to take; None takes all.
    noise
        On the training labels; None leaves them clean. One of :mod:`sparsedd.noise`, or ``(labels, num_classes, seed) ->
        labels`` of your own. :class:`.Given` labels stand in the key by their digest.
    pruner, retraining
        How a level follows from the one before. The pruner's score is one of the three names, or one of your own, which
        finds in ``parameter.grad`` the gradient of one training batch.
    one_shot
        Every level is pruned from the dense net at once, to the nominal sparsity of its number.
    tickets_of
        Take the masks of the same experiment with this retraining method, instead of pruning one's own nets; see
        :meth:`reinitialized`.
    levels
        How many, the dense level 0 included.
    epochs, batch_size, learning_rate, momentum, weight_decay
        Of SGD, at each level.
    milestones, drop, warmup_epochs
        Epochs at which the learning rate is multiplied by ``drop``, and over which it rises linearly at first.
    rewind_step
        The step t of level 0 that rewinding returns to.
    evaluate_every
        Epochs from one evaluation to the next; the last epoch is always evaluated.
    sparse_below
        On a CPU, linear layers of less density are executed in sparse form, see :mod:`sparsedd.sparse`; 0 never does.
    precision
        Of products: ``"float32"``, ``"tf32"`` (on a GPU that has it), or ``"bfloat16"`` (autocast: weights, gradients and
        layers in sparse form stay float32).
    compiled
        Call the net through ``torch.compile``: for deep nets on a GPU. A perceptron is not compiled.
    scale
        Which variant this is: a label, see :meth:`scaled`.
    seed
        Of initial weights, noise, data order and random scores.

    Notes
    -----
    What is your own is a function, a frozen dataclass that can be called, or a ``functools.partial`` of a function, and can
    be imported: the key holds its name and its arguments, a digest in the place of tensors and of data. Lambdas, methods,
    and what is defined inside of functions or in a script that is run itself are refused. What such a function does is
    no part of the key: where its source text has changed since its folder was begun, there is a warning, and the levels that
    are there stay. In an experiment that was read from a folder, it is a name that can't be called: reading imports nothing.

    Examples
    --------
    >>> experiment = Experiment(noise=Symmetric(0.4), seed=3)
    >>> experiment
    Experiment(mnist-lenet_300_100-symmetric40-magnitude-ltr, paper scale, 32 levels × 200 epochs, seed 3)
    >>> experiment.key == Experiment(noise=Symmetric(0.4), seed=3).key
    True
    """

    dataset: str | Callable[..., Data] = "mnist"
    normalization: Literal["dataset", "imagenet"] = "dataset"
    augmentation: tuple[Augmentation, ...] = ()
    model: Literal["lenet_300_100", "resnet18", "resnet101", "vgg16"] | Callable[..., nn.Module] = "lenet_300_100"
    width: float = 1.0
    initialization: Literal["paper", "authors"] = "paper"
    exclude: tuple[str, ...] = ("fc3",)
    train_size: int | None = None
    noise: Noise | None = Symmetric(0.2)
    pruner: Pruner = Pruner()
    retraining: Retraining = LTR
    one_shot: bool = False
    tickets_of: Retraining | None = None
    levels: int = 32
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    milestones: tuple[int, ...] = ()
    drop: float = 0.1
    warmup_epochs: int = 0
    rewind_step: int = 0
    evaluate_every: int = 1
    sparse_below: float = BELOW
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    compiled: bool = False
    scale: Scale = "paper"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in WORDS.items():
            _checks.one_of(name, getattr(self, name), allowed)
        checked: dict[str, Any] = {name: _checks.whole(name, getattr(self, name), least=n) for name, n in LEAST.items()}
        for name, names, kind in (("dataset", tuple(DATASETS), OwnData), ("model", MODELS, Own)):
            if callable(value := getattr(self, name)):
                checked[name] = own(f"an experiment's {name}", value, kind)
            else:
                _checks.one_of(name, value, names)
        if self.train_size is not None:
            checked["train_size"] = _checks.whole("train_size", self.train_size, least=1)
        for name in ("learning_rate", "width", "drop"):
            checked[name] = _checks.number(name, getattr(self, name), above=0)
        for name in ("momentum", "weight_decay", "sparse_below"):
            checked[name] = _checks.number(name, getattr(self, name), least=0)
        for name in ("exclude", "milestones", "augmentation"):
            checked[name] = tuple(_checks.kind(name, getattr(self, name), (tuple, list), "a tuple"))
        if not all(isinstance(name, str) for name in self.exclude):
            raise TypeError(f"exclude must hold names, got {self.exclude!r}.")
        checked["milestones"] = tuple(_checks.whole("milestones", epoch) for epoch in self.milestones)
        for name in ("one_shot", "compiled"):
            _checks.kind(name, getattr(self, name), bool, "True or False")
        if self.normalization != "dataset" and self.dataset not in NORMALIZED:
            raise ValueError(f"normalization={self.normalization!r} is for {', '.join(NORMALIZED)}, got {self.dataset!r}.")
        if not all(isinstance(transform, Flip | Shift | RandomResizedCrop) for transform in self.augmentation):
            raise TypeError(f"an experiment's augmentation holds Flip, Shift or RandomResizedCrop, got {self.augmentation!r}.")
        if self.noise is not None and type(self.noise) not in (Symmetric, Asymmetric, Pairflip):
            if not callable(self.noise) or isinstance(self.noise, type):
                raise TypeError(f"an experiment's noise is a function, one of sparsedd.noise or None, got {self.noise!r}.")
            checked["noise"] = own("an experiment's noise", self.noise)
        if not isinstance(_checks.kind("pruner", self.pruner, Pruner, "a Pruner").score, str):
            checked["pruner"] = replace(self.pruner, score=own("the score of an experiment's pruner", self.pruner.score))
        _checks.kind("retraining", self.retraining, Retraining, "a Retraining such as LTR")
        _checks.kind("tickets_of", self.tickets_of, (Retraining, NoneType), "a Retraining such as LTR, or None")
        for name, value in checked.items():  # NumPy's numbers become Python's, and lists tuples
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        size = f"{self.scale} scale, {self.levels} levels × {self.epochs} epochs"
        return f"Experiment({self.name}, {size}, seed {self.seed})"

    @property
    def name(self) -> str:
        """The name for readers: data set, model, noise, score and retraining method."""
        return make_name(self)

    @property
    def key(self) -> str:
        """The content hash, equal for equal experiments, on every machine."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> str:
        """The place of its results: one folder for the family, one in it for the seed."""
        family = {name: value for name, value in self.config().items() if name != "seed"}
        digest = hashlib.sha256(json.dumps(family, sort_keys=True).encode()).hexdigest()
        return f"{self.name}-{self.scale}-{digest[:8]}/seed-{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return every field in JSON."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the experiment of a :meth:`config`.

        >>> Experiment.from_config(Experiment(seed=2).config()) == Experiment(seed=2)
        True
        """
        types = (Symmetric, Asymmetric, Pairflip, Pruner, Retraining, Flip, Shift, RandomResizedCrop)
        kinds: dict[str, Any] = _checks.Named("type of field", {kind.__name__: kind for kind in types}, "")
        known = [f.name for f in fields(cls)]
        for name in _checks.kind("config", config, Mapping, "a mapping of fields to values"):
            if name not in known:
                raise ValueError(f"an experiment has no field {name!r}. It has {abridge(known, len(known))}.")

        def made(value: Any) -> Any:
            if isinstance(value, Mapping) and "function" in value:
                return from_json(value)
            if isinstance(value, Mapping) and "type" in value:
                arguments = {name: made(v) for name, v in value.items() if name != "type"}
                return kinds[value["type"]](**arguments)
            if isinstance(value, Mapping) and "pairs" in value:
                return {int(c): int(to) for c, to in value["pairs"]}
            if isinstance(value, Mapping) and "ratio" in value:
                if not re.fullmatch(r"\d+(/\d+)?", value["ratio"]):  # not 1e999999999
                    raise ValueError(f"a ratio must be two integers, got {value['ratio']!r:.40}.")
                return Fraction(value["ratio"])
            return tuple(made(v) for v in value) if isinstance(value, list) else value

        return cls(**{name: made(value) for name, value in config.items()})

    def schedule(self, steps_per_epoch: int) -> Schedule:
        """Return the learning rate of the dense level as a function of the step."""
        _checks.whole("steps_per_epoch", steps_per_epoch, least=1)
        milestones = [epoch * steps_per_epoch for epoch in self.milestones]
        return multistep(self.learning_rate, milestones, self.drop, self.warmup_epochs * steps_per_epoch)

    def reinitialized(self) -> Self:
        """Return the experiment with the same masks and other weights: each ticket starts from a new initialisation.

        A level is trained from the rewind step to the end, like a ticket (He et al. 2022, Figs 10, 33 and 34).

        >>> Experiment().reinitialized().name
        'mnist-lenet_300_100-symmetric20-magnitude-reinit-of-ltr'
        """
        return replace(self, retraining=Retraining("reinit", "rewind"), tickets_of=self.tickets_of or self.retraining)

    def scaled(self, scale: Scale) -> Self:
        """Return the same experiment in another size.

        ``"paper"`` is the exact protocol. ``"small"`` shows the same with fewer images and epochs, for two CPU cores (MNIST)
        or a GPU; colour images get a narrower net, too, and two of the paper's levels become one. Two more are for colour
        images on CPU cores, without augmentation: ``"quarter"`` with a quarter of the width and an eighth of the epochs,
        in bfloat16, and ``"mini"`` with still fewer images and a still narrower net. ``"smoke"`` takes seconds and needs no
        data files: the digits or blobs, a narrow net, two epochs and three levels. What has been made smaller can't be scaled
        again. A data set and a model of your own stay as they are: other data, and a width, are not put in their place.

        >>> Experiment().scaled("smoke").dataset
        'digits'
        """
        _checks.one_of("scale", scale, SCALES)
        changed = _changes(self, scale)
        if isinstance(self.model, Own):
            changed.pop("width", None)
        return replace(self, **changed)


def _changes(experiment: Experiment, scale: Scale) -> dict[str, Any]:
    """Return the fields of an experiment that are different in another scale."""
    e, dataset = experiment, experiment.dataset if isinstance(experiment.dataset, str) else ""
    if scale == e.scale:
        return {}
    if e.scale == "smoke" or (e.scale != "paper" and dataset in SMALL):
        raise ValueError(f"this is the {e.scale} form of an experiment: scale the original, got scale={scale!r}.")
    if scale == "smoke":
        if isinstance(e.noise, Own) and e.noise.name == "sparsedd.noise:Given" and dataset in SMOKE:
            raise ValueError(
                "given labels belong to their data set, and scale='smoke' puts another in its place: use train_size=."
            )
        tiny = {"train_size": 100, "width": 1 / 16} | SMOKE.get(dataset, {})
        return tiny | {
            "scale": scale,
            "epochs": 2,
            "batch_size": min(50, e.batch_size),
            "levels": min(3, e.levels),
            "milestones": tuple(1 for _ in e.milestones[:1]),
            "rewind_step": min(1, e.rewind_step),
            "warmup_epochs": min(1, e.warmup_epochs),
            "evaluate_every": 1,
        }
    if scale == "paper" or dataset not in SMALL:
        return {"scale": scale}
    share, fewer = REDUCED[scale][dataset]
    steps = share * fewer["train_size"] / {"mnist": 60_000, "tiny_imagenet": 100_000}.get(dataset, 50_000)
    smaller = {
        "scale": scale,
        "epochs": max(1, round(share * e.epochs)),
        "milestones": tuple(round(share * epoch) for epoch in e.milestones),
        "rewind_step": round(steps * e.rewind_step),
        "warmup_epochs": round(share * e.warmup_epochs),
    }
    if "levels" not in fewer:  # two of the paper's levels in one
        smaller["pruner"] = replace(e.pruner, fraction=e.pruner.sparsity(2))
        smaller["levels"] = 1 + -(-(e.levels - 1) // 2)
    return smaller | fewer


def _plain(value: Any) -> Any:
    if isinstance(value, Own):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
        shares = {name: float(v) for name, v in parts.items() if name in ("rate", "fraction") and isinstance(v, int)}
        return {"type": type(value).__name__} | {name: _plain(v) for name, v in (parts | shares).items()}
    if isinstance(value, Mapping):
        return {"pairs": [[c, to] for c, to in value.items()]}
    if isinstance(value, Fraction):
        return {"ratio": str(value)}
    if isinstance(value, Real) and not isinstance(value, bool | int | float):  # NumPy's
        return float(str(value))
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def owns(experiment: Experiment) -> list[Own]:
    """List what of an experiment is the user's own."""
    parts = (experiment.dataset, experiment.model, experiment.noise, experiment.pruner.score)
    return [part for part in parts if isinstance(part, Own)]


def family_of(experiment: Experiment) -> str:
    """Return the folder that the seeds of one experiment share; no other experiment has it."""
    return experiment.folder.split("/")[0]
