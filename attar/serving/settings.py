"""Limits of the server, all of them stated in its answers and in its OpenAPI description."""

from dataclasses import dataclass

from attar.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How much one client may ask for, how much may wait, and how long."""

    max_body: int = 4 * 2**20
    """Bytes of a request's body."""
    max_texts: int = 256
    """Texts a request, counted once for every task that is asked about them."""
    max_characters: int = 100_000
    """Characters a text, or all words of a text together."""
    max_tokens: int | None = None
    """Tokens a text. None: longer texts are cut at the model's own limit, as everywhere in attar."""
    batch: int = 64
    """Texts that run through a model together."""
    wait: float = 0.005
    """Seconds that a text may wait for others to fill its batch while the model is idle."""
    queue: int = 2048
    """Texts that may wait; a request that finds no room is told to come back."""
    timeout: float = 30.0
    """Seconds until a request is answered or given up, the reading of its body included."""

    def __post_init__(self) -> None:
        for name in ("max_body", "max_texts", "max_characters", "batch", "queue", "timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} expects a number above 0; found {getattr(self, name)}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens expects a number above 0; found {self.max_tokens}")
        if self.wait < 0:
            raise ConfigError(f"wait expects 0 or more; found {self.wait}")
        if self.queue < self.max_texts:
            raise ConfigError(
                f"a queue of {self.queue} texts never has room for a request of {self.max_texts}; "
                "make the queue longer, or allow fewer texts a request"
            )

    @property
    def max_held(self) -> int:
        """Bytes of bodies that may be held at once, over all requests that are being read or answered."""
        return 32 * self.max_body
