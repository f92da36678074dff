"""From photos to reconstructed heads, their pictures and their files."""
