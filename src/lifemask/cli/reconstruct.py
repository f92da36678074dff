"""`lifemask reconstruct`: photos in; a 3D head, its numbers and a preview of each face out."""

import sys
from dataclasses import dataclass

from lifemask.cli.exit_codes import FAILED, USAGE
from lifemask.cli.reconstruct_options import ReconstructOptions


@dataclass(frozen=True)
class Reconstruct(ReconstructOptions):
    """Turn photos of faces into 3D heads.

    Writes NAME.glb, NAME.json and NAME_preview.png for each photo, or NAME_1.glb and so on if it
    shows several faces. Prints the names of the files, one per line. If a photo fails, the command
    reports it and continues with the others.
    """

    def run(self) -> int:
        """Reconstruct all photos and return the exit code."""
        from lifemask.cli.devices import torch_device
        from lifemask.hair.styles import check_style
        from lifemask.pipeline.outputs import FORMATS

        if not self.formats or not set(self.formats) <= set(FORMATS):
            known = ", ".join(FORMATS)
            print(f"Cannot write --format {self.format!r}. Known: {known}.", file=sys.stderr)
            return USAGE
        if self.texture_size is not None and self.texture_size not in range(512, 8193, 512):
            print(
                f"Cannot make a texture of {self.texture_size} texels a side; --texture-size must be "
                "a multiple of 512, at most 8192.",
                file=sys.stderr,
            )
            return USAGE
        if self.jobs < 1:
            print(f"Cannot work with --jobs {self.jobs}; at least 1 is needed.", file=sys.stderr)
            return USAGE
        try:
            check_style(self.hair)
            if self.device != "auto":
                torch_device(self.device)
            if self.runtime == "onnxruntime" and self.device not in ("auto", "cpu"):
                raise ValueError(
                    f"--runtime onnxruntime runs on the CPU, not on {self.device!r}. Leave out one of them."
                )
            if self.system is not None:
                from lifemask.systems.registry import check_first_stage

                check_first_stage(self.system)
        except ValueError as error:
            print(error, file=sys.stderr)
            return USAGE
        if not self.photos:
            print("No photo. Try: lifemask reconstruct a.jpg -o heads", file=sys.stderr)
            return USAGE
        try:
            self._require_packages()
        except ImportError as error:
            print(error, file=sys.stderr)
            return FAILED
        from lifemask.cli.photo_batch import reconstruct_photos

        return reconstruct_photos(self)

    def _require_packages(self) -> None:
        """Raise an ImportError that says what to install, if an extra is missing."""
        if "usdz" in self.formats:
            from lifemask.io.usd import require_usd

            require_usd()
        if self.runtime == "onnxruntime":
            from lifemask.perception.onnx_runtime import require_onnx_runtime

            require_onnx_runtime()
