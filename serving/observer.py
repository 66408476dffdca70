"""Who wants to know what becomes of versions."""


class Observer:
    """Is told what happens, from the repository's own threads; made to be subclassed."""

    def loaded(self, model: str, version: int, seconds: float) -> None:
        """A version was loaded and warmed, which took so long."""

    def load_failed(self, model: str, version: int, message: str) -> None:
        """A version could not be loaded."""

    def unloaded(self, model: str, version: int) -> None:
        """A version was let go of."""

    def troubled(self, troubles: list[str]) -> None:
        """What keeps the repository from following the disk has changed; an empty list says that all is well."""
