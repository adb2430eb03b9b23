"""The server: ministack, and beside it what AWS does and ministack does not, a file for each area.

Each function that mends something says in its docstring what AWS does. Ministack's own functions are wrapped, not replaced, so
that whatever they do right stays theirs.
"""
