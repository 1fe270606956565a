"""The paper as data: PRESETS, the rows of its table of hyper-parameters, and FIGURES, its 49 figures."""

from dataclasses import replace

from sparsedd import _checks
from sparsedd._pruner import Pruner
from sparsedd.data import Flip, RandomResizedCrop, Shift
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._figures import _claims as claims
from sparsedd.experiments._figures._claims import Claims
from sparsedd.experiments._figures._figure import Figure
from sparsedd.experiments._figures._panel import (
    ACCURACY,
    BEST,
    DIRECTIONS,
    DISTANCE,
    DYNAMICS,
    GAP,
    INTERPOLATION,
    PHASES,
    REDENSE,
    TICKETS,
    Drawing,
    Panel,
)
from sparsedd.experiments._labels import make_title, name_dataset
from sparsedd.noise import Asymmetric, Noise, Pairflip, Symmetric
from sparsedd.sweeps._retraining import FINETUNING, LR_REWINDING, SCRATCH, Retraining

_RESNET18 = Experiment(
    dataset="cifar10",
    augmentation=(Flip(), Shift(4)),
    model="resnet18",
    exclude=(),
    levels=28,
    epochs=160,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(80, 120),
    rewind_step=1000,
)
_VGG16 = replace(_RESNET18, model="vgg16", exclude=("fc",), rewind_step=2000)

#: The rows of the paper's table of hyper-parameters (Appendix B), by name, and the demo on the digits.
PRESETS: dict[str, Experiment] = _checks.Named(
    "preset",
    {
        "lenet-mnist": Experiment(),
        "resnet18-cifar10": _RESNET18,
        "resnet18-cifar100": replace(_RESNET18, dataset="cifar100", noise=Symmetric(0.4)),
        "vgg16-cifar10": _VGG16,
        "vgg16-cifar100": replace(_VGG16, dataset="cifar100", noise=Symmetric(0.4)),
        "resnet101-tiny-imagenet": replace(
            _RESNET18,
            dataset="tiny_imagenet",
            augmentation=(RandomResizedCrop(32), Flip()),
            model="resnet101",
            levels=17,
            epochs=200,
            batch_size=512,
            learning_rate=0.2,
            milestones=(100, 150),
        ),
        "lenet-digits": Experiment(
            dataset="digits",
            train_size=800,
            noise=Symmetric(0.4),
            batch_size=200,
            learning_rate=0.4,
            epochs=120,
            evaluate_every=20,
            levels=35,
            scale="small",
        ),
    },
    "Make an Experiment of your own: dataclasses.replace(PRESETS['lenet-mnist'], width=0.5)",
)

MNIST, C10, C100 = PRESETS["lenet-mnist"], PRESETS["resnet18-cifar10"], PRESETS["resnet18-cifar100"]
VGG10, VGG100, TINY = PRESETS["vgg16-cifar10"], PRESETS["vgg16-cifar100"], PRESETS["resnet101-tiny-imagenet"]
SCORES = {"Magnitude-based pruning": "magnitude", "Gradient-based pruning": "gradient", "Random pruning": "random"}
OTHERS = {"Finetuning": FINETUNING, "Learning rate rewinding": LR_REWINDING, "Scratch retraining": SCRATCH}
PLACES = ("Dense", "Critical", "Sweet", "Collapsed")


def _at(base: Experiment, rate: float) -> Experiment:
    return replace(base, noise=Symmetric(rate))


def _plain(*experiments: Experiment) -> tuple[Panel, ...]:
    """Make a panel for each, named by data set and noise."""
    return tuple(Panel(make_title(experiment), (experiment,)) for experiment in experiments)


def _scores(base: Experiment, noise: Noise) -> tuple[Panel, ...]:
    """Make a panel for each pruning strategy."""
    pruners = {title: Pruner(score, base.pruner.fraction) for title, score in SCORES.items()}  # type: ignore[arg-type]
    return tuple(Panel(title, (replace(base, noise=noise, pruner=pruner),)) for title, pruner in pruners.items())


def _methods(base: Experiment, rate: float, methods: dict[str, Retraining]) -> tuple[Panel, ...]:
    """Make a panel for each retraining method."""
    return tuple(Panel(title, (replace(_at(base, rate), retraining=method),)) for title, method in methods.items())


