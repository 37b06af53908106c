"""Pointing game: does the evidence for the right class lie on the object?

One object per image (scenes/attributes). The map of evidence for its caption over another caption
is right if its largest value lies on the object, dilated by one cell of the latent (Zhang et al.
2018). Three rates show what a map without knowledge of the captions gains:

- a uniformly random position;
- exchanged images: the map of another image, where a preference for the centre is no gain;
- exchanged captions: the map of the other caption over the image's own, that is, minus the map. In
  any network the differences between two captions are largest, with either sign, where the image
  has content. To a network that knows nothing, both captions are the same, so this rate is its
  chance, and with randomised weights (Adebayo et al. 2018) the map should not be better.

Writes ``pointing.csv`` and ``POINTING.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, format_p, read_rows, record_environment, write_rows
from diffcls.metrics.statistics import mcnemar_exact, wilson_interval
from diffcls.support.environment import commit
from diffcls.support.files import write_text
from diffcls.support.invariants import known
from diffcls.support.seeding import key
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from diffcls.data.dataset import Item
    from diffcls.models.denoiser import Denoiser

DATASET, MODEL = "scenes/attributes", "scenes"
IMAGES, DRAWS = 200, 48
NETWORKS = ("trained", "shuffled", "reinitialised")
COLUMNS = (
    *("model", "revision", "network", "dataset", "split", "n", "draws", "hits", "accuracy"),
    *("ci_low", "ci_high", "area", "other_images", "other_images_low", "other_images_high"),
    *("other_caption", "other_caption_low", "other_caption_high", "p", "evaluations", "commit"),
)
RATES = (("accuracy", "ci"), ("other_images", "other_images"), ("other_caption", "other_caption"))
"""Columns of the rates, and the names that their intervals begin with."""
MASK_THRESHOLD = 0.0
"""Pixels that the object covers by more than this are the object's."""


def _main(arguments: list[str]) -> int:
    p = parser("pointing", __doc__)
    add_report_only(p)
    p.add_argument("--limit", type=int, default=IMAGES, metavar="N", help=f"images ({IMAGES})")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    table = output / "pointing.csv"
    if not flags.report_only:
        rows = [measure(network, flags.limit) for network in NETWORKS]
        write_rows(table, rows, COLUMNS, SIX_DIGITS)
        record_environment(output, "pointing")
    write_text(table.with_name("POINTING.md"), "\n".join(_page(read_rows(table))))
    return 0


main = entry_point(_main)


def measure(network: str, images: int) -> dict[str, Any]:
    """One row of pointing.csv.

    Args:
        network: ``trained``; ``shuffled``: the values of each tensor are permuted; or
            ``reinitialised``: every layer has its initial random weights.
        images: number of test images, a stratified sample.
    """
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.models.loading import load

    data, _ = choose(load_dataset(DATASET, "test", None), images)
    denoiser = load(MODEL)
    randomise = {"trained": None, "shuffled": shuffle, "reinitialised": reinitialise}[network]
    if randomise:
        randomise(denoiser)
    factor = denoiser.image_size // denoiser.sample_shape[-1]
    objects = np.stack([dilated(object_mask(item), factor) for item in data.items])
    maps = [evidence_map(denoiser, data.class_names, item) for item in data.items]
    # hit[i, j]: whether the map of image i points at the object of image j
    hit = np.array([objects[:, *peak(m)] for m in maps])
    own = np.eye(len(hit), dtype=bool)
    swapped = np.array([mask[peak(-m)] for mask, m in zip(objects, maps, strict=True)])
    n = len(hit)
    rates = {"accuracy": hit[own], "other_images": hit[~own], "other_caption": swapped}
    return {
        "model": MODEL,
        "revision": denoiser.card.revision,
        "network": network,
        "dataset": DATASET,
        "split": "test",
        "n": n,
        "draws": DRAWS,
        "hits": int(hit[own].sum()),
        "area": float(objects.mean()),
        **{name: float(values.mean()) for name, values in rates.items()},
        **{
            f"{interval}_{end}": bound
            for name, interval in RATES
            for end, bound in zip(
                ("low", "high"), wilson_interval(round(rates[name].mean() * n), n), strict=True
            )
        },
        "p": mcnemar_exact(hit[own], swapped),
        "evaluations": 2 * DRAWS,
        "commit": commit(),
    }


