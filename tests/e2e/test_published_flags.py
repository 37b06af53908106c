"""Flags of the published script: they have the same meaning here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.model_options import model_of
from diffcls.classifiers.search_options import build_loss, build_search, most_evaluations
from diffcls.data import catalog
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import INTERPOLATIONS, to_image, to_pixels
from diffcls.evaluate import parser
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.run import run_evaluation
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.paper import Paper
from diffcls.support.errors import UsageError

# data set -> classes, samples, kept, loss, evaluations per image, as published
TABLE = {
    "food101": (101, (20, 50, 100, 500), (20, 10, 5, 1), "l2", 5_570),
    "cifar10": (10, (50, 500), (5, 1), "l1", 2_750),
    "fgvc_aircraft": (100, (20, 50, 100, 500), (20, 10, 5, 1), "l2", 5_550),
    "pets": (37, (25, 250), (5, 1), "l1", 2_050),
    "flowers102": (102, (20, 50, 100, 500), (20, 10, 5, 1), "l1", 5_590),
    "stl10": (10, (100, 500), (5, 1), "l1", 3_000),
    "imagenet": (1000, (50, 100, 500, 1000), (500, 50, 10, 1), "l2", 124_500),
    "objectnet": (113, (50, 100, 500, 1000), (25, 10, 5, 1), "l2", 14_400),
}


def dry(arguments: list[str]) -> dict[str, Any]:
    options = vars(parser().parse_args([*arguments, "--dry-run", "--limit", "3"]))
    (row,) = run_evaluation(**options)
    return row


@pytest.mark.parametrize("name", TABLE)
def test_paper_takes_each_data_sets_own_stages(name: str) -> None:
    classes, samples, keep, loss, evaluations = TABLE[name]
    options, spec = EvaluationOptions(dataset=name, search="paper"), catalog.find(name)
    kind, search = build_search(options, spec)
    assert (kind, search) == ("paper", Paper(samples, keep))
    assert build_loss(options, spec) == loss
    prompts = PromptSet.from_templates([str(k) for k in range(classes)], ["{}"])
    assert most_evaluations(search, prompts) == evaluations


@pytest.mark.parametrize(
    ("alias", "name"),
    [("food", "food101"), ("flowers", "flowers102"), ("aircraft", "fgvc_aircraft")],
)
def test_published_names_of_data_sets_are_aliases(alias: str, name: str) -> None:
    assert catalog.find(alias) is catalog.find(name)


def test_published_command_line_means_the_same(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.csv"
    rows = [f"a photo of a {k}.,{k},{k}" for k in range(10)]
    prompts.write_text("\n".join(["prompt,classname,classidx", *rows]))
    indices = tmp_path / "subset.npy"
    np.save(indices, np.array([5, 7, 11]))
    published = (
        f"--dataset digits --split test -b 8 --n_samples 2 4 --to_keep 3 1 --n_trials 1 --loss l1 "
        f"--img_size 32 --dtype float32 --interpolation bicubic --extra run2 --load_stats "
        f"--n_workers 1 --worker_idx 0 --prompt_path {prompts} --subset_path {indices}"
    )
    ours = (
        f"--stages 2:3 4:1 --loss l1 --batch-size 8 --prompts {prompts} --indices {indices} "
        "--n-trials 1 --shard 0/1"
    )
    plans = []
    for line in (
        published,
        published.replace("_", "-").replace(str(tmp_path).replace("_", "-"), str(tmp_path)),
        ours,
    ):
        (row,) = run_evaluation(**vars(parser().parse_args([*line.split(), "--dry-run"])))
        plans.append(row)
    assert len({row["fingerprint"] for row in plans}) == 1
    assert plans[0]["images"] == 3
    assert plans[0]["spec"]["search_options"] == {"samples": [2, 4], "keep": [3, 1], "trials": 1}


@pytest.mark.parametrize(
    ("version", "model"),
    [
        ("1-4", "CompVis/stable-diffusion-v1-4"),
        ("1-5", "sd15"),
        ("2-0", "sd2-base"),
        ("2-1", "sd21-base"),
    ],
)
def test_version_names_a_model(version: str, model: str) -> None:
    assert model_of(EvaluationOptions(version=version), catalog.find("pets")) == model


def test_unknown_version_or_version_with_a_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown version.*'2-2'; allowed: 1-1"):
        run_evaluation(version="2-2")
    with pytest.raises(UsageError, match="--model and --version exclude each other"):
        run_evaluation(version="2-0", model="digits")


def test_trials_are_several_noises_per_timestep() -> None:
    once, thrice = Paper((2, 4), (2, 1)), Paper((2, 4), (2, 1), trials=3)
    assert thrice.plan(1000).tolist() == np.repeat(once.plan(1000), 3).tolist()
    prompts = PromptSet.from_templates(["a", "b", "c"], ["{}"])
    assert most_evaluations(thrice, prompts) == 3 * most_evaluations(once, prompts)
    with pytest.raises(UsageError, match="trials out of range: 0"):
        Paper(trials=0)
    with pytest.raises(UsageError, match="belong to --search paper"):
        run_evaluation(n_trials=2, search="racing")


# ---- several prompts per class -----------------------------------------------------------------


def of_two_prompts(aggregate: str) -> Any:
    """A result: class a has a perfect and a poor prompt, b two fair ones; the image is of a."""
    image = torch.zeros(3, 8, 8)
    means = {"a good": image, "a bad": image + 0.9, "b one": image + 0.3, "b two": image + 0.4}
    method = DiffusionMethod(
        GaussianDenoiser(means, 0.05),
        PromptSet(("a", "b"), tuple(means), (0, 0, 1, 1)),
        Exhaustive(20),
        aggregate=aggregate,
        keep_errors=True,
    )
    (result,) = method.classify([Item("i", 0, lambda: to_image(image.numpy()))])
    return result


def test_prompts_are_averaged_or_compete() -> None:
    averaged, raced = of_two_prompts("classes"), of_two_prompts("prompts")
    assert averaged.ranking.tolist() == [1, 0]
    assert raced.ranking.tolist() == [0, 1]
    assert averaged.evaluations == raced.evaluations == 80
    assert raced.scores[0] > raced.scores[1]
    assert averaged.errors.shape == raced.errors.shape == (2, 20)


def test_racing_prompts_are_pruned_one_by_one() -> None:
    prompts = PromptSet(("a", "b"), ("a1", "a2", "a3", "b1"), (0, 0, 0, 1))
    # two of four prompts stay, whatever their class
    assert most_evaluations(Paper((2, 4), (2, 1)), prompts, "prompts") == 4 * 2 + 2 * 2


def test_unknown_aggregate_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown aggregate: 'prompt'.*did you mean 'prompts'"):
        run_evaluation(aggregate="prompt")


# ---- fingerprints -------------------------------------------------------------------------------


def test_defaults_of_later_flags_keep_older_fingerprints() -> None:
    plain = dry([])
    assert dry(["--interpolation", "bicubic", "--aggregate", "classes"]) == plain | {
        # measured
        "seconds_at_most": pytest.approx(plain["seconds_at_most"], abs=1e9),
        "evaluations_per_second": pytest.approx(plain["evaluations_per_second"], abs=1e9),
    }
    others = [["--interpolation", "bilinear"], ["--aggregate", "prompts"]]
    assert len({plain["fingerprint"], *(dry(o)["fingerprint"] for o in others)}) == 3


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_interpolation_equals_torchvisions(interpolation: str) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    rng = np.random.default_rng(0)
    image = to_image(rng.uniform(-1, 1, (3, 37, 61)))
    theirs = Compose([Resize(16, InterpolationMode(interpolation)), CenterCrop(16)])(image)
    wanted = np.asarray(theirs, np.float32).transpose(2, 0, 1) / np.float32(127.5) - np.float32(1)
    assert np.array_equal(to_pixels(image, 16, interpolation), wanted)


def test_unknown_interpolation_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown interpolation: 'cubic'"):
        run_evaluation(interpolation="cubic")
