"""Runs whose model can edit images, known before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from diffcls.data import catalog
from diffcls.evaluation.options import EvaluationOptions
from diffcls.reports.page.stored_options import CommandReader, options_of
from diffcls.runs.stored import StoredRun
from diffcls.support.errors import DiffclsError, UsageError
from diffcls.support.hub import offline

METHOD = "diffusion"
"""The method whose model generates images, and whose scores have a posterior."""


def check_editable(runs: Sequence[StoredRun], read_command: CommandReader) -> dict[str, str]:
    """Fingerprint -> why the run's model cannot edit images, as the end of a sentence; "": it can.

    Args:
        runs: the runs.
        read_command: see `diffcls.reports.page.stored_options.options_of`.

    Raises:
        UsageError: if none can.
    """
    obstacles = {run.fingerprint: _obstacle(run, options_of(run, read_command)) for run in runs}
    if all(obstacles.values()):
        shown = [f"{name[:8]}: {reason}" for name, reason in obstacles.items()]
        more = f"; and {len(shown) - 1} more runs" if len(shown) > 1 else ""
        raise UsageError(
            "--counterfactuals: the model of no run of this page can edit images",
            given=shown[0] + more,
            allowed="runs of --method diffusion whose model is a U-Net that reads prompts",
            todo="remove --counterfactuals, or choose other runs",
        )
    return obstacles


def _obstacle(run: StoredRun, options: EvaluationOptions | None) -> str:
    if run.spec["method"] != METHOD:
        return f"the method {run.spec['method']} has no model that generates images"
    if run.spec.get("rejection"):
        return "a run with --reject has a class without a prompt of its own"
    if run.spec.get("control"):
        return "a run with --control needs a map of each image, and an edit has none"
    if run.posterior_scale is None:
        return "the run's scores are no log-likelihoods, so its answers have no probabilities"
    if options is None:
        return "the run does not say which options it was started with"
    from diffcls.classifiers.model_options import model_of
    from diffcls.models.family_table import UNET
    from diffcls.models.given import network_of

    try:
        with offline():
            network = network_of(model_of(options, catalog.find(options.dataset)))
    except (DiffclsError, OSError) as error:
        return " ".join(str(error).split())
    if network not in (None, UNET[1]):
        return f"the network of {run.spec['model']} is a {network}, without cross-attention to edit"
    return ""