def evidence_map(denoiser: Denoiser, names: Sequence[str], item: Item) -> Float64:
    """(H, W) evidence for the image's caption over a random other one."""
    from diffcls.data import catalog
    from diffcls.data.prompts import PromptSet
    from diffcls.explain.measurement import measure_evidence, thorough_method

    others = [k for k in range(len(names)) if k != item.label]
    other = others[key("pointing", item.image_id) % len(others)]
    pair = (names[item.label], names[other])
    prompts = PromptSet.from_templates(pair, catalog.find(DATASET).templates[:1], own=False)
    method = thorough_method(denoiser, prompts, DRAWS, allocation=denoiser.card.allocation)
    return measure_evidence(method, method.pixels(item.open()), words=False).map


def peak(values: Float64) -> tuple[int, int]:
    """(row, column) of the largest value of an (H, W) map."""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(row), int(column)


def object_mask(item: Item) -> NDArray[np.bool_]:
    """(32, 32) pixels of the single object of a scene."""
    from diffcls.data.scenes.render import object_coverage

    scene, scene_key = item.open.args  # type: ignore[attr-defined]
    mask: NDArray[np.bool_] = object_coverage(scene, scene_key)[0] > MASK_THRESHOLD
    return mask


def dilated(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """A mask, larger by a number of pixels in each direction."""
    from scipy.ndimage import binary_dilation

    result: NDArray[np.bool_] = binary_dilation(mask, np.ones((2 * pixels + 1,) * 2, dtype=bool))
    return result


def shuffle(denoiser: Denoiser) -> None:
    """Permute the values of each tensor of the network, in place."""
    import torch

    for name, tensor in sorted(known(denoiser.network).state_dict().items()):
        generator = torch.Generator().manual_seed(key("shuffled weights", name))
        order = torch.randperm(tensor.numel(), generator=generator)
        tensor.copy_(tensor.flatten()[order].reshape(tensor.shape))


def reinitialise(denoiser: Denoiser) -> None:
    """Give every layer of the network new random weights, in place."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key("reinitialised weights", denoiser.card.name))
        for module in known(denoiser.network).modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


def _page(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from ("# Pointing game: where the evidence lies", "")
    row = rows[0]
    yield (
        "Written by `python -m benchmarks.run pointing` from `pointing.csv`. "
        f"{row['n']:,} test images of {row['dataset']}, one object each. The map of evidence for "
        f"the image's caption over a random other caption ({row['draws']} draws, "
        f"{row['evaluations']} evaluations) is right if its largest value lies on the object, "
        "dilated by one cell of the latent (4 pixels). "
        f"A random position is right in {row['area']:.1%}, the share of the image that a dilated "
        "object covers. Objects lie in the middle more often: maps that are exchanged among images "
        "show what a preference for the middle gains. "
        "In any network the differences between two captions are largest, with either sign, where "
        "the image has content. So the chance of a network is the rate of its maps with the two "
        "captions exchanged: without knowledge of them both rates are the same (p is that of "
        "McNemar's exact test of the two, image by image). "
        "In the shuffled network the values of each tensor are permuted; in the reinitialised one "
        "every layer has its initial random weights."
    )
    yield ""
    names = ("right", "exchanged images", "exchanged captions")
    yield f"| network | {' | 95 % interval | '.join(names)} | 95 % interval | p |"
    yield "|---" * 8 + "|"
    for row in rows:
        cells = [
            f"{row[rate]:.1%} | {row[f'{interval}_low']:.1%} to {row[f'{interval}_high']:.1%}"
            for rate, interval in RATES
        ]
        yield f"| {row['network']} | {' | '.join(cells)} | {format_p(row['p'])} |"
    yield ""
    yield from _findings(rows)
    yield ""


def _findings(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The targets of the project, and whether each row meets its own."""
    for row in rows:
        if row["network"] == "trained":
            times = row["accuracy"] / max(row["area"], row["other_caption"])
            met = row["accuracy"] >= 0.9 and times >= 3
            text = f"{times:.2f} times the larger rate of chance, target 90% and 3 times chance"
        else:
            met = row["p"] >= 0.05
            text = "no difference from exchanged captions established (p at least 0.05)"
        yield f"- {row['network']}: {text}: {'met' if met else 'missed'}."
