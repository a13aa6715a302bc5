"""How near turns, told from bytes alone, come to the requests that servers count. See README.md."""
