"""Model cards: the licence of the training data stands beside that of the weights."""

from __future__ import annotations

import json

import pytest

from diffcls.data.dataset_facts import FACTS, terms_of
from diffcls.models.loading import WEIGHTS
from diffcls.training.model_card import terms

LICENCES = {
    "digits": "cc-by-4.0",  # https://archive.ics.uci.edu/dataset/80
    "fashion_mnist": "mit",  # the file LICENSE of its repository
    "cifar10": "none stated",  # its page asks to cite a report, and states no licence
    "scenes": "apache-2.0",  # rendered by this package
}


@pytest.mark.parametrize("name", sorted(path.name for path in WEIGHTS.iterdir()))
def test_bundled_models_name_licence_and_authors_of_their_data(name: str) -> None:
    card = json.loads((WEIGHTS / name / "diffcls.json").read_text(encoding="utf-8"))
    (data,) = {one.split("/")[0].split(":")[0] for one in card["trained_on"]}
    assert card["data"]["licence"] == LICENCES[data] == FACTS[data].licence
    assert {k: card["data"][k] for k in ("licence", "credit")} == terms_of(data)
    readme = (WEIGHTS / name / "README.md").read_text(encoding="utf-8")
    assert readme.count(terms(card["data"])) == 1
    assert f"- Licence of the data: {LICENCES[data]} ({FACTS[data].credit})." in readme
    assert readme.split("---")[1].count("license: apache-2.0") == 1  # that of the weights


def test_licence_of_a_persons_own_data_is_not_guessed() -> None:
    for name in ("folder:photos", "hf:owner/birds", "pets:2"):
        assert terms_of(name) == {"licence": None, "credit": None}
        assert terms(terms_of(name)) == "- Licence of the data: not known.\n"
    assert terms({}) == "- Licence of the data: not known.\n"  # a card of an earlier version
