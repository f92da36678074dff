"""The head's texture from the photo: unwrapped, freed of light, completed, with eyes, teeth, hair."""
