"""Banks of faces: drawn once, stored in numbered parts, read by many trainings."""
