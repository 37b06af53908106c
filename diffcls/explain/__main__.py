"""``python -m diffcls.explain``: where the evidence for one label over another lies in an image."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.api.image_openers import opener
from diffcls.api.remote_images import PUBLIC_ONLY
from diffcls.cli import command, parser_of
from diffcls.cli.flags import add_one_image, add_seed, keywords
from diffcls.data.prompts import check_labels
from diffcls.explain.options import DRAWS, ExplainOptions
from diffcls.support.files import check_output, make_folder, safe_name
from diffcls.support.hashing import hash_text
from diffcls.support.options import read
from diffcls.support.paths import expand
from diffcls.support.tables import align

if TYPE_CHECKING:
    from diffcls.explain.evidence import Evidence

EPILOG = """Of two labels, the evidence is for the first over the second; of more, the image is
classified, and the evidence is for the best label over the runner-up. It is a sum over positions,
over draws, and over nothing else: the parts add up to the difference of the scores.

examples:
  python -m diffcls.explain digit.png --labels three eight
  python -m diffcls.explain photo.jpg --model sd2-base --labels cat dog fox --draws 200

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `ExplainOptions` documents them."""
    p = parser_of(
        "explain",
        "Evidence for one label over another: by position, timestep and word.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument
    add("image", metavar="IMAGE", help="path or http(s):// address of an image")
    add("--labels", nargs="+", required=True, metavar="L", help="two or more labels")
    add("--model", metavar="NAME|PATH|ID", help="diffusion model (digits)")
    add("--template", metavar="T", help="prompt template with {} (a photo of a {}.)")
    add("--draws", type=int, metavar="N", help=f"(timestep, noise) draws per label ({DRAWS})")
    add_seed(add)
    add_one_image(add)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    options = read(ExplainOptions, keywords(flags, ExplainOptions))
    folder = expand(Path(flags.output_dir)) / "evidence"
    check_output(folder)
    opener(options.image, "IMAGE", PUBLIC_ONLY)  # refuses a missing file before a model is loaded
    check_labels(options.labels)
    evidence = _measure(options)
    # another image, model or setting has another name: nothing is overwritten by other content
    settings = hash_text(json.dumps([_summary(evidence), vars(options)], default=str), 8)
    stem = safe_name(f"{Path(options.image).stem}-{settings}")
    make_folder(folder)
    files = [folder / f"{stem}{ending}" for ending in (".png", ".npz")]
    for file in files:
        evidence.save(file)
    if flags.json:
        shown = {**_summary(evidence), "files": [str(file) for file in files]}
        print(json.dumps(shown, indent=2, allow_nan=False))
    else:
        _print(evidence)
        print(f"\n{files[0]}: overlay\n{files[1]}: arrays")
    return 0


def _measure(options: ExplainOptions) -> Evidence:
    from diffcls.api.zero_shot import ZeroShotImageClassifier

    classifier = ZeroShotImageClassifier.from_pretrained(
        options.model,
        device=options.device,
        dtype=options.dtype,
        seed=options.seed,
        batch_size=options.batch_size,
        img_size=options.img_size,
    )
    first, second = options.labels[:2]
    if len(options.labels) > 2:
        answers: Any = classifier(options.image, options.labels, options.template)
        first, second = (answer["label"] for answer in answers[:2])
    return classifier.explain(
        options.image,
        first,
        second,
        options.template,
        options.draws,
        candidate_labels=options.labels,
    )


def _summary(evidence: Evidence) -> dict[str, Any]:
    return {
        "label": evidence.label,
        "other": evidence.other,
        "difference": evidence.difference,
        "stderr": evidence.difference_stderr,
        "log_odds": evidence.log_odds,
        "by_time": evidence.by_time(),
        "words": {label: [vars(word) for word in words] for label, words in evidence.words.items()},
    }


def _print(evidence: Evidence) -> None:
    """Differences are shown as log odds: a score is a mean over very many values."""
    scale = evidence.scale
    error = evidence.difference_stderr * scale
    print(f"{evidence.label} over {evidence.other}: log odds {evidence.log_odds:.1f} ± {error:.1f}")
    rows = [["timesteps", "draws", "log odds", "±"]]
    for part in evidence.by_time():
        numbers = [f"{part[key] * scale:.1f}" for key in ("difference", "stderr")]
        rows.append([f"{part['from']:.0f} to {part['to']:.0f}", str(part["draws"]), *numbers])
    print("\n" + align(rows))
    for label, words in evidence.words.items():
        rows = [["word", "log odds", "±"]]
        for word in words:
            rows.append(
                [word.word, f"{word.contribution * scale:.1f}", f"{word.stderr * scale:.1f}"]
            )
        print(f"\nwords of the prompt of {label}\n" + align(rows))


if __name__ == "__main__":
    sys.exit(main())
