"""The networks in ONNX Runtime: two to three times faster on a CPU, without gradients."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lifemask.morphable.assets import read_card
from lifemask.perception.weights import cache_directory

Runtime = Literal["torch", "onnxruntime"]
"""torch is the reference; ONNX Runtime agrees within a tested tolerance."""


def require_onnx_runtime() -> None:
    """Raise an ImportError that says what to install, if the packages are missing."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise ImportError(
                f"ONNX Runtime needs the package {package}. Run: pip install 'lifemask[onnx]'."
            )


class OnnxNetwork:
    """A network that is exported to ONNX once, into the cache, and runs on one thread."""

    def __init__(
        self,
        network: nn.Module,
        names: Sequence[str],
        input_shape: Sequence[int],
        *,
        free_axes: Sequence[int] = (0,),
    ) -> None:
        """Export the network, or find it in the cache.

        Args:
            network: its input is one image tensor.
            names: of the assets that hold its weights.
            input_shape: an example of the input's shape.
            free_axes: axes of the input whose length may vary.

        Raises:
            ImportError: onnx or onnxruntime is not installed.
        """
        require_onnx_runtime()
        import onnxruntime

        version = "-".join(read_card(name).sha256[:12] for name in names)
        path = cache_directory() / "onnx" / f"{Path(names[0]).name}-{version}.onnx"
        if not path.exists():
            _export(network, path, input_shape, free_axes)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: Tensor) -> Any:
        """Return the network's outputs, on the CPU and without gradients."""
        values = images.detach().cpu().contiguous().numpy()
        outputs = [torch.from_numpy(o) for o in self._session.run(None, {"images": values})]
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


Network = nn.Module | OnnxNetwork
"""A torch module, or its export."""


def _export(
    network: nn.Module, path: Path, input_shape: Sequence[int], free_axes: Sequence[int]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{id(network)}.partial")
    names = {axis: f"axis_{axis}" for axis in free_axes}
    with warnings.catch_warnings():
        # The exporter that needs no further package is deprecated, and warns about constant shapes,
        # which these networks have by design.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.cpu(),
            (torch.zeros(*input_shape),),
            str(partial),
            input_names=["images"],
            dynamic_axes={"images": names},
            dynamo=False,
            opset_version=17,
        )
    partial.replace(path)
