"""Networks that look at framed faces, and their released weights."""
