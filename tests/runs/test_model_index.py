"""The model-index block, read by huggingface_hub: the numbers and their conditions come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.measured_rows import measured_row as row

from diffcls.runs.model_index import METRICS, model_index_yaml

hub = pytest.importorskip("huggingface_hub")


def test_a_card_with_the_block_gives_the_numbers_back(tmp_path: Path) -> None:
    rows = [row(), row(search="paper", accuracy=0.875), row(dataset="folder:猫", ci_low=None)]
    rows.append(row(dataset="digits", supervision="model trained on this data set"))
    card = tmp_path / "README.md"
    card.write_text(f"---\n{model_index_yaml(rows)}---\n# A model\n", encoding="utf-8")
    metadata = hub.metadata_load(card)
    assert metadata == yaml.safe_load(model_index_yaml(rows))
    from huggingface_hub.repocard_data import (
        eval_results_to_model_index,
        model_index_to_eval_results,
    )

    name, results = model_index_to_eval_results(metadata["model-index"])
    assert name == "sd2-base"
    read = [
        (r.metric_args["fingerprint"], r.metric_args["search"], r.metric_type, r.metric_value)
        for r in results
    ]
    expected = [
        (one["fingerprint"], one["search"], METRICS[column][0], one[column])
        for one in rows
        for column in METRICS
        if one[column] is not None
    ]
    assert read == expected
    accuracy = results[0]
    assert accuracy.metric_args["confidence_interval_95"] == [0.836, 0.9016]
    assert accuracy.metric_args["supervision"] == "zero-shot"
    assert accuracy.dataset_type == "timm/oxford-iiit-pet" and accuracy.dataset_split == "test"
    assert accuracy.task_type == "zero-shot-image-classification"
    assert results[-1].task_type == "image-classification"
    # as the card writes it itself, the runs on one data set are merged, and no number is lost
    again = model_index_to_eval_results(eval_results_to_model_index(name, results))[1]
    key = lambda r: (r.dataset_type, r.metric_type, r.metric_value)  # noqa: E731
    assert sorted(map(key, again)) == sorted(map(key, results))
    assert hub.ModelCard.load(card).data.eval_results == results


def test_each_model_has_an_entry_of_its_own() -> None:
    block = yaml.safe_load(model_index_yaml([row(), row(model="sd15"), row(dataset="digits")]))
    assert [(m["name"], len(m["results"])) for m in block["model-index"]] == [
        ("sd2-base", 2),
        ("sd15", 1),
    ]
