"""Callbacks of transformers' and Lightning's trainers: measured at their steps, and no bit more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.training_loops import pipeline_of, trained_parts
from torch import nn

from diffcls.integrations import ZeroShotAccuracy
from diffcls.integrations.model_sources import pipeline_and_parts
from diffcls.support.errors import UsageError

FEW: dict[str, Any] = {"dataset": "digits", "images": 4, "draws": 2, "img_size": 16}
ROWS = [
    {"latents": torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(i))} for i in range(8)
]


class Model(nn.Module):
    """A U-Net with its loss, beside the frozen parts of its pipeline."""

    def __init__(self) -> None:
        super().__init__()
        parts = trained_parts()
        self.unet, self.vae = parts["unet"], parts["vae"]
        self.text_encoder = parts["text_encoder"].requires_grad_(False)
        self.tokenizer, self.scheduler = parts["tokenizer"], parts["scheduler"]

    def forward(self, latents: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.tokenizer("a photo", return_tensors="pt").input_ids
        text = self.text_encoder(tokens)[0].expand(len(latents), -1, -1)
        noise, times = torch.randn_like(latents), torch.randint(0, 1000, (len(latents),))
        noised = self.scheduler.add_noise(latents, noise, times)
        return {"loss": F.mse_loss(self.unet(noised, times, text).sample, noise)}


def trained_by_transformers(folder: Path, callbacks: list[Any]) -> tuple[Model, Any]:
    from transformers import Trainer, TrainingArguments

    model = Model()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=ROWS, callbacks=callbacks)
    trainer.train()
    return model, trainer.state


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.slow
def test_transformers_trainer_ends_with_the_same_weights_and_has_the_results(
    tmp_path: Path,
) -> None:
    from diffcls.integrations.trainer_callback import ZeroShotTrainerCallback

    plain, _ = trained_by_transformers(tmp_path, [])
    accuracy = ZeroShotAccuracy(every=2, **FEW)
    model, state = trained_by_transformers(tmp_path, [ZeroShotTrainerCallback(accuracy)])
    assert same_weights(plain, model)
    logged = [entry for entry in state.log_history if "zero_shot/accuracy" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]
    assert [e["zero_shot/accuracy"] for e in logged] == [r.accuracy for r in accuracy.history]


@pytest.mark.slow
def test_lightning_ends_with_the_same_weights_and_logs_every_result(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from diffcls.integrations.lightning_callback import ZeroShotLightningCallback

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = Model()

        def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
            return self.model(**batch)["loss"]

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.model.unet.parameters(), lr=1e-2)

    class Log(lightning.loggers.logger.DummyLogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.logged: list[tuple[int | None, Any]] = []

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.logged.append((step, metrics))

    def trained(callbacks: list[Any], log: Log) -> tuple[Any, Any]:
        lightning.seed_everything(0, verbose=False)
        module = Module()
        trainer = lightning.Trainer(
            max_steps=4,
            accumulate_grad_batches=2,
            accelerator="cpu",
            callbacks=callbacks,
            logger=log,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, torch.utils.data.DataLoader(ROWS, batch_size=1))  # type: ignore[arg-type]
        return module, trainer

    plain, _ = trained([], Log())
    accuracy, log = ZeroShotAccuracy(every=2, **FEW), Log()
    callback = ZeroShotLightningCallback(accuracy, pipeline=lambda module: vars_of(module.model))
    module, trainer = trained([callback], log)
    assert same_weights(plain, module)
    assert module.model.unet.training
    points = [(step, m) for step, m in log.logged if "zero_shot/accuracy" in m]
    assert [step for step, _ in points] == [2, 4]
    assert [m["zero_shot/accuracy"] for _, m in points] == [r.accuracy for r in accuracy.history]
    last = accuracy.history[-1].accuracy
    assert float(trainer.callback_metrics["zero_shot/accuracy"]) == pytest.approx(last)


def vars_of(model: Model) -> dict[str, Any]:
    return {n: getattr(model, n) for n in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")}


def test_the_pipeline_is_found_in_the_model_or_made_by_a_function() -> None:
    model = Model()
    assert pipeline_and_parts(None, model) == (None, vars_of(model))
    assert pipeline_and_parts(vars_of, model) == (None, vars_of(model))
    assert pipeline_and_parts(vars_of(model), None) == (None, vars_of(model))
    pipeline = pipeline_of(vars_of(model))
    assert pipeline_and_parts(pipeline, model) == (pipeline, {})
    assert pipeline_and_parts(lambda _: pipeline, model) == (pipeline, {})
    holder = nn.Module()
    holder.pipe = pipeline
    assert pipeline_and_parts(None, holder) == (pipeline, {})
    with pytest.raises(UsageError, match="has no pipeline"):
        pipeline_and_parts(None, nn.Linear(1, 1))
