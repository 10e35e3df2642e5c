"""The parts of ``planted_bias.py``: photographs, networks, what they use, and what finds it."""
