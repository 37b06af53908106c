"""Names of shards: braces as a shell expands them, numbers in their order."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from diffcls.data.sources.shard_names import MAX_SHARDS, expand_braces, natural_key
from diffcls.support.errors import UsageError

PATTERNS = [
    "shards/{000..012}.tar",
    "{a,b}/{0..3}.tar",
    "x{2.{5..7},3.{2,3}}",
    "{4..1}",
    "{2..-1}",
    "{-05..2}",
    "{07..10}",
    "{a}{1,2}",
    "p{,q}",
    "{0..10..3}",
    "{10..0..3}",
    "{a{1,2}}",
    "{1..3}{x,{1..2}}",
    "{1..3,5}",
    "no-braces.tar",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_braces_are_expanded_as_by_the_shell(pattern: str) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("bash is the reference, and it is not installed")
    words = subprocess.run([shell, "-c", f"echo {pattern}"], capture_output=True, text=True)
    assert expand_braces(pattern) == words.stdout.split()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_braces_are_expanded_as_by_webdataset(pattern: str) -> None:
    reference = pytest.importorskip("braceexpand", reason="webdataset is not installed")
    assert expand_braces(pattern) == list(reference.braceexpand(pattern))


@pytest.mark.parametrize("pattern", ["a{b", "a}b{", "}{"])
def test_braces_without_a_partner_are_a_part_of_the_name(pattern: str) -> None:
    assert expand_braces(pattern) == [pattern]


@pytest.mark.parametrize(
    "pattern", [f"{{0..{MAX_SHARDS}}}", "{0..999}{0..999}", "{0..99999999999999}", "{" * 30]
)
def test_more_shards_than_a_set_can_have_are_refused_at_once(pattern: str) -> None:
    with pytest.raises(UsageError, match="too many shards"):
        expand_braces(pattern)


def test_numbers_in_names_are_ordered_by_value() -> None:
    names = ["a/10", "a/9", "a/b", "a/1", "A/2"]
    assert sorted(names, key=natural_key) == ["A/2", "a/1", "a/9", "a/10", "a/b"]
