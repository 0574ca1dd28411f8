"""Pods and pod templates: one module a concern, ``spec.py`` puts them together."""
