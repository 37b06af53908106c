"""Options of rejection and of several labels: which combinations are refused."""

from __future__ import annotations

from diffcls.classifiers.options import ClassifierOptions
from diffcls.support.errors import UsageError

CALIBRATION_SPLIT = "validation"


def check_rejection(options: ClassifierOptions) -> None:
    """Refuse options that rejection cannot be combined with.

    Raises:
        UsageError: for the first of them.
    """
    if not options.reject:
        if options.background_prompt is not None and not options.multi_label:
            raise UsageError("--background-prompt has no effect without --reject or --multi-label")
        return
    if tuple(options.method) != ("diffusion",):
        raise UsageError(
            "--reject is of --method diffusion alone",
            given=" ".join(options.method),
            todo="evaluate the other methods by a command of their own",
        )
    for flag, given, reason in (
        ("--max-evaluations", options.max_evaluations, "the decision needs all draws of two rows"),
        ("--budget", getattr(options, "budget", None), "the time of the calibration is not fitted"),
        ("--save-errors", options.save_errors, "error tables hold no background"),
        ("--multi-label", options.multi_label or None, "each label is decided by itself there"),
    ):
        if given is not None:
            raise UsageError(
                f"--reject and {flag} exclude each other: {reason}", given=given, todo="remove one"
            )
    if options.split == CALIBRATION_SPLIT:
        raise UsageError(
            "--reject is calibrated on the validation images",
            given=f"--split {options.split}",
            todo="evaluate another split",
        )
    if "{" in (options.background_prompt or ""):
        raise UsageError(
            "--background-prompt is one text for all candidates",
            given=options.background_prompt,
            allowed="a text without {}",
        )


def background_of(options: ClassifierOptions) -> str | None:
    """The background prompt of a run; None without one, or if each label has its negation."""
    if not (options.reject or options.multi_label):
        return None
    text = options.background_prompt or ""
    return None if "{}" in text else text
