"""What an object is: resource table, schema, names, quantities, selectors, defaults, validation, columns, patches.

Pure: no I/O, no clock, no asyncio, and nothing else of ours is imported here.
"""
