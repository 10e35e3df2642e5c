"""The figures of the paper, one function each; ``reproduce_paper.py`` runs them."""