def _rates(base: Experiment, *rates: float) -> tuple[Panel, ...]:
    """Make a panel for each rate of symmetric noise."""
    return _plain(*(_at(base, rate) for rate in rates))


def _tickets(base: Experiment, *rates: float) -> tuple[Panel, ...]:
    """Make a panel for each rate: a ticket, and the same with new weights."""
    pairs = [(_at(base, rate), _at(base, rate).reinitialized()) for rate in rates]
    return tuple(Panel(make_title(ticket), (ticket, other)) for ticket, other in pairs)


def _landmarks(experiment: Experiment, *factors: float) -> tuple[Panel, ...]:
    """Make a panel for each landmark, a row for each factor of the last learning rate."""
    return tuple(
        Panel(f"{place}, last rate × {factor:g}" if len(factors) > 1 else place, (experiment,), at, factor)
        for factor in factors
        for at, place in enumerate(PLACES)
    )


def _figure(
    number: int, caption: str, panels: tuple[Panel, ...], drawing: Drawing, *says: Claims, columns: int | None = None
) -> tuple[str, Figure]:
    return str(number), Figure(number, caption, panels, drawing, says, columns or len(panels))


_DD, _LD = claims.double_descent, claims.distance_follows
_STRATEGIES, _RETRAINED = "three pruning strategies", "finetuning, learning rate rewinding and scratch retraining"
_SYMMETRIC = "symmetric label noise of"

