"""Recognise the detach sequence (ctrl-p,ctrl-q by default) in what a client types."""


class DetachKeys:
    """A matcher over a byte stream. Bytes that may begin the sequence are held back until that is decided."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """``(bytes to pass on, whether the sequence is complete)``; what follows the sequence is dropped."""
        sequence = self._sequence
        if not sequence or (not self._held and sequence[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            # Fall back to the longest beginning of the sequence that the held bytes still end with.
            while self._held and byte != sequence[self._held]:
                held = sequence[: self._held]
                keep = next((n for n in range(len(held) - 1, 0, -1) if held.endswith(sequence[:n])), 0)
                passed += held[: self._held - keep]
                self._held = keep
            if byte == sequence[self._held]:
                self._held += 1
                if self._held == len(sequence):
                    return bytes(passed), True
            else:
                passed.append(byte)
        return bytes(passed), False

    def flush(self) -> bytes:
        """At the end of the stream: what was held back."""
        held, self._held = self._sequence[: self._held], 0
        return held
