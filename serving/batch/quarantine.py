"""Lists malformed records, and decides whether there are too many."""

import json
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile

from components.errors import BadInputError
from serving.batch.files import copy, make_directory, remove, replaced
from serving.batch.output import Output
from serving.batch.plan import Plan, make_plan
from serving.batch.rows import Malformed

_IN_MEMORY_BYTES = 1 << 20


def plan_with_quarantine(
    files: Sequence[str],
    asked: Sequence[str],
    names: tuple[str, str],
    output: Output,
    shard_rows: int,
    budget: float,
) -> Plan:
    """Reads the input, lists what is malformed as JSON lines (file, line, reason, hash), and returns the plan.

    Nothing else is written, and nothing at all where there is nothing to list.

    Args:
        files, asked, names, shard_rows: As for ``make_plan``.
        output: Where it will go.
        budget: Largest share of malformed records that is let pass, 0 to 1.

    Raises:
        BadInputError: Of ``make_plan``; or too many records are malformed, or none is usable.
    """
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as held:

        def note(path: str, record: Malformed) -> None:
            entry = {"file": path, "line": record.line, "reason": record.reason, "sha256": record.digest}
            held.write(json.dumps(entry).encode() + b"\n")

        plan = make_plan(files, asked, names, output.target, shard_rows, note)
        if plan.malformed:
            directory = output.quarantine.rpartition("/")[0]
            make_directory(directory)
            held.seek(0)
            with replaced(output.quarantine, directory) as file:
                copy(held, file)  # type: ignore[arg-type]
        else:
            remove(output.quarantine)
    records = plan.rows + plan.malformed
    if plan.malformed > budget * records:
        raise BadInputError(
            f"{plan.malformed:,} of {records:,} records are malformed, more than the budget of {budget:.2%} "
            f"(--malformed-budget): see {output.quarantine} for line and reason of each"
        )
    if not plan.rows:
        raise BadInputError(f"{files[0]} holds no row to classify: is this the right file?")
    return plan
