"""Safety and convergence of every controller's pure plan, from any state and with any order of troubles.

Each file runs one controller's plan step by step in a small model world (`world`) where pods start, break, end, are
deleted by others and vanish, and where the controller's view of them lags behind. After each step the safety rules are
checked, and once the troubles stop the world must come to rest as the spec says.
"""
