"""Small seeded generators: device ``i`` of group ``g`` draws the same numbers under the same seed.

SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). One
integer of state, where a ``random.Random`` weighs 2.5 KiB: half of what an idle device may cost.
Not for keys or nonces.
"""

from __future__ import annotations

__all__ = ["DeviceRandom"]

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15  # the golden ratio as a 64-bit odd integer, from the paper


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


class DeviceRandom:
    """The numbers that one device draws, in order."""

    __slots__ = ("_state",)

    def __init__(self, seed: int, group: int = 0, index: int = 0) -> None:
        self._state = _mix(_mix(_mix(seed & _MASK) ^ (group & _MASK)) + (index + 1) * _GAMMA)

    def u64(self) -> int:
        """The next 64 random bits."""
        self._state = (self._state + _GAMMA) & _MASK
        return _mix(self._state)

    def below(self, bound: int) -> int:
        """A whole number in ``range(bound)``; the bias of at most ``bound / 2**64`` is accepted."""
        if bound <= 0:
            raise ValueError(f"bound must be positive, not {bound}")
        return (self.u64() * bound) >> 64

    def uniform(self, low: float, high: float) -> float:
        """A number in ``[low, high)``."""
        return low + (high - low) * ((self.u64() >> 11) * 2.0**-53)

    def bytes(self, count: int) -> bytes:
        """``count`` random bytes (message tokens, test payloads; never key material)."""
        words = (count + 7) // 8
        return b"".join(self.u64().to_bytes(8, "big") for _ in range(words))[:count]
