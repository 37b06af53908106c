"""The demo's page, built with gradio: inputs, examples and panels, and what each button does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
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
            for i, example in enumerate(self._examples):
                kind = ["dc-example"]
                icon = None
                if example.word:
                    kind.append("dc-word")
                else:
                    icon = self._service.uploads / f"example-{i}.png"
                    example.image.save(icon)
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
                labels, template = self._service.start_of(example.preset)
                given = (example.preset, example, labels, template)
                panels = self._service.press(_session(request), *given, count)
                if not panels:
                    return self._shown(panels)
                image = example.image if example.is_ready else None
                form = (example.preset, image, labels, template)
                return {**dict(zip(inputs, form, strict=True)), **self._shown(panels)}

            return _of_request(chosen, gr)

        def ask(request: gr.Request) -> Generator[dict[Any, Any]]:
            visitor = request.client.host if request.client else ""
            with closing(self._service.answers(_session(request), visitor)) as panels:
                for changed in panels:
                    yield self._shown(changed, clear=False)
            # gradio sends the last panels again at the end, over what a later press has shown
            yield {self._status: gr.skip()}

        def stop(count: Any, request: gr.Request) -> dict[Any, Any]:
            changed = self._shown(self._service.end(_session(request), STOPPED, count))
            return {**changed, self._status: markup.message(STOPPED)}

        def choose_model(count: Any, preset: str, request: gr.Request) -> dict[Any, Any]:
            start = zip(inputs[2:], self._service.start_of(preset), strict=True)
            panels = self._service.reset(_session(request), count)
            return {**self._shown(panels), **(dict(start) if panels else {})}

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
        answer = [self._image, *outputs]
        typed = [self._classify.click, self._labels.submit, self._template.submit]
        pressed = gr.on(
            typed, _of_request(press, gr), [count, *inputs], outputs, js=SHOW_RACE, **at_once
        )
        pressed.then(_of_request(ask, gr), None, answer, **model)
        for button, example in self._example_buttons:
            chosen = button.click(
                choose(example),
                count,
                [*inputs, *outputs],
                js=SHOW_RACE,
                **at_once,
            )
            chosen.then(_of_request(ask, gr), None, answer, **model)
        self._stop.click(_of_request(stop, gr), count, outputs, js=COUNT, **at_once)
        self._preset.input(
            _of_request(choose_model, gr),
            [count, self._preset],
            [*inputs[2:], *outputs],
            js=COUNT,
            **at_once,
        )
        self._image.input(_of_request(change_image, gr), count, outputs, js=COUNT, **at_once)
        blocks.unload(_of_request(closed, gr))
        blocks.load(None, None, None, js=DESCRIBE_IMAGE, api_visibility="private")

    def _shown(self, panels: dict[str, Any], clear: bool = True) -> dict[Any, Any]:
        """Panels by the parts of the page that show them; the status line is cleared.

        Of a press that a later one has overtaken, nothing is shown.
        """
        import gradio as gr

        if not panels:
            return {self._status: gr.skip()}
        parts = {**self._panels, "image": self._image}
        status = {self._status: ""} if clear else {}
        return {**status, **{parts[name]: shown for name, shown in panels.items()}}


def _of_request(step: Any, gr: Any) -> Any:
    """A step that is told its request: gradio finds no local import in a type's name."""
    step.__annotations__["request"] = gr.Request
    return step


def _session(request: Any) -> str:
    return request.session_hash or ""


def style() -> str:
    """The page's style sheet."""
    return resources.files("diffcls.demo").joinpath("page.css").read_text(encoding="utf-8")
