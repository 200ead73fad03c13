"""LwM2M 1.1: codecs, object model, and the device as a client (OMA TS LightweightM2M Core 1.1)."""
