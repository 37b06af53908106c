"""Command ``python -m diffcls.compare`` on real runs, against a computation of its own."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.interrupted_runs import cut_off
from helpers.refusals import refusal
from scipy import stats

import diffcls
from diffcls import compare, evaluate
from diffcls.evaluation.run import run_evaluation

IMAGES = 30


@pytest.fixture(scope="module")
def written(
    tiny_pipeline: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """An output folder of two models with two seeds each, and the fingerprints."""
    out = tmp_path_factory.mktemp("compared")
    fingerprints = []
    for model in (str(tiny_pipeline("v_prediction")), "digits"):
        for seed in (0, 1):
            options: dict[str, Any] = {"model": model, "seed": seed, "draws": 1}
            (row,) = run_evaluation(
                limit=IMAGES,
                search="exhaustive",
                quiet=True,
                check_model=False,
                output_dir=str(out),
                **options,
            )
            fingerprints.append(row["fingerprint"])
    return out, fingerprints


@pytest.fixture
def runs(written: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy that a test may damage."""
    shutil.copytree(written[0], tmp_path / "out")
    return tmp_path / "out", written[1]


def records_of(out: Path, fingerprint: str) -> Path:
    return out / "runs" / fingerprint / "records-0-of-1.jsonl"


def lines_of(out: Path, fingerprint: str) -> dict[str, dict[str, Any]]:
    """Image id -> record, of all complete lines."""
    *lines, _ = records_of(out, fingerprint).read_text().split("\n")
    return {line["image_id"]: line for line in map(json.loads, lines)}


def computed(out: Path, first: str, other: str) -> dict[str, float]:
    """The comparison of two runs, from their lines and formulas alone."""
    one, two = lines_of(out, first), lines_of(out, other)
    shared = [i for i in one if i in two and not one[i]["error"] and not two[i]["error"]]
    right = [[r[i]["ranking"][0] == r[i]["label"] for i in shared] for r in (two, one)]
    cells = Counter(zip(*right, strict=True))
    e, f, g, h = (
        cells[key] for key in ((True, True), (True, False), (False, True), (False, False))
    )
    n = e + f + g + h
    (p1, l1, u1), (p2, l2, u2) = (
        (k / n, *stats.binomtest(k, n).proportion_ci(method="wilson")) for k in (e + f, e + g)
    )
    product = e * h - f * g
    c = product - n / 2 if product > n / 2 else min(product, 0)
    margins = (e + f) * (g + h) * (e + g) * (f + h)
    phi = c / math.sqrt(margins) if margins else 0
    low = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    high = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    return {
        "difference": p1 - p2,
        "ci_low": p1 - p2 - math.sqrt(low),
        "ci_high": p1 - p2 + math.sqrt(high),
        "p_value": stats.binomtest(f, f + g).pvalue if f + g else 1.0,
        "n_gained": f,
        "n_lost": g,
        "cost_ratio": sum(two[i]["evaluations"] for i in shared)
        / sum(one[i]["evaluations"] for i in shared),
        "n_same_answer": sum(one[i]["ranking"][0] == two[i]["ranking"][0] for i in shared),
        "accuracy": p1,
        "accuracy_low": l1,
        "accuracy_high": u1,
    }


