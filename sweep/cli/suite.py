"""The tasks of the studies, as tables; Hydra knows them as data=suite/NAME, data=real/NAME and crossed=NAME."""

from typing import Any

from hydra.core.config_store import ConfigStore

# What data=embedded stands for with -m: one task per case of the rule.
EMBEDDED = ("glyphs_digits", "glyphs_greek_cyrillic", "textures")

# Of the embedded studies of single questions.
SUITE: dict[str, dict[str, Any]] = {
    "greek_11": {"name": "glyphs_greek_cyrillic", "classes": list(range(11)), "per_class": 20},
    "blurred_greek_22": {
        "name": "glyphs_greek_cyrillic",
        "classes": list(range(22)),
        "transform": "blur",
        "per_class": 10,
    },
}

# Photographs in $SWEEP_DATA: folders with train/<class>/ and test/<class>/, or torchvision's files.
_CIFAR10 = {"name": "image_folder", "root": "${oc.env:SWEEP_DATA,data}/cifar10", "val_fraction": 0.04}
_FILES = {"root": "${oc.env:SWEEP_DATA,data}", "val_fraction": 0.04}
REAL: dict[str, dict[str, Any]] = {
    "cifar_deer_horse": _CIFAR10 | {"classes": ["deer", "horse"]},
    "cifar_automobile_truck": _CIFAR10 | {"classes": ["automobile", "truck"]},
    "cifar_dog_ship": _CIFAR10 | {"classes": ["dog", "ship"]},
    "cifar_deer_dog_horse": _CIFAR10 | {"classes": ["deer", "dog", "horse"]},
    "cifar_five": _CIFAR10 | {"classes": ["automobile", "deer", "dog", "horse", "truck"]},
    "cifar_five_ship": _CIFAR10 | {"classes": ["automobile", "deer", "horse", "ship", "truck"]},
    "cifar_six": _CIFAR10 | {"classes": ["automobile", "deer", "dog", "horse", "ship", "truck"]},
    "caltech": {"name": "image_folder", "root": "${oc.env:SWEEP_DATA,data}/caltech"},
    "rsscn7": {"name": "image_folder", "root": "${oc.env:SWEEP_DATA,data}/rsscn7"},
    "fashion": _FILES | {"name": "fashion_mnist", "val_fraction": 0.02},
    "cifar100": _FILES | {"name": "cifar100"},
    "svhn": _FILES | {"name": "svhn", "val_fraction": 0.02},
    "eurosat": _FILES | {"name": "eurosat"},
}


# Every target under a similar source of more classes, a similar one of fewer, and one that is not similar, so that
# neither similarity nor class count goes with the target. Sources have about as many images each; targets share none.
_OF_LETTERS = {"more": "glyphs_latin", "fewer": "latin_few", "far": "gratings_many"}
_OF_PATTERNS = {"more": "gratings_many", "fewer": "gratings_few", "far": "glyphs_latin"}
_TARGETS = {
    **dict.fromkeys(("numerals", "greek", "cyrillic", "lowercase", "symbols"), _OF_LETTERS),
    **dict.fromkeys(("plaids", "rings", "lattices", "checks", "noise"), _OF_PATTERNS),
}
_CASES = {"more": "similar_fewer", "fewer": "similar_more", "far": "dissimilar"}  # the source's classes to the task's
CROSSED: dict[str, dict[str, Any]] = {
    f"{target}_{place}": {
        "data": {
            "name": target,
            "label": f"{target}@{source}",
            "per_class": 20,
            "matched_group": target,
            "case": _CASES[place],
        },
        "source": {"name": "pretrain", "data": {"name": source}},
    }
    for target, sources in _TARGETS.items()
    for place, source in sources.items()
}

# One seed for the source and for what is trained from it, so that sources vary as seeds do.
REPLICATES = {f"r{number}": {"seeds": [number], "source": {"seed": number}} for number in range(10)}


def register() -> None:
    """Make the tasks known to Hydra; a task's label is its name here."""
    for group, options in (("crossed", CROSSED), ("replicate", REPLICATES)):
        for name, settings in options.items():
            ConfigStore.instance().store(name, settings, group=group, package="_global_")
    for group, tasks in (("data/suite", SUITE), ("data/real", REAL)):
        for name, settings in tasks.items():
            ConfigStore.instance().store(name, {**settings, "label": name}, group=group, package="data")
