"""Training of the small classifier on labelled images, until validation no longer gains."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffcls.models.resnet import SmallResNet, predict
from diffcls.support.seeding import key
from diffcls.training.latent_losses import augment
from diffcls.training.loop import Ema, generator
from diffcls.training.recipes import Augmentation


@dataclass(frozen=True)
class Supervised:
    """How the classifier is trained.

    Args:
        images: training images seen at most.
        batch: images a step.
        learning_rate: constant after a warm-up of a hundred steps; the weights are averaged.
        look: images between two looks at the validation images.
        patience: looks without a gain after which training ends.
        ema: decay of the weights' moving average.
    """

    images: int
    batch: int = 128
    learning_rate: float = 2e-3
    look: int = 16_000
    patience: int = 6
    ema: float = 0.995


@dataclass(frozen=True)
class Learned:
    """A trained classifier.

    Args:
        weights: its state, name -> array.
        accuracy: on the validation images, which chose the moment.
        images: training images seen up to that moment.
    """

    weights: dict[str, NDArray[np.float32]]
    accuracy: float
    images: int


def train_classifier(
    images: Tensor,
    labels: Tensor,
    validation: tuple[Tensor, Tensor],
    classes: int,
    how: Supervised,
    augmentation: Augmentation,
    seed: int,
) -> Learned:
    """The averaged weights at the look that was best on the validation images.

    Args:
        images: (N, 3, 32, 32) in [−1, 1].
        labels: (N,) class indices.
        validation: the same of the validation images.
        classes: K.
        how: see `Supervised`.
        augmentation: of each training image, anew each time.
        seed: of weights and order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key("classifier", seed))
        model = SmallResNet(classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=how.learning_rate, weight_decay=0.02)
    average = Ema(model, how.ema)
    best = Learned({}, -1.0, 0)
    looks, steps = 0, max(1, how.images // how.batch)
    for step in range(1, steps + 1):
        rng = generator("classifier", seed, step)
        rows = torch.randint(len(images), (how.batch,), generator=rng)
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate * min(1.0, step / 100)
        loss = F.cross_entropy(model(augment(images[rows], augmentation, rng)), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        if step % max(1, how.look // how.batch) and step != steps:
            continue
        average.swap()
        right = predict(model, validation[0]).argmax(dim=1) == validation[1]
        accuracy = float(right.float().mean())
        if accuracy > best.accuracy:
            weights = {k: v.numpy().copy() for k, v in model.state_dict().items()}
            best, looks = Learned(weights, accuracy, step * how.batch), 0
        else:
            looks += 1
        average.swap()
        if looks == how.patience:
            break
    return best


def restore(weights: dict[str, NDArray[np.float32]], classes: int) -> SmallResNet:
    """The classifier of stored weights, ready for images."""
    model = SmallResNet(classes)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model.eval()


def describe(how: Supervised, augmentation: Augmentation) -> dict[str, object]:
    """What of the training defines its outcome, in plain JSON types."""
    return {"how": asdict(how), "augmentation": asdict(augmentation)}
