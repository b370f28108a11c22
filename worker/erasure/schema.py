"""Print the JSON Schema of receipts: `python -m torpor.worker.erasure.schema`."""

from __future__ import annotations

import json
import sys

from torpor.worker.erasure.receipt import Receipt


def text() -> str:
    """The schema as docs/schemas/receipt.schema.json has it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Receipt.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
