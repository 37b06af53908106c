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
WAITING = "Waiting for the model: questions are answered one after another."
SHOW_RACE = """() => {
  const race = document.querySelector('.dc-race');
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  if (race && innerWidth < 700) race.scrollIntoView({behavior: calm ? 'auto' : 'smooth'});
  return [];
}"""
"""On a phone, the race lies below the form."""
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
        gr.HTML(f'<p class="dc-caption">{EXAMPLES}</p>')
        with gr.Row(elem_classes="dc-examples"):
            for i, example in enumerate(self._examples):
                icon = self._service.uploads / f"example-{i}.png"
                example.image.save(icon)
                button = gr.Button(example.title, icon=icon, size="sm", elem_classes="dc-example")
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
        private = {"api_visibility": "private"}
        inputs = [self._preset, self._image, self._labels, self._template]
        outputs = [self._status, *self._panels.values()]

        def ask(
            preset: Any, image: Any, labels: Any, template: Any, request: gr.Request
        ) -> Generator[dict[Any, str]]:
            visitor = request.client.host if request.client else ""
            panels = self._service.ask(
                preset, image, labels, template, visitor, request.session_hash or ""
            )
            with closing(panels):
                yield {self._status: ""}
                for changed in panels:
                    yield {self._panels[name]: text for name, text in changed.items()}

        # gradio reads the type at run time, where a local import is not found
        ask.__annotations__["request"] = gr.Request
        asked: dict[str, Any] = {
            # the browser's own values: a file is opened by `open_upload` alone
            "preprocess": False,
            "show_progress": "hidden",
            "concurrency_limit": 1,
            "concurrency_id": "model",
            **private,
        }
        shown: dict[str, Any] = {"show_progress": "hidden", **private}
        waits = {"fn": self._wait, "inputs": None, "outputs": outputs, "js": SHOW_RACE, **shown}
        typed = [self._classify.click, self._labels.submit, self._template.submit]
        runs = [gr.on(typed, **waits, concurrency_limit=None).then(ask, inputs, outputs, **asked)]
        for button, example in self._example_buttons:
            chosen = button.click(self._choose(example), None, inputs, **shown)
            waiting = chosen.then(**waits, concurrency_limit=None)
            runs.append(waiting.then(ask, inputs, outputs, **asked))
        self._stop.click(
            lambda: markup.message(STOPPED),
            None,
            self._status,
            cancels=runs,
            concurrency_limit=None,  # it waits for no one
            **shown,
        )
        self._preset.input(
            self._service.start_of,
            self._preset,
            [self._labels, self._template],
            **shown,
        )

        def closed(request: gr.Request) -> None:
            self._service.forget(request.session_hash or "")

        closed.__annotations__["request"] = gr.Request
        blocks.unload(closed)

    def _wait(self) -> list[str]:
        """Texts of the outputs while other visitors' questions are answered."""
        waiting = markup.message(WAITING, "waiting")
        return ["", markup.section("The race", waiting, "race"), *[""] * (len(PANELS) - 1)]

    def _choose(self, example: Example) -> Any:
        def choose() -> tuple[Any, ...]:
            return (example.preset, example.image, *self._service.start_of(example.preset))

        return choose


def style() -> str:
    """The page's style sheet."""
    return resources.files("diffcls.demo").joinpath("page.css").read_text(encoding="utf-8")
