"""ONNX Runtime agrees with torch."""

import pytest
import torch

from lifemask.perception import FacePerception


@pytest.fixture(scope="module")
def fast_perception(tmp_path_factory) -> FacePerception:
    pytest.importorskip("onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFEMASK_CACHE", str(tmp_path_factory.mktemp("cache")))
        return FacePerception.from_pretrained(runtime="onnxruntime")


def test_both_runtimes_observe_the_same(perception, fast_perception, portrait):
    slow, fast = perception.detect(portrait)[0], fast_perception.detect(portrait)[0]
    torch.testing.assert_close(fast.box_xyxy, slow.box_xyxy, atol=0.01, rtol=0.0)
    torch.testing.assert_close(fast.keypoints5, slow.keypoints5, atol=0.01, rtol=0.0)
    expected, found = perception.observe(portrait, slow), fast_perception.observe(portrait, slow)
    torch.testing.assert_close(found.landmarks478, expected.landmarks478, atol=0.02, rtol=0.0)
    torch.testing.assert_close(found.segmentation, expected.segmentation, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(found.embedding, expected.embedding, atol=1e-4, rtol=0.0)
    assert found.presence == pytest.approx(expected.presence, abs=1e-4)
