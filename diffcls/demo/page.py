"""The demo's page, built with gradio: inputs, examples and panels, and what each button does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from importlib import resources
from typing import Any

from diffcls.demo import markup
from diffcls.demo.answers import PANELS
from diffcls.demo.examples import Example
from diffcls.demo.service import Service

TITLE = "Diffusion classifier"
SECONDS_BETWEEN_DELETIONS, MAX_FILE_SECONDS = 60, 600
"""An upload of a visitor who does not close the page is deleted after ten minutes."""
INTRODUCTION = (
    "A diffusion model names what an image shows: noise is added to the image, and the label whose "
    "prompt predicts that noise best wins. Labels race on the same noise, and those that fall "
    "behind drop out."
)
EXAMPLES = "Examples: press one to classify it."
WORDS = " The model generates the image of a word first."
COUNT = """(count, ...given) => {
  window.dcPresses = (window.dcPresses || 0) + 1;
  return [window.dcPresses, ...given];
}"""
"""Requests of quick presses may overtake each other; their count tells their order."""
SHOW_RACE = """(...given) => {
  const race = document.querySelector('.dc-race');
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  if (race && innerWidth < 700) race.scrollIntoView({behavior: calm ? 'auto' : 'smooth'});
  return COUNT(...given);
}"""
"""On a phone, the race lies below the form."""
DESCRIBE_IMAGE = """() => {
  const describe = () => document.querySelectorAll('.dc-image img').forEach(
    image => { if (!image.alt) image.alt = 'The image to classify'; });
  new MutationObserver(describe).observe(document.body, {subtree: true, childList: true});
  describe();
}"""
"""gradio gives the image no alternative text."""
SHOW_RACE = SHOW_RACE.replace("COUNT", f"({COUNT})")
STOPPED = "Stopped. Nothing further is computed."


class Page:
    """Builds the page.

    Args:
        service: what the buttons do.
        examples: images to try.
    """

    def __init__(self, service: Service, examples: Sequence[Example]) -> None:
        self._service, self._examples = service, examples

    def build(self) -> Any:
        """The page as gradio's blocks."""
        import gradio as gr

        first = next(iter(self._service.models.presets))
        labels, template = self._service.start_of(first)
        deletion = (SECONDS_BETWEEN_DELETIONS, MAX_FILE_SECONDS)
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=deletion) as blocks:
            gr.HTML(f'<header class="dc-head"><h1>{TITLE}</h1><p>{INTRODUCTION}</p></header>')
            with gr.Row(elem_classes="dc-columns", equal_height=False):
                with gr.Column(scale=4, min_width=320, elem_classes="dc-inputs"):
                    self._inputs(gr, first, labels, template)
                with gr.Column(scale=6, min_width=320, elem_classes="dc-outputs"):
                    self._panels = {
                        name: gr.HTML(markup.welcome() if name == "race" else "") for name in PANELS
                    }
            gr.HTML(f'<footer class="dc-foot"><p>{markup.PRIVACY}</p></footer>')
            self._wire(gr, blocks)
        return blocks

    def _inputs(self, gr: Any, first: str, labels: str, template: str) -> None:
        sources = ["upload", "webcam", "clipboard"]
        self._image = gr.Image(
            sources=sources, type="filepath", label="Image", height=260, elem_classes="dc-image"
        )
        self._example_buttons = []
        words = any(example.word for example in self._examples)
        gr.HTML(f'<p class="dc-caption">{EXAMPLES}{WORDS * words}</p>')
        with gr.Row(elem_classes="dc-examples"):
            for example in self._examples:
                kind = ["dc-example"]
                icon = None
                if example.word:
                    kind.append("dc-word")
                else:
                    icon = example.file(self._service.examples)
                title = example.word or example.title
                button = gr.Button(title, icon=icon, size="sm", elem_classes=kind)
                self._example_buttons.append((button, example))
        choices = [(preset.title, name) for name, preset in self._service.models.presets.items()]
        several = len(choices) > 1
        self._preset = gr.Radio(choices, value=first, label="Model trained on", visible=several)
        self._labels = gr.Textbox(labels, label="Labels, separated by commas", lines=2)
        reads_text = self._service.models.template(first, template) is not None
        self._template = gr.Textbox(
            template, label="Prompt, {} stands for the label", visible=reads_text
        )
        with gr.Row(elem_classes="dc-buttons"):
            self._classify = gr.Button("Classify", variant="primary", elem_id="classify")
            self._stop = gr.Button("Stop", elem_id="stop")
        self._status = gr.HTML()

    def _wire(self, gr: Any, blocks: Any) -> None:
        inputs = [self._preset, self._image, self._labels, self._template]
        outputs = [self._status, *self._panels.values()]

        def press(
            count: Any, preset: Any, image: Any, labels: Any, template: Any, request: gr.Request
        ) -> dict[Any, Any]:
            given = (preset, image, labels, template, count)
            return self._shown(self._service.press(_session(request), *given))

        def choose(example: Example) -> Any:
            def chosen(count: Any, request: gr.Request) -> dict[Any, Any]:
                given = (example.preset, example, *self._service.start_of(example.preset), count)
                return self._shown(self._service.press(_session(request), *given))

            return _of_request(chosen, gr)

        def restate(request: gr.Request) -> dict[Any, Any]:
            return self._shown(self._service.state(_session(request)))

        def ask(request: gr.Request) -> Generator[dict[Any, Any]]:
            visitor = request.client.host if request.client else ""
            with closing(self._service.answers(_session(request), visitor)) as panels:
                for changed in panels:
                    yield self._shown(changed)
            # gradio sends the last panels again at the end, over what a later press has shown
            yield self._shown({})

        def stop(count: Any, request: gr.Request) -> dict[Any, Any]:
            return self._shown(self._service.end(_session(request), STOPPED, count))

        def choose_model(count: Any, preset: str, request: gr.Request) -> dict[Any, Any]:
            return self._shown(self._service.reset(_session(request), count, preset))

        def change_image(count: Any, request: gr.Request) -> dict[Any, Any]:
            return self._shown(self._service.reset(_session(request), count))

        def closed(request: gr.Request) -> None:
            self._service.forget(_session(request))

        count = gr.Number(visible=False)
        always = {
            # the browser's own values: a file is opened by `open_upload` alone
            "preprocess": False,
            "show_progress": "hidden",
            "trigger_mode": "multiple",
            "api_visibility": "private",
        }
        # presses never wait for the model, and keep their order
        at_once = {**always, "concurrency_limit": 1, "concurrency_id": "presses"}
        model = {**always, "concurrency_limit": 1, "concurrency_id": "model"}
        everything = [*inputs, *outputs]

        def press_of(event: Any, step: Any, given: Any, js: str = COUNT) -> Any:
            """Answers of quick presses may reach the page in another order than their requests."""
            pressed = event(_of_request(step, gr), given, everything, js=js, **at_once)
            return pressed.then(_of_request(restate, gr), None, everything, **at_once)

        typed = [self._classify.click, self._labels.submit, self._template.submit]
        asked = [press_of(partial(gr.on, typed), press, [count, *inputs], SHOW_RACE)]
        for button, example in self._example_buttons:
            asked.append(press_of(button.click, choose(example), count, SHOW_RACE))
        for one in asked:
            one.then(_of_request(ask, gr), None, everything, **model)
        press_of(self._stop.click, stop, count)
        press_of(self._preset.input, choose_model, [count, self._preset])
        press_of(self._image.input, change_image, count)
        blocks.unload(_of_request(closed, gr))
        blocks.load(None, None, None, js=DESCRIBE_IMAGE, api_visibility="private")

    def _shown(self, panels: dict[str, Any]) -> dict[Any, Any]:
        """Panels and inputs by the parts of the page that show them; all others stay."""
        import gradio as gr

        names = ("preset", "image", "labels", "template", "status")
        own = (self._preset, self._image, self._labels, self._template, self._status)
        parts = {**self._panels, **dict(zip(names, own, strict=True))}
        # gradio takes no empty answer
        return {self._status: gr.skip(), **{parts[name]: one for name, one in panels.items()}}


def _of_request(step: Any, gr: Any) -> Any:
    """A step that takes its request: gradio finds no local import in a type's name."""
    step.__annotations__["request"] = gr.Request
    return step


def _session(request: Any) -> str:
    return request.session_hash or ""


def style() -> str:
    """The page's style sheet."""
    return resources.files("diffcls.demo").joinpath("page.css").read_text(encoding="utf-8")
