"""Reconstructing many photos and reporting each; the failure of one does not stop the others."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lifemask.cli import photo_work
from lifemask.cli.exit_codes import DONE, DOUBTFUL, FAILED, NO_FACE
from lifemask.cli.photo_plan import PlannedPhoto, plan_photos
from lifemask.cli.photo_processes import results_of_processes
from lifemask.cli.photo_work import PhotoResult, PhotoWork, SetupError
from lifemask.cli.progress import ProgressLine
from lifemask.cli.reconstruct_options import ReconstructOptions
from lifemask.io.files import OutputError, make_folder


def reconstruct_photos(options: ReconstructOptions) -> int:
    """Reconstruct all photos, report each as soon as it is finished, and return the exit code."""
    try:
        folder = make_folder(options.output)
    except OutputError as error:
        print(error, file=sys.stderr)
        return FAILED
    planned = plan_photos(options, folder)
    waiting = [photo for photo in planned if not photo.refusal and not photo.finished]
    progress = ProgressLine(len(waiting))
    statuses: set[str] = set()
    try:
        for result in _results(planned, waiting, options, folder, progress):
            progress.clear()
            _report(result, as_json=options.json)
            statuses.add(result.status)
            if any(face["warnings"] for face in result.faces):
                statuses.add("doubtful")
    except SetupError as error:
        print(f"The reconstructor cannot be loaded. {error}", file=sys.stderr)
        return FAILED
    finally:
        progress.clear()
    if skipped := sum(photo.finished for photo in planned):
        print(f"Skipped {skipped}: their results are in {str(folder)!r}.", file=sys.stderr)
    if "failed" in statuses:
        return FAILED
    if "no face" in statuses:
        return NO_FACE
    return DOUBTFUL if options.strict and "doubtful" in statuses else DONE


def _results(
    planned: Sequence[PlannedPhoto],
    waiting: Sequence[PlannedPhoto],
    options: ReconstructOptions,
    folder: Path,
    progress: ProgressLine,
) -> Iterator[PhotoResult]:
    """Yield the results of all photos: first those that are not to be reconstructed."""
    for photo in planned:
        path = photo.source.path
        if photo.refusal:
            yield PhotoResult(path, "failed", photo.refusal)
        elif photo.finished:
            yield PhotoResult(path, "skipped", "its results are in the folder")

    def show(photo: PlannedPhoto, stage: str) -> None:
        progress.show(str(photo.source.path), stage)

    load = photo_work.load_reconstructor
    if min(options.jobs, len(waiting)) > 1:
        for result in results_of_processes(waiting, options, folder, load, on_stage=show):
            progress.finished += 1
            yield result
        return
    work = PhotoWork(options, folder, load)
    for photo in waiting:
        yield work.photo(photo, on_stage=lambda stage, photo=photo: show(photo, stage))
        progress.finished += 1


def _report(result: PhotoResult, *, as_json: bool) -> None:
    if as_json:
        report = {
            "photo": str(result.photo),
            "status": result.status,
            "message": result.message,
            "faces": result.faces,
            "seconds": round(result.seconds, 3),
        }
        print(_json_line(report), flush=True)
        return
    for face in result.faces:
        print(*face["files"], sep="\n", flush=True)
        head = next(Path(file).stem for file in face["files"] if file.endswith(".json"))
        for warning in face["warnings"]:
            print(f"{result.photo}: warning for {head}: {warning['message']}", file=sys.stderr)
    if result.message and result.status != "skipped":
        print(f"{result.photo}: {result.message.removesuffix('.')}.", file=sys.stderr)


def _json_line(value: dict[str, Any]) -> str:
    """Return one line of JSON that the standard output can show."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text
