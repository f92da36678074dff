"""Networks for training and evaluation come from the cache; errors say how to build them."""

import numpy as np
import pytest
import torch

from lifemask.perception.lpips import load_lpips
from lifemask.perception.sface import load_sface
from lifemask.perception.weights import cache_directory


@pytest.fixture
def built(request: pytest.FixtureRequest) -> None:
    path = cache_directory() / "perception" / f"{request.param}.safetensors"
    if not path.exists():
        pytest.skip(
            f"{path} is not built: python tools/convert_perception.py --only {request.param}"
        )


@pytest.mark.parametrize(("load", "name"), [(load_sface, "sface"), (load_lpips, "lpips_alex")])
def test_missing_weights_say_which_command_builds_them(tmp_path, monkeypatch, load, name):
    monkeypatch.setenv("LIFEMASK_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"convert_perception.py --only {name}"):
        load()


@pytest.mark.parametrize("built", ["sface"], indirect=True)
@pytest.mark.usefixtures("built")
def test_sface_agrees_with_the_original_runtime(face, reference):
    with torch.inference_mode():
        # The original is fed RGB here; its own aligner feeds RGB too.
        embedding = load_sface()(face[:, :, 8:120, 8:120])[0]
    similarity = torch.cosine_similarity(embedding, reference["sface"], dim=0)
    assert similarity > 0.9999


@pytest.mark.parametrize("built", ["lpips_alex"], indirect=True)
@pytest.mark.usefixtures("built")
def test_lpips_is_zero_for_equal_images_and_grows_with_blur(portrait):
    lpips = load_lpips()
    image = torch.from_numpy(portrait[::4, ::4].copy()).permute(2, 0, 1)[None] / 255.0
    blurred = [torch.nn.functional.avg_pool2d(image, k, 1, k // 2) for k in (3, 7)]
    with torch.inference_mode():
        none, little, much = (float(lpips(other, image)) for other in (image, *blurred))
    assert none == 0.0
    assert 0.0 < little < much < 1.0


@pytest.mark.parametrize("built", ["lpips_alex"], indirect=True)
@pytest.mark.usefixtures("built")
def test_weighted_lpips_ignores_pixels_without_weight():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 128, 128, generator=generator)
    other = image.clone()
    other[..., 64:] = 0.5
    left, right = torch.zeros(2, 1, 1, 128, 128)
    left[..., :32] = 1.0
    right[..., 96:] = 1.0
    lpips = load_lpips()
    with torch.inference_mode():
        seen, unseen = lpips(image, other, weight=right), lpips(image, other, weight=left)
    assert unseen < 0.1 * seen


@pytest.mark.parametrize("built", ["lpips_alex"], indirect=True)
@pytest.mark.usefixtures("built")
def test_lpips_has_the_gradient_of_finite_differences():
    rng = np.random.default_rng(0)
    lpips = load_lpips().double()
    reference = torch.from_numpy(rng.random((1, 3, 64, 64)))
    image = torch.from_numpy(rng.random((1, 3, 64, 64))).requires_grad_(True)
    (gradient,) = torch.autograd.grad(lpips(image, reference).sum(), image)
    step = 1e-5 * gradient / gradient.norm()
    with torch.no_grad():
        ahead, behind = lpips(image + step, reference), lpips(image - step, reference)
    difference = float(ahead - behind) / 2e-5
    assert difference == pytest.approx(float(gradient.norm()), rel=1e-3)
