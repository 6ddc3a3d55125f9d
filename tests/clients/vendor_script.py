"""The way in which the vendor's tutorial script registers services, with `requests`: digests without `model:`, model
names without a protocol, `bearer` in lower case. And both APIs behind one address, each with its own errors."""

import requests

from carillon import STOCK, running


def drive(base: str, token: str):
    headers = {"Authorization": f"bearer {token}"}

    def call(method: str, path: str, json=None, status: int = 200):
        answer = requests.request(method, base + path, json=json, headers=headers, timeout=30, allow_redirects=False)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json()

    body = STOCK | {"modelDigest": STOCK["modelDigest"].removeprefix("model:"), "modelName": "StockPrice"}
    service = call("POST", "/v1beta1/services/", body)
    assert list(service)[:16] == [
        *("uuid", "agent", "name", "description", "category", "location", "protocolDigest", "modelDigest"),
        *("modelName", "fields", "taskType", "created_at", "updated_at"),
        *("num_conversions", "conversion_rate", "uptime"),
    ], list(service)
    assert service["modelDigest"] == STOCK["modelDigest"]

    group = call("POST", "/v1beta1/service-groups/", {"name": "My Services", "isPrivate": True})
    call("POST", "/v1beta1/services/service-sg/", {"service": service["uuid"], "serviceGroup": group["uuid"]})
    changed = call("PUT", "/v1beta1/services", service | {"name": "Prices"})
    assert changed["name"] == "Prices" and changed["created_at"] == service["created_at"]
    listed = call("GET", f"/v1beta1/services?group={group['uuid']}&search=PRICES&limit=1")
    assert [item["uuid"] for item in listed] == [service["uuid"]]
    assert call("DELETE", f"/v1beta1/services/service-sg/{service['uuid']}/{group['uuid']}") == {}
    assert call("DELETE", f"/v1beta1/services/{service['uuid']}") == {}
    assert call("GET", "/v1beta1/services") == []

    # One address, two APIs, each with its own errors.
    assert call("GET", "/v1beta1/nowhere", status=404) == {"detail": "Not Found", "code": "not_found"}
    assert call("PATCH", "/v1beta1/services", status=405) == {"detail": "Method Not Allowed", "code": "method_not_allowed"}
    fault = call("POST", "/v1beta1/services", body | {"agent": "agent1q"}, status=422)["detail"]
    assert [(item["loc"], set(item)) for item in fault] == [(["body", "agent"], {"loc", "msg", "type"})]
    mentors = "/api/ai-mentor/orgs/acme/users/ann/"
    assert call("GET", f"{mentors}no/where/", status=404) == {"detail": "Not found.", "code": "not_found"}
    refused = {"detail": 'Method "PATCH" not allowed.', "code": "method_not_allowed"}
    assert call("PATCH", mentors, status=405) == refused
    assert call("POST", mentors, {}, status=400) == {"name": ["This field is required."]}
    assert call("GET", mentors)["count"] == 0
    assert call("GET", "/nowhere", status=404) == {"detail": "Not found.", "code": "not_found"}
    assert requests.get(base + "/v1beta1/services", timeout=30).headers["www-authenticate"] == "Bearer"
    assert requests.get(base + mentors, timeout=30).headers["www-authenticate"] == "Token"


with running() as carillon:
    drive(carillon.url, carillon.token("ann", "acme"))
print("vendor script: registered, grouped, changed, found and deleted; two APIs, two forms of errors")