#: The paper's figures, ``"1"`` to ``"49"``, at paper scale.
FIGURES: dict[str, Figure] = dict(
    [
        _figure(1, "Sparse double descent on three data sets with 20 % wrong labels", (
            *_rates(MNIST, 0.2), *_rates(C10, 0.2), *_rates(C100, 0.2)), ACCURACY, _DD),
        _figure(2, f"CIFAR-100, {_SYMMETRIC} 40 %: {_STRATEGIES}", _scores(C100, Symmetric(0.4)), ACCURACY, _DD),
        _figure(3, f"CIFAR-100, {_SYMMETRIC} 40 %: {_RETRAINED}", _methods(C100, 0.4, OTHERS), ACCURACY, _DD),
        _figure(4, "CIFAR-10: what more noise does to the phases", _rates(C10, 0.2, 0.4, 0.8), ACCURACY, claims.noise_shifts),
        _figure(5, "The four phases on MNIST, symmetric label noise of 20 %", _rates(MNIST, 0.2), PHASES,
                claims.four_phases, claims.memorises),
        _figure(6, "CIFAR-100, noise of 40 %: sparse training, then re-dense training at the last learning rate",
                _landmarks(_at(C100, 0.4), 1.0), REDENSE, claims.overfits_again),
        _figure(7, "CIFAR-100, noise of 40 %: on the line from a sparse net of the Sweet phase to its re-dense net",
                (Panel("Sweet", (_at(C100, 0.4),), at=2),), INTERPOLATION, claims.monotone_path),
        _figure(8, "CIFAR-100, noise of 40 %: loss around re-dense nets", _rates(C100, 0.4), DIRECTIONS, claims.sharper),
        _figure(9, "Learning distance and test accuracy on MNIST, noise of 20 %", _rates(MNIST, 0.2), DISTANCE, _LD),
        _figure(10, "CIFAR-10, noise of 20 %: lottery tickets, and the same masks with new initial weights",
                _tickets(C10, 0.2), TICKETS, claims.reinitialized_tickets),
        _figure(11, f"CIFAR-100, noise of 40 %: the best test accuracy of all epochs, for {_STRATEGIES}",
                _scores(C100, Symmetric(0.4)), BEST, claims.best_dips_less),
        _figure(12, "Learning distance and test accuracy on CIFAR-100, noise of 20 %", _rates(C100, 0.2), DISTANCE, _LD),
        *(_figure(number, f"{name_dataset(base)}, {what}: {_STRATEGIES}", _scores(base, noise), ACCURACY, _DD)
          for number, base, what, noise in (
            (13, MNIST, f"{_SYMMETRIC} 20 %", Symmetric(0.2)),
            (14, MNIST, f"{_SYMMETRIC} 40 %", Symmetric(0.4)),
            (16, C10, f"{_SYMMETRIC} 20 %", Symmetric(0.2)),
            (17, C10, f"{_SYMMETRIC} 40 %", Symmetric(0.4)),
            (18, C10, f"{_SYMMETRIC} 80 %", Symmetric(0.8)),
            (20, VGG10, f"VGG-16, {_SYMMETRIC} 20 %", Symmetric(0.2)),
            (21, C10, "asymmetric label noise of 20 %", Asymmetric(0.2, "cifar10")),
            (22, C10, "pairflip label noise of 20 %", Pairflip(0.2)),
            (23, C100, f"{_SYMMETRIC} 20 %", Symmetric(0.2)),
            (24, C100, f"{_SYMMETRIC} 40 %", Symmetric(0.4)),
            (25, C100, f"{_SYMMETRIC} 80 %", Symmetric(0.8)),
            (27, VGG100, f"VGG-16, {_SYMMETRIC} 40 %", Symmetric(0.4)),
            (28, C100, "asymmetric label noise of 40 %", Asymmetric(0.4, "cifar100")),
            (29, C100, "pairflip label noise of 40 %", Pairflip(0.4)))),
        *(_figure(number, f"{name_dataset(base)}, {_SYMMETRIC} {100 * rate:g} %: {_RETRAINED}",
                  _methods(base, rate, OTHERS), ACCURACY, _DD)
          for number, base, rate in ((15, MNIST, 0.2), (19, C10, 0.2), (26, C100, 0.4))),
        _figure(30, "ResNet-101 on Tiny ImageNet, noise of 20 %", _rates(TINY, 0.2), ACCURACY, _DD),
        _figure(31, "Without label noise", _plain(replace(C10, noise=None), replace(C100, noise=None)), ACCURACY,
                claims.no_double_descent),
        _figure(32, "The generalisation gap on three data sets with 20 % wrong labels", (
            *_rates(MNIST, 0.2), *_rates(C10, 0.2), *_rates(C100, 0.2)), GAP, claims.gap_follows),
        *(_figure(number, f"{name_dataset(base)}: lottery tickets, and the same masks with new initial weights",
                  _tickets(base, 0.2, 0.4, 0.8), TICKETS, claims.reinitialized_tickets)
          for number, base in ((33, C10), (34, C100))),
        _figure(35, "Training dynamics at four sparsities on MNIST", _rates(MNIST, 0.2, 0.4), DYNAMICS, claims.converges),
        _figure(36, "Training dynamics at four sparsities on CIFAR", tuple(
            panel for rate in (0.2, 0.4, 0.8) for panel in (*_rates(C10, rate), *_rates(C100, rate))), DYNAMICS,
                claims.converges, columns=2),
        *(_figure(number, f"{name_dataset(base)}, noise of {100 * rate:g} %: sparse training, then re-dense training",
                  _landmarks(_at(base, rate), *factors), REDENSE, claims.overfits_again, columns=4)
          for number, base, rate, factors in (
            (37, MNIST, 0.2, (1.0,)), (38, C10, 0.2, (1.0, 0.1)), (39, C100, 0.4, (1.0, 0.1)))),
        *(_figure(number, f"{name_dataset(base)}, noise of {100 * rate:g} %: on the lines from sparse nets to re-dense ones",
                  _landmarks(_at(base, rate), 1.0), INTERPOLATION, claims.monotone_path)
          for number, base, rate in ((40, MNIST, 0.2), (41, C10, 0.2), (42, C100, 0.4))),
        _figure(43, "Loss around re-dense nets", (*_rates(C10, 0.2), *_rates(C100, 0.4)), DIRECTIONS, claims.sharper),
        *(_figure(number, f"Learning distance and test accuracy on {name_dataset(base)}",
                  _rates(base, 0.2, 0.4, 0.8), DISTANCE, _LD)
          for number, base in ((44, MNIST), (46, C10), (48, C100))),
        *(_figure(number, f"Learning distance on {name_dataset(base)}, noise of {100 * rate:g} %: other retraining",
                  _methods(base, rate, methods), DISTANCE, _LD)
          for number, base, rate, methods in (
            (45, MNIST, 0.2, {name: method for name, method in OTHERS.items() if method is not FINETUNING}),
            (47, C10, 0.2, OTHERS),
            (49, C100, 0.4, OTHERS))),
    ]
)  # fmt: skip
FIGURES = _checks.Named(
    "figure",
    {number: FIGURES[number] for number in sorted(FIGURES, key=int)},
    "Make a Figure of your own: dataclasses.replace(FIGURES['5'], panels=...)",
)
