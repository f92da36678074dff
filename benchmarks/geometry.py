"""Measure the default head on ICT-FaceKit's identities and on the James scan.

    python benchmarks/geometry.py --data ../shared/data [--json geometry.json]

Prints, for the shipped head and for the artists' modes before calibration: the vertex-to-vertex
error over the face on people that the calibration did not use, the closest-point error, the error
on James, and the distance of the 68 landmarks to ICT's own. ICT's own modes on James show the error
of a model built from scans.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from lifemask.evaluation.geometry import (
    Correspondence,
    IctTarget,
    ScanTarget,
    closest_point_error,
    correspond_to_ict,
    dense_landmarks,
    face_shape,
    ibug_errors,
    ict_target,
    james_target,
    scan_registration,
    vertex_errors,
)
from lifemask.morphable import MorphableModel
from lifemask.perception import FacePerception
from lifemask.registration import LinearShape
from lifemask.registration.surface_landmarks import SurfaceLandmarks

TEST_SEED = 1234
"""`tools/calibrate_face_model.py` uses seed 77 and draws other people."""
MODES = (20, 60, 80, 100)
RAW = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lifemask/build/head_raw.npz"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    perception = FacePerception.from_pretrained()
    ict = ict_target(arguments.data / "models" / "ict_facekit_light.npz", perception)
    james = james_target(arguments.data / "dev" / "scans" / "james", perception)
    people = ict.identities(TEST_SEED, arguments.people)
    model = MorphableModel.from_pretrained()
    shape, own = face_shape(model), dense_landmarks(model)
    print(_targets(ict, james, arguments.people))

    figures: dict[str, dict[str, float]] = {}
    correspondence = correspond_to_ict(shape, own, ict)
    figures["shipped head"] = measure(shape, own, correspondence, ict, james, people)
    if RAW.exists():
        raw = artists_shape(shape)
        raw_own = on_shape(model, raw, own)
        before = correspond_to_ict(raw, raw_own, ict)
        figures["artists' modes"] = measure(raw, raw_own, before, ict, james, people)
    else:
        print(f"no {RAW}: run tools/build_face_model.py to measure the modes before calibration")
    scanned = LinearShape(ict.mean, ict.identity_basis, ict.triangles)
    _, error = scan_registration(scanned, ict.landmarks, james)
    figures["ICT's own 100 modes"] = {"James, 100 modes": error * 1e3}
    print(_table(figures))

    distance = ibug_errors(model, correspondence, ict) * 1e3
    inner, brows = distance[27:], distance[17:27]
    print(f"68 landmarks to ICT's own: inner worst {inner.max():.2f} mm (limit 2.5), ", end="")
    print(f"brows worst {brows.max():.2f} mm (limit 3.5), jaw mean {distance[:17].mean():.2f} mm")
    figures["landmarks"] = {"inner worst": float(inner.max()), "brows worst": float(brows.max())}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(
    shape: LinearShape,
    own: SurfaceLandmarks,
    correspondence: Correspondence,
    ict: IctTarget,
    james: ScanTarget,
    people: np.ndarray,
) -> dict[str, float]:
    """Return all figures of one head in millimetres."""
    counts = (*MODES, len(shape.basis)) if len(shape.basis) > max(MODES) else MODES
    dense = vertex_errors(shape, correspondence, ict, people, counts)
    result = {f"vertex to vertex, {count} modes": error for count, error in dense.items()}
    closest = closest_point_error(shape.truncated(80), correspondence, ict, people)
    result["closest point, 80 modes"] = closest
    for count in (60, 100):
        _, error = scan_registration(shape.truncated(count), own, james)
        result[f"James, {count} modes"] = error
    return {name: error * 1e3 for name, error in result.items()}


def artists_shape(shape: LinearShape) -> LinearShape:
    """Return the head before calibration, with all the artists' modes, on the same triangles."""
    with np.load(RAW) as stored:
        skin = int(stored["part_sizes"][0])
        rows, columns = stored["subdivision_rows"], stored["subdivision_columns"]
        refine = sp.csr_matrix((stored["subdivision_values"].astype(float), (rows, columns)))
        modes = stored["basis"][:, :skin].astype(float)
        flat = refine @ np.moveaxis(modes, 0, 2).reshape(skin, -1)
        basis = np.moveaxis(np.asarray(flat).reshape(refine.shape[0], 3, -1), 2, 0)
        return LinearShape(refine @ stored["mean"][:skin], basis, shape.triangles)


def on_shape(model: MorphableModel, shape: LinearShape, own: SurfaceLandmarks) -> SurfaceLandmarks:
    """Return the head's dense points on another shape of the same topology; irises left out."""
    assert model.dense478 is not None
    corners = model.triangles[model.dense478.triangle_index].numpy()
    position = np.full_like(own.position, np.nan)
    skin = corners.max(1) < len(shape.mean)
    weights = model.dense478.barycentric.double().numpy()
    position[skin] = np.einsum("nc,ncd->nd", weights[skin], shape.mean[corners[skin]])
    return SurfaceLandmarks(position, own.spread, own.views)


def _targets(ict: IctTarget, james: ScanTarget, people: int) -> str:
    digest = hashlib.sha256(ict.face.astype("<i4").tobytes()).hexdigest()[:12]
    area = ict.weights[ict.face].sum() * 1e4
    scan_area = james.weights[james.face].sum() * 1e4
    return (
        f"ICT: {people} people (seed {TEST_SEED}); measured on {len(ict.face)} vertices of the narrow "
        f"face seen from the front, {area:.0f} cm², list {digest}\n"
        f"James: {len(james.face)} vertices inside the face's oval, {scan_area:.0f} cm²"
    )


def _table(figures: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for row in figures.values() for name in row))
    lines = ["mm".ljust(28) + "".join(head.rjust(22) for head in figures)]
    for name in names:
        cells = (f"{row[name]:.3f}" if name in row else "-" for row in figures.values())
        lines.append(name.ljust(28) + "".join(cell.rjust(22) for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
