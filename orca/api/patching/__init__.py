"""JSON patch, merge patch, strategic merge patch.

Pure functions from an object and a patch to a new object; nothing is stored here.
"""
