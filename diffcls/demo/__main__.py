"""``python -m diffcls.demo``: a web page on which visitors classify images and watch the race."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from diffcls.cli import command, parser_of
from diffcls.cli.flags import add_seed, keywords
from diffcls.demo.options import LOOPBACK, DemoOptions
from diffcls.support.errors import UsageError
from diffcls.support.options import read

INSTALL = 'pip install "diffcls[demo]"'
EPILOG = """The page is served to this machine alone, unless --host names another address. Nothing
that visitors send is kept, and nothing is loaded from the web: see docs/demo.md.

examples:
  python -m diffcls.demo
  python -m diffcls.demo --model sd2-base --device cuda --host 0.0.0.0 --port 8080

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `DemoOptions` documents them."""
    p = parser_of(
        "demo",
        "A web page: drop an image, type labels, watch the race.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument_group("model").add_argument
    add("--model", metavar="NAME|PATH|ID", help="diffusion model (a choice of the bundled ones)")
    add("--clip-model", metavar="NAME|PATH", help="CLIP to compare with (a bundled one)")
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--dtype", metavar="T", help="float32, bfloat16 or float16 (float32 on a CPU)")
    add("--draws", type=int, metavar="N", help="maximum draws per label (the race's default)")
    add("--batch-size", type=int, metavar="N", help="rows per forward pass (16)")
    add_seed(add)
    add = p.add_argument_group("server").add_argument
    add("--host", metavar="ADDRESS", help=f"address to serve on ({LOOPBACK}: this machine alone)")
    add("--port", type=int, metavar="N", help="port; 0: any free one (first free one from 7860)")
    add = p.add_argument_group("limits").add_argument
    add("--max-upload-mb", type=int, metavar="N", help="megabytes of an upload (15)")
    add("--max-labels", type=int, metavar="N", help="labels of a question (20)")
    add("--rate", type=int, metavar="N", help="questions per minute and visitor (20)")
    add("--queue", type=int, metavar="N", help="visitors that may wait (16)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    options = read(DemoOptions, keywords(parser().parse_args(arguments), DemoOptions))
    if find_spec("gradio") is None:
        raise UsageError("diffcls demo needs gradio, which is not installed", todo=INSTALL)
    from diffcls.demo.server import serve

    return serve(options)


if __name__ == "__main__":
    sys.exit(main())
