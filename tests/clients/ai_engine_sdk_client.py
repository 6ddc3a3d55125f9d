"""The real `ai-engine-sdk`: everything that it does with groups and functions, against a real Carillon."""

import asyncio

from ai_engine_sdk import AiEngine, FunctionGroup
from ai_engine_sdk.client import make_api_request

from carillon import STOCK, running


async def refused(call, status: int):
    try:
        await call
    except Exception as error:
        assert f"status {status}" in str(error), error
        return
    raise AssertionError(f"was not refused with {status}")


async def drive(url: str, token_of):
    ann = AiEngine(token_of("ann", "acme"), {"api_base_url": url})
    ben = AiEngine(token_of("ben", "acme"), {"api_base_url": url})
    eve = AiEngine(token_of("eve", "other"), {"api_base_url": url})

    async def request(method: str, endpoint: str, payload=None):
        return await make_api_request(url, ann._api_key, method, endpoint, payload)

    assert await ann.get_function_groups() == []
    private = await ann.create_function_group(is_private=True, name="My Functions")
    public = await ann.create_function_group(is_private=False, name="For everyone at acme")
    assert isinstance(private, FunctionGroup) and private.isPrivate and not public.isPrivate
    assert await ann.get_private_function_groups() == [public, private]
    assert await ann.get_public_function_groups() == [public]
    assert await ann.get_function_groups() == [public, private, public]
    assert await ben.get_function_groups() == [public]
    assert await eve.get_function_groups() == []

    service = await request("POST", "/v1beta1/services", STOCK)
    assert [(function.uuid, function.name) for function in await ann.get_functions()] == [
        (service["uuid"], STOCK["name"])
    ]
    pair = {"service": service["uuid"], "serviceGroup": public.uuid}
    assert await request("POST", "/v1beta1/services/service-sg/", pair) == pair
    assert await ann.get_function_group_by_function(service["uuid"]) == [public]

    # This SDK reads the names and forgets to return them: what it read is looked at with its own request.
    for engine in (ann, ben):
        assert await engine.get_functions_by_function_group(public.uuid) == []
    names = await request("GET", f"/v1beta1/function-groups/{public.uuid}/functions/")
    assert names == {"function_group": public.uuid, "functions": [STOCK["name"]]}
    await refused(eve.get_functions_by_function_group(public.uuid), 404)

    await refused(ben.delete_function_group(public.uuid), 404)
    assert await ann.delete_function_group(private.uuid) == [public]
    await refused(ann.delete_function_group(private.uuid), 404)
    assert await ann.delete_function_group(public.uuid) == []
    assert await ann.get_function_groups() == []
    assert [function.uuid for function in await ann.get_functions()] == [service["uuid"]]
    await refused(AiEngine("no key", {"api_base_url": url}).get_function_groups(), 401)


with running() as carillon:
    asyncio.run(drive(carillon.url, carillon.token))
print("ai-engine-sdk: groups made, shown, filled and deleted; strangers and other users kept out")
