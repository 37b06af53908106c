"""Merged shards: the run of an undisturbed evaluation, whatever the order, overlaps and kills."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.sharded_runs import (
    DISTURBED,
    FACTS,
    IMAGES,
    answers_of,
    files_of,
    killed_merges,
    record_of,
    shards,
    write_files,
    write_part,
)
from helpers.stored_runs import spec_of
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcls import merge as command
from diffcls.runs import leaderboard
from diffcls.runs.merge import merge_runs
from diffcls.runs.records import RecordStore
from diffcls.support.errors import RecordError, UsageError


def row_of(out: Path, *without: str) -> dict[str, str]:
    (row,) = leaderboard.read(out / "leaderboard.csv")
    return {k: v for k, v in row.items() if k not in {*DISTURBED, *without}}


# ---- the same run ------------------------------------------------------------------------------


@pytest.mark.parametrize("facts_in", ["header", "row"])
def test_merged_run_is_that_of_an_undisturbed_run(tmp_path: Path, facts_in: str) -> None:
    fingerprint = write_part(tmp_path / "whole", IMAGES)
    merge = merge_runs(shards(tmp_path, facts_in=facts_in), tmp_path / "merged")
    assert merge.is_complete and not merge.notes
    assert answers_of(tmp_path / "merged", fingerprint) == answers_of(
        tmp_path / "whole", fingerprint
    )
    assert row_of(tmp_path / "merged") == row_of(tmp_path / "whole")
    assert row_of(tmp_path / "whole")["status"] == "complete"


def test_order_of_the_folders_changes_no_byte(tmp_path: Path) -> None:
    parts = shards(tmp_path)
    write_part(tmp_path / "extra", [record_of(spec_of(), i, seconds=0.25) for i in (0, 1, 5)])
    results = []
    for number, order in enumerate(itertools.permutations([*parts, tmp_path / "extra"])):
        merge_runs(order, tmp_path / str(number))
        results.append(files_of(tmp_path / str(number)))
    assert all(result == results[0] for result in results)
    assert sorted(results[0])[0] == "leaderboard.csv" and len(results[0]) == 3


def test_a_second_merge_changes_nothing_and_sources_never_change(tmp_path: Path) -> None:
    parts = shards(tmp_path)
    sources = [files_of(part) for part in parts]
    assert merge_runs(parts, tmp_path / "merged").runs[0].new == len(IMAGES)
    merged = files_of(tmp_path / "merged")
    again = merge_runs([*parts, *parts, tmp_path / "merged"], tmp_path / "merged")
    assert (again.runs[0].new, again.runs[0].overlapping) == (0, len(IMAGES))
    assert files_of(tmp_path / "merged") == merged
    assert [files_of(part) for part in parts] == sources


def test_merges_one_after_another_give_the_run_of_one_merge(tmp_path: Path) -> None:
    parts = shards(tmp_path)
    fingerprint = spec_of().fingerprint
    merge_runs(parts, tmp_path / "at once")
    for part in parts:
        merge = merge_runs([part], tmp_path / "step by step")
    assert merge.is_complete
    assert answers_of(tmp_path / "step by step", fingerprint) == answers_of(
        tmp_path / "at once", fingerprint
    )
    assert row_of(tmp_path / "step by step") == row_of(tmp_path / "at once")


def test_the_target_may_be_one_of_the_folders(tmp_path: Path) -> None:
    write_part(tmp_path / "whole", IMAGES)
    parts = shards(tmp_path)
    before = files_of(parts[1])
    assert merge_runs(parts, parts[1]).is_complete
    after = files_of(parts[1])
    assert row_of(parts[1]) == row_of(tmp_path / "whole")
    for name, content in before.items():
        if name != "leaderboard.csv":
            assert after[name] == content
    # also where the records were copied by hand, and only the row is old
    (parts[1] / "leaderboard.csv").unlink()
    assert merge_runs([parts[1]], parts[1]).is_complete
    assert files_of(parts[1]) == after


def test_several_runs_are_merged_each_by_itself(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_part(tmp_path / "whole", IMAGES, seed=seed)
        shards(tmp_path, seed=seed)
    merge = merge_runs([tmp_path / f"part-{i}" for i in range(3)], tmp_path / "merged")
    assert [run.records for run in merge.runs] == [12, 12]
    rows = [leaderboard.read(tmp_path / out / "leaderboard.csv") for out in ("whole", "merged")]
    first, second = (sorted((r["seed"], r["accuracy"], r["status"]) for r in one) for one in rows)
    assert first == second and len(first) == 2


def test_nothing_in_the_target_is_lost(tmp_path: Path) -> None:
    target = tmp_path / "merged"
    write_part(target, IMAGES, seed=7)  # another run
    write_part(target, [3, 1], header={"batch_size": 8})  # the same run
    leaderboard.put_published(target / "leaderboard.csv", leaderboard.published_rows()[:2])
    before, rows = files_of(target), leaderboard.read(target / "leaderboard.csv")
    fingerprint = spec_of().fingerprint
    merge = merge_runs(shards(tmp_path), target)
    after = files_of(target)
    for name, content in before.items():
        if name.endswith("records-0-of-1.jsonl"):
            assert after[name].startswith(content)
        elif name != "leaderboard.csv":
            assert after[name] == content
    others = [row for row in rows if row["fingerprint"] != fingerprint]
    kept = leaderboard.read(target / "leaderboard.csv")
    assert [row for row in kept if row["fingerprint"] != fingerprint] == others
    assert [row["fingerprint"] for row in kept] == [row["fingerprint"] for row in rows]
    assert any("batch_size differs (8 in" in note for note in merge.notes)


# ---- overlaps ----------------------------------------------------------------------------------

copies = st.lists(
    st.tuples(st.sampled_from(IMAGES), st.integers(0, 2), st.integers(0, 2), st.floats(0, 9)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=25, deadline=None)
@given(copies, st.permutations(range(3)))
def test_overlaps_of_any_kind_give_each_image_once(
    tmp_path_factory: pytest.TempPathFactory,
    copies: list[tuple[int, int, int, float]],
    order: list[int],
) -> None:
    root = tmp_path_factory.mktemp("overlaps")
    spec = spec_of()
    parts: dict[tuple[int, int], dict[int, float]] = {}
    for image, folder, shard, seconds in copies:
        parts.setdefault((folder, shard), {})[image] = seconds
    for folder in {folder for folder, _ in parts}:
        of_folder = {
            (shard, 3): [record_of(spec, image, seconds) for image, seconds in images.items()]
            for (one, shard), images in parts.items()
            if one == folder
        }
        write_files(root / str(folder), of_folder)
    used = {folder for folder, _ in parts}
    merge = merge_runs([root / str(i) for i in order if i in used], root / "merged")
    counted = [image for images in parts.values() for image in images]
    expected = {image: record_of(spec, image, 0.0) for image in counted}
    found = answers_of(root / "merged", spec.fingerprint)
    assert list(found.values()) == [expected[image] for image in sorted(expected)]
    (run,) = merge.runs
    assert run.overlapping == sum(counted.count(image) > 1 for image in set(counted))
    assert (run.records, run.missing) == (len(expected), len(IMAGES) - len(expected))
    row = leaderboard.read(root / "merged" / "leaderboard.csv")[0]
    scored = [one for one in expected.values() if one.error is None]
    right = sum(one.ranking[0] == one.label for one in scored)
    assert (row["n_asked"], row["n_scored"]) == (str(len(IMAGES)), str(len(scored)))
    assert row["status"] == ("complete" if len(expected) == len(IMAGES) else "partial")
    assert row["accuracy"] == (repr(round(right / len(scored), 6)) if scored else "")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scores": (-9.0, -8.0, -7.0)}, "scores"),
        ({"label": 2}, "label"),
        ({"evaluations": 1}, "evaluations"),
        ({"ranking": (), "scores": (), "error": "out of memory"}, "ranking, scores, error"),
    ],
)
def test_records_of_an_image_that_differ_are_refused_with_both_places(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    first, second, target = (tmp_path / name for name in ("a", "b", "merged"))
    write_part(first, [0, 1, 3])
    write_part(second, [2, record_of(spec_of(), 3, **change)])
    with pytest.raises(RecordError, match=rf"'test/003' differ in {named}") as caught:
        merge_runs([first, second], target)
    fingerprint = spec_of().fingerprint
    for line, out in ((3, first), (2, second)):
        place = out / "runs" / fingerprint / "records-0-of-1.jsonl"
        assert f"line {line} of {place}" in str(caught.value)
    assert not target.exists()
    write_part(target, [record_of(spec_of(), 3, **change)])
    before = files_of(target)
    with pytest.raises(RecordError, match="'test/003' differ"):
        merge_runs([first], target)
    assert files_of(target) == before


# ---- damage and contradictions -----------------------------------------------------------------


def test_damaged_line_is_refused_with_file_and_line_and_nothing_is_written(tmp_path: Path) -> None:
    parts = shards(tmp_path)
    (path,) = parts[1].glob("runs/*/records-*.jsonl")
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"test/", b"tent/")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RecordError, match=f"line 2 of {path} is damaged"):
        merge_runs(parts, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_incomplete_last_line_is_skipped_and_said(tmp_path: Path) -> None:
    parts = shards(tmp_path)
    (path,) = parts[2].glob("runs/*/records-*.jsonl")
    whole = path.read_bytes()
    for cut in (1, 20):
        path.write_bytes(whole[:-cut])
        merge = merge_runs(parts, tmp_path / f"merged-{cut}")
        assert f"{path}: incomplete last line skipped" in merge.notes
        assert (merge.runs[0].records, merge.runs[0].missing) == (11, 1)
        assert path.read_bytes() == whole[:-cut]
    path.write_bytes(whole)  # its shard has resumed
    assert merge_runs(parts, tmp_path / "merged-1").is_complete


def test_missing_images_are_counted_and_unfinished_shards_named(tmp_path: Path) -> None:
    parts = shards(tmp_path, 4)
    (path,) = parts[3].glob("runs/*/records-*.jsonl")
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    merge = merge_runs([parts[0], parts[1], parts[3]], tmp_path / "merged")
    note = "5 of 12 images have no record; unfinished shards: 2/4 (0 of 3), 3/4 (1 of 3)"
    assert any(note in one for one in merge.notes)
    assert not merge.is_complete
    row = row_of(tmp_path / "merged")
    assert (row["status"], row["n_asked"]) == ("partial", "12")


def test_a_key_that_one_header_lacks_is_said(tmp_path: Path) -> None:
    write_part(tmp_path / "a", [0, 2])
    write_part(tmp_path / "b", [1, 3], header={"compiled": True, "date": "2026-02-02"})
    (note,) = [
        note
        for note in merge_runs([tmp_path / "b", tmp_path / "a"], tmp_path / "merged").notes
        if "differs" in note
    ]
    assert f"compiled differs (none in {tmp_path}/a, True in {tmp_path}/b)" in note


def test_headers_that_differ_in_last_bits_are_said(tmp_path: Path) -> None:
    first = write_part(tmp_path / "a", [0, 2], header={"threads": 2})
    write_part(tmp_path / "b", [1, 3], header={"batch_size": 32, "date": "2026-02-02T00:00:00Z"})
    notes = merge_runs([tmp_path / "b", tmp_path / "a"], tmp_path / "merged").notes
    said = [note for note in notes if "differs" in note]
    assert len(said) == 2 and all("last bits" in note for note in said)
    assert f"batch_size differs (64 in {tmp_path}/a, 32 in {tmp_path}/b)" in said[0]
    # the run is that of its first start
    header = json.loads((tmp_path / "merged" / "runs" / first / "run.json").read_text())
    assert (header["batch_size"], header["threads"]) == (64, 2)


@pytest.mark.parametrize(
    ("header", "facts", "named"),
    [
        ({"posterior_scale": 3.0}, {}, "posterior_scale"),
        ({"posterior_scale": None}, {}, "posterior_scale"),
        ({}, {"n_asked": 13}, "n_asked"),
        ({}, {"n_classes": 4}, "n_classes"),
        ({}, {"supervision": "labels"}, "supervision"),
        ({}, {"supervision": "few-shot, 5 images"}, "supervision"),
    ],
)
def test_folders_that_contradict_each_other_are_refused(
    tmp_path: Path, header: dict[str, Any], facts: dict[str, Any], named: str
) -> None:
    write_part(tmp_path / "a", [0, 2])
    facts = {**FACTS, **facts}
    write_part(tmp_path / "b", [4], header=header, facts=facts, facts_in="header")
    with pytest.raises(RecordError, match=f"contradict each other on {named}"):
        merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("base", ["", "unknown; "])
def test_images_of_a_concept_are_told_by_the_folder_that_knows_them(
    tmp_path: Path, base: str
) -> None:
    told = f"{base}few-shot, 5 images"
    write_part(tmp_path / "a", [0, 2], facts={**FACTS, "supervision": f"{base}few-shot"})
    write_part(tmp_path / "b", [1, 3], facts={**FACTS, "supervision": told})
    for number, order in enumerate(("ab", "ba")):
        merge_runs([tmp_path / name for name in order], tmp_path / f"merged-{number}")
        assert row_of(tmp_path / f"merged-{number}")["supervision"] == told


def test_a_setting_that_names_a_default_is_that_of_the_same_run_and_said(tmp_path: Path) -> None:
    write_part(tmp_path / "a", IMAGES[::2], (0, 2))
    write_part(tmp_path / "b", IMAGES[1::2], (1, 2), facts={**FACTS, "setting": "default"})
    merge = merge_runs([tmp_path / "b", tmp_path / "a"], tmp_path / "merged")
    assert merge.is_complete and row_of(tmp_path / "merged")["setting"] == "draws=100"
    (note,) = merge.notes
    assert f"setting differs (draws=100 in {tmp_path}/a, default in {tmp_path}/b)" in note


def test_edited_specification_is_refused(tmp_path: Path) -> None:
    parts = shards(tmp_path)
    (path,) = parts[1].glob("runs/*/run.json")
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(RecordError, match="its spec is that of another run"):
        merge_runs(parts, tmp_path / "merged")
    # a damaged run that nothing is merged into stays as it is
    assert merge_runs([parts[0], parts[2]], tmp_path / "merged").runs[0].records == 8
    other = write_part(tmp_path / "merged", [1], seed=3)
    header = tmp_path / "merged" / "runs" / other / "run.json"
    header.write_text("{")
    assert merge_runs([parts[0]], tmp_path / "merged").runs[0].new == 0
    assert header.read_text() == "{"


def test_parts_by_several_scoring_versions_are_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "a", IMAGES[::2], (0, 2))
    write_part(tmp_path / "b", IMAGES[1::2], (1, 2), scoring_version=1)
    with pytest.raises(RecordError, match=r"several scoring versions: \[1, 2\]"):
        merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    # not so an earlier run that is complete
    write_part(tmp_path / "b", IMAGES[::2], (0, 2), scoring_version=1)
    assert len(merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged").runs) == 2
    write_part(tmp_path / "c", [0], scoring_version=99)
    with pytest.raises(RecordError, match="scoring version 99, of a later diffcls"):
        merge_runs([tmp_path / "c"], tmp_path / "merged")


@pytest.mark.parametrize("field", ["model_revision", "data_revision", "dtype"])
def test_parts_that_differ_by_machine_are_two_runs_and_said(tmp_path: Path, field: str) -> None:
    write_part(tmp_path / "a", IMAGES[::2], (0, 2))
    write_part(tmp_path / "b", IMAGES[1::2], (1, 2), **{field: "other"})
    merge = merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert len(merge.runs) == 2
    assert any(f"differ in {field} alone" in note for note in merge.notes)


def test_other_fields_by_machine_hide_no_other_scoring_version(tmp_path: Path) -> None:
    write_part(tmp_path / "a", IMAGES[::2], (0, 2))
    write_part(tmp_path / "b", IMAGES[1::2], (1, 2), scoring_version=1, dtype="float16")
    message = r"several scoring versions, and differ in dtype: \[1, 2\]"
    with pytest.raises(RecordError, match=message):
        merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    write_part(tmp_path / "c", IMAGES[1::2], (1, 2), dtype="float16", model_revision="other")
    (*_, note) = merge_runs([tmp_path / "a", tmp_path / "c"], tmp_path / "merged").notes
    values = "float32, float16; fedcba9876543210, other"
    assert f"differ in dtype and model_revision alone ({values}): they are not joined" in note


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"search_options": {"draws": 60}}, "draws alone (100, 60)"),
        ({"subset": "9:0123"}, "subset alone (all, 9:0123)"),
        (
            {"search_options": {"draws": 5}, "subset": "9:0123", "dtype": "float16"},
            "dtype and draws and subset alone (float32, float16; 100, 5; all, 9:0123)",
        ),
    ],
)
def test_parts_that_were_fitted_to_a_budget_each_by_itself_are_said(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    write_part(tmp_path / "a", IMAGES[::2], (0, 2))
    write_part(tmp_path / "b", IMAGES[1:8:2], (1, 2), **change)
    notes = merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged").notes
    (note,) = (one for one in notes if "not joined" in one)
    assert f"differ in {named}: they are not joined; if each part was fitted to --budget" in note
    # experiments of one machine are no parts of one another
    write_part(tmp_path / "a", IMAGES[:8:2], (0, 2), **change)
    notes = merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged-2").notes
    assert not any("not joined" in note for note in notes)


def test_run_of_unknown_size_has_no_row_but_its_records(tmp_path: Path) -> None:
    fingerprint = write_part(tmp_path / "a", [0, 1, 2], facts_in="none")
    merge = merge_runs([tmp_path / "a"], tmp_path / "merged")
    assert len(answers_of(tmp_path / "merged", fingerprint)) == 3
    assert not merge.is_complete and merge.runs[0].missing is None
    assert any("no row" in note for note in merge.notes)
    assert not (tmp_path / "merged" / "leaderboard.csv").exists()
    write_part(tmp_path / "b", [3], facts_in="row")  # one folder that knows is enough
    assert merge_runs([tmp_path / "b"], tmp_path / "merged").runs[0].missing == 8


def test_more_records_than_images_are_refused(tmp_path: Path) -> None:
    few = {**FACTS, "n_asked": 7}
    write_part(tmp_path / "a", IMAGES[::2], facts=few)
    write_part(tmp_path / "b", IMAGES[1::2], facts=few)
    with pytest.raises(RecordError, match="more records than images"):
        merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_run_that_is_being_written_is_not_merged_into(tmp_path: Path) -> None:
    parts = shards(tmp_path)
    target = tmp_path / "merged"
    merge_runs(parts[:1], target)
    before = files_of(target)
    for shard in ((1, 3), (0, 1)):
        with (
            RecordStore(target, spec_of(), shard),
            pytest.raises(UsageError, match="another process is writing"),
        ):
            merge_runs(parts, target)
    (target / "runs" / spec_of().fingerprint / "records-1-of-3.jsonl").unlink()
    assert files_of(target) == before
    with RecordStore(parts[1], spec_of(), (1, 3)):  # a source may be
        assert merge_runs(parts, target).is_complete


def test_rows_without_records_and_runs_without_images_are_said(tmp_path: Path) -> None:
    import shutil

    gone = write_part(tmp_path / "a", IMAGES, seed=5)
    shutil.rmtree(tmp_path / "a" / "runs" / gone)
    begun = write_part(tmp_path / "a", [], seed=6, facts_in="none")
    write_part(tmp_path / "a", IMAGES)
    merge = merge_runs([tmp_path / "a"], tmp_path / "merged")
    assert [run.fingerprint for run in merge.runs] == [spec_of().fingerprint]
    assert any(f"row of run {gone}, but no records" in note for note in merge.notes)
    assert any(f"run {begun} has no records yet" in note for note in merge.notes)


# ---- kills -------------------------------------------------------------------------------------


def test_a_kill_at_any_file_event_leaves_a_run_that_the_same_merge_completes(
    tmp_path: Path,
) -> None:
    kinds = killed_merges(tmp_path, "events")
    # every record, the file of records, the row and its table were reached
    assert kinds["append"] == 10 and {"open", "os.rename", "fsync"} <= set(kinds)
    assert sum(kinds.values()) > 20


# ---- the command -------------------------------------------------------------------------------


def test_command_prints_the_row_and_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [str(part) for part in shards(tmp_path)]
    into = ["--into", str(tmp_path / "merged")]
    assert command.main([*parts, *into, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "complete: nothing was written" in out and "12 of 12 images, 12 new" in err
    assert not (tmp_path / "merged").exists()
    assert command.main([*parts[:2], *into, "--json"]) == 1
    out, err = capsys.readouterr()
    body = json.loads(out)
    (run,) = body["runs"]
    assert (run["records"], run["missing"], run["row"]["status"]) == (8, 4, "partial")
    assert body["notes"] and body["notes"][0] in err
    assert command.main([*parts, *into, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and f"complete: {tmp_path}/merged/leaderboard.csv" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nosuch", "--into", "out"], "DIR is no folder: 'nosuch'"),
        (["empty", "--into", "out"], "DIR holds no runs: 'empty'"),
        (["part-0"], "--into"),
        (["part-0", "--into", "file"], "cannot be written"),
        (["part-0", "--into="], "--into"),
        (["--into", "out"], "DIR"),
    ],
)
def test_bad_usage_is_named(
    tmp_path: Path,
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shards(tmp_path)
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    err = capsys.readouterr().err
    assert named in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
