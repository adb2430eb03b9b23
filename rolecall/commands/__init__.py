"""The commands and their options. A function's docstring is its command's help, which makes some of them long."""
