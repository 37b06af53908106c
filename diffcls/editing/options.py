"""Options of ``python -m diffcls.edit``: one field per flag, for each of its two ways."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.models.one_image_options import OneImageOptions
from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_SEED, MAX_STEPS, check_values, free_text, part_of, within

MAX_GUIDANCE, MAX_FACTOR = 100, 100


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """How an image is edited.

    Args:
        steps: levels of the path to noise and back.
        strength: share of the path that is edited: the noisiest steps before it, which decide on
            places and sizes, are those of the image.
        guidance: scale of classifier-free guidance of both prompts; 1 is no guidance.
        keep_words: share of the steps in which words that stay keep their attention maps.
        keep_layout: share of the steps in which the layout of the image is kept.
        weights: words of the target, each with the factor of its attention.
        keep_surroundings: whether the image stays as it is where both prompts agree about it.
    """

    steps: int = within(2, MAX_STEPS, 50)
    strength: float = within(0, 1, 0.75, whole=False)
    guidance: float = within(0, MAX_GUIDANCE, 2.0, whole=False, is_open=True)
    keep_words: float = within(0, 1, 0.8, whole=False)
    keep_layout: float = within(0, 1, 0.5, whole=False)
    weights: tuple[tuple[str, float], ...] = ()
    keep_surroundings: bool = True

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True, kw_only=True)
class EditOptions(OneImageOptions, EditSettings):
    """The flags of ``python -m diffcls.edit --from … --to …``, with those of its base classes.

    Args:
        source: prompt that describes it; of the flag ``--from``.
        target: prompt that describes what it is to show; of the flag ``--to``.
        weight: ``WORD=FACTOR`` texts, for `EditSettings.weights`.

    Raises:
        UsageError: for a value that is not allowed.
    """

    source: str = free_text("", flag="from")
    target: str = free_text("", flag="to")
    weight: tuple[str, ...] = free_text(())
    model: str = "scenes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", tuple(self.weight))
        check_values(self)
        given = tuple(map(factor_of, self.weight))
        object.__setattr__(self, "weights", (*self.weights, *given))

    def settings(self) -> EditSettings:
        """The settings alone."""
        return part_of(self, EditSettings)


@dataclass(frozen=True, kw_only=True)
class InstructSettings:
    """How an image is edited by an instruction.

    Args:
        steps: sampling steps.
        guidance: scale of the guidance by the instruction, s_T; 1 is none.
        image_guidance: scale of the guidance by the image, s_I; 1 is none, more stays closer to it.
        seed: seed of the noise that the result is sampled from.
    """

    steps: int = within(2, MAX_STEPS, 20)
    guidance: float = within(0, MAX_GUIDANCE, 2.0, whole=False)
    image_guidance: float = within(0, MAX_GUIDANCE, 1.5, whole=False)
    seed: int = within(0, MAX_SEED, 0)

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True, kw_only=True)
class InstructOptions(OneImageOptions, InstructSettings):
    """The flags of ``python -m diffcls.edit --instruction …``, with those of its base classes.

    Args:
        instruction: what to change.

    Raises:
        UsageError: for a value that is not allowed.
    """

    instruction: str = free_text("")
    model: str = "scenes-instruct"

    def settings(self) -> InstructSettings:
        """The settings alone."""
        return part_of(self, InstructSettings)


def factor_of(text: str) -> tuple[str, float]:
    """Word and factor of ``WORD=FACTOR``.

    Raises:
        UsageError: for another form, or a factor that is negative or too large.
    """
    word, _, number = text.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = -1.0
    if not word.strip() or not 0 <= factor <= MAX_FACTOR:
        raise UsageError(
            "--weight: invalid value", given=text, allowed=f"WORD=FACTOR, 0 to {MAX_FACTOR}"
        )
    return word.strip(), factor
