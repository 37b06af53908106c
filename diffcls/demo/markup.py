"""Markup of the demo's panels, from data: the race, the evidence, the samples, and CLIP."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from diffcls.support.number_text import percent, with_minus

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.api.live_race import RaceState
    from diffcls.demo.models import ClipAnswer
    from diffcls.explain.evidence import Evidence

MIN_SHOWN_PIXELS = 256
"""Small images are enlarged to about this side by a whole factor, without smoothing."""
MAX_CLIP_LABELS = 5
"""Labels of CLIP's answer that are shown."""
PRIVACY = (
    "Nothing is kept. Your image stays on this machine: in its memory, and in a temporary folder "
    "until you leave or ten minutes have passed. It is not logged, sent on, or used for anything "
    "else."
)


def section(title: str, body: str, name: str, note: str = "") -> str:
    """A panel with a heading."""
    aside = f'<p class="dc-note">{escape(note)}</p>' if note else ""
    return (
        f'<section class="dc-panel dc-{name}" aria-labelledby="dc-{name}-title">'
        f'<h2 id="dc-{name}-title">{escape(title)}</h2>{aside}{body}</section>'
    )


def message(text: str, kind: str = "message") -> str:
    """A line for the visitor, read aloud by screen readers.

    Args:
        text: the line.
        kind: ``message``, ``waiting`` for what is still to come, or ``error``.
    """
    role = "alert" if kind == "error" else "status"
    return f'<p class="dc-message dc-{kind}" role="{role}">{escape(text)}</p>'


def is_unfinished(panel: str) -> bool:
    """Whether a panel is still being computed."""
    return "dc-waiting" in panel or "dc-empty" in panel


def waiting() -> str:
    """The line of a panel whose content is being computed."""
    return message("Working …", "waiting")


def welcome() -> str:
    """The first panel before the first question."""
    text = "Choose an example, or drop, paste or photograph an image of your own."
    return section("The race", message(text), "race")


# ---- the race -----------------------------------------------------------------------------------


def race(state: RaceState, published: int) -> str:
    """The race so far.

    Args:
        state: the search on the image.
        published: evaluations of the published schedule for as many labels.
    """
    out = dict(state.eliminated)
    order = list(range(len(state.labels)))
    if state.finished:
        order = [state.labels.index(str(one["label"])) for one in state.prediction]
    longest = max(int(state.draws.max()), 1)
    rows = [
        _lane(
            state.labels[k],
            float(state.posterior[k]),
            int(state.draws[k]) / longest,
            _status(state, k, out),
            "out" if state.labels[k] in out else "first" if _leads(state, k) else "in",
        )
        for k in order
    ]
    return section(
        "The race",
        f"{_headline(state)}{_cost(state, published)}"
        f'<ul class="dc-lanes">{"".join(rows)}</ul>'
        '<p class="dc-key">Wide bar: probability. Thin line: draws that the label took part in; '
        "it ends where the label dropped out.</p>",
        "race",
    )


def _leads(state: RaceState, k: int) -> bool:
    return state.evaluations > 0 and state.labels[k] == state.prediction[0]["label"]


def _headline(state: RaceState) -> str:
    best = state.prediction[0]
    if not state.draws.any():
        answer, detail = "On the starting line", f"{len(state.labels)} labels"
    else:
        answer = f"{best['label']}"
        alive = int(state.alive.sum())
        how = f"{alive} of {len(state.labels)} labels still in the race"
        if state.finished:
            how = (
                "all others dropped out" if alive == 1 else f"{alive} labels too close to separate"
            )
        detail = f"{percent(float(best['score']))} · {how}"
    live = ' role="status"' if state.finished else ""
    return f'<p class="dc-answer"{live}><strong>{escape(answer)}</strong> {escape(detail)}</p>'


def _cost(state: RaceState, published: int) -> str:
    spent = state.evaluations
    share = min(spent / published, 1.0)
    times = ""
    if state.finished and spent:
        ratio = published / spent
        times = f", {ratio:.0f} times fewer" if ratio >= 2 else f", {share:.0%} of them"
    return (
        '<div class="dc-cost">'
        f"<p><span><b>{spent:,}</b> evaluations{times}</span>"
        f'<span class="dc-published">published schedule: {published:,}</span></p>'
        f'<div class="dc-track" aria-hidden="true">'
        f'<i style="width:{max(share, 0.004):.2%}"></i></div></div>'
    )


def _status(state: RaceState, k: int, out: dict[str, int]) -> str:
    label = state.labels[k]
    if label in out:
        draws = out[label]
        left = f"out after {draws} draw{'s' * (draws != 1)}" if draws else "out before a draw"
        return f"{left}, {nats(state.scale * float(state.differences[k]))} nats behind"
    if _leads(state, k):
        return "ahead" if not state.finished else "winner"
    if not state.draws[k]:
        return "waiting"
    return f"{nats(state.scale * float(state.differences[k]))} nats behind"


