"""The operations of applications that are one call; `torpor.history.calls` describes each."""

from __future__ import annotations

from torpor.history import calls
from torpor.history.store.operation import Operation


class SingleCalls:
    """Operations that are one atomic round trip each."""

    append = Operation(calls.append, record=True)
    write_record = Operation(calls.write_record, record=True)
    rewrite = Operation(calls.rewrite, record=True)
    read_checkpoint = Operation(calls.read_checkpoint)
    info = Operation(calls.info)
    close = Operation(calls.close)
    clear = Operation(calls.clear, record=True)
    pop = Operation(calls.pop, record=True)
    hold = Operation(calls.hold, record=True)
    release_hold = Operation(calls.release_hold, record=True)
    assign_owner = Operation(calls.assign_owner, record=True)
    set_aside = Operation(calls.set_aside)
    add_events = Operation(calls.add_events)

    begin_restore = Operation(calls.begin_restore, record=True)
    stage = Operation(calls.stage)
    finish_restore = Operation(calls.finish_restore)
    abandon = Operation(calls.abandon)
