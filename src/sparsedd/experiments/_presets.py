"""Presets: experiments by name."""

from dataclasses import replace

from sparsedd import _checks
from sparsedd.data import Flip, RandomResizedCrop, Shift
from sparsedd.experiments._experiment import Experiment
from sparsedd.noise import Symmetric

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
            batch_size=100,
            learning_rate=0.2,
            epochs=120,
            evaluate_every=20,
            levels=35,
            scale="small",
        ),
    },
    "Make an Experiment of your own: dataclasses.replace(PRESETS['lenet-mnist'], width=0.5)",
)
