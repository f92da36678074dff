"""Test photos of ICT-FaceKit heads with complete truth; no method here was made from them."""
