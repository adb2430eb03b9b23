def application():
    raise RuntimeError("skeleton")
