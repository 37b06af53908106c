"""Comparison with the published script: prompts and command lines of its eight data sets."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy import published_script
from benchmarks.accuracy.makers_copies import DATASETS, Makers, write
from benchmarks.accuracy.published_checkout import COMMANDS, DIT_SCRIPT, SCRIPT, Checkout
from benchmarks.accuracy.published_script import Result
from diffcls.classifiers.search_options import build_loss, build_search
from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.evaluate import parser
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, check_names
from diffcls.evaluation.run import run_evaluation
from diffcls.support.errors import UsageError

CHECKOUT = os.environ.get("DIFFCLS_PUBLISHED_CHECKOUT")
FACTS = json.loads(Path(__file__).with_name("published_classes.json").read_text(encoding="utf-8"))
MAKERS = Makers(**FACTS["makers"])
SHA256 = FACTS["sha256_of_published_prompts"]
NAMES_FROM = {"imagenet": "open_clip", "flowers102": "torchvision"}

# data set -> the arguments of the published command line, but for those that all share
ARGUMENTS = {
    "food101": "--dataset food --to_keep 20 10 5 1 --n_samples 20 50 100 500",
    "cifar10": "--dataset cifar10 --to_keep 5 1 --n_samples 50 500 --loss l1",
    "fgvc_aircraft": "--dataset aircraft --to_keep 20 10 5 1 --n_samples 20 50 100 500",
    "pets": "--dataset pets --to_keep 5 1 --n_samples 25 250 --loss l1",
    "flowers102": "--dataset flowers --to_keep 20 10 5 1 --n_samples 20 50 100 500 --loss l1",
    "stl10": "--dataset stl10 --to_keep 5 1 --n_samples 100 500 --loss l1",
    "imagenet": "--dataset imagenet --to_keep 500 50 10 1 --n_samples 50 100 500 1000",
    "objectnet": "--dataset objectnet --to_keep 25 10 5 1 --n_samples 50 100 500 1000",
}


def published_line(name: str, prompts: Path) -> list[str]:
    shared = f"--split test --n_trials 1 --prompt_path {shlex.quote(str(prompts))}"
    return shlex.split(f"{ARGUMENTS[name]} {shared}")


def digest(prompts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()


@cache
def default_prompts(name: str) -> PromptSet:
    if name in NAMES_FROM:
        pytest.importorskip(NAMES_FROM[name], reason="the class names are read from it")
    return published_script.default_prompts(name, MAKERS)


def published_names(name: str, prompts: PromptSet) -> list[str]:
    """Class names as the published CSV files write them."""
    names = [text.replace("/", "_") for text in prompts.class_names]
    return [text.lower() for text in names] if name == "pets" else names


def write_csv(path: Path, name: str, prompts: PromptSet, order: Sequence[int] = ()) -> Path:
    names = published_names(name, prompts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "classname", "classidx"])
        for index, k in enumerate(order or range(len(names))):
            writer.writerow([prompts.prompts[k], names[k], index])
    return path


@pytest.mark.parametrize("name", DATASETS)
def test_prompts_on_a_copy_of_the_makers_are_the_published_ones_to_the_letter(name: str) -> None:
    prompts = default_prompts(name)
    assert prompts.class_of == tuple(range(len(prompts)))
    assert digest(prompts.prompts) == SHA256[name]


def test_prompts_of_the_published_eight_are_known() -> None:
    assert set(DATASETS) == set(SHA256) == set(ARGUMENTS)


@pytest.mark.parametrize("name", DATASETS)
def test_published_command_line_is_accepted_and_means_the_default(
    name: str, tmp_path: Path
) -> None:
    prompts = default_prompts(name)
    path = write_csv(tmp_path / "prompts.csv", name, prompts)
    options = EvaluationOptions(**vars(parser().parse_args(published_line(name, path))))
    check_names(options)
    spec, default = catalog.find(name), EvaluationOptions(dataset=name, search="paper")
    assert catalog.find(options.dataset) is spec
    assert build_search(options, spec) == build_search(default, spec)
    assert build_loss(options, spec) == build_loss(default, spec) == spec.stages.loss
    write(name, tmp_path / "data", MAKERS)
    dataset = load_dataset(options.dataset, options.split, tmp_path / "data")
    joined = build_prompts(options, dataset)
    assert digest(joined.prompts) == SHA256[name]
    assert (joined.class_names, joined.class_of) == (prompts.class_names, prompts.class_of)


def test_run_of_the_published_line_has_the_fingerprint_of_the_default(
    tmp_path: Path, tiny_pipeline: Callable[[], Path]
) -> None:
    path = write_csv(tmp_path / "prompts.csv", "flowers102", default_prompts("flowers102"))
    write("flowers102", tmp_path / "data", MAKERS)
    here = ["--data-root", str(tmp_path / "data"), "--model", str(tiny_pipeline()), "--dry-run"]

    def planned(*line: str) -> dict[str, Any]:
        (row,) = run_evaluation(**vars(parser().parse_args([*line, *here])))
        return row

    published = planned(*published_line("flowers102", path))
    default = planned("--dataset", "flowers102", "--search", "paper")
    assert digest(published["spec"]["prompts"]) == SHA256["flowers102"]
    assert published["fingerprint"] == default["fingerprint"]


# ---- the comparison ------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> Checkout:
    """A checkout with the scripts' names, one data set's prompts and its command."""
    root = tmp_path / "checkout"
    write_csv(root / "prompts" / "pets_prompts.csv", "pets", default_prompts("pets"))
    for name in (SCRIPT, DIT_SCRIPT):
        (root / name).touch()
    line = f"python {SCRIPT} --dataset pets --split test --n_trials 1 \\\n"
    line += "  --to_keep 5 1 --n_samples 25 250 --loss l1 \\\n"
    (root / COMMANDS).write_text(f"```bash\n{line}  --prompt_path prompts/pets_prompts.csv\n```\n")
    return Checkout(root)


def prompts_of(checkout: Checkout) -> Result:
    return published_script._prompts(checkout, "pets", MAKERS)


def test_comparison_notices_another_prompt_and_another_order(fake: Checkout) -> None:
    assert prompts_of(fake) == Result("prompts, pets", True, "0 of 37 differ")
    path, prompts = fake.prompts_file("pets"), default_prompts("pets")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("a Beagle dog", "a beagle dog"), encoding="utf-8")
    assert prompts_of(fake) == Result("prompts, pets", False, "1 of 37 differ")
    write_csv(path, "pets", prompts, order=[1, 0, *range(2, 37)])
    result = prompts_of(fake)
    assert not result.agrees
    assert result.detail.startswith("2 of 37 differ; the CSV is refused: --prompts: classname")


def test_comparison_notices_another_command_line(fake: Checkout) -> None:
    def command(name: str) -> Result:
        return published_script._command(fake, name, fake.commands())

    assert (
        command("pets").agrees and command("pets").detail == "accepted, the stages of the catalog"
    )
    assert not command("food101").agrees
    path = fake.root / COMMANDS
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("25 250", "25 500"), encoding="utf-8")
    assert command("pets") == Result(
        "command line, pets", False, "accepted, not the stages of the catalog"
    )
    path.write_text(text.replace("--loss l1", "--loss l3"), encoding="utf-8")
    assert not command("pets").agrees and "unknown loss: 'l3'" in command("pets").detail


def test_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"is no checkout .*without {SCRIPT}"):
        Checkout(tmp_path)
    assert published_script.main([str(tmp_path)]) == 2


@pytest.mark.slow
@pytest.mark.skipif(
    CHECKOUT is None,
    reason="DIFFCLS_PUBLISHED_CHECKOUT does not name a checkout of the published repository",
)
def test_everything_equals_the_published_repository() -> None:
    results = list(published_script.compare(Checkout(Path(CHECKOUT or "").resolve())))
    assert [result for result in results if result.agrees is False] == []
    assert len(results) > 2 * len(DATASETS)
