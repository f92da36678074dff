"""The head's light-free texture from its photo: skin, eyes, teeth and hair."""
