"""The batches of a step that went wrong, kept so that it can be repeated."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save

from lifemask.data.batch import FaceBatch
from lifemask.geometry.tensors import named_tensors
from lifemask.io.files import make_folder, write_bytes


def save_batches(
    path: Path, names: Sequence[str], batches: Sequence[FaceBatch], about: Mapping[str, Any]
) -> None:
    """Write batches as safetensors: `SOURCE.FIELD`, with `about` as JSON in the header.

    Raises:
        OutputError: it could not be written.
    """
    tensors = {
        key: tensor.detach().cpu().contiguous()
        for name, batch in zip(names, batches, strict=True)
        for key, tensor in named_tensors(batch, name).items()
    }
    make_folder(path.parent)
    write_bytes(path, save(tensors, metadata={"about": json.dumps(dict(about), default=str)}))
