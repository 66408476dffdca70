"""How often a command looks for memory that it can free."""

import gc

_ALLOCATIONS = 100_000


def collect_seldom() -> None:
    """Makes Python's garbage collector run after 100,000 new objects instead of after 700.

    Imports of the stack leave some 700,000 objects behind, all of which stay; looking through them time and again is
    a third of what they take, and Beam's many small objects pay for it once more. Not for a server, which would keep
    what is dead for longer.
    """
    gc.set_threshold(_ALLOCATIONS)
