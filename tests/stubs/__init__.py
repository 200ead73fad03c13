"""Strict stand-ins for servers that cannot be installed here, each proven before it is believed."""
