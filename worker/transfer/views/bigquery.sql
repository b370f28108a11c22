-- The archive as a view of BigQuery: one row for each message, or for each record of a LangGraph thread.
-- It needs a dataset: bq query --dataset_id=DATASET --use_legacy_sql=false
CREATE OR REPLACE EXTERNAL TABLE torpor_lines (
    session_id STRING,
    epoch INT64,
    seq INT64,
    `at` INT64,
    message JSON,
    record JSON,
    raw STRING
)
OPTIONS (
    format = 'NEWLINE_DELIMITED_JSON',
    compression = 'GZIP',
    ignore_unknown_values = TRUE,
    uris = ['<archive>/v1/*.jsonl.gz']
);
CREATE OR REPLACE VIEW torpor_messages AS
WITH parts AS (
    SELECT
        *,
        JSON_QUERY(message, '$.data') IS NOT NULL AS is_langchain,
        COALESCE(
            NULLIF(
                NULLIF(
                    NULLIF(
                        TO_JSON_STRING(COALESCE(JSON_QUERY(message, '$.data.content'), JSON_QUERY(message, '$.content'))),
                        'null'
                    ),
                    '[]'
                ),
                '""'
            ),
            TO_JSON_STRING(COALESCE(JSON_QUERY(message, '$.output'), JSON_QUERY(message, '$.summary')))
        ) AS content
    FROM torpor_lines
    -- The inventories of purges have other fields.
    WHERE session_id IS NOT NULL
    -- A message may have been uploaded twice.
    QUALIFY ROW_NUMBER() OVER (PARTITION BY session_id, epoch, seq ORDER BY `at` DESC) = 1
)
SELECT
    session_id AS session,
    IF(record IS NULL, 'chat', 'thread') AS kind,
    ROW_NUMBER() OVER (PARTITION BY session_id ORDER BY epoch, seq) - 1 AS sequence,
    TIMESTAMP_MILLIS(`at`) AS time,
    COALESCE(JSON_VALUE(message, '$.role'), JSON_VALUE(message, '$.type'), JSON_VALUE(record, '$.kind')) AS role,
    COALESCE(
        JSON_VALUE(content, '$'),
        ARRAY_TO_STRING(
            ARRAY(
                SELECT COALESCE(JSON_VALUE(part, '$'), JSON_VALUE(part, '$.text'), JSON_VALUE(part, '$.refusal'))
                FROM UNNEST(JSON_QUERY_ARRAY(content, '$')) AS part WITH OFFSET AS position
                WHERE NOT is_langchain OR JSON_VALUE(part, '$') IS NOT NULL OR JSON_VALUE(part, '$.type') = 'text'
                ORDER BY position
            ),
            IF(is_langchain, '', '\n')
        )
    ) AS text,
    IF(
        JSON_VALUE(message, '$.type') = 'function_call',
        [STRUCT(
            JSON_VALUE(message, '$.call_id') AS id,
            JSON_VALUE(message, '$.name') AS name,
            JSON_VALUE(message, '$.arguments') AS arguments
        )],
        ARRAY(
            SELECT AS STRUCT
                JSON_VALUE(call, '$.id') AS id,
                JSON_VALUE(call, '$.name') AS name,
                TO_JSON_STRING(JSON_QUERY(call, '$.args')) AS arguments
            FROM UNNEST(JSON_QUERY_ARRAY(message, '$.data.tool_calls')) AS call WITH OFFSET AS position
            ORDER BY position
        )
    ) AS tool_calls,
    TO_JSON_STRING(message) AS message,
    TO_JSON_STRING(record) AS record,
    raw
FROM parts;
