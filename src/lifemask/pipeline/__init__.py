"""Photos to reconstructed heads, and what can be made of them."""
