"""How a device talks: one package per protocol, each with a device client on the same seam."""