def printed(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    capsys.readouterr()
    assert compare.main([*map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (2, 3), (3, 0)])
def test_two_runs_compare_as_an_independent_computation_has_it(
    pair: tuple[int, int], written: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = written
    first, other = (fingerprints[i] for i in pair)
    expected = computed(out, first, other)
    result, err = printed([first[:10], other.upper(), "--output-dir", out], capsys)
    assert err == ""
    assert (result["n_shared"], result["n_images"]) == (IMAGES, IMAGES)
    figures = result["runs"][1]
    accuracy = [figures[name] for name in ("accuracy", "ci_low", "ci_high")]
    assert accuracy == pytest.approx(
        [expected.pop(name) for name in ("accuracy", "accuracy_low", "accuracy_high")]
    )
    (difference,) = result["differences"]
    assert {name: difference[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert difference["p_holm"] == difference["p_value"]
    assert (difference["against"], difference["fingerprint"]) == (first, other)


def test_several_comparisons_are_corrected_by_holms_method(
    written: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, (first, *others) = written
    result, _ = printed(["dataset=digits", "method=diffusion", "--output-dir", out], capsys)
    assert [run["fingerprint"] for run in result["runs"]] == [first, *others]
    p = [computed(out, first, other)["p_value"] for other in others]
    expected, largest = {}, 0.0
    for rank, i in enumerate(sorted(range(3), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (3 - rank) * p[i]))
        expected[others[i]] = largest
    corrected = {one["fingerprint"]: one["p_holm"] for one in result["differences"]}
    assert corrected == pytest.approx(expected)


def test_against_names_the_run_that_the_others_are_compared_with(
    written: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = written
    last = fingerprints[-1]
    result, _ = printed([*fingerprints, "--against", last, "--output-dir", out], capsys)
    assert [run["fingerprint"] for run in result["runs"]] == [last, *fingerprints[:-1]]
    for one in result["differences"]:
        expected = computed(out, last, one["fingerprint"])
        assert one["difference"] == pytest.approx(expected["difference"])


def test_seeds_of_a_setting_are_compared_as_a_group_with_images_as_the_unit(
    written: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = written
    result, _ = printed([*fingerprints, "--output-dir", out], capsys)
    tables = [lines_of(out, fingerprint) for fingerprint in fingerprints]
    ids = sorted(tables[0])
    right = np.array([[t[i]["ranking"][0] == t[i]["label"] for i in ids] for t in tables])
    values = right[2:].mean(axis=0) - right[:2].mean(axis=0)
    baseline, group = result["groups"]
    assert baseline["fingerprints"] == fingerprints[:2]
    assert (group["fingerprints"], group["seeds"]) == (fingerprints[2:], ["0", "1"])
    assert group["accuracy"] == pytest.approx(right[2:].mean())
    assert group["difference"] == pytest.approx(values.mean())
    reference = stats.bootstrap((values,), np.mean, method="BCa", rng=9).confidence_interval
    interval = [group["difference_low"], group["difference_high"]]
    assert interval == pytest.approx([reference.low, reference.high], abs=0.02)
    assert group["p_value"] < 0.001  # a trained model against an untrained one


def test_images_of_an_interrupted_run_are_left_out_and_counted(
    runs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = runs
    path = records_of(out, fingerprints[2])
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:20]) + whole[20][:30])  # killed while it wrote a line
    result, err = printed([*fingerprints[1:3], "--output-dir", out], capsys)
    assert "ONLY 20 OF 30 IMAGES ARE SHARED" in err
    assert (result["n_shared"], result["n_images"]) == (20, IMAGES)
    figures = result["runs"][1]
    assert (figures["status"], figures["n_scored"], figures["n_asked"]) == ("partial", 20, IMAGES)
    expected = computed(out, fingerprints[1], fingerprints[2])
    assert result["differences"][0]["ci_low"] == pytest.approx(expected["ci_low"])
    compare.main([*fingerprints[1:3], "--output-dir", str(out)])
    text, _ = capsys.readouterr()
    assert "20 OF 30 images" in text and "20 of 30 (partial)" in text


def test_classes_and_images_on_which_runs_differ_are_those_of_their_records(
    written: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, (first, _, other, _) = written
    table = tmp_path / "differ.csv"
    result, _ = printed([first, other, "--output-dir", out, "--csv", table], capsys)
    one, two = lines_of(out, first), lines_of(out, other)
    right = [
        Counter(line["label"] for line in lines.values() if line["ranking"][0] == line["label"])
        for lines in (one, two)
    ]
    (difference,) = result["differences"]
    changes = {c["index"]: c["after"] - c["before"] for c in difference["classes_gained"]}
    changes |= {c["index"]: c["after"] - c["before"] for c in difference["classes_lost"]}
    assert changes == {
        k: right[1][k] - right[0][k] for k in range(10) if right[0][k] != right[1][k]
    }
    gains = [c["after"] - c["before"] for c in difference["classes_gained"]]
    assert gains == sorted(gains, reverse=True)
    differ = {i for i in one if one[i]["ranking"][0] != two[i]["ranking"][0]}
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["image_id"] for row in rows} == differ
    assert {image["image_id"] for image in result["images"]} == differ
    scale = json.loads((out / "runs" / other / "run.json").read_text())["posterior_scale"]
    for row in rows:
        line = two[row["image_id"]]
        assert int(row["label"]) == line["label"]
        assert int(row[f"answer_{other}"]) == line["ranking"][0]
        scores = np.array(line["scores"]) * scale
        p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        assert float(row[f"probability_{other}"]) == pytest.approx(p.max(), abs=1e-5)
        assert float(row[f"label_probability_{other}"]) == pytest.approx(p[line["label"]], abs=1e-5)


def test_a_table_with_other_content_is_never_overwritten(
    written: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, (first, second, third, _) = written
    table = tmp_path / "differ.csv"
    arguments = ["--output-dir", out, "--csv", table]
    printed([first, second, *arguments], capsys)
    before = table.read_bytes()
    printed([first, second, *arguments], capsys)  # the same content
    err = refusal(compare.main, [first, third, *arguments], None, capsys)
    assert "--csv names a file with other content" in err
    assert table.read_bytes() == before


def test_text_names_the_runs_the_methods_and_what_matched(
    written: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = written
    assert compare.main(["model=digits", "--output-dir", str(out)]) == 0
    text, err = capsys.readouterr()
    assert err == ""
    for fingerprint in fingerprints[2:]:
        assert fingerprint[:8] in text
    assert fingerprints[0][:8] not in text
    for words in ("digits, test: 30 images", "Newcombe", "McNemar", "Wilson", "× 1"):
        assert words in text


def test_damaged_records_are_named_and_not_compared(
    runs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = runs
    path = records_of(out, fingerprints[1])
    text = path.read_text()
    path.write_text(text.replace('"label":', '"label": ', 1))
    err = refusal(compare.main, [*fingerprints[:2], "--output-dir", out], None, capsys, status=1)
    assert f"line 1 of {path} is damaged" in err


@pytest.mark.slow
def test_runs_that_were_killed_and_resumed_compare_as_those_that_were_not(
    runs: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = runs
    flags = ["--limit", str(IMAGES), "--draws", "1", "--search", "exhaustive", "--quiet"]
    flags += ["--no-check-model", "--threads", "1"]
    killed = tmp_path / "killed"
    status, _ = cut_off(killed, flags, signal.SIGKILL)
    assert status == -signal.SIGKILL and (killed / "runs" / fingerprints[2]).is_dir()
    shutil.copytree(out / "runs" / fingerprints[3], killed / "runs" / fingerprints[3])
    result, err = printed([*fingerprints[2:], "--output-dir", killed], capsys)
    assert result["n_shared"] == 3 and "ONLY 3 OF 30" in err
    assert evaluate.main([*flags, "--output-dir", str(killed)]) == 0
    resumed, err = printed([*fingerprints[2:], "--output-dir", killed], capsys)
    undisturbed, _ = printed([*fingerprints[2:], "--output-dir", out], capsys)
    assert err == "" and resumed["differences"] == undisturbed["differences"]
    expected = computed(killed, fingerprints[2], fingerprints[3])
    assert resumed["differences"][0]["ci_low"] == pytest.approx(expected["ci_low"])


def test_python_and_the_command_return_the_same(
    written: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = written
    result, _ = printed([*fingerprints, "--output-dir", out], capsys)
    comparison = diffcls.compare_runs(*fingerprints, output_dir=out)
    assert json.loads(json.dumps(comparison.as_dict())) == result
