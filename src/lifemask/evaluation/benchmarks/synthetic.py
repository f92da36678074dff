"""`synthetic`: photos of heads that are independent of all systems, with truth; four tables."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from lifemask.evaluation.benchmarks.synthetic_clips import clips_table
from lifemask.evaluation.benchmarks.synthetic_relit import relit_table
from lifemask.evaluation.benchmarks.synthetic_stills import stills_table
from lifemask.evaluation.benchmarks.synthetic_tone import tone_table
from lifemask.evaluation.collect import Progress, silent
from lifemask.evaluation.config import EvaluationConfig
from lifemask.evaluation.correspondence import head_to_ict
from lifemask.evaluation.datasets import development_folder
from lifemask.evaluation.ict_faces.kept_photos import KeptPhoto
from lifemask.evaluation.ict_faces.sets import CLIPS, FRAMES, RELIT, STILLS, TestFaces
from lifemask.evaluation.tables import Table


def run(config: EvaluationConfig, *, progress: Progress = silent) -> tuple[Table, ...]:
    """Return the tables of stills, their skin tone, clips and relit faces.

    Raises:
        EvaluationError: ICT-FaceKit is missing, or a system fails.
    """
    sets = test_faces(config)
    stills, clips, relit = _counts(config)
    partners = head_to_ict(ict_model(config), cache=config.cache)
    faces = sets.stills(stills, drawing(progress, "stills"))
    return (
        stills_table(faces, partners, config, progress),
        tone_table(faces, config, progress),
        clips_table(sets.clips(clips, drawing(progress, "clips")), partners, config, progress),
        relit_table(sets.relit(relit, drawing(progress, "relit faces")), config, progress),
    )


def write_photos(
    config: EvaluationConfig, folder: Path, *, progress: Progress = silent
) -> list[Path]:
    """Write all test photos as `synthetic/KEY.png` for programs that run elsewhere.

    Their predictions are read from `FOLDER/synthetic/KEY.npz`.
    """
    sets = test_faces(config)
    stills, clips, relit = _counts(config)
    faces: list[KeptPhoto] = [
        *sets.stills(stills, drawing(progress, "stills")),
        *(face for clip in sets.clips(clips, drawing(progress, "clips")) for face in clip),
        *sets.relit(relit, drawing(progress, "relit faces")),
    ]
    return write_pngs(faces, folder / "synthetic")


def write_pngs(photos: Sequence[KeptPhoto], folder: Path) -> list[Path]:
    """Write photos as `KEY.png` into a folder, which is created if needed; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{photo.key}.png" for photo in photos]
    for photo, path in zip(photos, paths, strict=True):
        Image.fromarray(photo.pixels()).save(path)
    return paths


def test_faces(config: EvaluationConfig) -> TestFaces:
    """Return the test sets of this data folder and seed."""
    return TestFaces(ict_model(config), seed=config.seed, cache=config.cache)


def ict_model(config: EvaluationConfig) -> Path:
    """Return the file of ICT-FaceKit Light in the data folder."""
    return development_folder(config.data).parent / "models" / "ict_facekit_light.npz"


def _counts(config: EvaluationConfig) -> tuple[int, int, int]:
    """Return the numbers of stills, clips and relit faces; a limit applies to each set's photos."""
    if config.limit is None:
        return STILLS, CLIPS, RELIT
    clips = max(2, config.limit // FRAMES)
    return min(STILLS, config.limit), min(CLIPS, clips), min(RELIT, config.limit)


def drawing(progress: Progress, what: str) -> Callable[[int, int], None]:
    """Return a function that tells how many photos are drawn."""
    return lambda done, total: progress(f"drawing {what}", done, total)
