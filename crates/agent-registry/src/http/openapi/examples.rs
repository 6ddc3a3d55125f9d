//! Examples of what is asked and answered.

use serde_json::{Value, json};

const MENTOR_ID: &str = "4e1d5c9e-58c5-4f0e-9a53-2f4f0f6f3a10";

pub(super) fn agent_body() -> Value {
    json!({
        "mentor": MENTOR_ID,
        "title": "Morning news",
        "prompt": "What happened overnight?",
        "task": { "crontab": { "minute": "0", "hour": "7", "timezone": "Europe/Vienna" }, "overlap_policy": "skip" },
        "callback_url": "https://hooks.example.com/carillon",
        "callback_secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    })
}

/// As an answer to a read shows it.
pub(super) fn agent() -> Value {
    let mut agent = written_agent();
    agent["mentor"] = mentor();
    agent["callback_secret"] = json!("");
    agent
}

/// As an answer to a write shows it.
pub(super) fn written_agent() -> Value {
    json!({
        "id": 7,
        "mentor": MENTOR_ID,
        "title": "Morning news",
        "username": "admin@acme.example",
        "description": "",
        "prompt": "What happened overnight?",
        "task": {
            "id": 7,
            "name": "7: Morning news",
            "crontab": {
                "minute": "0", "hour": "7", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*",
                "timezone": "Europe/Vienna",
            },
            "one_off": false,
            "start_time": null,
            "enabled": true,
            "end_time": null,
            "jitter_seconds": 0,
            "overlap_policy": "skip",
            "catch_up": "latest",
            "catch_up_window_seconds": 86400,
            "max_attempts": 1,
            "timeout_seconds": 600,
        },
        "created_at": "2026-11-21T12:00:00Z",
        "modified_at": "2026-11-21T12:00:00Z",
        "enabled": true,
        "one_off": false,
        "platform_key": "acme",
        "pathway": "",
        "callback_url": "https://hooks.example.com/carillon",
        "callback_secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "parent_session_id": "",
        "parent_mentor_id": null,
        "previous_agent": null,
        "previous_agent_status": "success",
        "previous_agent_output": "",
        "callback_on": ["runs"],
        "callback_options": { "encrypt": false, "signature_only_hub": false },
        "next_fire_time": "2026-11-22T06:00:00Z",
        "last_status": "pending",
        "paused": false,
        "paused_note": "",
        "callback_secret_set": true,
        "callback_state": "ok",
        "failing_since": null,
    })
}

pub(super) fn statistics() -> Value {
    json!({ "total_tasks": 4, "succeeded_tasks": 2, "failed_tasks": 1, "running_tasks": 0, "pending_tasks": 1 })
}

pub(super) fn rotated() -> Value {
    json!({
        "callback_secret": "whsec_9FNZkD3E0nTfQ7xYyqS5v1hB2wJcL8mKpRtUaZgXeHo=",
        "callback_secret_set": true,
        "previous_secret_until": "2026-11-21T13:00:00Z",
    })
}

pub(super) fn log() -> Value {
    json!({
        "id": 17950000000001_i64,
        "content": "Nothing much.",
        "status": "success",
        "start_time": "2026-11-22T06:00:00Z",
        "end_time": "2026-11-22T06:00:04Z",
        "created_at": "2026-11-22T06:00:00Z",
        "modified_at": "2026-11-22T06:00:04Z",
        "periodic_agent": 7,
        "state": "success",
        "nominal_time": "2026-11-22T06:00:00Z",
        "fire_time": "2026-11-22T06:00:00Z",
        "lateness_ms": 4,
        "sequence": 1,
        "run_attempt": 1,
        "trigger": "schedule",
        "reason": null,
        "agent_output": "Nothing much.",
        "prompt": "What happened overnight?",
        "session_id": "0b8f9f9e",
        "usage": { "prompt_tokens": 12, "completion_tokens": 3 },
    })
}

pub(super) fn tick() -> Value {
    json!({
        "fire_time": "2026-11-22T06:00:00Z",
        "nominal_time": "2026-11-22T06:00:00Z",
        "outcome": "run",
        "reason": null,
        "log_id": 17950000000001_i64,
        "until": null,
    })
}

pub(super) fn mentor_body() -> Value {
    json!({
        "name": "Ada",
        "system_prompt": "Be brief.",
        "provider": { "kind": "openai", "base_url": "https://api.example.com/v1", "model": "small", "api_key": "sk-..." },
    })
}

pub(super) fn mentor() -> Value {
    json!({
        "id": 3,
        "unique_id": MENTOR_ID,
        "name": "Ada",
        "slug": "ada",
        "display_name": "",
        "description": "",
        "platform": "acme",
        "flow": null,
        "metadata": null,
        "allow_anonymous": false,
        "categories": [],
        "types": [],
        "subjects": [],
        "mcp_servers": [],
        "system_prompt": "Be brief.",
        "llm_provider": "",
        "llm_name": "",
        "llm_temperature": null,
        "provider": {
            "name": "", "kind": "openai", "base_url": "https://api.example.com/v1", "model": "small", "temperature": null,
            "max_output_tokens": null, "headers": {}, "api_key_set": true,
        },
        "service_groups": [],
        "created_by": "admin@acme.example",
        "created_at": "2026-11-21T12:00:00Z",
        "updated_at": "2026-11-21T12:00:00Z",
    })
}

pub(super) fn templates() -> Value {
    json!([{
        "id": 1,
        "name": "ai-mentor",
        "platform": "main",
        "slug": "ai-mentor",
        "unique_id": "7f1d3c52-0c0c-5a53-9a2d-6d0c7a1d0001",
        "description": "A mentor that says only what it is told to.",
        "system_prompt": "",
    }])
}
