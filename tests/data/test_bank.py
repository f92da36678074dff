"""Banks: the same bytes after any interruption, the same batches in any process, and clear errors."""

import errno
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from lifemask.cli.exit_codes import DONE, FAILED, USAGE
from lifemask.cli.main import main
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.bank.drawing import draw_bank, draw_part, fit_sums
from lifemask.data.bank.faces import open_bank
from lifemask.data.bank.parts import BankPart
from lifemask.data.bank.plan import BankError, BankPlan, crop_config, part_path, read_plan
from lifemask.data.bank.records import batch_of, records_of
from lifemask.data.bank.version import essence, generator_version
from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import Mixture, mixed_batches
from lifemask.data.stored_fits import StoredFit, write_fits
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.geometry.tensors import map_tensors, named_tensors
from lifemask.io.files import OutputError
from lifemask.morphable.assets import read_card
from lifemask.systems.registry import build_system, find_recipe
from lifemask.training.builders import build_parts
from lifemask.training.config import BankSource, SystemChoice, TrainingError
from lifemask.training.sources import VariedSource, open_bank_source

CONFIG = crop_config(SyntheticConfig(samples=1, texture_size=64, dressed=0.0), 48, 1.25)


def plan_of(count: int = 6, **changes: object) -> BankPlan:
    plan = BankPlan("stills", count, CONFIG, 3, generator_version(), part_size=2)
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def drawn() -> FaceBatch:
    return SyntheticFaces(CONFIG).batch(5, 0, 3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of three parts that nobody changes."""
    folder = tmp_path_factory.mktemp("banks") / "stills"
    assert draw_bank(folder, plan_of()) == 3
    return folder


@pytest.fixture
def bank(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    folder = tmp_path / "bank"
    folder.mkdir()
    for path in finished.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_equal(ours: FaceBatch, theirs: FaceBatch) -> None:
    expected = named_tensors(theirs)
    assert named_tensors(ours).keys() == expected.keys()
    for name, value in named_tensors(ours).items():
        assert torch.equal(value, expected[name]), name


def test_a_batch_comes_back_as_it_was_drawn(drawn: FaceBatch) -> None:
    again = batch_of(records_of(drawn, maps=True, pixel_maps=True))
    expected = named_tensors(drawn)
    approximate = {"skin": 0.5, "truth.face.albedo_map.values": 0.01, "truth.albedo": 0.01}
    approximate["truth.face.displacement_map.values"] = 1e-6
    found = named_tensors(again)
    normals, true = found.pop("truth.normals"), expected["truth.normals"]
    # Those of the rim that face away from the camera come back mirrored.
    facing = (true[:, 2:] > 0.02) | (true == 0).all(1, keepdim=True)
    torch.testing.assert_close(normals * facing, true * facing, atol=0.002, rtol=0)
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], atol=approximate.get(name, 0.0), rtol=0, msg=name
        )
    assert expected.keys() - named_tensors(again).keys() == {"truth.face.depth"}
    bare = named_tensors(batch_of(records_of(drawn, maps=False)))
    assert not {"truth.normals", "truth.albedo"} & bare.keys()


def test_a_margin_adds_surroundings_and_leaves_the_frame_as_it_was() -> None:
    plain = replace(CONFIG, size=48, margin=1.0, degradations=0.0)
    narrow = SyntheticFaces(plain).batch(5, 0, 2)
    wide = SyntheticFaces(replace(plain, size=CONFIG.size, margin=CONFIG.margin)).batch(5, 0, 2)
    shift = (CONFIG.size - 48) / 2
    torch.testing.assert_close(wide.landmarks478, narrow.landmarks478 + shift, atol=2e-3, rtol=0)
    inner = slice(int(shift), int(shift) + 48)
    assert (wide.photo[..., inner, inner] - narrow.photo).abs().mean() < 0.03


def test_several_processes_draw_the_same_bytes_as_one(finished: Path, tmp_path: Path) -> None:
    draw_bank(tmp_path, plan_of(), processes=2)
    assert bytes_of(tmp_path) == bytes_of(finished)


def _draw_until_killed(folder: Path) -> None:
    """Draw; stop for ever while part 2 is half-written."""
    from lifemask.data.bank import filling, parts

    plain = parts.write_part

    def slow(folder: Path, plan: BankPlan, part: int, records: dict[str, np.ndarray]) -> None:
        if part == 2:
            hidden = part_path(folder, part).with_name(f".{part_path(folder, part).name}.ab.part")
            hidden.write_bytes(b"half")
            time.sleep(600)
        plain(folder, plan, part, records)

    filling.write_part = slow  # pyright: ignore[reportAttributeAccessIssue]
    draw_bank(folder, plan_of())


def test_a_bank_killed_in_a_part_goes_on_to_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    job = multiprocessing.get_context("fork").Process(target=_draw_until_killed, args=(tmp_path,))
    job.start()
    for _ in range(1200):
        if list(tmp_path.glob(".part-0002*")):
            break
        time.sleep(0.1)
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    names = {path.name for path in tmp_path.iterdir()}
    assert "part-0001.safetensors" in names
    assert "part-0002.safetensors" not in names
    assert draw_bank(tmp_path, plan_of()) == 1
    assert bytes_of(tmp_path) == bytes_of(finished)


def test_a_damaged_or_deleted_part_is_drawn_again(bank: Path, finished: Path) -> None:
    part_path(bank, 0).unlink()
    content = bytearray(part_path(bank, 1).read_bytes())
    content[-1000] ^= 1
    part_path(bank, 1).write_bytes(content)
    assert draw_bank(bank, plan_of()) == 2
    assert bytes_of(bank) == bytes_of(finished)
    assert draw_bank(bank, plan_of()) == 0


def test_a_bank_can_grow_and_not_shrink(bank: Path) -> None:
    first = part_path(bank, 0).read_bytes()
    assert draw_bank(bank, plan_of(7)) == 1
    assert part_path(bank, 0).read_bytes() == first
    assert len(BankPart(bank, plan_of(7), 3)) == 1
    assert read_plan(bank).count == 7
    with pytest.raises(BankError, match="can only grow: use a larger --count"):
        draw_bank(bank, plan_of(6))


def test_other_options_are_refused_by_name(bank: Path) -> None:
    other = plan_of(config=replace(CONFIG, uniform_yaw=0.25), seed=4)
    with pytest.raises(
        BankError, match=r"config\.uniform_yaw is 0\.5, wanted is 0\.25; seed is 3, wanted is 4"
    ):
        draw_bank(bank, other)


def test_a_missing_part_is_named(bank: Path) -> None:
    part_path(bank, 1).unlink()
    with pytest.raises(BankError, match=r"Part 1 of .* is missing\. Run `lifemask draw` again"):
        open_bank(bank)
    training, _ = open_bank(bank, parts=(2,))
    assert len(training) == 1


def test_a_truncated_part_is_refused(bank: Path) -> None:
    content = part_path(bank, 2).read_bytes()
    part_path(bank, 2).write_bytes(content[:-100])
    with pytest.raises(BankError, match=r"part-0002\.safetensors is damaged .* makes what is"):
        open_bank(bank)


def test_a_flipped_byte_is_found_when_its_face_is_read(bank: Path) -> None:
    content = bytearray(part_path(bank, 0).read_bytes())
    content[-1] ^= 1
    part_path(bank, 0).write_bytes(content)
    training, held_out = open_bank(bank, parts=(0,))
    with pytest.raises(BankError, match="is damaged"):
        (training.batch(0, 1), held_out.batch(0, 1))


def test_a_part_of_another_bank_is_refused(bank: Path, tmp_path: Path) -> None:
    draw_bank(tmp_path / "other", plan_of(2, seed=9))
    part_path(bank, 0).write_bytes(part_path(tmp_path / "other", 0).read_bytes())
    with pytest.raises(BankError, match=r"another bank: seed is 9, wanted is 3\. Delete the file"):
        open_bank(bank)


def test_a_bank_of_another_generator_is_refused_unless_accepted(tmp_path: Path) -> None:
    draw_bank(tmp_path, plan_of(2, generator="0123456789abcdef"))
    with pytest.raises(
        BankError, match=r"drawn by the version 0123456789abcdef .*any_version=true"
    ):
        open_bank(tmp_path)
    assert len(open_bank(tmp_path, any_version=True)[0]) == 1


def test_no_bank_and_no_part_of_that_number_are_clear_errors(bank: Path, tmp_path: Path) -> None:
    with pytest.raises(BankError, match=r"There is no bank of faces in .* Draw one: lifemask draw"):
        open_bank(tmp_path / "nowhere")
    with pytest.raises(BankError, match="has no part 8; its parts are 0 to 2"):
        open_bank(bank, parts=(8,))
    (bank / "bank.json").write_text("{")
    with pytest.raises(BankError, match="It is damaged or of another version"):
        open_bank(bank)


def test_a_full_disk_leaves_finished_parts(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    part_path(bank, 2).unlink()
    before = bytes_of(bank)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match="disk is full; free some space"):
            draw_bank(bank, plan_of())
        assert bytes_of(bank) == before
    monkeypatch.setattr("lifemask.data.bank.filling._free_bytes", lambda folder: 5)
    with pytest.raises(OutputError, match=r"GB are free\. Free some space"):
        draw_bank(bank, plan_of())
    assert bytes_of(bank) == before


def test_fits_are_mixed_in_by_their_share_and_clips_keep_their_frames(
    drawn: FaceBatch, tmp_path: Path
) -> None:
    one = map_tensors(lambda value: value[0], drawn)
    assert one.truth is not None
    fit = StoredFit("somebody", one.photo, torch.zeros(60, 60), one.truth.face)
    store = tmp_path / "open-0.tar"
    write_fits(store, [fit], head=read_card("head/head").sha256)
    plan = plan_of(5, part_size=5, rerendered=0.4, stores=fit_sums([store]))
    people = draw_part(plan, 0, (store,))["person"]
    assert (people < 0).tolist() == [False, False, True, False, True]
    with pytest.raises(ValueError, match="stills, with stores of fits"):
        plan_of(rerendered=0.4)
    clips = plan_of(2, kind="clips", frames=2, maps=True)
    records = draw_part(clips, 0, ())
    assert all(values.shape[:2] == (2, 2) for values in records.values())
    assert records["albedo_map"].shape == (2, 2, 3, 64, 64)
    with pytest.raises(ValueError, match="clips have 1 frames"):
        plan_of(kind="clips")


VARIED = replace(Augmentation(), mirror=0.5)


def source_of(folder: Path, size: int = 48, repeats: int = 2) -> VariedSource:
    source = BankSource(1.0, str(folder), augmentation=VARIED, repeats=repeats)
    options = {"pretrained": False, "crop_size": size, "input_size": 128}
    system = build_system("dense_landmarks", options)
    found, _, _ = open_bank_source(source, None, system, (7, 8), 0)
    assert isinstance(found, VariedSource)
    return found


def test_batches_do_not_depend_on_the_workers(finished: Path) -> None:
    mixture = Mixture({"bank": source_of(finished)}, {"bank": 3})
    here, one, two = (
        [batches[0] for batches in islice(mixed_batches(mixture, start=1, workers=n), 3)]
        for n in (0, 1, 2)
    )
    for ours, theirs, others in zip(here, one, two, strict=True):
        assert_equal(theirs, ours)
        assert_equal(others, ours)


def test_a_frame_without_variations_is_the_middle_of_the_crop(finished: Path) -> None:
    training, _ = open_bank(finished, seeds=(7, 8))
    wide = training.batch(0, 2)
    plain = replace(source_of(finished), augmentation=Augmentation.none(), repeats=1).batch(0, 2)
    shift = (CONFIG.size - 48) // 2
    inner = slice(shift, shift + 48)
    torch.testing.assert_close(plain.photo, wide.photo[..., inner, inner], atol=1e-4, rtol=0)
    torch.testing.assert_close(plain.landmarks68, wide.landmarks68 - shift, atol=1e-3, rtol=0)
    half = replace(source_of(finished, 32), augmentation=Augmentation.none()).batch(0, 2)
    assert half.photo.shape == (2, 3, 32, 32)
    assert half.truth is not None
    assert half.truth.face.camera.image_size == (32, 32)


def test_every_pass_shows_every_face_once_and_no_held_out_one(finished: Path) -> None:
    training, held_out = open_bank(finished)
    assert (len(training), len(held_out)) == (3, 3)
    first, second = (set(training.batch(index, 3).person.tolist()) for index in (0, 1))
    assert first == second
    assert len(first) == 3
    assert not first & set(held_out.batch(0, 3).person.tolist())


def test_recipes_read_banks(finished: Path) -> None:
    recipe = replace(
        find_recipe("direct_regression"),
        system=SystemChoice("direct_regression", {"crop_size": 48}),
        sources={"bank": BankSource(1.0, finished.name)},
    )
    parts = build_parts(recipe, build_system, finished.parent)
    assert parts.about_data["bank"]["kind"] == "bank of stills"
    assert parts.mixture.batches(0)[0].photo.shape == (32, 3, 48, 48)
    with pytest.raises(TrainingError, match="Source 'bank': There is no bank of faces"):
        build_parts(recipe, build_system, finished.parent / "elsewhere")
    large = replace(recipe, system=SystemChoice("direct_regression", {"crop_size": 64}))
    with pytest.raises(TrainingError, match="frames of 48 pixels; the system needs 64"):
        build_parts(large, build_system, finished.parent)


def test_the_version_sees_code_and_not_comments() -> None:
    import ast

    def words(source: str) -> list[str]:
        return list(essence(ast.parse(source)))

    plain = words("def f(a):\n    return a + 1")
    assert words('def f(a: int) -> int:\n    """Add."""\n    # More.\n    return (a + 1)') == plain
    assert words("def f(a):\n    return a + 2") != plain


@pytest.fixture
def without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFEMASK_DATA", raising=False)


@pytest.mark.usefixtures("without_data")
def test_the_command_draws_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "bank")
    small = ["samples=1", "texture_size=64", "dressed=0.0"]
    draw = ["draw", folder, *small, "--count", "2", "--size", "32", "--processes", "1"]
    assert main(draw) == DONE
    assert "1 of 1 parts drawn" in capsys.readouterr().out
    assert main([*draw, "--seed", "1"]) == FAILED
    assert "seed is 0, wanted is 1" in capsys.readouterr().err
    assert main([*draw, "--rerendered", "0.5"]) == USAGE
    assert "Name it with --data" in capsys.readouterr().err
    assert main([*draw[:2], "blemish=1", *draw[2:]]) == USAGE
    assert "There is no 'blemish'" in capsys.readouterr().err
