"""Models in memory: the same numbers as from files, and a pipeline that nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipeline_states import built, state_of
from helpers.tiny_families import FAMILIES, each, loaded, saved, size_of
from torch import Tensor, nn

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.models import adapters, loading
from diffcls.models.denoiser import Denoiser
from diffcls.models.in_memory import Followed, card_of, denoiser_of
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.errors import DiffclsError, ModelError, UsageError

TEXTS = ["a photo of a 3.", "zero", "a photo of a handwritten digit seven."]


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def sd1() -> Any:
    return built("sd1")


def errors_of(denoiser: Denoiser) -> np.ndarray:
    """(1, classes, draws) errors of one image, through the whole classifier."""
    prompts = TEXTS if denoiser.labels is None else ["3", "0", "7"]
    classes = PromptSet(tuple("abc"), tuple(prompts), (0, 1, 2))
    side = denoiser.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    from PIL import Image

    method = DiffusionMethod(
        denoiser, classes, Exhaustive(draws=3), batch_size=4, encode_batch=1, keep_errors=True
    )
    (result,) = method.classify([Item("one", 0, lambda: Image.fromarray(pixels))])
    assert result.error is None and result.errors is not None
    return np.asarray(result.errors)


def output_of(denoiser: Denoiser) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    x_t = torch.randn(2, *denoiser.sample_shape, generator=rng).to(denoiser.dtype)
    prompts = TEXTS[:2] if denoiser.labels is None else ["3", "0"]
    index = torch.tensor([len(denoiser.schedule) // 3, len(denoiser.schedule) // 2])
    with torch.inference_mode():
        return denoiser.predict(x_t, index, denoiser.encode_prompts(prompts)).float()


def from_files(folder: Path, dtype: torch.dtype | None = None) -> Any:
    """A folder as its owner opens it with diffusers."""
    import diffusers

    absent = {"text_encoder_3": None, "tokenizer_3": None} if "without_t5" in folder.name else {}
    return diffusers.DiffusionPipeline.from_pretrained(
        str(folder), **absent, **({} if dtype is None else {"dtype": dtype})
    )


# ---- the same numbers, and nothing changed -----------------------------------------------------


@pytest.mark.parametrize("name", each(FAMILIES))
def test_errors_are_those_of_the_saved_and_loaded_folder_to_the_bit(name: str, base: Path) -> None:
    """The folder is of the same weights: `saved` builds it with the same seed."""
    folder = saved(name, base)
    there = errors_of(loaded(folder))
    pipeline = built(name)
    before = state_of(pipeline)
    denoiser = denoiser_of(pipeline, img_size=size_of(name))
    assert (errors_of(denoiser) == there).all()
    assert state_of(pipeline) == before
    again = card_of(from_files(folder))
    assert denoiser.card.revision == again.revision and denoiser.card.name == again.name


SLOW = [(name, dtype) for name in FAMILIES for dtype in (torch.bfloat16, torch.float16)]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("sd1", torch.bfloat16),
        ("flux", torch.float16),  # T5 keeps some layers in float32
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
    ],
)
def test_half_precision_is_that_of_a_folder_loaded_in_it(
    name: str, dtype: torch.dtype, base: Path
) -> None:
    folder, size = saved(name, base), size_of(name)
    there = output_of(loading.load(str(folder), dtype=dtype, img_size=size))
    for pipeline, asked in ((from_files(folder, dtype), None), (from_files(folder), dtype)):
        before = state_of(pipeline)
        denoiser = denoiser_of(pipeline, dtype=asked, img_size=size, identify=False)
        assert denoiser.dtype == dtype and torch.equal(output_of(denoiser), there)
        assert state_of(pipeline) == before


@pytest.fixture
def training(sd1: Any) -> Any:
    """A pipeline in the midst of a training, with modes and gradients of its own."""
    sd1.unet.train()
    sd1.unet.mid_block.eval()  # modes differ within a network
    sd1.text_encoder.train()
    sd1.vae.requires_grad_(False)
    sd1.unet.conv_in.weight.grad = torch.ones_like(sd1.unet.conv_in.weight)
    sd1.unet.to(memory_format=torch.channels_last)
    for module in sd1.unet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.9
    torch.manual_seed(7)
    return sd1


def test_a_pipeline_in_training_is_evaluated_in_eval_mode_and_stays_in_training(
    training: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[nn.Module] = []
    training.unet.down_blocks[0].register_forward_hook(lambda module, *_: seen.append(module))
    before = state_of(training)
    denoiser = denoiser_of(training, identify=False)
    assert "hooks of the pipeline are not run: 1, such as " in caplog.text
    assert (errors_of(denoiser) == errors_of(denoiser)).all()  # no dropout
    assert (errors_of(denoiser) == errors_of(denoiser_of(built("sd1")))).all()
    assert state_of(training) == before and not seen
    assert not any(m.training for m in (denoiser.network, denoiser.pipeline.text_encoder))  # type: ignore[union-attr,attr-defined]


def test_nothing_changes_when_an_evaluation_fails(
    training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory left")

    denoiser = denoiser_of(training, identify=False)
    before = state_of(training)
    with denoiser.float32(), pytest.raises(RuntimeError):
        monkeypatch.setattr(denoiser.network, "forward", fail)
        errors_of(denoiser)
    with pytest.raises(UsageError, match="image size"):
        denoiser_of(training, img_size=7)
    assert state_of(training) == before


def test_prompts_whose_encoding_overflows_leave_the_encoder_in_half(base: Path) -> None:
    pipeline = from_files(saved("sd1", base), torch.float16)
    with torch.no_grad():
        pipeline.text_encoder.get_input_embeddings().weight[:] = 3e4
    before = state_of(pipeline)
    denoiser = denoiser_of(pipeline, identify=False)
    denoiser.encode_prompts(["zero"])
    assert state_of(pipeline) == before
    assert pipeline.text_encoder.dtype == torch.float16


def test_progress_bars_stay_as_their_owner_set_them(sd1: Any) -> None:
    import diffusers
    import transformers

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    for library in libraries:
        library.disable_progress_bar()
    try:
        denoiser_of(sd1, identify=False).encode_prompts(["zero"])
        assert not any(library.is_progress_bar_enabled() for library in libraries)
    finally:
        for library in libraries:
            library.enable_progress_bar()


# ---- weights that change -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sd1", "class_unet"])
def test_a_followed_pipeline_is_that_of_its_present_weights(name: str) -> None:
    pipeline = built(name)
    followed = Followed(pipeline)
    first = followed.denoiser()
    assert followed.denoiser() is first
    pipeline.unet.conv_out.bias.data[0] += 0.5  # no version counter notices this
    second = followed.denoiser()
    other = built(name)
    with torch.no_grad():
        other.unet.conv_out.bias[0] += 0.5
    assert second is not first and second.card.revision != first.card.revision
    assert (errors_of(second) == errors_of(denoiser_of(other))).all()
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, prediction_type="v_prediction"
    )
    assert followed.denoiser().parameterization.name == "v_prediction"


# ---- wrappers, adapters, hooks -----------------------------------------------------------------


def test_a_network_in_a_wrapper_of_data_parallelism_counts_as_itself(sd1: Any) -> None:
    plain = denoiser_of(sd1)
    sd1.unet = nn.DataParallel(sd1.unet)
    wrapped = denoiser_of(sd1)
    assert wrapped.card == plain.card and (errors_of(wrapped) == errors_of(plain)).all()


@pytest.mark.slow
def test_a_compiled_network_counts_as_itself(sd1: Any) -> None:
    plain = denoiser_of(sd1)
    sd1.unet = torch.compile(sd1.unet)
    compiled = denoiser_of(sd1)
    assert compiled.card == plain.card and (errors_of(compiled) == errors_of(plain)).all()


@pytest.mark.slow
def test_the_wrapper_of_accelerates_mixed_precision_is_left_out(sd1: Any) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    def reset() -> None:  # a trainer in this process may have left its state
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()

    plain = denoiser_of(sd1)
    reset()
    try:
        Accelerator(cpu=True, mixed_precision="bf16").prepare(sd1.unet)
        assert "forward" in vars(sd1.unet)
        assert (errors_of(denoiser_of(sd1)) == errors_of(plain)).all()
    finally:
        reset()


@pytest.fixture
def adapted() -> Iterator[Any]:
    """A pipeline with an active LoRA of weight 0.5."""
    peft = pytest.importorskip("peft")
    pipeline = built("sd1")
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        pipeline.unet.add_adapter(config, adapter_name="mine")
    pipeline.unet.set_adapters(["mine"], [0.5])
    yield pipeline


def test_an_active_lora_counts_with_its_weight(adapted: Any) -> None:
    plain, before = denoiser_of(built("sd1")), state_of(adapted)
    active = denoiser_of(adapted)
    assert state_of(adapted) == before
    weight = {
        name: module for name, module in adapted.unet.named_modules() if hasattr(module, "lora_A")
    }
    merged = built("sd1")  # W + 0.5 · (alpha/r) · B·A, by hand
    with torch.no_grad():
        for name, module in weight.items():
            added = module.lora_B["mine"].weight @ module.lora_A["mine"].weight
            merged.unet.get_submodule(name).weight += 0.5 * (8 / 2) * added
    np.testing.assert_allclose(
        errors_of(active), errors_of(denoiser_of(merged)), rtol=1e-4, atol=1e-6
    )
    assert abs(errors_of(active) - errors_of(plain)).max() > 1e-3
    revisions = {plain.card.revision, active.card.revision, denoiser_of(merged).card.revision}
    adapted.unet.set_adapters(["mine"], [0.25])
    revisions.add(card_of(adapted).revision)
    adapted.unet.disable_adapters()
    off = denoiser_of(adapted)
    assert (errors_of(off) == errors_of(plain)).all()
    assert len(revisions | {off.card.revision}) == 5


def test_a_model_of_peft_counts_as_the_network_in_it(sd1: Any) -> None:
    peft = pytest.importorskip("peft")
    plain = errors_of(denoiser_of(sd1))
    sd1.unet = peft.get_peft_model(sd1.unet, peft.LoraConfig(r=2, target_modules=["to_q"]))
    assert (errors_of(denoiser_of(sd1)) == plain).all()  # B is 0 at first


def test_offloaded_networks_are_used_where_their_weights_are_real(sd1: Any) -> None:
    from accelerate import cpu_offload, cpu_offload_with_hook

    plain = errors_of(denoiser_of(sd1))
    for part in (sd1.unet, sd1.text_encoder, sd1.vae):
        cpu_offload_with_hook(part, execution_device="cpu")
    before = state_of(sd1)
    assert (errors_of(denoiser_of(sd1)) == plain).all()
    assert state_of(sd1) == before
    other = built("sd1")
    cpu_offload(other.unet, execution_device=torch.device("cpu"))  # sequential
    with pytest.raises(ModelError, match=r"elsewhere: 'unet.*remove_all_hooks"):
        denoiser_of(other)
    with pytest.raises(ModelError, match="elsewhere"):
        Followed(other).denoiser()
    with pytest.raises(ModelError, match="elsewhere"):
        card_of(other)


def test_free_u_is_part_of_the_revision(sd1: Any) -> None:
    plain = denoiser_of(sd1)
    sd1.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    changed = denoiser_of(sd1)
    assert changed.card.revision != plain.card.revision
    sd1.disable_freeu()
    assert denoiser_of(sd1).card == plain.card


# ---- refusals ----------------------------------------------------------------------------------


class Quantised(nn.Parameter):
    """Stands for the tensors of quantisation libraries."""


def _with_hook_of_diffusers(pipeline: Any) -> Any:
    pipeline.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    return pipeline


def _with_own_forward(pipeline: Any) -> Any:
    pipeline.unet.mid_block.forward = lambda *args, **_: args[0]
    return pipeline


def _with_weight_norm(pipeline: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.nn.utils.weight_norm(pipeline.unet.conv_in)
    return pipeline


def _quantised(pipeline: Any) -> Any:
    pipeline.unet.conv_in._parameters["weight"] = Quantised(pipeline.unet.conv_in.weight.detach())
    return pipeline


def _with_another_autoencoder(pipeline: Any) -> Any:
    from diffusers import AutoencoderTiny

    pipeline.vae = AutoencoderTiny(latent_channels=4)
    return pipeline


def _not_finite(pipeline: Any) -> Any:
    with torch.no_grad():
        pipeline.vae.decoder.conv_in.weight[0] = float("nan")
    return pipeline


def _image_to_image(pipeline: Any) -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline.from_pipe(pipeline)


def _without_part(pipeline: Any) -> Any:
    pipeline.text_encoder = None
    return pipeline


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pipeline: pipeline.unet, "neither the name of a model nor a pipeline: .*UNet2D"),
        (lambda _: 5, "neither the name of a model nor a pipeline: 'builtins.int'"),
        (_image_to_image, "not supported: 'StableDiffusionImg2ImgPipeline'; allowed: StableDiff"),
        (_without_part, "part 'text_encoder' of the pipeline is missing"),
        (_with_another_autoencoder, "part 'vae' .*AutoencoderTiny.*allowed: AutoencoderKL"),
        (_with_hook_of_diffusers, "hooks of diffusers change.*layerwise_casting of unet"),
        (_with_own_forward, "forward pass of a part .*unet.mid_block"),
        (_with_weight_norm, "computed by a hook: 'WeightNorm of unet.conv_in'"),
        (_quantised, "quantised or sharded: 'Quantised of unet.conv_in'"),
        (_not_finite, "weights of part 'vae' are not finite: 'decoder.conv_in.weight'"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(sd1: Any, change: Any, message: str) -> None:
    with pytest.raises(DiffclsError, match=message) as refused:
        denoiser_of(change(sd1))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "count"), [("class_unet", 10), ("class_unet", 11), ("dit", 10)])
def test_classes_have_the_names_that_are_given(name: str, count: int) -> None:
    names = [f"class {i}" for i in range(count)]
    assert denoiser_of(built(name), labels=names).labels == tuple(names)


@pytest.mark.parametrize(("name", "count"), [("class_unet", 9), ("dit", 11), ("sd1", 10)])
def test_names_that_do_not_fit_the_classes_are_refused(name: str, count: int) -> None:
    with pytest.raises(UsageError, match="class names"):
        denoiser_of(built(name), labels=["a"] * count)


def test_another_pipeline_of_the_same_parts_names_the_supported_class(sd1: Any) -> None:
    with pytest.raises(ModelError, match="Img2ImgPipeline'; allowed: StableDiffusionPipeline,"):
        denoiser_of(_image_to_image(sd1))


def test_an_unknown_pipeline_names_every_supported_class(sd1: Any) -> None:
    own = type("OwnPipeline", (type(sd1),), {"__module__": "diffusers.pipelines.own"})
    other = object.__new__(own)
    vars(other).update(vars(sd1))
    with pytest.raises(ModelError) as refused:
        denoiser_of(other)
    assert all(name in str(refused.value) for name in adapters.FAMILIES)
