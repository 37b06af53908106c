"""Console script ``diffcls COMMAND …``, also ``python -m diffcls COMMAND …``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from diffcls.cli import command
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.registry import Registry
from diffcls.support.version import __version__

COMMANDS = Registry(
    "command",
    {
        "evaluate": "diffcls.evaluate:main",
        "train": "diffcls.train:main",
        "learn_concept": "diffcls.learn_concept:main",
        "generate": "diffcls.generate:main",
        "likelihood": "diffcls.likelihood:main",
        "fidelity": "diffcls.fidelity:main",
        "replay": "diffcls.replay:main",
        "compare": "diffcls.compare:main",
        "merge": "diffcls.merge:main",
        "list": "diffcls.list:main",
        "checkpoints": "diffcls.checkpoints:main",
        "report": "diffcls.report:main",
        "edit": "diffcls.edit:main",
        "counterfactual": "diffcls.counterfactual:main",
        "explain": "diffcls.explain.__main__:main",
        "demo": "diffcls.demo.__main__:main",
    },
)
SUMMARIES = {
    "evaluate": "evaluate a classifier on a data set",
    "train": "train a small diffusion model, a CLIP, or a classifier of noisy images",
    "learn_concept": "learn a class from a few images, as a new word of a model",
    "generate": "generate images with a diffusion model",
    "likelihood": "estimate the variational bound of images under a diffusion model",
    "fidelity": "measure FID, KID, IS, precision and recall of generated images",
    "replay": "replay saved error tables with other searches, weightings and votes",
    "compare": "compare stored runs, image by image, with paired intervals and tests",
    "merge": "join the records of shards that were scored without a common disk",
    "list": "list data sets, models, methods, searches, samplers or stored runs",
    "checkpoints": "compare checkpoints of a training, or several models",
    "report": "write a report of stored runs as one HTML page",
    "edit": "change what an image shows, by two prompts",
    "counterfactual": "find the smallest edit after which a classifier says another label",
    "explain": "show where the evidence for one label over another lies in an image",
    "demo": "serve a web page that classifies visitors' images, live",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``diffcls COMMAND …``, that is, ``python -m diffcls.COMMAND …``; return the status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:14} {SUMMARIES[name]}" for name in COMMANDS]
        lines = ["usage: diffcls COMMAND …", "", "commands:", *lines, ""]
        lines.append("Run `diffcls COMMAND --help` for its flags, and")
        lines.append("`diffcls --print-completion bash`, zsh or tcsh for completion in a shell.")
        print("\n".join(lines), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"diffcls {__version__}")
        return 0
    if arguments[0].partition("=")[0].replace("_", "-") == "--print-completion":
        return _print_completion([*arguments[0].split("=", 1)[1:], *arguments[1:]])
    if arguments[0] not in COMMANDS:
        raise unknown_name("command", arguments[0], COMMANDS)
    run: Callable[[Sequence[str]], int] = COMMANDS.load(arguments[0])
    return run(arguments[1:])


def _print_completion(arguments: list[str]) -> int:
    from diffcls.cli.completion import FLAG, SHELLS, print_completion

    if len(arguments) != 1:
        raise UsageError(f"{FLAG} takes one shell", given=arguments or None, allowed=SHELLS)
    modules = {name: importlib.import_module(COMMANDS[name].split(":")[0]) for name in COMMANDS}
    print_completion(arguments[0], {n: m.parser() for n, m in modules.items()}, SUMMARIES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
