"""``python -m diffcls.replay``: replay of saved error tables, without the network."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffcls.cli import command, parser_of
from diffcls.evaluation.replay_options import ReplayOptions
from diffcls.support.options import read

EPILOG = """The tables are those that `python -m diffcls.evaluate --save-errors DIR` writes. On the
tables of --search exhaustive every other search can be replayed. All combinations are compared with
the first one: the fraction of equal predictions, and the p-value of McNemar's exact test.

examples:
  python -m diffcls.evaluate --search exhaustive --draws 50 --save-errors tables
  python -m diffcls.replay tables --search exhaustive racing halving
  python -m diffcls.replay tables --weighting uniform snr truncated-snr vlb --vote mean rank
  python -m diffcls.replay validation-tables --learn weighting.json  # made with --allocation even

exit status: 0 done, 1 a table cannot be read, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of(
        "replay",
        "Replay saved error tables: other searches, weightings and votes, without the network.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument
    add("folder", metavar="DIR", help="folder of error tables")
    add("--search", nargs="+", metavar="S", help="searches (as saved)")
    weightings = "weightings: names or FILE.json (as saved)"
    add("--weighting", nargs="+", metavar="W", help=weightings)
    add("--vote", nargs="+", metavar="V", help="mean, log, rank, majority (as saved)")
    add("--draws", type=int, metavar="N", help="draws per class at most (all that were saved)")
    add("--confidence", type=float, metavar="P", help="of racing: confidence")
    add("--max-evaluations", type=int, metavar="N", help="of racing: evaluations per image")
    add("--learn", metavar="FILE", help="learn a weighting from the tables, and stop")
    add("--json", action="store_true", help="machine output on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    options = read(ReplayOptions, vars(parser().parse_args(arguments)))

    from diffcls.evaluation import replay
    from diffcls.runs.error_tables import read_saved

    if options.learn is not None:
        return _learn(options.folder, Path(options.learn))
    read_saved(Path(options.folder))  # damaged tables are named first
    options.check_changes()
    rows = replay.replay(
        options.folder,
        options.search or (),
        options.weighting or (),
        options.vote or (),
        draws=options.draws,
        confidence=options.confidence,
        max_evaluations=options.max_evaluations,
    )
    print(json.dumps(rows, indent=2, allow_nan=False) if options.json else _table(rows))
    return 0


def _learn(folder: str, path: Path) -> int:
    from diffcls.evaluation import replay
    from diffcls.support.errors import UsageError
    from diffcls.support.files import write_text

    if path.exists() or path.suffix != ".json" or not path.parent.is_dir():
        raise UsageError(
            "--learn cannot write this file",
            given=str(path),
            allowed="a new .json file in an existing folder",
            todo="choose another",
        )
    learned = replay.learn(folder)
    write_text(path, json.dumps(learned, indent=2) + "\n")
    print(f"use the weighting on other data with: --weighting {path}")
    return 0


def _table(rows: list[dict[str, Any]]) -> str:
    from diffcls.support.tables import align

    head = ["search", "weighting", "vote", "accuracy [95 %]", "evaluations/image", "same", "p"]
    lines = [
        [
            str(row["search"]),
            str(row["weighting"]).partition(":")[0],
            str(row["vote"]),
            "{accuracy:.1%} [{ci_low:.1%}, {ci_high:.1%}]".format(**row),
            "{evaluations_per_image:.1f}".format(**row),
            "{agreement:.1%}".format(**row),
            "{p:.3f}".format(**row),
        ]
        for row in rows
    ]
    return align([head, *lines], right={"evaluations/image", "same", "p"})


if __name__ == "__main__":
    sys.exit(main())
