-- The archive as a view of ClickHouse: one row for each message, or for each record of a LangGraph thread.
-- A folder is for chDB and clickhouse-local. A bucket needs a key: put it in the place of HMAC_KEY and HMAC_SECRET.
CREATE OR REPLACE VIEW torpor_messages AS
WITH
    lines AS (
        SELECT *
        FROM <source>
        -- A message may have been uploaded twice.
        ORDER BY at DESC
        LIMIT 1 BY session_id, epoch, seq
    ),
    contents AS (
        SELECT
            *,
            JSONHas(message, 'data') AS is_langchain,
            arrayFirst(
                each -> each NOT IN ('', 'null', '[]', '""'),
                [
                    JSONExtractRaw(message, 'data', 'content'),
                    JSONExtractRaw(message, 'content'),
                    JSONExtractRaw(message, 'output'),
                    JSONExtractRaw(message, 'summary')
                ]
            ) AS content
        FROM lines
    ),
    texts AS (
        SELECT
            *,
            arrayMap(
                part -> multiIf(
                    JSONType(part) = 'String', JSONExtractString(part),
                    is_langchain AND JSONExtractString(part, 'type') != 'text', '',
                    JSONHas(part, 'text'), JSONExtractString(part, 'text'),
                    JSONExtractString(part, 'refusal')
                ),
                if(JSONType(content) = 'Array', JSONExtractArrayRaw(content), [content])
            ) AS texts
        FROM contents
    )
SELECT
    session_id AS session,
    if(record = '', 'chat', 'thread') AS kind,
    row_number() OVER (PARTITION BY session_id ORDER BY epoch, seq) - 1 AS sequence,
    fromUnixTimestamp64Milli(at, 'UTC') AS time,
    arrayFirst(
        name -> name != '',
        [JSONExtractString(message, 'role'), JSONExtractString(message, 'type'), JSONExtractString(record, 'kind')]
    ) AS role,
    if(
        is_langchain,
        arrayStringConcat(texts, ''),
        arrayStringConcat(arrayFilter(text -> text != '', texts), '\n')
    ) AS text,
    if(
        JSONExtractString(message, 'type') = 'function_call',
        [(
            JSONExtractString(message, 'call_id'),
            JSONExtractString(message, 'name'),
            JSONExtractString(message, 'arguments')
        )],
        arrayMap(
            call -> (JSONExtractString(call, 'id'), JSONExtractString(call, 'name'), JSONExtractRaw(call, 'args')),
            JSONExtractArrayRaw(message, 'data', 'tool_calls')
        )
    )::Array(Tuple(id String, name String, arguments String)) AS tool_calls,
    message,
    record,
    raw
FROM texts;
