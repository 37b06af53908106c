"""Questions of a page: the newest counts, older ones end and are never shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffcls.demo import service
from diffcls.demo.answers import PANELS
from diffcls.demo.examples import Example
from diffcls.demo.interruption import Interrupted, Interruptible, Interruption
from diffcls.demo.models import Models
from diffcls.demo.options import DemoOptions
from diffcls.demo.service import BUSY, Service


def example(name: str = "one") -> Example:
    return Example(name, "digits", lambda: Image.new("RGB", (8, 8), len(name)))


def press(one: Service, session: str, labels: str = "a, b") -> dict[str, str]:
    return one.press(session, "digits", example(labels), labels, "{}")


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service whose answers are the labels, in three steps."""

    def repeat(models: Models, question: Any) -> Iterator[dict[str, str]]:
        for panel in ("race", "evidence", "samples"):
            yield {panel: f"{panel} of {question.labels[0]}"}

    monkeypatch.setattr(service, "answer", repeat)
    return Service(Models(DemoOptions(model="digits", queue=2)), tmp_path)


def test_of_eight_quick_presses_the_last_alone_is_answered(steps: Service) -> None:
    for k in range(8):
        press(steps, "s", f"{k}, b")
    answers = [list(steps.answers("s", "v")) for _ in range(8)]
    assert answers[0][-3:] == [{p: f"{p} of 7"} for p in ("race", "evidence", "samples")]
    assert Path(answers[0][-4]["image"]).is_file()  # the example of the same press
    assert answers[1:] == [[]] * 7


def test_an_answer_that_is_superseded_writes_no_further_panel(steps: Service) -> None:
    press(steps, "s", "old, b")
    answer = steps.answers("s", "v")
    assert [next(answer) for _ in range(3)][2] == {"race": "race of old"}
    press(steps, "s", "new, b")
    assert list(answer) == []
    assert list(steps.answers("s", "v"))[2] == {"race": "race of new"}


def test_pages_do_not_supersede_each_other(steps: Service) -> None:
    press(steps, "one", "first, b")
    press(steps, "two", "second, b")
    for session, label in (("two", "second"), ("one", "first")):
        assert list(steps.answers(session, "v"))[2] == {"race": f"race of {label}"}


@pytest.mark.parametrize("end", [lambda s: s.end("s", "Stopped."), lambda s: s.reset("s")])
def test_stop_and_a_change_of_inputs_end_what_runs_and_what_waits(end: Any, steps: Service) -> None:
    press(steps, "s")
    running = steps.answers("s", "v")
    next(running)
    panels = end(steps)
    assert set(panels) == {*PANELS, "status"}
    assert list(running) == []
    press(steps, "s")
    end(steps)
    assert list(steps.answers("s", "v")) == []


def test_stop_says_so_in_place_of_a_race_and_keeps_what_is_finished(steps: Service) -> None:
    press(steps, "s")
    running = steps.answers("s", "v")
    next(running)
    assert "Stopped." in steps.end("s", "Stopped.")["race"]
    press(steps, "s")
    list(steps.answers("s", "v"))
    assert list(steps.end("s", "Stopped.")) == ["status"]
    assert steps.state("s")["race"] == "race of a"


def test_no_more_pages_wait_than_allowed_and_a_second_press_takes_no_place(steps: Service) -> None:
    for session in ("one", "two", "two", "two"):
        assert BUSY not in press(steps, session)["race"]
    assert BUSY in press(steps, "three")["race"]
    assert list(steps.answers("three", "v")) == []
    list(steps.answers("one", "v"))
    assert BUSY not in press(steps, "three")["race"]


def test_an_example_stays_when_a_page_that_classified_it_closes(steps: Service) -> None:
    chosen = example()
    file = chosen.file(steps.examples)
    written = file.stat().st_mtime_ns
    steps.press("s", "digits", {"path": str(file)}, "a, b", "{}")
    assert list(steps.answers("s", "v"))[-3] == {"race": "race of a"}
    steps.forget("s")
    assert chosen.file(steps.examples) == file and file.stat().st_mtime_ns == written


def test_a_press_that_was_overtaken_by_a_later_one_changes_nothing(steps: Service) -> None:
    assert steps.press("s", "digits", example(), "new, b", "{}", 8)
    assert steps.press("s", "digits", example(), "old, b", "{}", 7) == {}
    assert steps.end("s", "Stopped.", 6) == {} and steps.reset("s", 5) == {}
    assert list(steps.answers("s", "v"))[-3] == {"race": "race of new"}
    steps.end("s", "Stopped.", 10)
    assert steps.press("s", "digits", example(), "old, b", "{}", 9) == {}
    assert "Stopped." in steps.state("s")["status"]  # what the page shows after each press
    assert list(steps.answers("s", "v")) == []


def test_a_closed_page_is_not_answered(steps: Service) -> None:
    press(steps, "s")
    steps.forget("s")
    assert list(steps.answers("s", "v")) == []


@pytest.mark.parametrize("stage", ["race", "evidence", "samples"])
def test_a_superseded_question_ends_before_its_next_forward_pass(
    stage: str, tmp_path: Path
) -> None:
    one = Service(Models(DemoOptions(model="digits", device="cpu")), tmp_path)
    inner: Any = one.models.classifier("digits").denoiser
    assert isinstance(inner, Interruptible)
    passes: list[str] = []

    class Watched:
        def __init__(self, denoiser: Any) -> None:
            self.denoiser = denoiser

        def __getattr__(self, name: str) -> Any:
            if name.startswith("predict"):
                passes.append(name)
                if len(passes) == stop:  # the press comes in the middle of a step
                    one.end("s", "Stopped.")
            return getattr(self.denoiser, name)

    inner._denoiser = Watched(inner._denoiser)
    stop = 0
    for _ in range(2):  # what the first question leaves in memory costs no further pass
        passes.clear()
        press(one, "s", "3, 7")
        before = 0
        for changed in one.answers("s", "v"):
            before = len(passes)
            if "dc-waiting" in changed.get(stage, ""):
                break
    passes.clear()
    stop = before + 1
    press(one, "s", "3, 7")
    list(one.answers("s", "v"))
    assert len(passes) in (stop, stop + 1)  # the next one is looked up, and not made


def test_an_interruption_holds_for_its_own_context_alone() -> None:
    interruption = Interruption()
    interruption.check()
    with interruption.unless(lambda: False), pytest.raises(Interrupted):
        interruption.check()
    interruption.check()
