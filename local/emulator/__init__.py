"""The server: ministack with patches where AWS behaves differently, one module per area.

Each module's `patch` wraps ministack's functions; the docstring of a wrapper states what AWS does.
"""
