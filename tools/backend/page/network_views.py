"""What the page shows of the operator's cells and of the callbacks sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.backend.page.models import CallbackRow, Callbacks, CellRow, Cells

if TYPE_CHECKING:
    from tools.backend.backend import Backend

CELLS = 500
"""Cells in the table; a network of one backend has tens."""

CALLBACKS = 100
"""Callback messages in the table, the newest."""


async def cells(backend: Backend) -> Cells:
    """The cells that serve somebody, or have a capacity of their own, by name."""
    places, capacities = backend.engine.cells, backend.operator.cells
    serving = backend.operator.serving()
    names = sorted({*serving, *capacities.own()})
    return Cells(
        cells=[
            CellRow(
                name=name,
                attached=serving[name],
                active=places.active(name),
                waiting=places.waiting(name),
                capacity=capacities.limit(name),
            )
            for name in names[:CELLS]
        ],
        truncated=len(names) > CELLS,
    )


async def callbacks(backend: Backend) -> Callbacks:
    """The newest callback messages."""
    return Callbacks(
        callbacks=[
            CallbackRow(
                number=message.number,
                account=message.account,
                version=message.version,
                kind=message.kind,
                campaign=message.campaign,
                state=message.state,
                tries=message.tries,
                created=message.created,
                due=message.due,
                finished=message.finished,
                error=message.error,
            )
            for message in await backend.callbacks.recent(CALLBACKS)
        ]
    )
