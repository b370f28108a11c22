"""The command that prints the archive as a view of a query engine."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.worker.deployment.settings import load_settings
from torpor.worker.transfer import views
from torpor.worker.transfer.views import Engine


def sql(
    context: typer.Context,
    engine: Annotated[Engine, typer.Argument(help="The query engine.")],
) -> None:
    """Print the SQL that makes the archive a view of a query engine.

    The view is torpor_messages, with one row for each message: session, kind, sequence, time, role, text, tool_calls,
    and the whole message as JSON text. It has the sessions that sleep. Nothing is connected to.

    Example: torpor sql duckdb > view.sql

    Example: torpor sql bigquery | bq query --dataset_id=chats --use_legacy_sql=false
    """
    typer.echo(views.statement(engine, load_settings(context.obj).archive_url), nl=False)
