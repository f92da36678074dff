"""Test photos of heads from ICT-FaceKit with complete truth, which no method here was made from."""
