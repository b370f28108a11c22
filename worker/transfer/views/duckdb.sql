-- The archive as a view of DuckDB: one row for each message, or for each record of a LangGraph thread.
-- A bucket needs a key first: CREATE SECRET (TYPE gcs, KEY_ID '...', SECRET '...');
CREATE OR REPLACE VIEW torpor_messages AS
WITH lines AS (
    SELECT *
    FROM read_json(
        '<archive>/v1/*/*/*/*.jsonl.gz',
        format = 'newline_delimited',
        maximum_object_size = 1000000000,
        columns = {
            session_id: 'VARCHAR', epoch: 'BIGINT', seq: 'BIGINT', "at": 'BIGINT',
            message: 'JSON', record: 'JSON', raw: 'VARCHAR'
        }
    )
    -- A message may have been uploaded twice.
    QUALIFY row_number() OVER (PARTITION BY session_id, epoch, seq ORDER BY "at" DESC) = 1
),
contents AS (
    SELECT
        *,
        json_exists(message, '$.data') AS is_langchain,
        list_filter(
            [
                json_extract(message, '$.data.content'),
                json_extract(message, '$.content'),
                json_extract(message, '$.output'),
                json_extract(message, '$.summary')
            ],
            lambda each: each::VARCHAR NOT IN ('null', '[]', '""')
        )[1] AS content
    FROM lines
),
texts AS (
    SELECT
        *,
        CASE json_type(content)
            WHEN 'VARCHAR' THEN [json_extract_string(content, '$')]
            WHEN 'ARRAY' THEN list_transform(
                from_json(content, '["JSON"]'),
                lambda part: CASE
                    WHEN json_type(part) = 'VARCHAR' THEN json_extract_string(part, '$')
                    WHEN NOT is_langchain OR json_extract_string(part, '$.type') = 'text'
                    THEN coalesce(json_extract_string(part, '$.text'), json_extract_string(part, '$.refusal'))
                END
            )
        END AS texts
    FROM contents
)
SELECT
    session_id AS session,
    CASE WHEN record IS NULL THEN 'chat' ELSE 'thread' END AS kind,
    row_number() OVER (PARTITION BY session_id ORDER BY epoch, seq) - 1 AS sequence,
    make_timestamp("at" * 1000) AS time,
    coalesce(
        json_extract_string(message, '$.role'),
        json_extract_string(message, '$.type'),
        json_extract_string(record, '$.kind')
    ) AS role,
    CASE WHEN is_langchain THEN array_to_string(texts, '') ELSE array_to_string(texts, chr(10)) END AS text,
    CASE
        WHEN json_extract_string(message, '$.type') = 'function_call' THEN [{
            'id': json_extract_string(message, '$.call_id'),
            'name': json_extract_string(message, '$.name'),
            'arguments': json_extract_string(message, '$.arguments')
        }]
        ELSE list_transform(
            from_json(json_extract(message, '$.data.tool_calls'), '["JSON"]'),
            lambda call: {
                'id': json_extract_string(call, '$.id'),
                'name': json_extract_string(call, '$.name'),
                'arguments': json_extract(call, '$.args')::VARCHAR
            }
        )
    END AS tool_calls,
    message::VARCHAR AS message,
    record::VARCHAR AS record,
    raw
FROM texts;
