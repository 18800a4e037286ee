"""The tasks of the studies of the rule, as one table; Hydra knows them as data=suite/NAME and data=real/NAME."""

from typing import Any

from hydra.core.config_store import ConfigStore

# Classes by number: of glyphs_greek_cyrillic, and of glyphs_mixed (ten digits, then the same letters).
_GREEK, _CYRILLIC = list(range(22)), list(range(22, 40))
_MIXED_GREEK, _MIXED_CYRILLIC = [10 + number for number in _GREEK], [10 + number for number in _CYRILLIC]
_TEN = list(range(10))
_PERMUTED = {"transform": "permute", "case": "dissimilar"}

# What data=embedded stands for with -m: one task per case of the rule.
EMBEDDED = ("glyphs_digits", "glyphs_greek_cyrillic", "textures")

# Script, class count, images and style vary apart from each other. A number at the end counts classes, n220
# training images. Tasks of one matched group are the same images under coarse and fine labels.
SUITE: dict[str, dict[str, Any]] = {
    "digits_10": {"name": "glyphs_digits", "per_class": 20},
    "greek_11": {"name": "glyphs_greek_cyrillic", "classes": _GREEK[:11], "per_class": 20},
    "greek_22": {"name": "glyphs_greek_cyrillic", "classes": _GREEK, "per_class": 20},
    "greek_22_n220": {"name": "glyphs_greek_cyrillic", "classes": _GREEK, "per_class": 10},
    "cyrillic_9": {"name": "glyphs_greek_cyrillic", "classes": _CYRILLIC[:9], "per_class": 20},
    "cyrillic_18": {"name": "glyphs_greek_cyrillic", "classes": _CYRILLIC, "per_class": 10},
    "coarse_20": {"name": "glyphs_greek_cyrillic", "groups": 20, "per_class": 20, "matched_group": "letters"},
    "letters_40": {"name": "glyphs_greek_cyrillic", "per_class": 10, "matched_group": "letters"},
    "letters_40_n200": {"name": "glyphs_greek_cyrillic", "per_class": 5},
    "letters_30": {"name": "glyphs_greek_cyrillic", "classes": list(range(5, 35)), "per_class": 10},
    "digits_greek_32": {"name": "glyphs_mixed", "classes": [*_TEN, *_MIXED_GREEK], "per_class": 10},
    "digits_cyrillic_28": {"name": "glyphs_mixed", "classes": [*_TEN, *_MIXED_CYRILLIC], "per_class": 10},
    "mixed_50": {"name": "glyphs_mixed", "per_class": 10},
    "gratings_10": {"name": "textures", "per_class": 20, "matched_group": "gratings"},
    "gratings_5": {"name": "textures", "groups": 5, "per_class": 40, "matched_group": "gratings"},
    "permuted_digits_10": _PERMUTED | {"name": "glyphs_digits", "per_class": 20},
    "permuted_greek_22": _PERMUTED | {"name": "glyphs_greek_cyrillic", "classes": _GREEK, "per_class": 10},
    "permuted_letters_40": _PERMUTED | {"name": "glyphs_greek_cyrillic", "per_class": 10},
    "handwriting_10": {"name": "digits", "per_class": 20},
    "blurred_greek_22": {"name": "glyphs_greek_cyrillic", "classes": _GREEK, "transform": "blur", "per_class": 10},
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
