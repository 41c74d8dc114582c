"""How few bits a weight needs, and reading them."""