def _lane(label: str, p: float, run: float, status: str, kind: str) -> str:
    return (
        f'<li class="dc-lane dc-lane-{kind}"><span class="dc-label">{escape(label)}</span>'
        f'<span class="dc-percent">{escape(percent(p))}</span>'
        f'<span class="dc-bar" aria-hidden="true"><i style="width:{p:.2%}"></i></span>'
        f'<span class="dc-run" aria-hidden="true"><i style="width:{run:.2%}"></i></span>'
        f'<span class="dc-status">{escape(status)}</span></li>'
    )


def nats(value: float, sign: str = "") -> str:
    """A number of nats to one digit, with a true minus sign.

    Args:
        value: the number.
        sign: ``+`` to write the sign of positive numbers, too.
    """
    return with_minus(f"{value:{sign}.1f}")


# ---- evidence, samples, CLIP --------------------------------------------------------------------


def evidence(found: Evidence) -> str:
    """The image as the model saw it, the evidence over it, and which timesteps decided."""
    from PIL import Image

    from diffcls.explain.files import overlay

    seen = Image.fromarray(found.pixels)
    shown = Image.fromarray(overlay(found.map, found.stderr, found.pixels))
    label, other = found.label, found.other
    error = found.difference_stderr * found.scale
    alt = f"The image in gray; blue where it speaks for {label}, orange where for {other}."
    return section(
        f"Evidence for {label} over {other}",
        '<div class="dc-images">'
        + _figure(
            seen, "The image, resized and cropped to the model's size.", "as the model saw it"
        )
        + _figure(shown, alt, "evidence")
        + "</div>"
        f'<p class="dc-legend"><i class="dc-for"></i>for {escape(label)} '
        f'<i class="dc-against"></i>for {escape(other)} <i class="dc-neither"></i>noise</p>'
        + _by_time(found),
        "evidence",
        f"The parts add up to {nats(found.log_odds)} ± {error:.1f} nats, by "
        f"{found.differences.shape[0]} draws of both labels. The race estimates from the few draws "
        "until a label drops out, and may differ.",
    )


def _by_time(found: Evidence) -> str:
    parts = found.by_time(6)
    most = max((abs(part["difference"]) for part in parts), default=0.0) or 1.0
    rows = []
    for part in parts:
        value, width = part["difference"] * found.scale, abs(part["difference"]) / most
        kind = "for" if value >= 0 else "against"
        rows.append(
            f"<tr><th scope='row'>{part['from']:.0f} to {part['to']:.0f}</th>"
            f'<td><span class="dc-time"><i class="dc-{kind}" style="width:{width:.1%}"></i></span>'
            f"</td><td class='dc-number'>{nats(value, '+')}</td></tr>"
        )
    return (
        '<table class="dc-times"><caption>Which noise levels decided</caption>'
        "<thead><tr><th scope='col'>timesteps</th><th scope='col'>share</th>"
        f"<th scope='col'>nats</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def samples(images: Sequence[Image.Image], label: str, count: int) -> str:
    """Images that the model generated for the winner; places for those to come."""
    figures = [
        _figure(image, f"Image {i} that the model generated for {label}.")
        for i, image in enumerate(images, 1)
    ]
    figures += ['<figure class="dc-empty" aria-hidden="true"></figure>'] * (count - len(images))
    return section(
        f"What the model imagines as {label}",
        f'<div class="dc-images dc-samples">{"".join(figures)}</div>',
        "samples",
        "Generated by the same model from the same prompt, whatever your image shows.",
    )


def clip(answer: ClipAnswer, winner: str) -> str:
    """The answer of CLIP beside the model's own."""
    if answer.reason:
        return section("The same question to CLIP", message(answer.reason), "clip")
    best = answer.prediction[0][0]
    verdict = "CLIP agrees." if best == winner else f"CLIP says {best}."
    lanes = "".join(
        f'<li class="dc-lane dc-lane-{"first" if label == best else "in"}">'
        f'<span class="dc-label">{escape(label)}</span>'
        f'<span class="dc-percent">{escape(percent(p))}</span>'
        f'<span class="dc-bar" aria-hidden="true"><i style="width:{p:.2%}"></i></span></li>'
        for label, p in answer.prediction[:MAX_CLIP_LABELS]
    )
    rest = len(answer.prediction) - MAX_CLIP_LABELS
    note = f"{answer.name}: one pass over the image, the same prompts."
    note += f" The first {MAX_CLIP_LABELS} labels of {len(answer.prediction)}." * (rest > 0)
    body = f'<p class="dc-answer"><strong>{escape(verdict)}</strong></p><ul class="dc-lanes">'
    return section("The same question to CLIP", f"{body}{lanes}</ul>", "clip", note)


def _figure(image: Image.Image, alt: str, caption: str = "") -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{data_uri(image)}" alt="{escape(alt)}">{below}</figure>'


def data_uri(image: Image.Image) -> str:
    """An image as part of the page itself, so that no file of it is written."""
    from PIL import Image

    factor = max(1, round(MIN_SHOWN_PIXELS / max(image.size)))
    size = (image.width * factor, image.height * factor)
    file = io.BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
