"""Service of the demo: what the page's buttons do, without the page itself.

Nothing that a visitor sends is kept: an upload is opened, and deleted when its page is closed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from diffcls.demo import markup
from diffcls.demo.answers import FAILED, PANELS, answer
from diffcls.demo.models import Models
from diffcls.demo.questions import Question, open_upload, read_labels, read_template
from diffcls.demo.rate_limit import RateLimit
from diffcls.support.errors import DiffclsError

logger = logging.getLogger(__name__)


class Service:
    """Answers visitors within the demo's limits.

    Args:
        models: the demo's models.
        uploads: folder of the uploads.
    """

    def __init__(self, models: Models, uploads: Path) -> None:
        self.models, self.uploads = models, uploads
        self._rate = RateLimit(models.options.rate)
        self._files: dict[str, set[Path]] = {}

    def ask(
        self, preset: str, upload: Any, labels: str, template: str, visitor: str, session: str
    ) -> Generator[dict[str, str]]:
        """The panels of an answer; a question that cannot be answered gives a message.

        Args:
            preset, upload, labels, template: inputs of the page, as the browser sends them.
            visitor: address of the visitor, for the rate limit.
            session: the visitor's page, whose uploads are deleted when it is closed.
        """
        try:
            question = self._question(preset, upload, labels, template, session)
        except DiffclsError as error:
            yield _only_message(str(error))
            return
        wait = self._rate.wait(visitor)
        if wait > 0:
            yield _only_message(f"Too many questions; the next one is possible in {wait:.0f} s.")
            return
        panels = answer(self.models, question)
        try:
            with closing(panels):
                yield from panels
        except DiffclsError as error:
            yield _only_message(str(error))
        except Exception:  # the visitor learns nothing of the machine
            logger.exception("a question could not be answered")
            yield _only_message(FAILED)

    def _question(
        self, preset: Any, upload: Any, labels: Any, template: Any, session: str
    ) -> Question:
        options = self.models.options
        image = open_upload(upload, self.uploads, options.max_upload_bytes)
        self._files.setdefault(session, set()).add(Path(upload["path"]))
        most = options.max_labels
        return Question(str(preset), image, read_labels(labels, most), read_template(template))

    def forget(self, session: str) -> None:
        """Delete the uploads of a page that was closed.

        Equal images of several visitors are one file, which is deleted with the last of them.
        """
        files = self._files.pop(session, set())
        for path in files.difference(*self._files.values()):
            path.unlink(missing_ok=True)

    def start_of(self, preset: str) -> tuple[str, str]:
        """Labels and template that a preset begins with."""
        return ", ".join(self.models.labels(preset)), self.models.presets[preset].template


def _only_message(text: str) -> dict[str, str]:
    return {
        **dict.fromkeys(PANELS, ""),
        "race": markup.section("The race", markup.message(text, "error"), "race"),
    }
