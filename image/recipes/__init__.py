"""How each program that the server runs is made, and where the result is kept. Standard library only."""
