"""Measure how often results have warnings, on sets of photos and on the same photos made worse.

    python tools/measure_warnings.py ../shared/data/train/open-*.tar --limit 8

For each shard (WebDataset form, `KEY.jpg`), prints the median and the worst tenth of each signal, and
how often each reason holds: for the photos, and for copies that are blurred, small, covered or cut.
The limits in `lifemask.pipeline.face_warnings` come from it.
"""

import argparse
import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from lifemask.io.images import PhotoError, as_photo
from lifemask.pipeline.face_warnings import FaceSignals, face_signals, warnings_of
from lifemask.pipeline.reconstructor import FaceReconstructor

Picture = Image.Image
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of the face."""


def blurred(picture: Picture, box: Box) -> Picture:
    """Blur by 2.5 % of the face."""
    return picture.filter(ImageFilter.GaussianBlur(0.025 * (box[3] - box[1])))


def small(picture: Picture, box: Box) -> Picture:
    """Reduce the face to 50 pixels."""
    scale = 50 / (box[3] - box[1])
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))


def covered(picture: Picture, box: Box) -> Picture:
    """Cover the lower half of the face with grey."""
    left, top, right, bottom = box
    copy = picture.copy()
    copy.paste((90, 110, 120), tuple(map(round, (left, (top + bottom) / 2, right, bottom))))
    return copy


def cut(picture: Picture, box: Box) -> Picture:
    """Cut off half of the face."""
    return picture.crop((0, 0, round((box[0] + box[2]) / 2), picture.height))


CHANGES: dict[str, Callable[[Picture, Box], Picture]] = {
    "blurred": blurred,
    "small": small,
    "covered": covered,
    "cut": cut,
}


def photos_of(shard: Path, limit: int) -> Iterator[Picture]:
    """Yield photos, evenly spaced."""
    with tarfile.open(shard) as archive:
        members = [member for member in archive if member.name.endswith(".jpg")]
        kept = np.linspace(0, len(members) - 1, min(limit, len(members))).round().astype(int)
        for member in (members[number] for number in kept):
            content = archive.extractfile(member)
            assert content is not None
            yield Image.open(io.BytesIO(content.read())).convert("RGB")


def signals_of(
    reconstructor: FaceReconstructor, picture: Picture
) -> tuple[FaceSignals, Box] | None:
    """Return the signals and the box of the largest face, or None without a face."""
    try:
        photo = as_photo(picture)
    except PhotoError:
        return None
    seen = reconstructor.observe(photo, "largest", crop=False)
    if not seen:
        return None
    fit = reconstructor.explain(photo.pixels, seen[0])
    left, top, right, bottom = seen[0].box_xyxy.tolist()
    signals = face_signals(photo.pixels, seen[0], fit, reconstructor.model)
    return signals, (left, top, right, bottom)


def report(name: str, measured: list[FaceSignals], missing: int) -> None:
    """Print one line for each signal, and the reasons."""
    counts = Counter(warning.reason for signals in measured for warning in warnings_of(signals))
    print(f"{name}: {len(measured)} faces, {missing} photos without, warnings {dict(counts)}")
    for field in fields(FaceSignals):
        values = np.array([getattr(signals, field.name) for signals in measured])
        if len(values):
            low, middle, high = np.percentile(values, (10, 50, 90))
            print(f"  {field.name:15} 10 % {low:8.3f}   50 % {middle:8.3f}   90 % {high:8.3f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shards", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=8, help="photos of each shard")
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES))
    options = parser.parse_args()
    reconstructor = FaceReconstructor.from_pretrained(quality="fast")
    for shard in options.shards:
        plain = [
            (picture, found)
            for picture in photos_of(shard, options.limit)
            if (found := signals_of(reconstructor, picture)) is not None
        ]
        report(shard.stem, [signals for _, (signals, _) in plain], options.limit - len(plain))
        for change in options.changes:
            changed = [
                signals_of(reconstructor, CHANGES[change](picture, box))
                for picture, (_, box) in plain
            ]
            known = [found[0] for found in changed if found is not None]
            report(f"{shard.stem} {change}", known, len(changed) - len(known))


if __name__ == "__main__":
    main()
