"""Faces: their meshes in photographs, the canonical face, and what carries maps between them."""
