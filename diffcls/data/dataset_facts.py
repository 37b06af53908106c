"""Facts on the catalog's data sets that need no reading of data: classes, images, licences.

What is not known here is shown as unknown, and so is a data set without a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetFacts:
    """Facts on a data set; None if unknown.

    Args:
        title: its usual name.
        classes: number of classes that an image is classified among.
        test_images: number of images of the whole test split.
        licence: identifier on the page of its repository on the Hub, or of the package for data
            that it contains; None also where that page has none.
        download_mb: size of all files on the Hub in MB.
    """

    title: str
    classes: int | None = None
    test_images: int | None = None
    licence: str | None = None
    download_mb: int | None = None


UNKNOWN = DatasetFacts("")
SCENES = "scenes of coloured shapes"

FACTS: Mapping[str, DatasetFacts] = {
    "digits": DatasetFacts("scikit-learn's handwritten digits", 10, 500),
    "fashion_mnist": DatasetFacts("Fashion-MNIST", 10, 10_000, "mit"),
    "cifar10": DatasetFacts("CIFAR-10", 10, 10_000),
    "scenes": DatasetFacts(f"captioned {SCENES}, for training", licence="apache-2.0"),
    "scenes/attributes": DatasetFacts(f"{SCENES}: size, colour and shape", 96, 1000, "apache-2.0"),
    "scenes/held-out": DatasetFacts(
        f"{SCENES}: combinations that occur in no training", 96, 1000, "apache-2.0"
    ),
    "scenes/relations": DatasetFacts(f"{SCENES}: which is where", 24, 1000, "apache-2.0"),
    "scenes/counting": DatasetFacts(f"{SCENES}: how many of which", 24, 1000, "apache-2.0"),
    "scenes/pairs": DatasetFacts(
        f"{SCENES}: two sentences of the same words", 2, 1000, "apache-2.0"
    ),
    "stl10": DatasetFacts("STL-10", 10, 8000, download_mb=231),
    "pets": DatasetFacts("Oxford-IIIT Pet", 37, 3669, "cc-by-sa-4.0"),
    "food101": DatasetFacts("Food-101", 101, 25_250),
    "flowers102": DatasetFacts("Oxford Flowers-102", 102, 6149),
    "fgvc_aircraft": DatasetFacts("FGVC-Aircraft, variants", 100, 3333),
    "imagenet": DatasetFacts("ImageNet (ILSVRC 2012)", 1000, 50_000),
    "objectnet": DatasetFacts("ObjectNet, the classes shared with ImageNet", 113),
    "mnist": DatasetFacts("MNIST", 10, 10_000),
    "caltech101": DatasetFacts("Caltech-101", 101, download_mb=121),
}
