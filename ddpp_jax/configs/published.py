"""What other methods have published for each dataset and number of images, and what suits a CPU."""

from dataclasses import replace
from typing import Any

from ddpp_jax.configs.best import BEST
from ddpp_jax.configs.distillation import DistillConfig
from ddpp_jax.configs.methods import METHODS, check_method
from ddpp_jax.configs.real import KernelConfig, RealConfig, UnrolledConfig
from ddpp_jax.errors import InputError

_PUBLISHED: dict[str, dict[str, tuple[int, ...]]] = {
    # DC's own tables: CIFAR-10 at 1, 10 and 50, CIFAR-100 at 1 and 10.
    "dc": {"cifar10": (1, 10, 50), "cifar100": (1, 10)},
    # Zhao and Bilen, ICML 2021; CIFAR-100 at 50 in DM's tables.
    "dsa": {"cifar10": (1, 10, 50), "cifar100": (1, 10, 50)},
    # Zhao and Bilen, WACV 2023: rate 1 for up to 50 images per class, 20,000 steps.
    "dm": {
        "cifar10": (1, 10, 50),
        "cifar100": (1, 10, 50),
        "tiny-imagenet-200": (1, 10, 50),
    },
    # Wang et al., CVPR 2022; the code has ten classes written in, CIFAR-100 stands in its tables.
    "cafe": {"cifar10": (1, 10, 50), "cifar100": (1, 10, 50)},
    # Nguyen et al., NeurIPS 2021: 1,000 steps, 5,000 real images a step; no CIFAR-100 at 50.
    "kip": {"cifar10": (1, 10, 50), "cifar100": (1, 10)},
    # Feng, Vedantam and Kempe, ICLR 2024: the commands of their repository.
    "bptt": {"cifar10": (10,), "cifar100": (1, 10), "tiny-imagenet-200": (10,)},
}
_SHARES = {"cifar100": 50, "tiny-imagenet-200": 25}
"""Real images of each class where 5,000 a step are published, for more than ten classes."""


def provenance(method: str, name: str, dataset: str, ipc: int) -> str | None:
    """Where the settings of a method for a named setting come from, where none are published.

    None where they are published, and for trajectory matching where MTT has settings.

    Args:
        method: of distillation.
        name: of the setting.
        dataset: by its name.
        ipc: images per class.
    """
    if name in BEST:
        best = BEST[name]
        more = provenance(method, best.base, dataset, ipc)
        return best.source if more is None else f"{best.source}; {more}"
    known = _PUBLISHED.get(method)
    if known is None:
        unknown = name.startswith("cxr-ipc")
        return "a start for a search of one's own, since the paper prints none" if unknown else None
    if name in _SMALL:
        return "this project's own, to suit two CPU cores"
    if ipc in known.get(dataset, ()):
        return None
    where = "CIFAR-10's at 10 per class" if method == "bptt" else "CIFAR-10's"
    return f"{where}, since none are known that were published for {dataset} at {ipc} per class"


def settings_of(method: str, dataset: str, ipc: int, *, alpha: float) -> DistillConfig:
    """The published settings of a method that needs no teachers; CIFAR-10's where there are none.

    Args:
        method: of distillation.
        dataset: by its name.
        ipc: images per class.
        alpha: the learning rate that networks are trained at on a set: 0.01 in DC, DSA, DM and
            CAFE. KIP takes it from the kernel, and RaT-BPTT trains by Adam at 0.001.

    Raises:
        InputError: there is no such method.
    """
    kind = METHODS[check_method(method)]
    if not issubclass(kind, RealConfig):
        raise InputError(f"--method {method} has its settings elsewhere")
    if issubclass(kind, KernelConfig | UnrolledConfig):
        found = kind(ipc=ipc, alpha=alpha, real_batch=_SHARES.get(dataset, 500))
        more = _UNROLLED.get((dataset, ipc), {}) if kind is UnrolledConfig else {}
        return replace(found, **more)
    return kind(ipc=ipc, alpha=alpha)


_UNROLLED: dict[tuple[str, int], dict[str, Any]] = {
    ("cifar100", 1): {
        "window": 90,
        "horizon": 130,
        "placement": "fixed",
        "pixel_rate": 0.0003,
        "learn_labels": True,
        "label_rate": 0.0003,
    },
    ("cifar100", 10): {
        "window": 100,
        "horizon": 300,
        "student_batch": 100,
        "learn_labels": True,
    },
    ("tiny-imagenet-200", 10): {
        "window": 100,
        "horizon": 300,
        "pixel_rate": 0.0003,
        "learn_labels": True,
        "label_rate": 0.0003,
        "student_batch": 50,
        "real_batch": 5,
    },
}
"""RaT-BPTT's commands where they differ from that for CIFAR-10 at 10 images per class.

Of its two for Tiny ImageNet, the one whose window lies at random.
"""

_FEW = {
    "dc": {"steps": 300},
    "dsa": {"steps": 300, "siamese": "all"},
    "dm": {"steps": 500, "eval_every": 100, "siamese": "all"},
    "cafe": {"steps": 20, "siamese": "all"},
    "kip": {"steps": 50, "real_batch": 4},
    "bptt": {
        "steps": 300,
        "pixel_rate": 0.03,
        "window": 20,
        "horizon": 60,
        "real_batch": 50,
        "start": "real",
    },
}
_FEW_OF_TEN = _FEW | {"dc": {"steps": 50}, "dsa": {"steps": 50, "siamese": "all"}}
_SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "dc": {"steps": 300, "pixel_rate": 0.3},
        "dsa": {"steps": 300},
        "dm": {"steps": 1000, "pixel_rate": 1.0, "eval_every": 200},
        "cafe": {"steps": 40, "moved": 0.01},
        "kip": {"steps": 100, "real_batch": 20},
        "bptt": {"steps": 300, "pixel_rate": 0.03, "window": 40, "horizon": 120, "start": "real"},
    },
    "cifar10-small-ipc1": _FEW,
    "cifar10-small-ipc10": _FEW_OF_TEN,
    "cxr-small-ipc1": _FEW,
    "cxr-small-ipc5": _FEW_OF_TEN,
}
"""What methods have otherwise where two CPU cores are to do them.

The small settings of CIFAR-10 and the X-rays augment nothing when sets are evaluated; DSA, DM and
CAFE augment all the same while they distil, as published.
"""


def smaller(settings: DistillConfig, name: str, method: str) -> DistillConfig:
    """The settings of a method for one of the small named settings; as they are for others.

    Args:
        settings: the published ones.
        name: of the setting.
        method: of distillation.
    """
    changes = _SMALL.get(name, {}).get(method)
    if changes is None:
        return settings
    return replace(settings, **({"eval_every": max(1, changes["steps"] // 5)} | changes))
