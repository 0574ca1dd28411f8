"""The functions of expressions, one module a library of upstream's.

Each module declares signatures, implementations and runtime costs; the costs are upstream's, because they decide which
expressions are stopped. Nothing here reads a clock, the network or an object.
"""
