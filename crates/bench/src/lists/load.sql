-- :agents agents with ten logs each; half of them are of the organisation `half`, the others of a thousand more.
INSERT INTO organisations (key, timezone, created_at)
SELECT 'half', 'UTC', now() UNION ALL SELECT 'org-' || n, 'UTC', now() FROM generate_series(1, 1000) n;

INSERT INTO mentors (unique_id, organisation, name, slug, display_name, description, system_prompt, llm_provider,
    llm_name, provider, service_groups, created_by, created_at, updated_at)
SELECT gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'half' ELSE 'org-' || (n % 1000 + 1) END, 'Mentor ' || n,
    'mentor-' || n, '', '', '', '', '', '{"kind": "echo"}', '[]', 'admin', now(), now()
FROM generate_series(1, 2000) n;

ALTER TABLE agents DISABLE TRIGGER USER;
INSERT INTO agents (organisation, mentor_id, title, username, last_editor, description, prompt, minute, hour,
    day_of_month, month_of_year, day_of_week, one_off, enabled, pathway, callback_url, parent_session_id,
    parent_mentor_id, previous_agent_status, search_text, created_at, modified_at, timing_version, jitter_seconds,
    overlap_policy, catch_up, max_attempts, timeout_seconds, callback_on_runs, callback_on_skipped, callback_encrypt,
    callback_signature_only_hub, paused, paused_note)
SELECT mentors.organisation, mentors.id, 'Agent ' || n, 'user-' || (m % 97), 'admin', 'Made to be counted',
    'Tell me what is new about number ' || n, m % 60, '*', '*', '*', '*', false, m % 10 <> 0, '', '',
    CASE WHEN m % 20 = 0 THEN 'session-' || (m / 20 % 500) ELSE '' END,
    CASE WHEN m % 20 = 0 THEN m / 20 % 500 END, CASE WHEN m % 50 = 0 THEN 'error' ELSE 'success' END,
    lower('Agent ' || n || E'\nMade to be counted\nTell me what is new about number ' || n),
    now() - n * interval '1 second', now(), 1, 0, 'allow', 'latest', 1, 600, true, false, false, false, false, ''
-- Odd and even numbers are of different organisations, and of each kind in both.
FROM (SELECT n, n / 2 AS m FROM generate_series(1, :agents) n) AS numbers
JOIN mentors ON mentors.slug = 'mentor-' || (n % 2000 + 1)
ORDER BY n;
UPDATE agents SET previous_agent_id = id - 2 WHERE id % 100 = 99;

INSERT INTO agent_activity (agent_id, organisation, latest_run_id, latest_status, next_fire_time_as_of)
SELECT id, organisation, id * 10 + 9,
    CASE WHEN id / 2 % 100 = 1 THEN 'error' WHEN id / 2 % 1000 = 2 THEN 'running' WHEN id / 2 % 100 = 3 THEN NULL
        ELSE 'success' END,
    now()
FROM agents;

ALTER TABLE logs DISABLE TRIGGER USER;
INSERT INTO logs (id, organisation, agent_id, state, made_by, fire_time, nominal_time, requested_at, started_at,
    ended_at, sequence, run_attempt, prompt_tokens, completion_tokens, session_id)
SELECT agents.id * 10 + n, agents.organisation, agents.id,
    CASE WHEN agents.id / 2 % 100 = 1 THEN 'error' WHEN n = 9 AND agents.id / 2 % 1000 = 2 THEN 'running'
        ELSE 'success' END,
    'schedule', at, at, at, at, at, n + 1, 1, 10, 10, 'session'
FROM generate_series(0, 9) n CROSS JOIN agents,
    LATERAL (SELECT now() - (10 - n) * interval '1 hour' - agents.id * interval '1 millisecond' AS at) AS moment;
INSERT INTO log_bodies (log_id, prompt, output, content)
SELECT id, 'Tell me what is new', 'Nothing is new', 'asked' || E'\n' || 'answered ' || id FROM logs;
INSERT INTO log_counts (organisation, username, state, count)
SELECT logs.organisation, agents.username, logs.state, count(*)
FROM logs JOIN agents ON agents.id = logs.agent_id GROUP BY 1, 2, 3;
ALTER TABLE logs ENABLE TRIGGER USER;
ALTER TABLE agents ENABLE TRIGGER USER;
