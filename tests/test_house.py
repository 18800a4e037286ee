"""What the code is held to and no linter checks: short files and functions, settings that say when to choose them."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
CODE = [path for folder in ("sweep", "hydra_plugins") for path in sorted((PROJECT / folder).rglob("*.py"))]
CHOICES = sorted(path for path in (PROJECT / "conf").rglob("*.yaml") if path.parent.name != "conf")  # not config.yaml
MODULE_LINES = 350
FUNCTION_LINES = 60


def name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def long_functions(source: str, limit: int) -> dict[str, int]:
    """Return the lines of every function, method and inner function longer than `limit`; decorators do not count."""
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lines = [(each.name, (each.end_lineno or each.lineno) - each.lineno + 1) for each in functions]
    return {function: count for function, count in lines if count > limit}


def says_when_to_choose_it(text: str) -> bool:
    """Return whether YAML begins with "# Choose this ...", or with Hydra's "# @package ..." and then that."""
    lines = text.splitlines()
    if lines and lines[0].startswith("# @package "):
        lines = lines[1:]
    return bool(lines) and lines[0].startswith("# Choose this ")


def test_the_files_are_found() -> None:
    found = {name(path) for path in (*CODE, *CHOICES)}
    assert "sweep/cli/main.py" in found
    assert any(each.startswith("hydra_plugins/freeze_sweep/") for each in found)
    assert "conf/model/resnet18.yaml" in found


def test_modules_are_short() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {module: count for module, count in lines.items() if count > MODULE_LINES} == {}


def test_functions_are_short() -> None:
    found = {name(path): long_functions(path.read_text(encoding="utf-8"), FUNCTION_LINES) for path in CODE}
    assert {module: functions for module, functions in found.items() if functions} == {}


def test_long_functions_are_found_wherever_they_are() -> None:
    source = "class A:\n    @cache\n    def outer(self):\n        async def inner():\n            pass\n        pass\n"
    assert long_functions(source, 1) == {"outer": 4, "inner": 2}
    assert long_functions(source, 3) == {"outer": 4}
    assert long_functions(source, 4) == {}


def test_choices_say_when_to_choose_them() -> None:
    assert [name(path) for path in CHOICES if not says_when_to_choose_it(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Choose this for photographs.\nname: photos\n", True),
        ("# @package _global_\n# Choose this to test the rule.\n", True),
        ("# @package _global_\nname: rule\n", False),
        ("# Photographs.\n# Choose this for photographs.\n", False),
        ("name: photos  # Choose this for photographs.\n", False),
        ("", False),
    ],
)
def test_only_the_first_comment_says_when_to_choose(text: str, expected: bool) -> None:
    assert says_when_to_choose_it(text) is expected


def test_no_module_is_a_box_of_utilities() -> None:
    assert [name(path) for path in CODE if path.stem == "utils"] == []
