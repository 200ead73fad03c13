"""The reference backend: REST in front, a campaign engine in the middle, device faces behind.

It knows devices only through the wires that a real backend has. Take `tools.backend.serve.Backend`
to embed it; `fotilla backend` serves it alone.
"""
