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
from diffcls.demo.examples import Example
from diffcls.demo.interruption import Interrupted
from diffcls.demo.models import Models
from diffcls.demo.questions import Question, open_upload, read_labels, read_template
from diffcls.demo.rate_limit import RateLimit
from diffcls.demo.visits import Press, Visits
from diffcls.support.errors import DiffclsError

WAITING = "Waiting for the model: questions are answered one after another."
BUSY = "Too many visitors wait for the model; try again in a moment."
GENERATING = "The model makes the example …"

logger = logging.getLogger(__name__)


class Service:
    """Answers visitors within the demo's limits.

    Args:
        models: the demo's models.
        uploads: folder of the uploads.
    """

    def __init__(self, models: Models, uploads: Path) -> None:
        self.models, self.uploads = models, uploads
        self.examples = uploads / "examples"
        self._rate = RateLimit(models.options.rate)
        self._visits = Visits(models.options.queue)
        self._files: dict[str, set[Path]] = {}

    def press(
        self,
        session: str,
        preset: Any,
        upload: Any,
        labels: Any,
        template: Any,
        number: Any = None,
    ) -> dict[str, Any]:
        """Take the question of a press, in place of all earlier ones of its page.

        Args:
            session: the visitor's page.
            preset, upload, labels, template: inputs of the page, as the browser sends them; the
                upload may also be an `Example`.
            number: count of the press in the browser.

        Returns:
            The panels until the answer begins, and the inputs of an example. None of them if a
            later press came first.
        """
        taken = self._visits.press(session, preset, upload, labels, template, number=number)
        if taken is None:
            return {}
        said = markup.message(WAITING, "waiting") if taken else markup.message(BUSY, "error")
        form: dict[str, Any] = {}
        if isinstance(upload, Example):
            image = str(upload.file(self.examples)) if upload.is_ready else None
            form = {"preset": preset, "image": image, "labels": labels, "template": template}
        return self._visits.note(session, {**form, **_only(said), "status": ""})

    def state(self, session: str) -> dict[str, Any]:
        """What a page shows since its newest press; answers of older ones may arrive late."""
        return self._visits.state(session)

    def answers(self, session: str, visitor: str) -> Generator[dict[str, Any]]:
        """The panels of the answer to a page's newest question, as they change.

        Nothing follows where the question was answered already; what was computed for a question
        that has been superseded or stopped is not shown, and its next forward pass is not made. A
        question that cannot be answered gives a message.

        Args:
            session: the visitor's page, whose uploads are deleted when it is closed.
            visitor: address of the visitor, for the rate limit.
        """
        press = self._visits.take(session)
        if press is None:
            return
        with closing(self._answer(press, session, visitor)) as panels:
            while True:
                try:
                    with self.models.interruption.unless(
                        lambda: self._visits.is_newest(session, press)
                    ):
                        changed = next(panels, None)
                except Interrupted:
                    return
                if changed is None or not self._visits.show(session, press, changed):
                    return
                yield changed

    def _answer(self, press: Press, session: str, visitor: str) -> Generator[dict[str, Any]]:
        try:
            question = None
            if not isinstance(press.upload, Example):
                question = self._question(press, session)
            wait = self._rate.wait(visitor)
            if wait > 0:
                text = f"Too many questions; the next one is possible in {wait:.0f} s."
                yield _only(markup.message(text, "error"))
                return
            if question is None:
                if not press.upload.is_ready:
                    yield _only(markup.message(GENERATING, "waiting"))
                yield {"image": str(press.upload.file(self.examples))}
                question = self._question(press, session)
            with closing(answer(self.models, question)) as panels:
                yield from panels
        except Interrupted:
            raise
        except DiffclsError as error:
            yield _only(markup.message(str(error), "error"))
        except Exception:  # the visitor learns nothing of the machine
            logger.exception("a question could not be answered")
            yield _only(markup.message(FAILED, "error"))

    def _question(self, press: Press, session: str) -> Question:
        options = self.models.options
        if isinstance(press.upload, Example):
            image = press.upload.image
        else:
            image = open_upload(press.upload, self.uploads, options.max_upload_bytes)
            path = Path(press.upload["path"])
            if path.parent != self.examples:  # those stay
                self._files.setdefault(session, set()).add(path)
        labels = read_labels(press.labels, options.max_labels)
        return Question(str(press.preset), image, labels, read_template(press.template))

    def end(self, session: str, text: str, number: Any = None) -> dict[str, str]:
        """End the questions of a page.

        Args:
            session: the page.
            text: what the page says, in place of a race that was not over, too.
            number: count of the press in the browser.

        Returns:
            The panels that change: those that were still being computed.
        """
        shown = self._visits.end(session, number)
        if shown is None:
            return {}
        changed = _only(markup.message(text))
        if shown.get("evidence"):  # it follows the race, which stays
            changed = {p: "" for p in PANELS if markup.is_unfinished(shown.get(p, ""))}
        kept = {name: shown[name] for name in PANELS if name in shown}
        self._visits.note(session, {**kept, **changed, "status": markup.message(text)})
        return {**changed, "status": markup.message(text)}

    def reset(self, session: str, number: Any = None, preset: str | None = None) -> dict[str, str]:
        """End the questions of a page, whose answer no longer belongs to its inputs.

        Args:
            session: the page.
            number: count of the press in the browser.
            preset: the preset that was chosen, if one was.

        Returns:
            The panels as of a new page, and the labels and template that the preset begins with.
        """
        if self._visits.end(session, number) is None:
            return {}
        panels = {**dict.fromkeys(PANELS, ""), "race": markup.welcome(), "status": ""}
        if preset is not None:
            panels["labels"], panels["template"] = self.start_of(preset)
        return self._visits.note(session, panels)

    def forget(self, session: str) -> None:
        """Delete the uploads of a page that was closed.

        Equal images of several visitors are one file, which is deleted with the last of them.
        """
        self._visits.forget(session)
        files = self._files.pop(session, set())
        for path in files.difference(*self._files.values()):
            path.unlink(missing_ok=True)

    def start_of(self, preset: str) -> tuple[str, str]:
        """Labels and template that a preset begins with."""
        return ", ".join(self.models.labels(preset)), self.models.presets[preset].template


def _only(message: str) -> dict[str, str]:
    """A message in the first panel, and nothing in the others."""
    return {**dict.fromkeys(PANELS, ""), "race": markup.section("The race", message, "race")}
