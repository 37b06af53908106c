"""Comparison with the published script (Li et al. 2023): prompts, command lines, pixels and errors.

Takes a checkout of the published repository, for DiT with the DiT repository cloned into it, as its
README says. The checkout's code is executed, on the CPU and on tiny pipelines with random weights.
The exit status is 1 if anything differs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy import published_errors
from benchmarks.accuracy.makers_copies import DATASETS, Makers, write
from benchmarks.accuracy.published_checkout import Checkout
from benchmarks.core.flags import entry_point
from diffcls.cli import Parser
from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.support.errors import DiffclsError

LIMIT = 1e-5
"""Largest difference of an error, absolute up to 1 and relative above."""


@dataclass(frozen=True)
class Result:
    """A result of the comparison.

    Args:
        subject: what was compared.
        agrees: whether both sides agree; None if it was not compared.
        detail: the difference, or what was compared.
    """

    subject: str
    agrees: bool | None
    detail: str


def compare(checkout: Checkout) -> Iterator[Result]:
    """All comparisons, each as soon as it is made."""
    yield from (_prompts(checkout, name, checkout.makers()) for name in DATASETS)
    commands = checkout.commands()
    yield from (_command(checkout, name, commands) for name in DATASETS)
    for resizing, difference in published_errors.pixels(checkout).items():
        yield _close(f"pixels, {resizing}", difference)
    for loss in published_errors.LOSSES:
        difference, same = published_errors.stable_diffusion(checkout, loss)
        yield _close(f"eval_prob_adaptive, {loss}", difference)
        detail = "same timesteps, stages and prediction" if same else "they differ"
        yield Result(f"eval_prob_adaptive, {loss}, stages", same, detail)
    if not checkout.has_dit:
        yield Result("eval_prob_dit", None, "clone facebookresearch/DiT into the checkout")
        return
    for interval in published_errors.DIT_INTERVALS:
        for loss, difference in published_errors.dit(checkout, interval).items():
            yield _close(f"eval_prob_dit, t_interval {interval}, {loss}", difference)


def default_prompts(name: str, makers: Makers) -> PromptSet:
    """The prompts of ``--search paper`` on a tiny copy of a data set in its makers' layout."""
    from diffcls.evaluation.options import EvaluationOptions
    from diffcls.evaluation.plan import build_prompts

    with tempfile.TemporaryDirectory() as folder:
        write(name, Path(folder), makers)
        dataset = load_dataset(name, "test", folder)
        return build_prompts(EvaluationOptions(dataset=name, search="paper"), dataset)


def _prompts(checkout: Checkout, name: str, makers: Makers) -> Result:
    published = checkout.prompts(name)
    ours = default_prompts(name, makers)
    pairs = zip(ours.prompts, (row["prompt"] for row in published), strict=False)
    differing = sum(a != b for a, b in pairs) + abs(len(ours) - len(published))
    order = [int(row["classidx"]) for row in published] == list(ours.class_of)
    try:  # the classes are joined by index, and their names are compared
        synonyms = catalog.find(name).synonyms
        PromptSet.from_csv(checkout.prompts_file(name), ours.class_names, synonyms)
        refusal = ""
    except DiffclsError as error:
        refusal = f"; the CSV is refused: {error}"
    agrees = not differing and order and not refusal
    return Result(f"prompts, {name}", agrees, f"{differing} of {len(published)} differ{refusal}")


def _command(checkout: Checkout, name: str, commands: dict[str, list[str]]) -> Result:
    """The published command line as it is: accepted, with the stages and loss of our default."""
    from diffcls.classifiers.search_options import build_loss, build_search
    from diffcls.evaluate import parser
    from diffcls.evaluation.options import EvaluationOptions
    from diffcls.evaluation.plan import check_names

    subject = f"command line, {name}"
    if name not in commands:
        return Result(subject, False, "not in the checkout's commands")
    spec = catalog.find(name)
    try:
        with _inside(checkout.root):
            options = EvaluationOptions(**vars(parser().parse_args(commands[name])))
            check_names(options)
    except (DiffclsError, SystemExit) as error:
        return Result(subject, False, f"refused: {error}")
    default = EvaluationOptions(dataset=name, search="paper")
    _, given = build_search(options, spec)
    same = given == build_search(default, spec)[1]
    same = same and build_loss(options, spec) == build_loss(default, spec)
    return Result(subject, same, f"accepted, {'the' if same else 'not the'} stages of the catalog")


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _close(subject: str, difference: float) -> Result:
    return Result(subject, difference <= LIMIT, f"largest difference {difference:.1e}")


def _main(arguments: list[str]) -> int:
    summary = (__doc__ or "").partition("\n\n")[0]
    p = Parser(prog="benchmarks.run published_script", description=summary)
    p.add_argument("checkout", metavar="CHECKOUT", type=Path, help="folder of the checkout")
    flags = p.parse_args(arguments)
    failed = False
    for result in compare(Checkout(flags.checkout.expanduser().resolve())):
        verdict = {True: "agrees", False: "DIFFERS", None: "not compared"}[result.agrees]
        print(f"{verdict:12}  {result.subject:42}  {result.detail}", flush=True)
        failed |= result.agrees is False
    return int(failed)


main = entry_point(_main)
